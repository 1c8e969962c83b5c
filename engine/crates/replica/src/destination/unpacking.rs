//! From a Data message to what is to be written. Blocks that are sent alone are laid over what is
//! there, and taken only if the whole chunk then has the hash that it has at the source.

use super::vdisk::Vdisk;
use crate::chunk::mask_runs;
use crate::compression::decompress;
use crate::trouble::Trouble;
use bytes::Bytes;
use drover_link::{Compression, Data, Patch};

/// Why nothing is written.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The source must send it again.
    Corrupt(String),
    /// The endpoint could not be read.
    Failed(Trouble),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Refusal::Corrupt(why)
    }
}

/// Offset in bytes of the VDISK, and what belongs there.
type Piece = (u64, Bytes);

/// Checks a message and unpacks it. Nothing else may write its range meanwhile.
pub(super) async fn unpack(vdisk: &Vdisk, data: Data) -> Result<Vec<Piece>, Refusal> {
    let (offset, length) = (data.offset, data.raw_length);
    let (chunk, geometry) = (vdisk.geometry().chunk_at(offset), vdisk.geometry());
    if offset + u64::from(length) > geometry.offset(chunk) + u64::from(geometry.length(chunk)) {
        return Err("it reaches over the end of its chunk".to_owned().into());
    }
    if data.compression == Compression::Patch {
        return unpack_patch(vdisk, chunk, data).await;
    }
    let raw = decompress(data.compression, data.payload, length)?;
    if blake3::hash(&raw) != data.hash {
        return Err("its hash is wrong".to_owned().into());
    }
    Ok(vec![(offset, raw)])
}

async fn unpack_patch(vdisk: &Vdisk, chunk: u32, data: Data) -> Result<Vec<Piece>, Refusal> {
    let geometry = vdisk.geometry();
    let (offset, length) = (geometry.offset(chunk), geometry.length(chunk));
    let patch = Patch::decode(data.payload).map_err(|error| error.to_string())?;
    let all = geometry.all_blocks(chunk);
    let is_whole = (data.offset, data.raw_length) == (offset, length);
    if !is_whole || patch.blocks & !all != 0 || patch.blocks == all {
        return Err("its blocks are not some of a chunk".to_owned().into());
    }
    let places: Vec<(u64, u32)> = mask_runs(patch.blocks)
        .map(|(first, count)| geometry.piece(chunk, first, count))
        .collect();
    let raw_length = places.iter().map(|(_, length)| length).sum();
    let mut raw = decompress(patch.compression, patch.packed, raw_length)?;
    let endpoint = vdisk.endpoint().map_err(Refusal::Failed)?;
    let base = endpoint
        .read(offset, length)
        .await
        .map_err(Refusal::Failed)?;
    let pieces: Vec<Piece> = places
        .into_iter()
        .map(|(offset, length)| (offset, raw.split_to(length as usize)))
        .collect();
    match hash_patched(&base, offset, &pieces) == data.hash {
        true => Ok(pieces),
        false => Err("its blocks do not fit to what is there".to_owned().into()),
    }
}

