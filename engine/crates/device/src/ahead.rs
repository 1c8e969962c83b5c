//! Reads stretches of a pack ahead, past the page cache where that is possible, while what was read
//! before is being opened. At most three stretches are in memory.

use buffers::{ALIGNMENT, Buffer};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Most bytes of a stretch: disks are fastest when much is asked for at once.
pub const MAX_STRETCH: u64 = 4 << 20;

/// The widest range of [`MAX_STRETCH`], as direct reading wants it.
const CAPACITY: usize = MAX_STRETCH as usize + 2 * ALIGNMENT;

/// A file that is being read by a thread of its own.
pub struct Ahead {
    orders: Option<Sender<Range<u64>>>,
    read: Option<Receiver<io::Result<Stretch>>>,
    thread: Option<JoinHandle<()>>,
}

/// Bytes of a file. Its memory is used again when it is dropped.
#[derive(Debug)]
pub struct Stretch {
    memory: Buffer,
    /// Where the memory begins in the file.
    begin: u64,
    filled: usize,
    spares: Sender<Buffer>,
}

impl Ahead {
    pub(crate) fn open(path: &Path) -> io::Result<Ahead> {
        let file = File::open(path)?;
        // Not every file system can; then it goes through the page cache.
        let _ = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::DIRECT));
        Ahead::new(file)
    }

    fn new(file: File) -> io::Result<Ahead> {
        let (orders, taken) = channel();
        // One waits while another is read and a third is in use.
        let (done, read) = sync_channel(1);
        let thread = std::thread::Builder::new().name("ahead".into());
        Ok(Ahead {
            orders: Some(orders),
            read: Some(read),
            thread: Some(thread.spawn(move || work(&file, &taken, &done))?),
        })
    }

    /// Has these bytes read, [`MAX_STRETCH`] of them at most.
    pub fn order(&self, bytes: Range<u64>) {
        if let Some(orders) = &self.orders {
            // Nobody takes it only if the thread has failed, which `take` notices.
            let _ = orders.send(bytes);
        }
    }

    /// What was ordered first of all that was not taken yet. Blocks; without an order for ever.
    pub(crate) fn take(&self) -> io::Result<Stretch> {
        let read = self.read.as_ref().and_then(|read| read.recv().ok());
        read.unwrap_or_else(|| Err(io::Error::other("the thread that reads it is gone")))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.orders.take();
        self.read.take();
        // Nobody wants what it has read.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl Stretch {
    /// The bytes of the file that stand there; None if not all of them were read.
    pub(crate) fn get(&self, offset: u64, count: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.begin)?).ok()?;
        self.memory[..self.filled].get(from..from.checked_add(count)?)
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // Nobody takes it when all is read.
        let _ = self.spares.send(std::mem::take(&mut self.memory));
    }
}

fn work(file: &File, orders: &Receiver<Range<u64>>, done: &SyncSender<io::Result<Stretch>>) {
    let (spares, spare) = channel();
    for bytes in orders {
        let memory = spare.try_recv().unwrap_or_else(|_| Buffer::new(CAPACITY));
        let mut stretch = Stretch {
            memory,
            begin: bytes.start - bytes.start % ALIGNMENT as u64,
            filled: 0,
            spares: spares.clone(),
        };
        let read = stretch.fill(file, bytes.end).map(|()| stretch);
        if done.send(read).is_err() {
            return;
        }
    }
}

impl Stretch {
    /// Reads up to `end`, and what else is in its page.
    fn fill(&mut self, file: &File, end: u64) -> io::Result<()> {
        let wanted = end.saturating_sub(self.begin) as usize;
        let room = wanted.next_multiple_of(ALIGNMENT);
        if room > self.memory.len() {
            return Err(io::Error::other("more was ordered than a stretch"));
        }
        while self.filled < wanted {
            let at = self.begin + self.filled as u64;
            match file.read_at(&mut self.memory[self.filled..room], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Setting it was allowed, but direct reading is not, or not from here.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let flags = fcntl_getfl(file)?;
                    if !flags.contains(OFlags::DIRECT) {
                        return Err(error);
                    }
                    fcntl_setfl(file, flags - OFlags::DIRECT)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const LENGTH: usize = 3 * (MAX_STRETCH as usize) + 12_345;

    fn content() -> Vec<u8> {
        (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect()
    }

    fn file() -> (tempfile::TempDir, PathBuf) {
        // Beside the sources, not in /tmp, which often cannot be read directly.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, content()).unwrap();
        (folder, path)
    }

    fn check(ahead: &Ahead) {
        let length = LENGTH as u64;
        let ranges = [
            0..512,
            1024..1024 + MAX_STRETCH,
            MAX_STRETCH - 1..MAX_STRETCH + 1,
            7..7,
            length - 1..length,
            length - 5000..length,
            4096..8192,
        ];
        let content = content();
        for range in &ranges {
            ahead.order(range.clone());
        }
        for range in &ranges {
            let stretch = ahead.take().unwrap();
            let count = (range.end - range.start) as usize;
            let expected = &content[range.start as usize..range.end as usize];
            assert_eq!(stretch.get(range.start, count), Some(expected));
            assert_eq!(stretch.get(range.start, 2 * CAPACITY), None);
            assert_eq!(stretch.get(range.start + 2 * MAX_STRETCH, 1), None);
            assert_eq!(stretch.get(u64::MAX, usize::MAX), None);
        }
    }

    #[test]
    fn it_reads_directly_and_through_the_page_cache() {
        let (_folder, path) = file();
        check(&Ahead::open(&path).unwrap());
        check(&Ahead::new(File::open(&path).unwrap()).unwrap());
    }

    #[test]
    fn memory_is_used_again() {
        let (_folder, path) = file();
        let ahead = Ahead::open(&path).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20 {
            (0..2).for_each(|_| ahead.order(0..MAX_STRETCH));
            (0..2).for_each(|_| {
                seen.insert(ahead.take().unwrap().memory.as_ptr().addr());
            });
        }
        assert!(seen.len() <= 3, "{seen:?}");
    }

    #[test]
    fn a_file_that_has_shrunk_and_one_that_does_not_read_are_errors_after_what_could_be_read() {
        let (_folder, path) = file();
        for direct in [true, false] {
            std::fs::write(&path, content()).unwrap();
            let ahead = match direct {
                true => Ahead::open(&path).unwrap(),
                false => Ahead::new(File::open(&path).unwrap()).unwrap(),
            };
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(5000).unwrap();
            ahead.order(0..5000);
            ahead.order(4096..5001);
            ahead.order(512..1024);
            assert_eq!(ahead.take().unwrap().get(0, 5000), content().get(..5000));
            let error = ahead.take().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}");
            assert!(ahead.take().is_ok(), "others are not lost with it");
        }
        let ahead = Ahead::open(Path::new("/proc/self/mem")).unwrap();
        ahead.order(0..512);
        assert!(ahead.take().is_err());
    }

    #[test]
    fn what_nobody_takes_holds_nobody_up() {
        let (_folder, path) = file();
        let ahead = Ahead::open(&path).unwrap();
        (0..9).for_each(|_| ahead.order(0..MAX_STRETCH));
        let one = ahead.take().unwrap();
        drop(ahead);
        assert!(one.get(0, 1).is_some());
    }
}
