//! Direct writes to one disk, gathered: what waits and lies side by side is written by one call.
//!
//! ext4 lets one direct write at a time into a hole, for as long as the disk takes. Many writers
//! then stand in line for a lock, and each that gets it must first be woken; few that always have
//! the next run at hand keep the disk busy, with larger requests and fewer extents besides.

use bytes::Bytes;
use rustix::io::pwritev;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Threads that write to one disk at once.
const WRITERS: usize = 16;

/// Most bytes of one call.
const RUN: usize = 4 << 20;

/// The writes of one disk. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Gather {
    file: Arc<File>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// By offset, and by number for those who write the same place.
    waiting: BTreeMap<(u64, u64), Write>,
    number: u64,
    writers: usize,
    /// Where the last run ended: the next one is looked for from there on.
    position: u64,
}

#[derive(Debug)]
struct Write {
    data: Bytes,
    done: oneshot::Sender<io::Result<()>>,
}

type Run = Vec<(u64, Write)>;

impl Gather {
    pub(super) fn new(file: Arc<File>) -> Self {
        let state = Arc::default();
        Gather { file, state }
    }

    /// Writes `data`, which must be aligned in memory, length and offset.
    pub(super) async fn write(&self, offset: u64, data: Bytes) -> io::Result<()> {
        let (done, written) = oneshot::channel();
        let start = {
            let mut state = self.lock();
            state.number += 1;
            let key = (offset, state.number);
            state.waiting.insert(key, Write { data, done });
            let start = state.writers < WRITERS;
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
            let run = {
                let mut state = self.lock();
                match state.take_run() {
                    Some(run) => run,
                    None => {
                        state.writers -= 1;
                        return;
                    }
                }
            };
            self.write_run(run);
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
    fn take_run(&mut self) -> Option<Run> {
        let ahead = self.waiting.range((self.position, 0)..).next();
        let (key, _) = ahead.or_else(|| self.waiting.first_key_value())?;
        let mut key = *key;
        let (mut run, mut bytes) = (Run::new(), 0);
        while let Some(one) = self.waiting.remove(&key) {
            bytes += one.data.len();
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
            state
                .waiting
                .insert((offset, number as u64), Write { data, done });
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
        let gather = Gather::new(Arc::new(file.unwrap()));
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
        let gather = Gather::new(Arc::new(std::fs::File::open("/dev/null").unwrap()));
        let data = Bytes::from_static(b"read-only");
        assert!(gather.write(0, data).await.is_err());
    }
}
