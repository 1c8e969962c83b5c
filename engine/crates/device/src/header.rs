//! The first and the last bytes of a pack.

use crate::keys::DeviceId;

/// Of a header, and of the trailer.
pub(crate) const HEADER_BYTES: usize = 512;

/// Where the first frame begins.
pub(crate) const FIRST_FRAME: u64 = 2 * HEADER_BYTES as u64;

const VERSION: u32 = 1;
const HEAD: [u8; 8] = *b"DROVPACK";
const TAIL: [u8; 8] = *b"DROVTAIL";
const CHECKED: usize = 72;
const CHECK: usize = 16;

/// What a pack says of itself without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) number: u32,
    pub(crate) device: DeviceId,
    pub(crate) salt: [u8; 32],
    /// In a trailer the offset of the End's frame.
    pub(crate) end: Option<u64>,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        raw[..8].copy_from_slice(if self.end.is_some() { &TAIL } else { &HEAD });
        raw[8..12].copy_from_slice(&VERSION.to_le_bytes());
        raw[12..16].copy_from_slice(&self.number.to_le_bytes());
        raw[16..32].copy_from_slice(&self.device.0);
        raw[32..64].copy_from_slice(&self.salt);
        raw[64..72].copy_from_slice(&self.end.unwrap_or(0).to_le_bytes());
        let check = blake3::hash(&raw[..CHECKED]);
        raw[CHECKED..CHECKED + CHECK].copy_from_slice(&check.as_bytes()[..CHECK]);
        raw
    }

    pub(crate) fn decode(raw: &[u8; HEADER_BYTES]) -> Result<Self, &'static str> {
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        let magic = &raw[..8];
        if magic != HEAD && magic != TAIL {
            return Err("it does not begin like one");
        }
        if raw[CHECKED..CHECKED + CHECK] != blake3::hash(&raw[..CHECKED]).as_bytes()[..CHECK] {
            return Err("its header is damaged");
        }
        if word(8) != VERSION {
            return Err("its format has another version");
        }
        let mut header = Header {
            number: word(12),
            device: DeviceId([0; 16]),
            salt: [0; 32],
            end: None,
        };
        header.device.0.copy_from_slice(&raw[16..32]);
        header.salt.copy_from_slice(&raw[32..64]);
        let end = u64::from(word(64)) | u64::from(word(68)) << 32;
        header.end = (magic == TAIL).then_some(end);
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_comes_back(number: u32, device: [u8; 16], salt: [u8; 32], end: Option<u64>) {
            let device = DeviceId(device);
            let header = Header { number, device, salt, end };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
        }

        #[test]
        fn damage_is_seen(number: u32, salt: [u8; 32], bit in 0..8 * (CHECKED + CHECK)) {
            let device = DeviceId([7; 16]);
            let mut raw = Header { number, device, salt, end: None }.encode();
            raw[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Header::decode(&raw).is_err());
        }
    }
}
