//! Packs of a transport device: any bytes, and good packs that were damaged on their way.

use crate::folder;
use arbitrary::{Arbitrary, Result, Unstructured};
use bytes::Bytes;
use device::{Block, DeviceId, DeviceKey, Entry, Found, PackReader, PackWriter, Place, pack_path};
use std::path::Path;

const DEVICE: DeviceId = DeviceId([1; 16]);

/// The first byte says how the file is made of the rest.
pub(crate) fn file(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let folder = folder::fresh();
    let path = pack_path(folder.path(), 0);
    match kind % 2 {
        0 => {
            std::fs::write(&path, rest).expect("writing the file");
            // Without the key nothing in it can be an entry.
            let found = everything(&path);
            assert!(found.iter().all(|one| matches!(one, Found::Damaged { .. })));
        }
        // Bytes that end before a plan is complete are no plan.
        _ => drop(damaged(folder.path(), &mut Unstructured::new(rest))),
    }
}

/// What a scan finds; it ends, goes forward, and says the same as reading at a place.
fn everything(path: &Path) -> Vec<Found> {
    let key = DeviceKey::new([2; 32]);
    let Ok(pack) = PackReader::open(path, DEVICE, &key) else {
        return Vec::new();
    };
    let length = std::fs::metadata(path).expect("the file").len();
    let (mut found, mut position) = (Vec::new(), 0);
    for one in pack.scan() {
        let one = one.expect("reading the file");
        let offset = match &one {
            Found::Entry { offset, entry } => {
                assert_eq!(&pack.read(*offset).expect("the same frame"), entry);
                *offset
            }
            Found::Damaged { offset, bytes } => {
                assert!(*bytes > 0 && offset + bytes <= length);
                *offset
            }
        };
        assert!(offset >= position && offset < length);
        position = offset + 1;
        found.push(one);
    }
    for frame in pack.index().unwrap_or_default() {
        // It may be damaged by now; it cannot be something else.
        let _ = pack.read(frame.offset);
    }
    found
}

fn entry(plan: &mut Unstructured) -> Result<Entry> {
    let [vdisk, chunk, count] = <[u8; 3]>::arbitrary(plan)?.map(u32::from);
    let hash = [u8::arbitrary(plan)?; 32];
    let payload = Bytes::from(vec![
        u8::arbitrary(plan)?;
        usize::from(u16::arbitrary(plan)?) % 3000
    ]);
    Ok(match u8::arbitrary(plan)? % 6 {
        0 => Entry::Vdisk {
            number: vdisk,
            description: payload,
        },
        1 => Entry::Place(Place {
            vdisk,
            chunk,
            hash,
            pack: 0,
            offset: u64::arbitrary(plan)?,
        }),
        2 => Entry::Zeros {
            vdisk,
            first: chunk,
            count,
        },
        3 => Entry::Hashes(vec![
            (hash, u64::from(chunk));
            usize::from(u8::arbitrary(plan)? % 5)
        ]),
        _ => Entry::Block(Block {
            vdisk,
            chunk,
            hash,
            raw_length: payload.len() as u32,
            compression: 0,
            payload,
        }),
    })
}

/// What a damaged pack still gives, the whole one had at the same place.
fn damaged(packs: &Path, plan: &mut Unstructured) -> Result<()> {
    let key = DeviceKey::new([2; 32]);
    let mut pack = PackWriter::create(packs, 0, DEVICE, &key).expect("making a pack");
    for _ in 0..u8::arbitrary(plan)? % 12 {
        pack.append(&entry(plan)?).expect("appending");
    }
    match bool::arbitrary(plan)? {
        true => pack.finish().expect("finishing"),
        false => pack.sync().expect("syncing"),
    }
    let path = pack_path(packs, 0);
    let whole = everything(&path);
    assert!(whole.iter().all(|one| matches!(one, Found::Entry { .. })));
    let mut raw = std::fs::read(&path).expect("reading the pack");
    for _ in 0..1 + u8::arbitrary(plan)? % 6 {
        damage(&mut raw, plan)?;
    }
    std::fs::write(&path, raw).expect("writing the damaged pack");
    for one in everything(&path) {
        assert!(
            matches!(one, Found::Damaged { .. }) || whole.contains(&one),
            "made up: {one:?}"
        );
    }
    Ok(())
}

fn damage(raw: &mut Vec<u8>, plan: &mut Unstructured) -> Result<()> {
    if raw.is_empty() {
        return Ok(());
    }
    let at = usize::from(u16::arbitrary(plan)?) % raw.len();
    let to = (at + 512).min(raw.len());
    match u8::arbitrary(plan)? % 5 {
        0 => raw.truncate(at),
        1 => drop(raw.drain(at..to)),
        2 => {
            // A frame of this pack at another place.
            let again = raw[at..to].to_vec();
            let there = usize::from(u16::arbitrary(plan)?) % raw.len() / 512 * 512;
            raw.splice(there..there, again);
        }
        _ => raw[at] ^= u8::arbitrary(plan)?,
    }
    Ok(())
}
