//! Block status replies: the extents of the negotiated meta contexts.

use super::{Violation, be32, violation};
use crate::Extent;

/// Most extents in one chunk; eight times what QEMU sends.
const MAX_EXTENTS: u32 = 1 << 20;
const DESCRIPTOR: u32 = 8;

/// May a block status chunk have a payload of `length` bytes?
pub(crate) fn check_payload(length: u32) -> Result<(), Violation> {
    match length.checked_sub(4) {
        Some(rest) if rest > 0 && rest % DESCRIPTOR == 0 && rest / DESCRIPTOR <= MAX_EXTENTS => {
            Ok(())
        }
        _ => violation!("a block status chunk of {length} bytes"),
    }
}

/// The extents of one reply; each context may speak once.
#[derive(Debug)]
pub(crate) struct ExtentReply {
    asked: u64,
    wanted: u32,
    unheard: Vec<u32>,
    heard: bool,
    extents: Option<Vec<Extent>>,
}

impl ExtentReply {
    pub(crate) fn new(asked: u32, contexts: &[u32], wanted: u32) -> ExtentReply {
        ExtentReply {
            asked: u64::from(asked),
            wanted,
            unheard: contexts.to_vec(),
            heard: false,
            extents: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !self.heard
    }

    /// `payload` has passed [`check_payload`].
    pub(crate) fn take(&mut self, payload: &[u8]) -> Result<(), Violation> {
        let (id, descriptors) = payload.split_at(4);
        let id = be32(id);
        let Some(at) = self.unheard.iter().position(|context| *context == id) else {
            return violation!(
                "extents of context {id}, which was not negotiated or has spoken already"
            );
        };
        self.unheard.swap_remove(at);
        self.heard = true;
        let extents = parse(descriptors, self.asked)?;
        if id == self.wanted {
            self.extents = Some(extents);
        }
        Ok(())
    }

    pub(crate) fn check_present(&self) -> Result<(), Violation> {
        match self.extents {
            Some(_) => Ok(()),
            None => violation!(
                "a block status reply without the extents of context {}",
                self.wanted
            ),
        }
    }

    pub(crate) fn into_extents(self) -> Vec<Extent> {
        self.extents.unwrap_or_default()
    }
}

/// Only the last extent may reach beyond what was asked; it is cut there.
fn parse(descriptors: &[u8], asked: u64) -> Result<Vec<Extent>, Violation> {
    let mut left = asked;
    let mut extents = Vec::with_capacity(descriptors.len() / DESCRIPTOR as usize);
    for descriptor in descriptors.chunks_exact(DESCRIPTOR as usize) {
        let length = u64::from(be32(&descriptor[..4]));
        let flags = be32(&descriptor[4..]);
        if length == 0 {
            return violation!("an extent of no bytes");
        }
        if left == 0 {
            return violation!("extents beyond the {asked} bytes that were asked for");
        }
        let length = length.min(left);
        left -= length;
        extents.push(Extent { length, flags });
    }
    Ok(extents)
}
