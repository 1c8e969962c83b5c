//! What a VDISK does with transport devices: chunks that were loaded, chunks that are offered, loads
//! that are forgotten.

use super::loads::{LoadId, Loads};
use super::lock;
use super::vdisk::Vdisk;
use crate::blocking::blocking;
use crate::chunk::Geometry;
use crate::scheduler::Offered;
use crate::trouble::{Trouble, TroubleCode};
use device::DeviceId;
use drover_link::Message;
use drover_link::message::{NOT_NOW, NOT_WANTED};
use std::io;
use std::path::Path;
use std::sync::Arc;
use tokio::task::{JoinHandle, spawn_blocking};

/// The notes of a VDISK that earlier engines have left.
pub(super) async fn open_loads(
    notes: &Path,
    name: &str,
    geometry: Geometry,
) -> Result<Loads, Trouble> {
    let (notes, vdisk) = (notes.to_owned(), name.to_owned());
    let opened = blocking(move || Loads::open(&notes, &vdisk, geometry)).await;
    let opened = opened.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    opened.map_err(|error| {
        let text = format!(
            "reading which chunks of VDISK {name} are on transport devices failed: {error}"
        );
        Trouble::new(TroubleCode::JournalError, text)
    })
}

impl Vdisk {
    /// Begins a load to a device. Blocks.
    pub(super) fn begin_load(&self, device: DeviceId) -> io::Result<LoadId> {
        let mut loads = lock(&self.loads);
        let incarnation = lock(&self.state).incarnation;
        let incarnation = incarnation.ok_or_else(|| io::Error::other("no destination yet"))?;
        loads.begin(device, incarnation)
    }

    /// These chunks are on the medium of a device: (id of the work, chunk). Blocks. False if that
    /// could not be noted; they go over the link then, and the VDISK is held.
    pub(super) fn loaded(&self, load: LoadId, done: &[(u64, u32)]) -> bool {
        let mut loads = lock(&self.loads);
        let chunks: Vec<u32> = done.iter().map(|(_, chunk)| *chunk).collect();
        let noted = loads.note(load, &chunks);
        let mut state = lock(&self.state);
        match &noted {
            Ok(()) => {
                for (id, chunk) in done {
                    state.scheduler.loaded(*id);
                    state.sent.loaded_bytes += u64::from(self.geometry().length(*chunk));
                }
            }
            Err(error) => {
                for (id, _) in done {
                    state.scheduler.not_loaded(*id, true);
                }
                let text = format!(
                    "noting which chunks of VDISK {} are on a transport device failed: {error}",
                    self.name()
                );
                state.hold(self.name(), Trouble::new(TroubleCode::JournalError, text));
            }
        }
        state.after_progress();
        drop((state, loads));
        self.wake();
        noted.is_ok()
    }

    /// The device did not take these; they are pending again.
    pub(super) fn not_loaded(&self, ids: impl Iterator<Item = u64>) {
        let mut state = lock(&self.state);
        ids.for_each(|id| state.scheduler.not_loaded(id, false));
        drop(state);
        self.wake();
    }

    /// Drops the notes of what need not be waited for any more.
    pub(super) fn drop_notes(self: &Arc<Self>) {
        let vdisk = self.clone();
        spawn_blocking(move || {
            let mut loads = lock(&vdisk.loads);
            let released = lock(&vdisk.state).scheduler.take_released();
            if let Err(error) = loads.release(released.iter().copied()) {
                // They are waited for again by the next engine only.
                tracing::warn!(vdisk = vdisk.name(), "notes of loads stay: {error}");
            }
        });
    }

