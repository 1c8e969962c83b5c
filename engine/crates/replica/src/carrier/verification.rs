//! Reads a whole device and says whether everything on it is intact.

use super::{Contents, Damage, DeviceStatus, Found, Subject, Walk};
use crate::lock;
use device::{DeviceId, DeviceKey};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A verification that is under way or over; dropping it ends it.
pub struct Verification {
    status: Arc<Mutex<DeviceStatus>>,
    _stop: DropGuard,
}

struct Reader {
    status: Arc<Mutex<DeviceStatus>>,
    stop: CancellationToken,
    /// A bit for each chunk that was found, of each VDISK of each migration.
    found: HashMap<(String, String), Vec<u64>>,
}

impl Reader {
    /// Notes a chunk; whether it is the first time.
    fn is_first(&mut self, subject: &Subject, chunk: u32) -> bool {
        let whose = (subject.migration.clone(), subject.vdisk.clone());
        let bits = self.found.entry(whose).or_default();
        let (word, bit) = (chunk as usize / 64, 1 << (chunk % 64));
        if word >= bits.len() {
            bits.resize(word + 1, 0);
        }
        let first = bits[word] & bit == 0;
        bits[word] |= bit;
        first
    }
}

impl Verification {
    /// Begins to read every pack in the folder, in a thread of its own.
    pub fn start(packs: &Path, device: DeviceId, key: DeviceKey) -> io::Result<Self> {
        let mut contents = Contents::new(packs, device, key);
        let status = DeviceStatus::of_reading(packs, "verify")?;
        let status = Arc::new(Mutex::new(status));
        let stop = CancellationToken::new();
        let mut reader = Reader {
            status: status.clone(),
            stop: stop.clone(),
            found: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("verify".into())
            .spawn(move || {
                let outcome = contents.walk(&mut reader);
                lock(&reader.status).end_reading(outcome.map_err(|error| error.to_string()));
            })?;
        Ok(Verification {
            status,
            _stop: stop.drop_guard(),
        })
    }

    /// How far it is.
    pub fn status(&self) -> DeviceStatus {
        lock(&self.status).clone()
    }
}

impl Walk for Reader {
    fn wants(&mut self, _: &Subject, _: u32) -> bool {
        true
    }

    fn found(&mut self, found: Found<'_>) {
        let first = self.is_first(found.subject, found.chunk);
        lock(&self.status).note_chunk(&found, first);
    }

    fn damaged(&mut self, damage: Damage) {
        lock(&self.status).note_damage(damage);
    }

    fn passed(&mut self, bytes: u64) {
        lock(&self.status).read_bytes += bytes;
    }

    fn stop(&self) -> bool {
        self.stop.is_cancelled()
    }
}
