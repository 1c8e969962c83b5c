//! Transport devices as both sides and a verification see them: their status, and reading them.

mod blocks;
mod by_index;
mod contents;
mod verification;

pub(crate) use blocks::Subject;
pub(crate) use contents::{Contents, Found, Walk};
pub use verification::Verification;

use serde::Serialize;
use std::io;
use std::path::{Path, PathBuf};

/// Most damaged places that are listed; all are counted.
const LISTED: usize = 64;

/// A transport device as the status shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeviceStatus {
    /// The folder of packs.
    pub path: PathBuf,
    /// `load`, `unload` or `verify`.
    pub purpose: &'static str,
    /// `running`; then `full`, `failed` or `closed` when loading, `done` or `failed` else.
    pub state: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes of packs written since it was opened.
    pub written_bytes: u64,
    /// Bytes of packs read, or passed over because nothing in them is needed.
    pub read_bytes: u64,
    /// Bytes of all packs.
    pub total_bytes: u64,
    /// Bytes that the file system has left.
    pub free_bytes: u64,
    /// Chunks stored or read as a block of their own.
    pub blocks: u64,
    /// Chunks whose content is that of another block.
    pub places: u64,
    /// Chunks that are on its medium for good.
    pub loaded_chunks: u64,
    /// Chunks handed to the destination's VDISK.
    pub unloaded_chunks: u64,
    /// Chunks that the destination holds already.
    pub skipped_chunks: u64,
    /// Chunks that the source does not wait for from this device.
    pub refused_chunks: u64,
    /// Damaged places.
    pub damaged: u64,
    /// The first of them.
    pub damages: Vec<Damage>,
    /// What is on it, as far as it was read.
    pub loads: Vec<LoadStatus>,
}

/// A place that does not open, or is not what it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Number of the pack.
    pub pack: u32,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The migration whose VDISK it is, if that is known.
    pub migration: Option<String>,
    /// The VDISK, if that is known.
    pub vdisk: Option<String>,
    /// Its chunk, if that is known.
    pub chunk: Option<u32>,
    /// What is wrong.
    pub why: String,
}

/// A load on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadStatus {
    /// Its number in hexadecimal.
    pub load: String,
    /// What the source was told of whom the VDISK is.
    pub migration: String,
    /// The VDISK.
    pub vdisk: String,
    /// Bytes of the VDISK.
    pub size: u64,
    /// Chunks seen so far, but those that an older load of the migration has too.
    pub chunks: u64,
}

impl DeviceStatus {
    /// One that was opened just now.
    pub(crate) fn new(packs: &Path, purpose: &'static str) -> Self {
        DeviceStatus {
            path: packs.to_owned(),
            purpose,
            state: "running",
            ..DeviceStatus::default()
        }
    }

    /// One that is to be read to its end.
    pub(crate) fn of_reading(packs: &Path, purpose: &'static str) -> io::Result<Self> {
        let found = device::list_packs(packs).map_err(io::Error::other)?;
        Ok(DeviceStatus {
            total_bytes: found.iter().map(|(_, bytes)| bytes).sum(),
            ..DeviceStatus::new(packs, purpose)
        })
    }

    pub(crate) fn end_reading(&mut self, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.state = "done";
                self.read_bytes = self.total_bytes;
            }
            Err(error) => {
                tracing::warn!(path = %self.path.display(), "not read to its end: {error}");
                self.state = "failed";
                self.error = Some(error);
            }
        }
    }

    pub(crate) fn note_damage(&mut self, damage: Damage) {
        self.damaged += 1;
        if self.damages.len() < LISTED {
            self.damages.push(damage);
        }
    }

    /// `first`: the chunk was in no load of this migration's VDISK before.
    pub(crate) fn note_chunk(&mut self, found: &Found<'_>, first: bool) {
        match found.is_place {
            true => self.places += 1,
            false => self.blocks += 1,
        }
        let (subject, load) = (found.subject, hex(&found.subject.load));
        match self.loads.iter_mut().find(|known| known.load == load) {
            Some(known) => known.chunks += u64::from(first),
            None => self.loads.push(LoadStatus {
                load,
                migration: subject.migration.clone(),
                vdisk: subject.vdisk.clone(),
                size: subject.size,
                chunks: u64::from(first),
            }),
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen bytes from 32 hexadecimal digits.
pub fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok()?;
    (digits && text.len() == 32).then(|| number.to_be_bytes())
}
