//! Whole packs, and what can happen to them.

use crate::entry::tests::entries;
use crate::{
    Block, DeviceId, DeviceKey, Entry, Found, PackError, PackReader, PackWriter, pack_path,
};
use bytes::Bytes;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DEVICE: DeviceId = DeviceId([3; 16]);

fn key() -> DeviceKey {
    DeviceKey::new([9; 32])
}

fn block(chunk: u32, length: usize) -> Entry {
    Entry::Block(Block {
        vdisk: 1,
        chunk,
        hash: [chunk as u8; 32],
        raw_length: length as u32,
        compression: 0,
        payload: Bytes::from(vec![chunk as u8; length]),
    })
}

fn write(folder: &Path, entries: &[Entry], finish: bool) -> PathBuf {
    let mut pack = PackWriter::create(folder, 5, DEVICE, &key()).unwrap();
    for entry in entries {
        pack.append(entry).unwrap();
    }
    match finish {
        true => pack.finish().unwrap(),
        false => pack.sync().unwrap(),
    }
    pack_path(folder, 5)
}

fn pack_of(entries: &[Entry], finish: bool) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), entries, finish);
    (folder, path)
}

fn found(path: &Path) -> Vec<Found> {
    let pack = PackReader::open(path, DEVICE, &key()).unwrap();
    pack.scan().map(Result::unwrap).collect()
}

/// Entries without the End, and damaged regions.
fn taken(path: &Path) -> (Vec<Entry>, Vec<(u64, u64)>) {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for one in found(path) {
        match one {
            Found::Entry {
                entry: Entry::End(_) | Entry::Unknown(0),
                ..
            } => {}
            Found::Entry { entry, .. } => entries.push(entry),
            Found::Damaged { offset, bytes } => damaged.push((offset, bytes)),
        }
    }
    (entries, damaged)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(entries(), 0..20), finish: bool, cut in 0..5000u64) {
        let entries: Vec<_> = entries.into_iter().filter(|entry| !matches!(entry, Entry::End(_))).collect();
        let (_folder, path) = pack_of(&entries, finish);
        prop_assert_eq!(taken(&path), (entries.clone(), vec![]));
        let pack = PackReader::open(&path, DEVICE, &key()).unwrap();
        let index = pack.index();
        prop_assert_eq!(index.is_some(), finish);
        for (indexed, entry) in index.unwrap_or_default().iter().zip(&entries) {
            prop_assert_eq!(&pack.read(indexed.offset).unwrap(), entry);
            let ahead = pack.ahead().unwrap();
            let mut part = indexed.bytes();
            part.end -= cut.min(part.end - part.start);
            for bytes in [indexed.bytes(), part] {
                ahead.order(bytes);
                let stretch = pack.take(&ahead).unwrap();
                prop_assert_eq!(&pack.read_in(&stretch, indexed.offset).unwrap(), entry);
            }
        }
    }

    /// A flipped bit costs the frame that it is in, at most.
    #[test]
    fn bits_that_flip_cost_their_frames(flips in prop::collection::vec(any::<u32>(), 1..12), finish: bool) {
        let entries: Vec<_> = (0..12).map(|chunk| block(chunk, 700 * chunk as usize)).collect();
        let (_folder, path) = pack_of(&entries, finish);
        let whole = found(&path);
        let mut raw = std::fs::read(&path).unwrap();
        let bits: Vec<usize> = flips.iter().map(|bit| 8 * 1024 + *bit as usize % (8 * (raw.len() - 1024))).collect();
        for bit in &bits {
            raw[bit / 8] ^= 1 << (bit % 8);
        }
        std::fs::write(&path, &raw).unwrap();
        let left = found(&path);
        for (index, one) in whole.iter().enumerate() {
            let Found::Entry { offset, .. } = one else { continue };
            let end = match whole.get(index + 1) {
                Some(Found::Entry { offset, .. }) => *offset as usize,
                _ => raw.len(),
            };
            let hit = bits.iter().any(|bit| (*offset as usize..end).contains(&(bit / 8)));
            prop_assert!(hit || left.contains(one), "lost without damage: {offset}");
        }
        for one in &left {
            prop_assert!(matches!(one, Found::Damaged { .. }) || whole.contains(one), "made up: {one:?}");
        }
    }

    #[test]
    fn a_truncated_pack_gives_what_is_whole(length in 1024..20_000usize) {
        let entries: Vec<_> = (0..8).map(|chunk| block(chunk, 2000)).collect();
        let (_folder, path) = pack_of(&entries, true);
        let raw = std::fs::read(&path).unwrap();
        let length = length.min(raw.len());
        std::fs::write(&path, &raw[..length]).unwrap();
        let (left, _) = taken(&path);
        // Head, kind and fields, payload and tag of a frame; the zeros after it may be missing.
        let frame = 32 + 46 + 2000 + 16;
        let whole = (0..8).filter(|index| 1024 + index * 2560 + frame <= length).count();
        prop_assert_eq!(left.len(), whole);
        prop_assert_eq!(&left[..], &entries[..left.len()]);
    }
}

#[test]
fn a_payload_can_be_written_as_it_is() {
    let (_folder, path) = pack_of(&[block(1, 1000), block(2, 512 << 10)], true);
    let pack = PackReader::open(&path, DEVICE, &key()).unwrap();
    for frame in pack
        .index()
        .unwrap()
        .iter()
        .filter(|frame| frame.is_block())
    {
        let Entry::Block(block) = pack.read(frame.offset).unwrap() else {
            panic!("no block");
        };
        let address = block.payload.as_ptr().addr();
        assert!(address.is_multiple_of(buffers::ALIGNMENT), "{address:x}");
    }
}

