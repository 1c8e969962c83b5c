//! How long a disk takes, for the administrator who asks why it is slow.

use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Share of the latest operation in the mean.
const WEIGHT: f64 = 1.0 / 16.0;

/// Follows the operations of one VDISK's disk.
#[derive(Debug, Default)]
pub struct DiskTime {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    under_way: BTreeMap<u64, Instant>,
    next: u64,
    mean: Option<f64>,
}

/// What is shown of a disk.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct DiskStatus {
    /// Operations that wait for the disk now.
    pub waiting: usize,
    /// Seconds that the oldest of them has waited.
    pub waiting_seconds: f64,
    /// Seconds that an operation took, averaged over the latest.
    pub mean_seconds: f64,
}

/// An operation under way; it ends when this is dropped.
pub struct Operation<'a> {
    disk: &'a DiskTime,
    number: u64,
}

impl DiskTime {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation begins.
    pub fn begin(&self) -> Operation<'_> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        state.under_way.insert(number, Instant::now());
        Operation { disk: self, number }
    }

    /// The figures of now.
    pub fn status(&self) -> DiskStatus {
        let state = self.lock();
        let oldest = state.under_way.first_key_value();
        DiskStatus {
            waiting: state.under_way.len(),
            waiting_seconds: oldest
                .map_or(Duration::ZERO, |(_, begun)| begun.elapsed())
                .as_secs_f64(),
            mean_seconds: state.mean.unwrap_or(0.0),
        }
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        let Some(begun) = state.under_way.remove(&self.number) else {
            return;
        };
        let took = begun.elapsed().as_secs_f64();
        let mean = state.mean.unwrap_or(took);
        state.mean = Some(mean + (took - mean) * WEIGHT);
    }
}
