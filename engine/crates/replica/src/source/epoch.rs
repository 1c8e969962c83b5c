//! One turn of foreground replication: the extents of a sealed bitmap, or those that a probe names.

use super::lock;
use super::vdisk::Vdisk;
use crate::endpoint::{EndpointSpec, dirty_extents};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Where an epoch is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EpochState {
    /// The bitmap is being read.
    Reading,
    /// All extents are known; some are not stable yet.
    Sending,
    /// Every extent is stable at the destination or will be read by background later.
    Acknowledged,
    /// The bitmap could not be read; merge it back and seal a new epoch, or send it again.
    Failed,
}

pub(super) struct Epoch {
    pub(super) number: u64,
    pub(super) state: EpochState,
    pub(super) dirty_bytes: u64,
    pub(super) error: Option<String>,
    began: Instant,
    took: Option<f64>,
}

impl Epoch {
    fn new(number: u64) -> Self {
        let state = EpochState::Reading;
        Epoch {
            number,
            state,
            dirty_bytes: 0,
            error: None,
            began: Instant::now(),
            took: None,
        }
    }

    /// Seconds from the request to the acknowledgement, or to now.
    pub(super) fn seconds(&self) -> f64 {
        self.took
            .unwrap_or_else(|| self.began.elapsed().as_secs_f64())
    }

    fn end(&mut self, state: EpochState) {
        self.state = state;
        self.took = Some(self.began.elapsed().as_secs_f64());
    }

    /// Checks whether the last extent has become stable.
    pub(super) fn look(&mut self, stable: bool) {
        if stable && self.state == EpochState::Sending {
            self.end(EpochState::Acknowledged);
        }
    }
}

/// What an epoch holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirty {
    /// What a bitmap of an NBD export names.
    Bitmap {
        /// The export.
        endpoint: EndpointSpec,
        /// The bitmap's name.
        bitmap: String,
    },
    /// Offsets and lengths in bytes.
    Extents(Vec<(u64, u64)>),
}

/// Most extents that may be named: so many stand in one request.
pub const MOST_EXTENTS: usize = 8192;

/// Why an epoch was not taken on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EpochRefused {
    /// Another one is on its way.
    #[error("epoch {0} is still open; wait until it is acknowledged")]
    Busy(u64),
    /// Bitmaps come over NBD only.
    #[error("the endpoint of an epoch must be of type nbd")]
    NotNbd,
    /// More extents than a request may have.
    #[error("an epoch may name at most {MOST_EXTENTS} extents, not {0}")]
    TooMany(usize),
    /// An extent is empty, or not inside the VDISK.
    #[error("the extent of {1} bytes at {0} is empty or not inside the VDISK of {2} bytes")]
    Outside(u64, u64, u64),
}

impl Vdisk {
    /// Begins to find out what is dirty and to send it. The same number again is a no-op, unless
    /// that epoch had failed.
    pub fn start_epoch(self: &Arc<Self>, number: u64, dirty: Dirty) -> Result<(), EpochRefused> {
        self.check_dirty(&dirty)?;
        {
            let mut state = lock(&self.state);
            if let Some(open) = &state.epoch {
                let failed = open.state == EpochState::Failed;
                let done = open.state == EpochState::Acknowledged;
                if open.number == number && !failed {
                    return Ok(());
                }
                if !done && !failed {
                    return Err(EpochRefused::Busy(open.number));
                }
            }
            state.epoch = Some(Epoch::new(number));
        }
        let vdisk = self.clone();
        tokio::spawn(async move { vdisk.read_epoch(number, dirty).await });
        Ok(())
    }

    fn check_dirty(&self, dirty: &Dirty) -> Result<(), EpochRefused> {
        let size = self.geometry().size();
        let extents = match dirty {
            Dirty::Bitmap { endpoint, .. } => {
                return match endpoint {
                    EndpointSpec::Nbd { .. } => Ok(()),
                    _ => Err(EpochRefused::NotNbd),
                };
            }
            Dirty::Extents(extents) => extents,
        };
        if extents.len() > MOST_EXTENTS {
            return Err(EpochRefused::TooMany(extents.len()));
        }
        let fits = |offset: u64, length: u64| {
            length > 0 && offset.checked_add(length).is_some_and(|end| end <= size)
        };
        let wrong = extents
            .iter()
            .find(|(offset, length)| !fits(*offset, *length));
        match wrong {
            Some((offset, length)) => Err(EpochRefused::Outside(*offset, *length, size)),
            None => Ok(()),
        }
    }

    /// The guest wrote this before an epoch was sealed.
    #[cfg(test)]
    pub(crate) fn mark_dirty(&self, offset: u64, length: u64) {
        lock(&self.state).scheduler.mark_dirty(offset, length);
        self.wake();
    }

    /// Whether an epoch with everything that was marked so far would be acknowledged.
    #[cfg(test)]
    pub(crate) fn epoch_is_stable(&self) -> bool {
        lock(&self.state).scheduler.epoch_is_stable()
    }

    fn note_dirty(&self, offset: u64, length: u64) {
        let mut state = lock(&self.state);
        let bytes = state.scheduler.mark_dirty(offset, length);
        if let Some(epoch) = &mut state.epoch {
            epoch.dirty_bytes += bytes;
        }
        drop(state);
        self.wake();
    }

    async fn read_epoch(&self, number: u64, dirty: Dirty) {
        let found = |offset, length| self.note_dirty(offset, length);
        let read = match dirty {
            Dirty::Extents(extents) => {
                extents
                    .into_iter()
                    .for_each(|(offset, length)| found(offset, length));
                Ok(())
            }
            Dirty::Bitmap {
                endpoint: EndpointSpec::Nbd { socket, export },
                bitmap,
            } => dirty_extents(&socket, &export, &bitmap, self.geometry().size(), found).await,
            Dirty::Bitmap { .. } => Err(EpochRefused::NotNbd.to_string()),
        };
        let mut state = lock(&self.state);
        let stable = state.scheduler.epoch_is_stable();
        if let Some(epoch) = state.epoch.as_mut().filter(|epoch| epoch.number == number) {
            match read {
                Ok(()) => {
                    epoch.state = EpochState::Sending;
                    epoch.look(stable);
                }
                Err(why) => {
                    tracing::warn!(vdisk = self.name(), epoch = number, "{why}");
                    epoch.error = Some(why);
                    epoch.end(EpochState::Failed);
                }
            }
        }
        drop(state);
        self.wake();
    }
}
