//! Background replication: whole chunks, in order, zeros as runs.

use super::chunks::Phase;
use super::{EXPLORE_WINDOW, Kind, MAX_OPEN_WORK, Purpose, Scheduler, Work};
use crate::chunk::CHUNK_SIZE;

/// Ask for the next window when fewer chunks than this are known to hold data.
const EXPLORE_AHEAD: u32 = (64 << 20) / CHUNK_SIZE;

impl Scheduler {
    /// Copying of all chunks that the destination does not hold may begin.
    pub fn start_copy(&mut self) {
        self.background_on = true;
        self.loading = false;
    }

    /// Comparison was asked for: it begins when the destination has forgotten its claims and says
    /// so (see [`Scheduler::opened`]).
    pub fn start_compare(&mut self) {
        self.start_copy();
        self.comparing = true;
    }

    /// The next piece of background work that moves data. None while foreground work waits.
    pub fn take_background(&mut self) -> Option<Work> {
        let allowed = self.background_on && !self.comparing && self.foreground.is_empty();
        if !allowed || self.open.len() >= MAX_OPEN_WORK {
            return None;
        }
        let ahead = self.chunks.allocated_pending();
        if !self.exploring && ahead < EXPLORE_AHEAD && self.chunks.unexplored() > 0 {
            return self.take_exploration();
        }
        self.take_allocated()
    }

    /// Whether background has chunks that are neither stable nor on their way.
    pub fn background_waits(&self) -> bool {
        let left = self.chunks.count(Phase::Pending) + self.chunks.count(Phase::Unchecked);
        self.background_on && (left > 0 || self.exploring || self.comparing)
    }

    fn take_exploration(&mut self) -> Option<Work> {
        let unexplored = |chunks: &super::Chunks, chunk| {
            chunks.phase(chunk) == Phase::Pending && !chunks.allocated(chunk)
        };
        let first = self.chunks.find(self.background_cursor, unexplored)?;
        let count = self.chunks.run(first, EXPLORE_WINDOW, unexplored);
        self.background_cursor = first + count;
        self.exploring = true;
        let id = self.claim(Kind::Explore(None), first, count);
        Some(Work::Explore { id, first, count })
    }

    fn take_allocated(&mut self) -> Option<Work> {
        while let Some((first, count)) = self.allocated.pop_front() {
            if self.waits_for_device(first) {
                self.allocated.push_front((first, count));
                return None;
            }
            if count > 1 {
                self.allocated.push_front((first + 1, count - 1));
            }
            // The queue may name chunks that have been put elsewhere since.
            if self.chunks.phase(first) == Phase::Pending && self.chunks.allocated(first) {
                return Some(self.take_chunk(first));
            }
        }
        None
    }

    fn waits_for_device(&self, chunk: u32) -> bool {
        let pending = self.chunks.phase(chunk) == Phase::Pending;
        self.loading && !self.room && pending && !self.chunks.is_outdated(chunk)
    }

    fn take_chunk(&mut self, chunk: u32) -> Work {
        // The destination may claim an older version of what is outdated, and would be believed.
        if self.loading && !self.chunks.is_outdated(chunk) {
            let id = self.claim(Kind::Load { compare: false }, chunk, 1);
            return Work::Load { id, chunk };
        }
        let id = self.claim(Kind::Background, chunk, 1);
        Work::Read { id, chunk }
    }

    /// The endpoint has said which chunks of an exploration are zero (runs of (first, count), in
    /// order, all inside the window). Returns the work that follows from it.
    pub fn explored(&mut self, id: u64, zero: &[(u32, u32)]) -> Vec<Work> {
        let Some(open) = self.open.remove(&id) else {
            return Vec::new();
        };
        let Kind::Explore(purpose) = open.kind else {
            self.open.insert(id, open);
            return Vec::new();
        };
        self.exploring &= purpose.is_some();
        let mut work = Vec::new();
        let mut next = open.first;
        for (first, count) in zero.iter().copied() {
            self.put_back_allocated(purpose, next, first);
            next = first + count;
            let kind = purpose.map_or(Kind::Background, Kind::Hash);
            let id = self.record(kind, first, count);
            work.push(match purpose {
                None => Work::Zero { id, first, count },
                Some(_) => Work::Hash {
                    id,
                    first,
                    count,
                    zero: true,
                },
            });
        }
        self.put_back_allocated(purpose, next, open.first + open.count);
        work
    }

    /// Chunks `first..end` of an exploration hold data.
    fn put_back_allocated(&mut self, purpose: Option<Purpose>, first: u32, end: u32) {
        let phase = match purpose {
            None => Phase::Pending,
            Some(Purpose::Compare) => Phase::Unchecked,
            Some(Purpose::Verify) => Phase::Clean,
        };
        for chunk in first..end {
            self.settle(chunk, phase);
            self.chunks.set_allocated(chunk, true);
        }
        if purpose.is_none() && first < end {
            self.allocated.push_back((first, end - first));
        }
    }
}
