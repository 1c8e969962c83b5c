//! Block devices. Everything is data: a device cannot be asked for its holes.

use super::Access;
use super::file::{Disk, blocking, check_size, gone};
use super::span::Span;
use crate::trouble::{Trouble, TroubleCode};
use bytes::Bytes;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// An open block device.
#[derive(Debug)]
pub struct BlockEndpoint {
    disk: Disk,
    size: u64,
}

impl BlockEndpoint {
    pub(super) async fn open(path: &Path, size: u64, access: Access) -> Result<Self, Trouble> {
        let path = path.to_owned();
        blocking(move || {
            let mut file = OpenOptions::new()
                .read(true)
                .write(access == Access::Write)
                .open(&path)
                .map_err(|error| gone(&path, &error))?;
            let metadata = file.metadata().map_err(|error| gone(&path, &error))?;
            if !metadata.file_type().is_block_device() {
                let text = format!(
                    "{} is no block device; use an endpoint of type file",
                    path.display()
                );
                return Err(Trouble::new(TroubleCode::EndpointGone, text));
            }
            let found = file
                .seek(SeekFrom::End(0))
                .map_err(|error| gone(&path, &error))?;
            check_size(&path, found, size)?;
            Ok(BlockEndpoint {
                disk: Disk::new(file, path, access),
                size,
            })
        })
        .await
    }

    pub(super) async fn check(&self) -> Result<(), Trouble> {
        self.disk.check(self.size).await
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

    pub(super) async fn spans(&self, _offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
        Ok(vec![Span {
            length,
            zero: false,
        }])
    }
}
