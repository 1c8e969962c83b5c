//! What a server says of an export, checked.

use crate::error::broken;
use crate::protocol::{
    CAN_MULTI_CONN, HAS_FLAGS, MAX_PAYLOAD, READ_ONLY, SEND_DF, SEND_FAST_ZERO, SEND_FLUSH,
    SEND_FUA, SEND_TRIM, SEND_WRITE_ZEROES,
};
use crate::reply::{Violation, be32, violation};
use crate::{Error, ExportInfo};

/// Largest minimum block that the specification allows, in bytes.
const MAX_MINIMUM_BLOCK: u32 = 64 << 10;
/// Preferred block if the server names none, in bytes.
const DEFAULT_PREFERRED_BLOCK: u32 = 4096;

/// All in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockSizes {
    minimum: u32,
    preferred: u32,
    maximum: u32,
}

impl Default for BlockSizes {
    fn default() -> BlockSizes {
        BlockSizes {
            minimum: 1,
            preferred: DEFAULT_PREFERRED_BLOCK,
            maximum: MAX_PAYLOAD,
        }
    }
}

/// Takes the 12 bytes of an `NBD_INFO_BLOCK_SIZE` reply after its kind.
pub(crate) fn parse_block_sizes(bytes: &[u8]) -> Result<BlockSizes, Violation> {
    let [minimum, preferred, maximum] = [0, 4, 8].map(|at| be32(&bytes[at..at + 4]));
    if !minimum.is_power_of_two() || minimum > MAX_MINIMUM_BLOCK {
        return violation!("a minimum block of {minimum} bytes");
    }
    if !preferred.is_power_of_two() || preferred < minimum {
        return violation!("a preferred block of {preferred} bytes, the minimum being {minimum}");
    }
    if maximum < minimum {
        return violation!(
            "a maximum payload of {maximum} bytes, the minimum block being {minimum}"
        );
    }
    Ok(BlockSizes {
        minimum,
        preferred,
        maximum,
    })
}

/// Meta contexts and structured replies are filled in by the caller.
pub(crate) fn export_info(
    size: u64,
    flags: u16,
    blocks: Option<BlockSizes>,
) -> Result<ExportInfo, Error> {
    if i64::try_from(size).is_err() {
        return broken!("an export of {size} bytes");
    }
    if flags & HAS_FLAGS == 0 {
        return broken!("export flags {flags:#06x} without NBD_FLAG_HAS_FLAGS");
    }
    let BlockSizes {
        minimum,
        preferred,
        maximum,
    } = blocks.unwrap_or_default();
    let has = |flag| flags & flag != 0;
    Ok(ExportInfo {
        size,
        read_only: has(READ_ONLY),
        can_flush: has(SEND_FLUSH),
        can_fua: has(SEND_FUA),
        can_trim: has(SEND_TRIM),
        can_write_zeroes: has(SEND_WRITE_ZEROES),
        can_fast_zero: has(SEND_FAST_ZERO),
        can_df: has(SEND_DF),
        can_multi_conn: has(CAN_MULTI_CONN),
        minimum_block: minimum,
        preferred_block: preferred,
        maximum_payload: maximum.min(MAX_PAYLOAD) / minimum * minimum,
        meta_contexts: Vec::new(),
        structured_replies: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(minimum: u32, preferred: u32, maximum: u32) -> Result<BlockSizes, Violation> {
        parse_block_sizes(&[minimum, preferred, maximum].map(u32::to_be_bytes).concat())
    }

    #[test]
    fn block_sizes_that_make_no_sense_are_refused() {
        for (minimum, preferred, maximum) in [
            (0, 4096, 1 << 20),
            (3, 4096, 1 << 20),
            (1 << 17, 1 << 17, 1 << 20),
            (512, 256, 1 << 20),
            (512, 4096, 0),
        ] {
            assert!(
                sizes(minimum, preferred, maximum).is_err(),
                "{minimum} {preferred} {maximum}"
            );
        }
    }

    #[test]
    fn the_payload_is_limited_and_aligned() {
        let info = export_info(1, HAS_FLAGS, sizes(512, 4096, u32::MAX).ok()).unwrap();
        assert_eq!(info.maximum_payload, MAX_PAYLOAD);
        let info = export_info(1, HAS_FLAGS, sizes(4096, 4096, 10_000).ok()).unwrap();
        assert_eq!(info.maximum_payload, 8192);
    }

    #[test]
    fn a_negative_size_and_missing_flags_are_refused() {
        assert!(export_info(u64::MAX, HAS_FLAGS, None).is_err());
        assert!(export_info(1, READ_ONLY, None).is_err());
    }
}
