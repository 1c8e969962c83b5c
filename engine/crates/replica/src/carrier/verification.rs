//! Reads a whole device and says whether everything on it is intact.

use super::{Contents, Damage, DeviceStatus, Found, Subject, Walk};
use device::{DeviceId, DeviceKey};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A verification that is under way or over; dropping it ends it.
pub struct Verification {
    status: Arc<Mutex<DeviceStatus>>,
    _stop: DropGuard,
}

struct Reader {
    status: Arc<Mutex<DeviceStatus>>,
    stop: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Verification {
    /// Begins to read every pack in the folder, in a thread of its own.
    pub fn start(packs: &Path, device: DeviceId, key: DeviceKey) -> io::Result<Self> {
        let mut contents = Contents::new(packs, device, key);
        let total_bytes = contents.list()?.iter().map(|(_, bytes)| bytes).sum();
        let status = Arc::new(Mutex::new(DeviceStatus {
            total_bytes,
            ..DeviceStatus::new(packs, "verify")
        }));
        let stop = CancellationToken::new();
        let mut reader = Reader {
            status: status.clone(),
            stop: stop.clone(),
        };
        std::thread::Builder::new()
            .name("verify".into())
            .spawn(move || {
                let outcome = contents.walk(&mut reader);
                let mut status = lock(&reader.status);
                match outcome {
                    Ok(()) => {
                        status.state = "done";
                        status.read_bytes = status.total_bytes;
                    }
                    Err(error) => {
                        status.state = "failed";
                        status.error = Some(error.to_string());
                    }
                }
            })?;
        Ok(Verification {
            status,
            _stop: stop.drop_guard(),
        })
    }

    /// How far it is.
    pub fn status(&self) -> DeviceStatus {
        lock(&self.status).clone()
    }
}

impl Walk for Reader {
    fn wants(&mut self, _: &Subject, _: u32) -> bool {
        true
    }

    fn found(&mut self, found: Found<'_>) {
        let mut status = lock(&self.status);
        match found.is_place {
            true => status.places += 1,
            false => status.blocks += 1,
        }
        status.note_chunks(found.subject, 1);
    }

    fn damaged(&mut self, damage: Damage) {
        lock(&self.status).note_damage(damage);
    }

    fn passed(&mut self, bytes: u64) {
        lock(&self.status).read_bytes += bytes;
    }

    fn stop(&self) -> bool {
        self.stop.is_cancelled()
    }
}
