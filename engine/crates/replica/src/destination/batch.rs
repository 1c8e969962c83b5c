//! Writes that are done but not yet stable, and when to make them so.

use crate::journal::Record;
use std::time::Duration;
use tokio::time::Instant;

/// Background writes are made stable after this many bytes …
const BACKGROUND_BYTES: u64 = 256 << 20;
/// … or after this long.
const BACKGROUND_TIME: Duration = Duration::from_secs(1);
/// Foreground writes are made stable this long after the first.
const FOREGROUND_TIME: Duration = Duration::from_millis(10);

/// What the next sync covers.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ids: Vec<u64>,
    pub(super) records: Vec<Record>,
    bytes: u64,
    due: Option<Instant>,
}

impl Batch {
    pub(super) fn add(
        &mut self,
        id: u64,
        records: impl IntoIterator<Item = Record>,
        bytes: u64,
        foreground: bool,
    ) {
        self.ids.push(id);
        self.records.extend(records);
        self.bytes += bytes;
        let patience = if foreground {
            FOREGROUND_TIME
        } else {
            BACKGROUND_TIME
        };
        self.no_later_than(Instant::now() + patience);
        if self.bytes >= BACKGROUND_BYTES {
            self.hurry();
        }
    }

    /// As soon as possible.
    pub(super) fn hurry(&mut self) {
        if !self.ids.is_empty() {
            self.no_later_than(Instant::now());
        }
    }

    fn no_later_than(&mut self, moment: Instant) {
        self.due = Some(self.due.map_or(moment, |due| due.min(moment)));
    }

    /// When to sync; None while there is nothing to.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}
