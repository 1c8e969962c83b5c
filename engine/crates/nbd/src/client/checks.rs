//! What is checked before anything is sent, and how long requests are cut.

use super::Client;
use crate::Error;
use crate::protocol::CMD_FLAG_FUA;

impl Client {
    /// Inside the export, and aligned.
    pub(super) fn check(&self, offset: u64, length: u64) -> Result<(), Error> {
        let info = self.info();
        let end = offset.saturating_add(length);
        if end > info.size {
            let what = "the end of the request";
            return Err(Error::TooLarge {
                what,
                size: end,
                limit: info.size,
            });
        }
        let block = u64::from(info.minimum_block);
        // The end of an export may be odd; then it is the one place where a length may be.
        let end_aligned = end.is_multiple_of(block) || end == info.size;
        if offset.is_multiple_of(block) && end_aligned {
            return Ok(());
        }
        Err(Error::Misaligned {
            offset,
            length,
            minimum_block: info.minimum_block,
        })
    }

    pub(super) fn check_writable(&self) -> Result<(), Error> {
        match self.info().read_only {
            true => Err(Error::Unsupported("writing: it is read-only")),
            false => Ok(()),
        }
    }

    /// The flags of a write, and whether a flush must follow.
    pub(super) fn durability(&self, fua: bool) -> Result<(u16, bool), Error> {
        let info = self.info();
        match (fua, info.can_fua, info.can_flush) {
            (false, ..) => Ok((0, false)),
            (true, true, _) => Ok((CMD_FLAG_FUA, false)),
            (true, false, true) => Ok((0, true)),
            (true, false, false) => {
                Err(Error::Unsupported("durable writes: neither FUA nor flush"))
            }
        }
    }

    /// `whole` in parts that fit one request, each with its offset.
    pub(super) fn parts<B: AsRef<[u8]>>(
        &self,
        mut offset: u64,
        mut whole: B,
        split_to: fn(&mut B, usize) -> B,
    ) -> impl Iterator<Item = (u64, B)> + use<B> {
        let maximum = self.info().maximum_payload as usize;
        std::iter::from_fn(move || {
            let length = whole.as_ref().len().min(maximum);
            let at = offset;
            offset += length as u64;
            (length > 0).then(|| (at, split_to(&mut whole, length)))
        })
    }
}
