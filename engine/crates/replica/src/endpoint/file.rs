//! Regular files: zeros are holes. Data goes past the page cache where the file system allows it:
//! a copy less, no memory taken from the VMs of the host, nothing left for the flush to write back
//! but metadata, and what is re-read for a verification comes from the disk.

use super::Access;
use super::gather::Gather;
use super::presence;
use super::span::{Span, push};
use crate::trouble::{Trouble, TroubleCode};
use buffers::{ALIGNMENT, Buffer};
use bytes::Bytes;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros written where holes cannot be punched, in bytes per write.
const ZERO_WRITE: usize = 1 << 20;

/// Threads that write past the page cache at once.
const DIRECT_WRITERS: usize = 16;

/// Threads that write through the page cache: the kernel locks the file's inode for each write, and
/// whoever waits for that lock spins (measured: 8 s of system time instead of 2 for 3 GiB).
const CACHED_WRITERS: usize = 1;

/// An open regular file.
#[derive(Debug)]
pub struct FileEndpoint {
    pub(super) disk: Disk,
    size: u64,
    medium: u64,
    new: bool,
}

/// What files and block devices have in common.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) file: Arc<File>,
    pub(super) path: Arc<PathBuf>,
    access: Access,
    /// The same file without the page cache; None where that is not possible.
    direct: Option<Arc<File>>,
    direct_writes: Option<Gather>,
    cached_writes: Gather,
}

impl FileEndpoint {
    pub(super) async fn open(
        path: &Path,
        size: u64,
        access: Access,
        create: bool,
    ) -> Result<Self, Trouble> {
        let path = path.to_owned();
        blocking(move || {
            let missing = !path.exists();
            let make = create && missing && access == Access::Write;
            let file = OpenOptions::new()
                .read(true)
                .write(access == Access::Write)
                .create_new(make)
                .open(&path)
                .map_err(|error| gone(&path, &error))?;
            if make {
                file.set_len(size).map_err(|error| gone(&path, &error))?;
                presence::keep_new(&file, &path).map_err(|error| gone(&path, &error))?;
            }
            let metadata = file.metadata().map_err(|error| gone(&path, &error))?;
            check_size(&path, metadata.len(), size)?;
            let disk = Disk::new(file, path, access);
            Ok(FileEndpoint {
                disk,
                size,
                medium: presence::medium_of(&metadata),
                new: make,
            })
        })
        .await
    }

    pub(super) fn medium(&self) -> u64 {
        self.medium
    }

    pub(super) async fn check(&self) -> Result<(), Trouble> {
        self.disk.check(self.size).await
    }

    pub(super) fn is_new(&self) -> bool {
        self.new
    }

    pub(super) async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Trouble> {
        self.disk.read(offset, length).await
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<(), Trouble> {
        self.disk.write(offset, data).await
    }

    pub(super) async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        self.disk.zero(offset, length).await
    }

    pub(super) async fn flush(&self) -> Result<(), Trouble> {
        self.disk.flush().await
    }

    pub(super) async fn spans(&self, offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
        let disk = self.disk.clone();
        blocking(move || holes(&disk, offset, length)).await
    }
}

impl Disk {
    pub(super) fn new(file: File, path: PathBuf, access: Access) -> Self {
        let direct = open_direct(&file, access).map(Arc::new);
        let file = Arc::new(file);
        Disk {
            path: Arc::new(path),
            access,
            direct_writes: direct.clone().map(|file| Gather::new(file, DIRECT_WRITERS)),
            direct,
            cached_writes: Gather::new(file.clone(), CACHED_WRITERS),
            file,
        }
    }

    /// The file without the page cache, for ranges that it can take.
    fn direct(&self, offset: u64, length: usize) -> Option<Arc<File>> {
        self.direct.clone().filter(|_| is_aligned(offset, length))
    }

