//! NBD exports: whatever speaks NBD is a VDISK.

use super::Access;
use super::span::{Span, push};
use crate::trouble::{Trouble, TroubleCode};
use bytes::Bytes;
use nbd::{
    Address, BASE_ALLOCATION, DIRTY, DIRTY_BITMAP, EINVAL, EIO, ENOSPC, Error, Export, Pool,
    STATE_ZERO,
};
use std::path::Path;

/// Connections to one export, where the server allows several.
pub const NBD_CONNECTIONS: usize = 4;

/// Longest range of one request for zeros or for extents (1 GiB: far below the protocol's 4 GiB).
const LONGEST: u64 = 1 << 30;

/// An open export.
pub struct NbdEndpoint {
    pool: Pool,
    what: String,
    knows_allocation: bool,
}

impl std::fmt::Debug for NbdEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("NbdEndpoint").field(&self.what).finish()
    }
}

impl NbdEndpoint {
    pub(super) async fn open(
        socket: &Path,
        name: &str,
        size: u64,
        access: Access,
    ) -> Result<Self, Trouble> {
        let what = format!("NBD export {name:?} on {}", socket.display());
        let export = Export {
            address: Address::Unix(socket.to_owned()),
            name: name.to_owned(),
            meta_contexts: vec![BASE_ALLOCATION.to_owned()],
        };
        let pool = Pool::connect(&export, NBD_CONNECTIONS)
            .await
            .map_err(|error| {
                let text = format!("connecting to {what} failed: {error}");
                Trouble::new(TroubleCode::EndpointGone, text)
            })?;
        let info = pool.info();
        if info.size != size {
            let text = format!("{what} has {} bytes, the VDISK {size}", info.size);
            return Err(Trouble::new(TroubleCode::SizeMismatch, text));
        }
        if access == Access::Write && info.read_only {
            let text = format!("{what} is read-only; export it writable");
            return Err(Trouble::new(TroubleCode::WriteError, text));
        }
        if access == Access::Write && !info.can_flush {
            let text = format!(
                "{what} offers no flush, so nothing written to it could be called stable; use a server that does"
            );
            return Err(Trouble::new(TroubleCode::WriteError, text));
        }
        let knows_allocation = info
            .meta_contexts
            .iter()
            .any(|context| context == BASE_ALLOCATION);
        Ok(NbdEndpoint {
            pool,
            what,
            knows_allocation,
        })
    }

    pub(super) async fn read(&self, offset: u64, length: u32) -> Result<Bytes, Trouble> {
        let read = self.pool.read(offset, length).await;
        read.map_err(|error| self.trouble(TroubleCode::ReadError, "reading", offset, &error))
    }

    pub(super) async fn write(&self, offset: u64, data: Bytes) -> Result<(), Trouble> {
        let written = self.pool.write(offset, data, false).await;
        written.map_err(|error| self.trouble(TroubleCode::WriteError, "writing", offset, &error))
    }

    pub(super) async fn zero(&self, offset: u64, length: u64) -> Result<(), Trouble> {
        let mut done = 0;
        while done < length {
            let step = (length - done).min(LONGEST);
            let zeroed = self.zero_step(offset + done, step as u32).await;
            zeroed.map_err(|error| {
                self.trouble(TroubleCode::WriteError, "zeroing", offset + done, &error)
            })?;
            done += step;
        }
        Ok(())
    }

    async fn zero_step(&self, offset: u64, length: u32) -> Result<(), Error> {
        if self.pool.info().can_write_zeroes {
            return self.pool.write_zeroes(offset, length, true).await;
        }
        let zeros = Bytes::from(vec![0; (1 << 20).min(length) as usize]);
        let mut done = 0;
        while done < length {
            let step = (length - done).min(zeros.len() as u32);
            let data = zeros.slice(..step as usize);
            self.pool
                .write(offset + u64::from(done), data, false)
                .await?;
            done += step;
        }
        Ok(())
    }

    pub(super) async fn flush(&self) -> Result<(), Trouble> {
        self.pool.flush().await.map_err(|error| {
            let mut trouble = self.trouble(TroubleCode::WriteError, "flushing", 0, &error);
            trouble.offset = None;
            trouble
        })
    }

    pub(super) async fn spans(&self, offset: u64, length: u64) -> Result<Vec<Span>, Trouble> {
        if !self.knows_allocation {
            return Ok(vec![Span {
                length,
                zero: false,
            }]);
        }
        let mut spans = Vec::new();
        let mut done = 0;
        while done < length {
            let step = (length - done).min(LONGEST) as u32;
            let extents = self
                .pool
                .block_status(BASE_ALLOCATION, offset + done, step)
                .await;
            let extents = extents.map_err(|error| {
                self.trouble(TroubleCode::ReadError, "mapping", offset + done, &error)
            })?;
            for extent in extents {
                let known = extent.length.min(length - done);
                push(&mut spans, known, extent.flags & STATE_ZERO != 0);
                done += known;
            }
        }
        Ok(spans)
    }

    fn trouble(&self, code: TroubleCode, action: &str, offset: u64, error: &Error) -> Trouble {
        let code = match error {
            _ if !error.connection_survives() => TroubleCode::EndpointGone,
            _ if error.errno() == Some(ENOSPC) => TroubleCode::NoSpace,
            // Only these speak of the medium; servers send EINVAL for errors that NBD has no number for.
            Error::Server { errno, .. }
                if code == TroubleCode::ReadError && ![EIO, EINVAL].contains(errno) =>
            {
                TroubleCode::EndpointGone
            }
            _ => code,
        };
        let offset = match error {
            Error::Server { offset, .. } => *offset,
            _ => offset,
        };
        Trouble::at(
            code,
            offset,
            format!("{action} {} at {offset}: {error}", self.what),
        )
    }
}

/// The dirty extents of a bitmap, (offset, length) in bytes, handed to `found` as they are read.
pub async fn dirty_extents(
    socket: &Path,
    name: &str,
    bitmap: &str,
    size: u64,
    mut found: impl FnMut(u64, u64),
) -> Result<(), String> {
    let context = format!("{DIRTY_BITMAP}{bitmap}");
    let export = Export {
        address: Address::Unix(socket.to_owned()),
        name: name.to_owned(),
        meta_contexts: vec![context.clone()],
    };
    let what = format!(
        "bitmap {bitmap:?} of NBD export {name:?} on {}",
        socket.display()
    );
    let client = nbd::Client::connect(&export)
        .await
        .map_err(|error| format!("connecting for {what} failed: {error}"))?;
    if client.info().size != size {
        return Err(format!(
            "{what}: the export has {} bytes, the VDISK {size}",
            client.info().size
        ));
    }
    if !client.info().meta_contexts.contains(&context) {
        return Err(format!(
            "{what} is not offered; export the node with this bitmap"
        ));
    }
    let mut offset = 0;
    while offset < size {
        let step = (size - offset).min(LONGEST) as u32;
        let extents = client.block_status(&context, offset, step).await;
        for extent in extents.map_err(|error| format!("reading {what} failed: {error}"))? {
            if extent.flags & DIRTY != 0 {
                found(offset, extent.length);
            }
            offset += extent.length;
        }
    }
    client.disconnect().await;
    Ok(())
}
