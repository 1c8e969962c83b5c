//! Writes a file from front to back in long stretches, past the page cache where that is possible,
//! while the next stretch is being made.

use buffers::{ALIGNMENT, Buffer};
use rustix::fs::{Advice, OFlags, fadvise, fcntl_getfl, fcntl_setfl};
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Lengths must be multiples of this, in bytes.
pub(crate) const STEP: usize = ALIGNMENT;

enum Order {
    Write(Buffer, u64),
    Sync(Sender<io::Result<()>>),
}

/// A file that is being written by a thread of its own.
pub(crate) struct Stream {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
    written: u64,
}

impl Stream {
    /// Makes a new file; there must be none of this name.
    pub(crate) fn create(path: &Path) -> io::Result<Stream> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        // Not every file system can; then it goes through the page cache.
        let _ = fcntl_getfl(&file).and_then(|flags| fcntl_setfl(&file, flags | OFlags::DIRECT));
        Stream::new(file)
    }

    pub(crate) fn new(file: File) -> io::Result<Stream> {
        // One stretch waits while another is written: three in memory with the one being made.
        let (orders, taken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("pack".into());
        Ok(Stream {
            orders: Some(orders),
            thread: Some(thread.spawn(move || write(&file, &taken))?),
            written: 0,
        })
    }

    /// Bytes handed over.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Hands bytes over, a multiple of [`STEP`]. An error shows at the next sync.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        debug_assert_eq!(bytes.len() % STEP, 0);
        let mut stretch = Buffer::new(bytes.len());
        stretch.copy_from_slice(bytes);
        let at = self.written;
        self.written += bytes.len() as u64;
        if let Some(orders) = &self.orders {
            // Nobody takes it only if the thread has failed, which the sync notices.
            let _ = orders.send(Order::Write(stretch, at));
        }
    }

    /// Waits until everything that was handed over is on the medium. The first error stays.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let (answer, answered) = channel();
        let gone = || io::Error::other("the thread that writes it is gone");
        let orders = self.orders.as_ref().ok_or_else(gone)?;
        orders.send(Order::Sync(answer)).map_err(|_| gone())?;
        answered.recv().map_err(|_| gone())?
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.orders.take();
        // Nothing is expected of what was not synced.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn write(file: &File, orders: &Receiver<Order>) {
    let mut failed: Option<(io::ErrorKind, String)> = None;
    for order in orders {
        match order {
            Order::Write(stretch, at) if failed.is_none() => {
                if let Err(error) = write_at(file, &stretch, at) {
                    failed = Some((error.kind(), error.to_string()));
                }
            }
            Order::Write(..) => {}
            Order::Sync(answer) => {
                if failed.is_none()
                    && let Err(error) = file.sync_data()
                {
                    // A failed sync is a lost write, whatever a later one says.
                    failed = Some((error.kind(), error.to_string()));
                }
                let outcome = match &failed {
                    None => Ok(()),
                    Some((kind, text)) => Err(io::Error::new(*kind, text.clone())),
                };
                // Whoever asked may have given up.
                let _ = answer.send(outcome);
            }
        }
    }
}

fn write_at(file: &File, stretch: &[u8], at: u64) -> io::Result<()> {
    match file.write_all_at(stretch, at) {
        // Setting it was allowed, but direct writing is not.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            let flags = fcntl_getfl(file)?;
            fcntl_setfl(file, flags - OFlags::DIRECT)?;
            file.write_all_at(stretch, at)?;
        }
        outcome => outcome?,
    }
    // Through the page cache: has the kernel begin now, and keeps the cache for others.
    let _ = fadvise(
        file,
        at,
        NonZeroU64::new(stretch.len() as u64),
        Advice::DontNeed,
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_writes_in_order_and_an_error_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut stream = Stream::create(&path).unwrap();
        for value in 0..9 {
            stream.write(&vec![value; STEP * 3]);
        }
        stream.sync().unwrap();
        let raw = std::fs::read(&path).unwrap();
        assert_eq!(raw.len() as u64, stream.written());
        assert!(
            raw.chunks(STEP * 3)
                .zip(0..)
                .all(|(part, value)| part.iter().all(|byte| *byte == value))
        );
        assert!(Stream::create(&path).is_err(), "it is there");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut stream = Stream::new(full).unwrap();
        stream.write(&[0; STEP]);
        for _ in 0..2 {
            assert_eq!(
                stream.sync().unwrap_err().kind(),
                io::ErrorKind::StorageFull
            );
        }
    }
}
