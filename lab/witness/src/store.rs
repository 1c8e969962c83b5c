//! Durable blocks on a device or in a file, read past the page cache.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Advice, OFlags, fadvise};

use crate::block::Aligned;

/// A write has returned when its data is durable; a read comes from the medium.
pub struct Store {
    file: File,
    /// The kernel makes each write durable by itself.
    synchronous: bool,
    /// For reads of what was written through the page cache.
    reader: Option<File>,
}

impl Store {
    /// An existing device, or a file in its place: `O_DIRECT|O_DSYNC` if it can.
    pub fn device(path: &Path) -> io::Result<Store> {
        let flags = (OFlags::DIRECT | OFlags::DSYNC).bits() as i32;
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true);
        match options.clone().custom_flags(flags).open(path) {
            Ok(file) => Ok(Store {
                file,
                synchronous: true,
                reader: None,
            }),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Store {
                file: options.open(path)?,
                synchronous: false,
                reader: None,
            }),
            Err(error) => Err(error),
        }
    }

    /// A file, written through the file system's cache and its `fsync`. None if it does not exist
    /// and shall not be made.
    pub fn file(path: &Path, create: bool) -> io::Result<Option<Store>> {
        let mut options = OpenOptions::new();
        let existing = options.read(true).write(true).open(path);
        let file = match existing {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !create => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options.create_new(true).open(path)?;
                sync_folder_of(path)?;
                file
            }
            existing => existing?,
        };
        let direct = OFlags::DIRECT.bits() as i32;
        let reader = OpenOptions::new()
            .read(true)
            .custom_flags(direct)
            .open(path)
            .ok();
        Ok(Some(Store {
            file,
            synchronous: false,
            reader,
        }))
    }

    /// Fills `buffer` from byte `offset` on; zeros beyond the end.
    pub fn read(&self, offset: u64, buffer: &mut Aligned) -> io::Result<()> {
        let file = self.reader.as_ref().unwrap_or(&self.file);
        // Nothing to drop with O_DIRECT; without it, clean pages go, and all pages here are clean.
        let _ = fadvise(file, offset, None, Advice::DontNeed);
        buffer.fill(0);
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes `block` at byte `offset`, durably.
    pub fn write(&self, offset: u64, block: &Aligned) -> io::Result<()> {
        self.file.write_all_at(block, offset)?;
        match self.synchronous {
            true => Ok(()),
            false => self.file.sync_all(),
        }
    }

    /// Bytes.
    pub fn size(&self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0))
    }
}

/// Makes the entry of a new file durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