/// BLAKE3 of `base`, which begins at `offset`, with the pieces laid over it.
fn hash_patched(base: &[u8], offset: u64, pieces: &[Piece]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut next = 0;
    for (at, raw) in pieces {
        let begin = (at - offset) as usize;
        hasher.update(&base[next..begin]).update(raw);
        next = begin + raw.len();
    }
    hasher.update(&base[next..]).finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{BLOCK_SIZE, CHUNK_SIZE};
    use crate::endpoint::EndpointSpec;
    use tempfile::TempDir;

    const CHUNK: usize = CHUNK_SIZE as usize;
    const BLOCK: usize = BLOCK_SIZE as usize;
    /// The last of two chunks has one whole block and a short one.
    const SIZE: usize = CHUNK + BLOCK + 700;

    fn content() -> Vec<u8> {
        (0..SIZE).map(|at| (at / 512) as u8).collect()
    }

    async fn vdisk() -> (TempDir, Vdisk) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vdisk.raw");
        std::fs::write(&path, content()).unwrap();
        let spec = EndpointSpec::File {
            path,
            create: false,
        };
        let vdisk = Vdisk::open("vda", SIZE as u64, spec, folder.path()).await;
        (folder, vdisk.unwrap())
    }

    /// A patch that makes `blocks` of a chunk new, with the hash of the whole.
    fn patch(chunk: usize, blocks: u8) -> Data {
        let begin = chunk * CHUNK;
        let mut whole = content()[begin..SIZE.min(begin + CHUNK)].to_vec();
        let mut packed = Vec::new();
        for (block, bytes) in whole.chunks_mut(BLOCK).enumerate() {
            if blocks & (1 << block) != 0 {
                bytes.fill(0xa0 + block as u8);
                packed.extend_from_slice(bytes);
            }
        }
        let patch = Patch {
            blocks,
            compression: Compression::None,
            packed: packed.into(),
        };
        Data {
            handle: 1,
            id: 1,
            offset: begin as u64,
            foreground: false,
            raw_length: whole.len() as u32,
            compression: Compression::Patch,
            hash: blake3::hash(&whole).into(),
            payload: patch.encode(),
        }
    }

    async fn is_corrupt(vdisk: &Vdisk, data: Data) -> bool {
        matches!(unpack(vdisk, data).await, Err(Refusal::Corrupt(_)))
    }

    #[tokio::test]
    async fn only_the_blocks_are_written() {
        let (_folder, vdisk) = vdisk().await;
        let pieces = unpack(&vdisk, patch(0, 0b1000_0110)).await.unwrap();
        let expected: [(u64, Vec<u8>); 2] = [
            (
                BLOCK as u64,
                [vec![0xa1; BLOCK], vec![0xa2; BLOCK]].concat(),
            ),
            (7 * BLOCK as u64, vec![0xa7; BLOCK]),
        ];
        assert_eq!(pieces, expected.map(|(at, raw)| (at, Bytes::from(raw))));
        let pieces = unpack(&vdisk, patch(1, 0b10)).await.unwrap();
        let expected = ((CHUNK + BLOCK) as u64, Bytes::from(vec![0xa1; 700]));
        assert_eq!(pieces, [expected]);
    }

    #[tokio::test]
    async fn on_another_content_nothing_is_written() {
        let (folder, vdisk) = vdisk().await;
        let mut other = content();
        other[3 * BLOCK] ^= 1;
        std::fs::write(folder.path().join("vdisk.raw"), other).unwrap();
        assert!(is_corrupt(&vdisk, patch(0, 0b1)).await);
        assert!(!is_corrupt(&vdisk, patch(0, 0b1000)).await, "replaced");
    }

    #[tokio::test]
    async fn what_is_no_patch_of_a_chunk_is_refused() {
        let (_folder, vdisk) = vdisk().await;
        assert!(is_corrupt(&vdisk, patch(1, 0b11)).await, "all blocks");
        let with = |alter: fn(&mut Data)| {
            let mut data = patch(0, 0b11);
            alter(&mut data);
            data
        };
        let wrong = [
            with(|data| data.hash[0] ^= 1),
            with(|data| data.raw_length -= 1),
            with(|data| data.offset += 512),
            with(|data| data.payload = data.payload.slice(..1000)),
            with(|data| data.payload = data.payload.slice(..1)),
            // Blocks that the short chunk does not have.
            with(|data| (data.offset, data.raw_length) = (CHUNK as u64, BLOCK as u32 + 700)),
        ];
        for data in wrong {
            assert!(is_corrupt(&vdisk, data).await);
        }
        let mut beyond = patch(1, 0b1);
        beyond.payload = patch(0, 0b100).payload;
        assert!(
            is_corrupt(&vdisk, beyond).await,
            "a block that is not there"
        );
    }
}
