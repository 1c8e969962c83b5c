//! Payloads of Data that claim to be compressed.

use bytes::Bytes;
use drover_link::Compression;
use drover_link::limits::MAX_CHUNK;
use drover_replica::compression::{Choice, Compressor, decompress};

/// One byte of kind, four of claimed length (little-endian), then the payload.
pub(crate) fn payload(bytes: &[u8]) {
    let Some((&[kind, l0, l1, l2, l3], payload)) = bytes.split_first_chunk::<5>() else {
        return;
    };
    // The link's decoder lets no other length through.
    let claimed = 1 + u32::from_le_bytes([l0, l1, l2, l3]) % MAX_CHUNK as u32;
    let kinds = [Compression::None, Compression::Lz4, Compression::Zstd];
    let kind = kinds[usize::from(kind) % kinds.len()];
    let Ok(raw) = decompress(kind, Bytes::copy_from_slice(payload), claimed) else {
        return;
    };
    assert_eq!(
        raw.len(),
        claimed as usize,
        "not the length that was claimed"
    );
    for choice in [Choice::None, Choice::Lz4, Choice::Zstd] {
        let (kind, packed) = Compressor::new(choice).compress(&raw);
        assert!(packed.len() <= raw.len(), "compressed data has grown");
        assert_eq!(decompress(kind, packed, claimed).as_ref(), Ok(&raw));
    }
}
