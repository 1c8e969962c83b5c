//! Re-reading the destination: what is really there, whatever any journal says.

use super::vdisk::Vdisk;
use crate::chunk::{BLOCK_SIZE, Hash};
use crate::endpoint::Span;
use crate::endpoint::zero_chunks;
use crate::hash_table::zero_hash_at;
use crate::trouble::Trouble;

/// Hashes the blocks of a chunk.
pub(super) async fn hash_blocks(vdisk: &Vdisk, chunk: u32) -> Result<Vec<Hash>, Trouble> {
    let geometry = vdisk.geometry();
    let raw = vdisk
        .endpoint()?
        .read(geometry.offset(chunk), geometry.length(chunk))
        .await?;
    let blocks = raw.chunks(BLOCK_SIZE as usize);
    Ok(blocks.map(|block| blake3::hash(block).into()).collect())
}

/// Hashes chunks `first..first + count` as runs of equal hashes.
pub(super) async fn hash_chunks(
    vdisk: &Vdisk,
    first: u32,
    count: u32,
) -> Result<Vec<(u32, Hash)>, Trouble> {
    let endpoint = vdisk.endpoint()?;
    let geometry = vdisk.geometry();
    let (offset, length) = (geometry.offset(first), geometry.bytes(first, count));
    let spans: Vec<Span> = endpoint.spans(offset, length).await?;
    let mut zeros = zero_chunks(geometry, first, count, &spans)
        .into_iter()
        .peekable();
    let mut runs: Vec<(u32, Hash)> = Vec::new();
    for chunk in first..first + count {
        while zeros
            .peek()
            .is_some_and(|(begin, count)| begin + count <= chunk)
        {
            zeros.next();
        }
        let hash = match zeros.peek() {
            Some((begin, _)) if *begin <= chunk => zero_hash_at(geometry, chunk),
            _ => {
                let raw = endpoint
                    .read(geometry.offset(chunk), geometry.length(chunk))
                    .await?;
                blake3::hash(&raw).into()
            }
        };
        vdisk.re_read(chunk, hash);
        match runs.last_mut() {
            Some((count, last)) if *last == hash => *count += 1,
            _ => runs.push((1, hash)),
        }
    }
    Ok(runs)
}
