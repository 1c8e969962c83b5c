//! The highest announced record, written down in both places before it is announced.
//!
//! Each place has two blocks that are written in turn, so that half a write harms only the older.
//! The device is written first: at any moment the files are at the same entry or one behind.

use std::io;

use crate::block::{self, Aligned, BLOCK};
use crate::layout::Areas;
use crate::record::Place;

const MAGIC: u64 = u64::from_le_bytes(*b"WITLEDGR");
/// Name of the ledger's file.
pub const NAME: &str = "ledger";

/// One line of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Grows by one with each entry.
    pub sequence: u64,
    /// All records up to this one are durable and may have been announced.
    pub highest: u64,
}

impl Entry {
    /// Writes the entry to one place, durably.
    pub fn store(&self, areas: &Areas, place: Place, seed: u64) -> io::Result<()> {
        let mut block = Aligned::zeroed(BLOCK);
        for (at, field) in [MAGIC, seed, self.sequence, self.highest]
            .into_iter()
            .enumerate()
        {
            block::put(&mut block, at * 8, field);
        }
        block::seal(&mut block);
        areas.write_header(place, NAME, self.sequence % 2, &block)
    }

    /// The newest whole entry of one place.
    pub fn load(areas: &Areas, place: Place, seed: u64) -> io::Result<Option<Entry>> {
        let mut newest: Option<Entry> = None;
        for number in 0..2 {
            let block = areas.read_header(place, NAME, number)?;
            if let Some(entry) = decode(&block, seed) {
                newest = newest
                    .into_iter()
                    .chain([entry])
                    .max_by_key(|entry| entry.sequence);
            }
        }
        Ok(newest)
    }
}

fn decode(block: &[u8], seed: u64) -> Option<Entry> {
    let ours = block::get(block, 0) == MAGIC && block::get(block, 8) == seed;
    (ours && block::is_sealed(block)).then(|| Entry {
        sequence: block::get(block, 16),
        highest: block::get(block, 24),
    })
}

/// Whether the two places can be like this, whenever the program died.
pub fn agree(raw: Option<Entry>, file: Option<Entry>) -> bool {
    match (raw, file) {
        (Some(raw), Some(file)) if raw.sequence == file.sequence => raw.highest == file.highest,
        (Some(raw), Some(file)) => raw.sequence == file.sequence + 1 && raw.highest >= file.highest,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_may_be_one_entry_behind_and_never_ahead() {
        let entry = |sequence, highest| Some(Entry { sequence, highest });
        assert!(agree(entry(5, 50), entry(5, 50)));
        assert!(agree(entry(5, 50), entry(4, 40)));
        assert!(!agree(entry(4, 40), entry(5, 50)));
        assert!(!agree(entry(5, 50), entry(3, 30)));
        assert!(!agree(entry(5, 50), None));
        assert!(!agree(None, entry(5, 50)));
    }
}