#[test]
fn damage_is_the_same_read_ahead() {
    let (_folder, path) = pack_of(&[block(1, 9000), block(2, 9000)], true);
    let whole = std::fs::read(&path).unwrap();
    // In the head, the content, the tag.
    for at in [1024 + 20, 1024 + 5000, 1024 + 32 + 46 + 9000 + 3] {
        let mut raw = whole.clone();
        raw[at] ^= 1;
        std::fs::write(&path, &raw).unwrap();
        let pack = PackReader::open(&path, DEVICE, &key()).unwrap();
        let (ahead, frames) = (pack.ahead().unwrap(), pack.index().unwrap());
        ahead.order(0..pack.length());
        let stretch = pack.take(&ahead).unwrap();
        let told = pack.read_in(&stretch, frames[0].offset).unwrap_err();
        let expected = pack.read(frames[0].offset).unwrap_err();
        assert!(matches!(told, PackError::Damaged { .. }));
        assert_eq!(told.to_string(), expected.to_string());
        assert!(pack.read_in(&stretch, frames[1].offset).is_ok());
        let outside = pack.read_in(&stretch, u64::MAX - 5);
        assert!(matches!(outside, Err(PackError::Damaged { .. })));
    }
}

#[test]
fn any_header_will_do() {
    let entries = [block(1, 10)];
    let (_folder, path) = pack_of(&entries, true);
    let raw = std::fs::read(&path).unwrap();
    let headers = [0, 512, raw.len() - 512];
    for left in 0..3 {
        let mut raw = raw.clone();
        for (index, at) in headers.into_iter().enumerate() {
            if index != left {
                raw[at + 40] ^= 1;
            }
        }
        std::fs::write(&path, &raw).unwrap();
        assert_eq!(taken(&path).0, entries, "{left}");
    }
    let mut raw = raw;
    headers.into_iter().for_each(|at| raw[at + 40] ^= 1);
    std::fs::write(&path, &raw).unwrap();
    let refused = PackReader::open(&path, DEVICE, &key());
    assert!(matches!(refused, Err(PackError::NoPack { .. })));
}

#[test]
fn a_stranger_reads_nothing() {
    let (_folder, path) = pack_of(&[block(1, 5000)], true);
    let pack = PackReader::open(&path, DEVICE, &DeviceKey::new([8; 32])).unwrap();
    assert!(pack.index().is_none());
    let first = pack.scan().next();
    assert!(matches!(
        first,
        Some(Ok(Found::Damaged { offset: 1024, .. }))
    ));
    let other = PackReader::open(&path, DeviceId([4; 16]), &key());
    assert!(matches!(other, Err(PackError::NoPack { .. })));
    let raw = std::fs::read(&path).unwrap();
    assert!(!raw.windows(16).any(|bytes| bytes == [1; 16]), "plain text");
}

#[test]
fn frames_cannot_be_moved() {
    let entries = [block(1, 100), block(2, 100), block(3, 100)];
    let (_folder, path) = pack_of(&entries, false);
    let mut raw = std::fs::read(&path).unwrap();
    let (first, second) = (raw[1024..1536].to_vec(), raw[1536..2048].to_vec());
    raw[1024..1536].copy_from_slice(&second);
    raw[1536..2048].copy_from_slice(&first);
    std::fs::write(&path, &raw).unwrap();
    let (left, damaged) = taken(&path);
    assert_eq!(left, entries[2..]);
    assert_eq!(damaged, [(1024, 1024)]);
}

#[test]
fn the_same_content_is_never_encrypted_alike() {
    let (_one, first) = pack_of(&[block(1, 100), block(1, 100)], true);
    let (_two, second) = pack_of(&[block(1, 100), block(1, 100)], true);
    let (first, second) = (
        std::fs::read(first).unwrap(),
        std::fs::read(second).unwrap(),
    );
    assert_ne!(first[1056..1100], first[1568..1612]);
    assert_ne!(first[1056..1100], second[1056..1100]);
}

#[test]
fn a_full_pack_says_so_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let pack = PackWriter::create(folder.path(), 5, DEVICE, &key()).unwrap();
    let mut pack = pack.limited(100_000);
    let mut written = Vec::new();
    loop {
        let entry = block(written.len() as u32, 3000);
        match pack.append(&entry) {
            Ok(_) => written.push(entry),
            Err(PackError::Full(_)) => break,
            Err(error) => panic!("{error}"),
        }
    }
    let length = pack.length();
    pack.finish().unwrap();
    let path = pack_path(folder.path(), 5);
    let found = std::fs::metadata(&path).unwrap().len();
    assert!(
        found == length && found <= 100_000 && found > 90_000,
        "{found}"
    );
    assert_eq!(taken(&path), (written, vec![]));
}

#[test]
fn a_pack_is_never_opened_again_for_writing() {
    let (folder, _path) = pack_of(&[], false);
    let again = PackWriter::create(folder.path(), 5, DEVICE, &key());
    assert!(matches!(again, Err(PackError::Io { .. })));
}

#[test]
fn a_disk_that_is_full_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = pack_path(folder.path(), 5);
    let mut pack = PackWriter::create(folder.path(), 5, DEVICE, &key()).unwrap();
    pack.break_with("/dev/full");
    pack.append(&block(1, 10)).unwrap();
    let error = pack.sync().unwrap_err().to_string();
    assert!(
        error.contains("No space left") && error.contains(path.to_str().unwrap()),
        "{error}"
    );
    assert!(pack.sync().is_err(), "a later sync must not succeed");
}
