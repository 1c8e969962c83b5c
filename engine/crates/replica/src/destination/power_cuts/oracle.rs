//! What may be there after a power cut: of each sector the last acknowledged write is the oldest that
//! may be, the last one begun the newest.

use super::{IMAGE, SECTOR};
use crate::chunk::Geometry;
use crate::journal::{Found, Journal, Subject};
use crate::powercut::{Cuts, Disk, Image};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::HashMap;
use std::path::Path;

/// A write that was begun.
pub(super) struct Write {
    pub(super) id: u64,
    pub(super) zero: bool,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Steps of the disk before it.
    pub(super) begun: usize,
}

impl Write {
    fn covers(&self, offset: u64, length: u64) -> bool {
        self.offset <= offset && offset + length <= self.offset + self.length
    }

    pub(super) fn touches(&self, offset: u64, length: u64) -> bool {
        self.offset < offset + length && offset < self.offset + self.length
    }

    /// What it leaves in a sector.
    pub(super) fn sector(&self, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        if !self.zero {
            for stamp in bytes.chunks_exact_mut(16) {
                stamp[..8].copy_from_slice(&sector.to_le_bytes());
                stamp[8..].copy_from_slice(&self.id.to_le_bytes());
            }
        }
        bytes
    }
}

/// From one power cut to the next.
pub(super) struct Life {
    pub(super) context: String,
    pub(super) geometry: Geometry,
    pub(super) medium: u64,
    /// What was there at its begin.
    pub(super) base: Vec<u8>,
    pub(super) base_claims: Vec<bool>,
    /// Steps of the disk until the VDISK was open.
    pub(super) opened: usize,
    pub(super) writes: Vec<Write>,
    /// Steps of the disk when the write of an id was acknowledged.
    pub(super) acknowledged: HashMap<u64, usize>,
}

impl Life {
    fn is_acknowledged(&self, write: &Write, cut: usize) -> bool {
        self.acknowledged
            .get(&write.id)
            .is_some_and(|step| *step <= cut)
    }

    /// Checks what a power cut after `cut` steps leaves; returns what the journal claims.
    fn check(&self, folder: &Path, image: &Image, cut: usize) -> Option<Vec<bool>> {
        let journal = self.journal(folder, image, cut)?;
        let claims: Vec<_> = (0..self.geometry.chunks())
            .map(|chunk| journal.is_stable(chunk))
            .collect();
        let data = image.read(IMAGE);
        let data = data.unwrap_or_else(|| panic!("{}, cut at {cut}: no image", self.context));
        for chunk in 0..self.geometry.chunks() {
            self.check_chunk(claims[chunk as usize], data, chunk, cut);
        }
        Some(claims)
    }

    fn journal(&self, folder: &Path, image: &Image, cut: usize) -> Option<Journal> {
        // Before the VDISK is open nobody is told anything.
        if cut < self.opened {
            return None;
        }
        let path = folder.join("vda.journal");
        let raw = image.read("vda.journal");
        std::fs::write(
            &path,
            raw.unwrap_or_else(|| panic!("{}, cut at {cut}: no journal", self.context)),
        )
        .unwrap();
        let subject = Subject {
            name: "vda".into(),
            geometry: self.geometry,
            medium: self.medium,
        };
        let (journal, found) = Journal::open(&path, subject).unwrap();
        assert!(
            matches!(found, Found::Journal { .. }),
            "{}, cut at {cut}: {found:?}",
            self.context
        );
        Some(journal)
    }

    fn check_chunk(&self, claimed: bool, data: &[u8], chunk: u32, cut: usize) {
        let (offset, length) = (
            self.geometry.offset(chunk),
            u64::from(self.geometry.length(chunk)),
        );
        let context = format!("{}, cut at {cut}, chunk {chunk}", self.context);
        let writes: Vec<_> = self
            .writes
            .iter()
            .filter(|write| write.begun <= cut && write.touches(offset, length))
            .collect();
        let whole = |write: &&&Write| write.covers(offset, length);
        let must = self.base_claims[chunk as usize]
            || writes
                .iter()
                .filter(whole)
                .any(|write| self.is_acknowledged(write, cut));
        assert!(claimed || !must, "{context}: acknowledged, but not claimed");
        // Claimed though nothing was there before: then a whole write of it must be there.
        let floor = match claimed && !self.base_claims[chunk as usize] {
            true => {
                let first = writes.iter().find(whole);
                first
                    .unwrap_or_else(|| panic!("{context}: claimed, but never written"))
                    .id
            }
            false => 0,
        };
        let sectors = offset / SECTOR as u64..(offset + length) / SECTOR as u64;
        for sector in sectors {
            self.check_sector(&writes, data, sector, (floor, cut), &context);
        }
    }

    fn check_sector(
        &self,
        writes: &[&Write],
        data: &[u8],
        sector: u64,
        (floor, cut): (u64, usize),
        context: &str,
    ) {
        let at = sector as usize * SECTOR;
        let found = &data[at..at + SECTOR];
        for write in writes
            .iter()
            .rev()
            .filter(|write| write.covers(at as u64, SECTOR as u64))
        {
            if found == write.sector(sector) {
                return;
            }
            let oldest = self.is_acknowledged(write, cut) || write.id == floor;
            assert!(
                !oldest,
                "{context}: sector {sector} is older than write {}: {:?}",
                write.id,
                &found[..16]
            );
        }
        assert_eq!(
            found,
            &self.base[at..at + SECTOR],
            "{context}: sector {sector} was never written so"
        );
    }

    /// Cuts the power after every step, in several ways. Returns one of the states, with its claims.
    pub(super) fn cut_everywhere(
        &self,
        disk: &Disk,
        random: &mut StdRng,
        states: &mut u64,
    ) -> (Image, Vec<bool>) {
        let (base, steps) = disk.history();
        let folder = tempfile::tempdir().unwrap();
        let mut cuts = Cuts::new(base);
        let chosen = random.random_range(self.opened..=steps.len());
        let mut survivor = None;
        for cut in 0..=steps.len() {
            for share in [0.0, 0.5, 1.0] {
                let sector = [512, 4096][random.random_range(0..2)];
                let image = cuts.cut(sector, || random.random_bool(share));
                let claims = self.check(folder.path(), &image, cut);
                *states += u64::from(claims.is_some());
                if cut == chosen && share == 0.5 {
                    survivor = claims.map(|claims| (image, claims));
                }
            }
            if let Some(step) = steps.get(cut) {
                cuts.advance(step);
            }
        }
        survivor.expect("the chosen cut is after the opening")
    }
}