    pub(super) async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Trouble> {
        let mut buffer = Buffer::new(length as usize);
        // A source's page cache holds what the VM just wrote, if its disk goes through it. A
        // destination is read to learn what is on the disk.
        if self.access == Access::Read && read_cached(&self.file, &mut buffer, offset) {
            return Ok(buffer.freeze());
        }
        let disk = self.clone();
        blocking(move || {
            let direct = disk.direct(offset, buffer.len());
            let read = match direct.map(|file| file.read_exact_at(&mut buffer, offset)) {
                Some(read) if !is_invalid(&read) => read,
                _ => disk.file.read_exact_at(&mut buffer, offset),
            };
            read.map_err(|error| disk.read_trouble(offset, length, &error))?;
            Ok(buffer.freeze())
        })
        .await
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<(), Trouble> {
        let direct = self.direct_writes.as_ref();
        if let Some(direct) = direct.filter(|_| is_aligned(offset, data.len())) {
            let outcome = direct.write(offset, buffers::aligned(data.clone())).await;
            if !is_invalid(&outcome) {
                return outcome.map_err(|error| self.write_trouble(offset, &error));
            }
        }
        let outcome = self.cached_writes.write(offset, data).await;
        outcome.map_err(|error| self.write_trouble(offset, &error))
    }

    pub(super) async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        let disk = self.clone();
        blocking(move || {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            match fallocate(&*disk.file, flags, offset, length) {
                Ok(()) => Ok(()),
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    disk.write_zeros(offset, length)
                }
                Err(error) => Err(disk.write_trouble(offset, &error.into())),
            }
        })
        .await
    }

    fn write_zeros(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        let zeros = vec![0; ZERO_WRITE];
        let mut done = 0;
        while done < length {
            let step = (length - done).min(ZERO_WRITE as u64);
            self.file
                .write_all_at(&zeros[..step as usize], offset + done)
                .map_err(|error| self.write_trouble(offset + done, &error))?;
            done += step;
        }
        Ok(())
    }

    pub(super) async fn flush(&self) -> Result<(), Trouble> {
        let disk = self.clone();
        blocking(move || {
            disk.file.sync_data().map_err(|error| {
                let mut trouble = disk.write_trouble(0, &error);
                trouble.offset = None;
                trouble
            })
        })
        .await
    }

    /// As [`presence::check`].
    pub(super) async fn check(&self, size: u64) -> Result<(), Trouble> {
        let disk = self.clone();
        blocking(move || presence::check(&disk.file, &disk.path, size)).await
    }

    fn read_trouble(&self, offset: u64, length: u32, error: &io::Error) -> Trouble {
        let gone =
            [Errno::NXIO, Errno::NODEV, Errno::STALE].map(|errno| Some(errno.raw_os_error()));
        let code = match error.kind() {
            io::ErrorKind::UnexpectedEof => TroubleCode::SizeMismatch,
            _ if gone.contains(&error.raw_os_error()) => TroubleCode::EndpointGone,
            _ => TroubleCode::ReadError,
        };
        let path = self.path.display();
        let text = match code {
            TroubleCode::SizeMismatch => format!(
                "{path} ends before {}: it was cut while it was open",
                offset + u64::from(length)
            ),
            _ => format!("reading {length} bytes of {path} failed: {error}"),
        };
        Trouble::at(code, offset, text)
    }

    fn write_trouble(&self, offset: u64, error: &io::Error) -> Trouble {
        let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
        let code = match full.contains(&error.raw_os_error()) {
            true => TroubleCode::NoSpace,
            false => TroubleCode::WriteError,
        };
        Trouble::at(
            code,
            offset,
            format!("writing {} failed: {error}", self.path.display()),
        )
    }
}

fn is_aligned(offset: u64, length: usize) -> bool {
    offset.is_multiple_of(ALIGNMENT as u64) && length.is_multiple_of(ALIGNMENT)
}

/// The open file once more, without the page cache. File systems that cannot do that refuse.
fn open_direct(file: &File, access: Access) -> Option<File> {
    OpenOptions::new()
        .read(true)
        .write(access == Access::Write)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .ok()
}

/// Whether a direct operation was refused for its alignment; through the page cache it will do.
fn is_invalid(outcome: &io::Result<()>) -> bool {
    let error = outcome.as_ref().err().and_then(io::Error::raw_os_error);
    error == Some(Errno::INVAL.raw_os_error())
}

/// Fills the buffer from the page cache, if all of it is there.
fn read_cached(file: &File, buffer: &mut [u8], offset: u64) -> bool {
    let wanted = buffer.len();
    let mut parts = [IoSliceMut::new(buffer)];
    preadv2(file, &mut parts, offset, ReadWriteFlags::NOWAIT) == Ok(wanted)
}

fn holes(disk: &Disk, offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
    let end = offset + length;
    let mut spans = Vec::new();
    let mut position = offset;
    while position < end {
        let data = match seek(&*disk.file, SeekFrom::Data(position)) {
            Ok(data) => data.min(end),
            // No data from here to the end of the file.
            Err(Errno::NXIO) => end,
            // The file system knows no holes.
            Err(_) => position,
        };
        push(&mut spans, data - position, true);
        if data == end {
            break;
        }
        let hole = seek(&*disk.file, SeekFrom::Hole(data))
            .unwrap_or(end)
            .clamp(data, end);
        // A hole at once after data would be an endless loop; treat the rest as data.
        let hole = if hole == data { end } else { hole };
        push(&mut spans, hole - data, false);
        position = hole;
    }
    Ok(spans)
}

/// Runs blocking file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
) -> Result<T, Trouble> {
    crate::blocking::blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Trouble::new(
                TroubleCode::EndpointGone,
                format!("file work was abandoned: {error}"),
            ))
        })
}

pub(super) fn gone(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(
        TroubleCode::EndpointGone,
        format!("opening {} failed: {error}", path.display()),
    )
}

pub(super) fn check_size(path: &Path, found: u64, wanted: u64) -> Result<(), Trouble> {
    if found == wanted {
        return Ok(());
    }
    let text = format!("{} has {found} bytes, the VDISK {wanted}", path.display());
    Err(Trouble::new(TroubleCode::SizeMismatch, text))
}
