//! Writes to one disk, gathered: what waits and lies side by side is written by one call.
//!
//! Many writers of a file stand in line for its lock, and each that gets it must first be woken.
//! A few that always have the next run at hand keep the disk busy, with larger requests and fewer
//! extents besides.
//!
//! ext4 lets one direct write at a time into a hole, for as long as the disk takes, but many into
//! space that is reserved. So it is reserved before, for all that waits: a reservation waits for
//! the direct writes under way (10,000 blocks of 64 KiB all over a sparse file, 16 writers: 0.95 s
//! without reservations, 1.3 s with one for each, 0.65 s with one call for every 64).

use bytes::Bytes;
use rustix::fs::{FallocateFlags, FsWord, OFlags, fallocate, fcntl_getfl, fstatfs};
use rustix::io::pwritev;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Fewer writes that wait are written as they are.
const LEAST_RESERVED: usize = 64;

const EXT4: FsWord = 0xef53;

/// Most bytes of one call.
const RUN: usize = 4 << 20;

/// The writes of one disk. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Gather {
    file: Arc<File>,
    most: usize,
    reserves: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By offset, and by number for those who write the same place.
    waiting: BTreeMap<(u64, u64), Write>,
    number: u64,
    unreserved: usize,
    writers: usize,
    /// Where the last run ended: the next one is looked for from there on.
    position: u64,
}

#[derive(Debug)]
struct Write {
    data: Bytes,
    /// Its space is reserved, or is about to be.
    reserved: bool,
    done: oneshot::Sender<io::Result<()>>,
}

type Run = Vec<(u64, Write)>;

impl Gather {
    /// `most` threads write at once.
    pub(super) fn new(file: Arc<File>, most: usize) -> Self {
        let state = Arc::default();
        let direct = fcntl_getfl(&*file).is_ok_and(|flags| flags.contains(OFlags::DIRECT));
        let ext4 = fstatfs(&*file).is_ok_and(|found| found.f_type == EXT4);
        let reserves = direct && ext4;
        Gather {
            file,
            most,
            reserves,
            state,
        }
    }

    /// Writes `data`; for a file that is open without the page cache it must be aligned in memory,
    /// length and offset.
    pub(super) async fn write(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let start = {
            let mut state = self.lock();
            state.number += 1;
            let key = (offset, state.number);
            let reserved = !self.reserves;
            let write = Write {
                data,
                reserved,
                done,
            };
            state.unreserved += usize::from(!reserved);
            state.waiting.insert(key, write);
            let start = state.writers < self.most;
            state.writers += usize::from(start);
            start
        };
        if start {
            let gather = self.clone();
            tokio::task::spawn_blocking(move || gather.work());
        }
        let gone = || io::Error::other("the write was abandoned");
        written.await.unwrap_or_else(|_| Err(gone()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until nothing waits.
    fn work(&self) {
        loop {
            let (space, run) = {
                let mut state = self.lock();
                let space = state.take_unreserved();
                match state.take_run() {
                    Some(run) => (space, run),
                    None => {
                        state.writers -= 1;
                        return;
                    }
                }
            };
            self.reserve(space);
            self.write_run(run);
        }
    }

    /// What cannot be reserved the writes will find out.
    fn reserve(&self, space: Vec<Range<u64>>) {
        for part in space {
            let length = part.end - part.start;
            let _ = fallocate(&*self.file, FallocateFlags::KEEP_SIZE, part.start, length);
        }
    }

    fn write_run(&self, run: Run) {
        let slices: Vec<_> = run.iter().map(|(_, one)| IoSlice::new(&one.data)).collect();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let whole = pwritev(&*self.file, &slices, run[0].0) == Ok(total);
        for (offset, one) in run {
            // One by one, so that each learns its own fate.
            let outcome = match whole {
                true => Ok(()),
                false => self.file.write_all_at(&one.data, offset),
            };
            // Nobody listens if the caller has lost interest.
            let _ = one.done.send(outcome);
        }
    }
}

impl State {
    /// The space of all that waits, if it is worth it.
    fn take_unreserved(&mut self) -> Vec<Range<u64>> {
        let mut space: Vec<Range<u64>> = Vec::new();
        if self.unreserved < LEAST_RESERVED {
            return space;
        }
        self.unreserved = 0;
        for ((offset, _), write) in &mut self.waiting {
            let end = offset + write.data.len() as u64;
            match space.last_mut() {
                _ if std::mem::replace(&mut write.reserved, true) => {}
                Some(last) if last.end == *offset => last.end = end,
                _ => space.push(*offset..end),
            }
        }
        space
    }

    fn take_run(&mut self) -> Option<Run> {
        let ahead = self.waiting.range((self.position, 0)..).next();
        let (key, _) = ahead.or_else(|| self.waiting.first_key_value())?;
        let mut key = *key;
        let (mut run, mut bytes) = (Run::new(), 0);
        while let Some(one) = self.waiting.remove(&key) {
            bytes += one.data.len();
            self.unreserved -= usize::from(!one.reserved);
            let end = key.0 + one.data.len() as u64;
            run.push((key.0, one));
            self.position = end;
            let next = self.waiting.range((end, 0)..).next();
            match next {
                Some((next, one)) if next.0 == end && bytes + one.data.len() <= RUN => key = *next,
                _ => break,
            }
        }
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn runs_are_neighbours_and_go_round() {
        let mut state = State::default();
        for (number, offset) in [0u64, 1, 2, 5, 6, 9].into_iter().enumerate() {
            let (done, _) = oneshot::channel();
            let data = Bytes::from_static(&[0]);
            state.waiting.insert(
                (offset, number as u64),
                Write {
                    data,
                    reserved: true,
                    done,
                },
            );
        }
        state.position = 4;
        let mut runs = std::iter::from_fn(|| state.take_run())
            .map(|run| run.iter().map(|(offset, _)| *offset).collect::<Vec<_>>());
        assert_eq!(runs.next().unwrap(), [5, 6]);
        assert_eq!(runs.next().unwrap(), [9]);
        assert_eq!(runs.next().unwrap(), [0, 1, 2]);
        assert!(runs.next().is_none());
    }

    #[tokio::test]
    async fn many_writes_land_where_they_belong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path);
        let gather = Gather::new(Arc::new(file.unwrap()), 4);
        let block = |index: u64| Bytes::from(vec![index as u8; 3000]);
        let writes = (0..200u64)
            .map(|index| (index * 77) % 200)
            .map(|index| gather.write(index * 3000, block(index)));
        let done = futures_util::future::join_all(writes).await;
        assert!(done.iter().all(io::Result::is_ok));
        let raw = std::fs::read(&path).unwrap();
        assert_eq!(raw.len(), 600_000);
        assert!((0..200).all(|index| raw[index * 3000..][..3000] == *block(index as u64)));
    }

    #[tokio::test]
    async fn each_write_learns_its_own_fate() {
        let gather = Gather::new(Arc::new(std::fs::File::open("/dev/null").unwrap()), 1);
        let data = Bytes::from_static(b"read-only");
        assert!(gather.write(0, data).await.is_err());
    }
}
