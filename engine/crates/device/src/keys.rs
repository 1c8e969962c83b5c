//! Keys, and what is derived from them.

use crate::PackError;
use crate::header::Header;
use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use std::fmt;
use std::path::Path;

const FRAMES: &str = "drover 2026-11 device pack: frames";
const HEADS: &str = "drover 2026-11 device pack: heads";

/// Names a transport device; random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceId(pub [u8; 16]);

/// Opens everything on one transport device.
#[derive(Clone)]
pub struct DeviceKey([u8; 32]);

impl DeviceKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        DeviceKey(bytes)
    }
}

/// A key is in no log.
impl fmt::Debug for DeviceKey {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("DeviceKey(…)")
    }
}

/// The keys of one pack.
pub(crate) struct PackKeys {
    pub(crate) frames: LessSafeKey,
    pub(crate) heads: [u8; 32],
}

impl PackKeys {
    pub(crate) fn derive(key: &DeviceKey, header: &Header, path: &Path) -> Result<Self, PackError> {
        let mut material = Vec::with_capacity(84);
        material.extend_from_slice(&key.0);
        material.extend_from_slice(&header.device.0);
        material.extend_from_slice(&header.number.to_le_bytes());
        material.extend_from_slice(&header.salt);
        let frames = blake3::derive_key(FRAMES, &material);
        let heads = blake3::derive_key(HEADS, &material);
        let frames = UnboundKey::new(&AES_256_GCM, &frames).map_err(|_| PackError::NoPack {
            path: path.to_owned(),
            why: "its key was not accepted".into(),
        })?;
        Ok(PackKeys {
            frames: LessSafeKey::new(frames),
            heads,
        })
    }
}
