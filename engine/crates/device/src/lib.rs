//! What lies on a transport device: packs of frames, each encrypted and authenticated by itself.
//! `docs/transport-device.md` is the specification.
//!
//! This crate knows files, frames and keys. What a VDISK is and what is done with its blocks is for
//! others to know.

mod ahead;
mod entry;
mod frame;
mod header;
mod keys;
mod reader;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

pub use ahead::{Ahead, MAX_STRETCH, Stretch};
pub use entry::{Block, Entry, Hash, Indexed, MAX_BLOCK, MAX_HASHED, Place};
pub use keys::{DeviceId, DeviceKey};
pub use reader::{Found, PackReader, Scan};
pub use writer::{MAX_PACK, PackWriter};

use std::io;
use std::path::{Path, PathBuf};

/// Why a pack cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file system refused.
    #[error("{action} {} failed: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is no pack, or its headers are all damaged.
    #[error("{} is no pack that this release can read: {why}", path.display())]
    NoPack {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A frame does not open: it is damaged, was tampered with, or has another key.
    #[error("the frame at {offset} of {} does not open: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The pack has reached its size; the next one takes the entry.
    #[error("the pack {} is full", .0.display())]
    Full(PathBuf),
}

impl PackError {
    fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| PackError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// The packs in a folder: number and length in bytes, in order. Other files are none of ours.
pub fn list_packs(packs: &Path) -> Result<Vec<(u32, u64)>, PackError> {
    let listing = |error| PackError::io("listing", packs)(error);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(packs).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        if let Some(number) = entry.file_name().to_str().and_then(pack_number) {
            found.push((number, entry.metadata().map_err(listing)?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn pack_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".pack")?;
    let legal = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| legal)
}

/// Where a pack of this number lies in the folder of packs.
pub fn pack_path(packs: &Path, number: u32) -> PathBuf {
    packs.join(format!("{number:08}.pack"))
}
