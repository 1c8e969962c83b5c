//! Writes that are done but not yet stable, and when to make them so.

use crate::journal::Record;
use std::time::Duration;
use tokio::time::Instant;

/// Background writes are made stable after this many bytes …
const BACKGROUND_BYTES: u64 = 256 << 20;
/// … or this long after the first …
const BACKGROUND_TIME: Duration = Duration::from_secs(1);
/// … or this long after the last, because there may be no more.
const IDLE_TIME: Duration = Duration::from_millis(50);
/// Foreground writes are made stable this long after the first.
const FOREGROUND_TIME: Duration = Duration::from_millis(10);

/// What the next sync covers.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ids: Vec<u64>,
    pub(super) records: Vec<Record>,
    bytes: u64,
    /// When the first background write came.
    begun: Option<Instant>,
    /// When background writes are to be synced unless more come.
    idle: Option<Instant>,
    /// When to sync whatever comes.
    due: Option<Instant>,
}

impl Batch {
    pub(super) fn add(&mut self, id: u64, record: Option<Record>, bytes: u64, foreground: bool) {
        self.ids.push(id);
        self.records.extend(record);
        self.bytes += bytes;
        let now = Instant::now();
        if foreground {
            self.no_later_than(now + FOREGROUND_TIME);
        } else {
            let begun = *self.begun.get_or_insert(now);
            self.idle = Some((now + IDLE_TIME).min(begun + BACKGROUND_TIME));
        }
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
        [self.due, self.idle].into_iter().flatten().min()
    }
}