    /// The destination has these pieces of chunks that are on devices: (id, chunk, mask of blocks). They
    /// are acknowledged when it is noted that what the devices have of them is older.
    pub(super) fn acknowledge_newer(
        self: &Arc<Self>,
        handle: u32,
        mut pieces: Vec<(u64, u32, u8)>,
    ) -> JoinHandle<()> {
        let vdisk = self.clone();
        spawn_blocking(move || {
            let mut loads = lock(&vdisk.loads);
            {
                // Those that another session has taken back since are sent again, and their chunks
                // may be in a later load by now, of which these blocks are not newer.
                let state = lock(&vdisk.state);
                let here = state.handle() == Some(handle);
                pieces.retain(|(id, _, _)| here && state.scheduler.is_open(*id));
            }
            let chunks: Vec<_> = pieces
                .iter()
                .map(|(_, chunk, mask)| (*chunk, *mask))
                .collect();
            let noted = loads.note_newer(&chunks);
            let mut state = lock(&vdisk.state);
            match noted {
                Ok(()) => {
                    for (id, _, _) in pieces {
                        state.scheduler.acknowledged(id);
                    }
                    state.after_progress();
                }
                Err(error) => {
                    let text = format!(
                        "noting what of VDISK {} is newer than on transport devices failed: {error}",
                        vdisk.name()
                    );
                    pieces
                        .iter()
                        .for_each(|(id, _, _)| state.scheduler.requeue(*id));
                    state.hold(vdisk.name(), Trouble::new(TroubleCode::JournalError, text));
                }
            }
            let released = state.scheduler.has_released();
            drop((state, loads));
            vdisk.wake();
            if released {
                vdisk.drop_notes();
            }
        })
    }

    /// What is on this device comes another way. Returns how many chunks. Blocks.
    pub(super) fn forget_device(&self, device: DeviceId) -> Result<usize, Trouble> {
        let mut loads = lock(&self.loads);
        let chunks = loads.forget(device).map_err(|error| {
            let text = format!(
                "forgetting what of VDISK {} is on the device failed: {error}",
                self.name()
            );
            Trouble::new(TroubleCode::JournalError, text)
        })?;
        let count = chunks.len();
        let mut state = lock(&self.state);
        state.scheduler.forget_loaded(chunks);
        state.after_progress();
        drop((state, loads));
        self.wake();
        Ok(count)
    }

    /// The destination has chunks of a load at hand.
    pub(super) fn answer_offer(
        self: &Arc<Self>,
        handle: u32,
        offer: u64,
        load: LoadId,
        chunks: Vec<u32>,
    ) {
        let vdisk = self.clone();
        spawn_blocking(move || vdisk.grant(handle, offer, load, &chunks));
    }

    fn grant(&self, handle: u32, offer: u64, load: LoadId, chunks: &[u32]) {
        let loads = lock(&self.loads);
        let mut state = lock(&self.state);
        if state.handle() != Some(handle) {
            return;
        }
        let (known, held) = (loads.knows(load), state.trouble.is_some());
        let answers = chunks.iter().map(|chunk| {
            let offered = match loads.has(load, *chunk) {
                true if held => Offered::Busy,
                true => state.scheduler.offered(*chunk),
                false => Offered::Unwanted,
            };
            match offered {
                Offered::Take(id) => (id, loads.newer(load, *chunk)),
                Offered::Busy => (NOT_NOW, 0),
                Offered::Unwanted => (NOT_WANTED, 0),
            }
        });
        let answers = answers.collect();
        if let Some(attachment) = &state.attachment {
            attachment.outbox.say(Message::Grant {
                handle,
                offer,
                known,
                answers,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::EndpointSpec;

    #[tokio::test]
    async fn what_no_session_waits_for_any_more_is_not_newer_than_a_later_load() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vdisk.raw");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let spec = EndpointSpec::File {
            path,
            create: false,
        };
        let vdisk = Vdisk::open("vda", 1 << 20, spec, folder.path()).await;
        let vdisk = Arc::new(vdisk.unwrap());
        let load = {
            let mut loads = lock(&vdisk.loads);
            let load = loads.begin(DeviceId([1; 16]), 7).unwrap();
            loads.note(load, &[0]).unwrap();
            load
        };
        let noted = vdisk.acknowledge_newer(1, vec![(5, 0, 0b1)]);
        noted.await.unwrap();
        assert_eq!(lock(&vdisk.loads).newer(load, 0), 0);
    }
}
