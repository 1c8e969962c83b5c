//! From raw bytes to the queue of a session: zero detection, hash, compression, pacing.

use super::Shared;
use super::lock;
use super::vdisk::Vdisk;
use super::window::Window;
use crate::budget::{Budget, Share};
use crate::chunk::{BLOCK_SIZE, Hash, mask_runs};
use crate::compression::Compressor;
use crate::conversation::Outgoing;
use bytes::{Bytes, BytesMut};
use drover_link::limits::LEAST_COST;
use drover_link::{Compression, Data, Message, Patch};
use std::sync::Arc;

/// Bytes of background data that may be on their way from the endpoints to the sockets, over all
/// VDISKs; and what each VDISK may have whatever the others have.
pub(super) const BACKGROUND_MEMORY: (u64, u64) = (32 << 20, 1 << 20);

/// The same for foreground data.
pub(super) const FOREGROUND_MEMORY: (u64, u64) = (16 << 20, 1 << 20);

/// Bytes that a message costs on the wire besides its payload.
const FRAME_OVERHEAD: u64 = 68;

/// What all VDISKs of a session share.
pub(super) struct Lanes {
    pub(super) shared: Arc<Shared>,
    pub(super) outgoing: Outgoing,
    pub(super) compressor: Compressor,
    pub(super) background: Arc<Budget>,
    pub(super) foreground: Arc<Budget>,
}

/// The way out for one VDISK under one handle.
#[derive(Clone)]
pub(super) struct Outbox {
    handle: u32,
    pub(super) lanes: Arc<Lanes>,
    pub(super) window: Arc<Window>,
}

/// Which kind of replication a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Background,
    Foreground,
}

impl Outbox {
    pub(super) fn new(handle: u32, lanes: Arc<Lanes>) -> Self {
        let window = Arc::default();
        Outbox {
            handle,
            lanes,
            window,
        }
    }

    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// Sends a small message before everything else.
    pub(super) fn say(&self, message: Message) {
        self.lanes.outgoing.send(message);
    }

    /// Waits for a share of the memory, in turn with the other VDISKs: this is what holds back the
    /// reading when the link or the destination is slow.
    pub(super) async fn memory(&self, lane: Lane, bytes: u64) -> Share {
        let budget = match lane {
            Lane::Background => &self.lanes.background,
            Lane::Foreground => &self.lanes.foreground,
        };
        budget.acquire(self.handle, bytes).await
    }

    async fn pay(&self, lane: Lane, bytes: u64) {
        let pacing = &self.lanes.shared.pacing;
        pacing.pay(bytes, lane == Lane::Foreground).await;
    }

    /// Sends bytes that were read at `offset`.
    pub(super) async fn send_bytes(
        &self,
        vdisk: &Vdisk,
        id: u64,
        offset: u64,
        raw: Bytes,
        lane: Lane,
        memory: Share,
    ) {
        if is_zero(&raw) {
            return self
                .send_zeros(vdisk, id, offset, raw.len() as u64, lane, memory)
                .await;
        }
        let packed = Packed::whole(&raw, &self.lanes.compressor);
        drop(raw);
        self.send_packed(vdisk, id, offset, packed, lane, memory)
            .await;
    }

    /// Sends some blocks of the chunk that was read at `offset`, in background; the destination
    /// has the others.
    pub(super) async fn send_blocks(
        &self,
        vdisk: &Vdisk,
        id: u64,
        offset: u64,
        raw: Bytes,
        blocks: u8,
        memory: Share,
    ) {
        let lane = Lane::Background;
        if is_zero(&raw) {
            let length = raw.len() as u64;
            return self
                .send_zeros(vdisk, id, offset, length, lane, memory)
                .await;
        }
        let packed = Packed::blocks(&raw, blocks, &self.lanes.compressor);
        drop(raw);
        self.send_packed(vdisk, id, offset, packed, lane, memory)
            .await;
    }

    async fn send_packed(
        &self,
        vdisk: &Vdisk,
        id: u64,
        offset: u64,
        packed: Packed,
        lane: Lane,
        memory: Share,
    ) {
        let Packed {
            hash,
            raw_length,
            travelling,
            compression,
            payload,
        } = packed;
        let wire = payload.len() as u64 + FRAME_OVERHEAD;
        let cost = LEAST_COST.max(payload.len() as u64);
        let queued = vdisk.limits.queue();
        self.window.take(cost, lane).await;
        drop(queued);
        let paced = vdisk.limits.pace();
        self.pay(lane, wire).await;
        drop(paced);
        {
            let mut state = lock(&vdisk.state);
            state.sent.raw_bytes += u64::from(travelling);
            state.sent.skipped_bytes += u64::from(raw_length - travelling);
            state.sent.wire_bytes += wire;
            if lane == Lane::Foreground {
                state.sent.foreground_bytes += u64::from(travelling);
            }
        }
        let held_up = vdisk.limits.held_up(self);
        let compressor = &self.lanes.compressor;
        compressor.sent(u64::from(travelling), wire, held_up);
        let (handle, foreground) = (self.handle, lane == Lane::Foreground);
        let data = Data {
            handle,
            id,
            offset,
            foreground,
            raw_length,
            compression,
            hash,
            payload,
        };
        self.put(lane, Message::Data(data), memory);
    }

    /// Sends a run of zeros.
    pub(super) async fn send_zeros(
        &self,
        vdisk: &Vdisk,
        id: u64,
        offset: u64,
        length: u64,
        lane: Lane,
        memory: Share,
    ) {
        self.window.take(LEAST_COST, lane).await;
        self.pay(lane, FRAME_OVERHEAD).await;
        {
            let mut state = lock(&vdisk.state);
            state.sent.zero_bytes += length;
            state.sent.wire_bytes += FRAME_OVERHEAD;
        }
        let (handle, foreground) = (self.handle, lane == Lane::Foreground);
        self.put(
            lane,
            Message::Zero {
                handle,
                id,
                offset,
                length,
                foreground,
            },
            memory,
        );
    }

    fn put(&self, lane: Lane, message: Message, memory: Share) {
        let (outgoing, handle) = (&self.lanes.outgoing, self.handle);
        match lane {
            Lane::Background => outgoing.send_background(handle, message, memory),
            Lane::Foreground => outgoing.send_foreground(handle, message, memory),
        }
    }
}

/// A piece or chunk as it travels.
struct Packed {
    hash: Hash,
    /// Bytes of the whole piece or chunk.
    raw_length: u32,
    /// Bytes of it that are in the payload, before compression.
    travelling: u32,
    compression: Compression,
    payload: Bytes,
}

impl Packed {
    fn whole(raw: &Bytes, compressor: &Compressor) -> Self {
        let (compression, payload) = compressor.compress(raw);
        Packed {
            hash: blake3::hash(raw).into(),
            raw_length: raw.len() as u32,
            travelling: raw.len() as u32,
            compression,
            payload,
        }
    }

    fn blocks(raw: &Bytes, blocks: u8, compressor: &Compressor) -> Self {
        let mut part = BytesMut::with_capacity((blocks.count_ones() * BLOCK_SIZE) as usize);
        for (first, count) in mask_runs(blocks) {
            let begin = (first * BLOCK_SIZE) as usize;
            let end = begin + (count * BLOCK_SIZE) as usize;
            part.extend_from_slice(&raw[begin..end.min(raw.len())]);
        }
        let part = part.freeze();
        let (compression, packed) = compressor.compress(&part);
        let patch = Patch {
            blocks,
            compression,
            packed,
        };
        Packed {
            hash: blake3::hash(raw).into(),
            raw_length: raw.len() as u32,
            travelling: part.len() as u32,
            compression: Compression::Patch,
            payload: patch.encode(),
        }
    }
}

/// Whether all bytes are zero. Data is found out by its first bytes as a rule.
pub(super) fn is_zero(raw: &[u8]) -> bool {
    let (head, words, tail) = {
        let split = raw.len() - raw.len() % 64;
        (&raw[..raw.len().min(64)], &raw[..split], &raw[split..])
    };
    head.iter().all(|byte| *byte == 0)
        && tail.iter().all(|byte| *byte == 0)
        && words
            .chunks_exact(64)
            .all(|word| word.iter().fold(0, |sum, byte| sum | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn a_single_bit_anywhere_is_data() {
        for length in [1, 63, 64, 65, 4096, 70_001] {
            let mut raw = vec![0u8; length];
            assert!(is_zero(&raw));
            for at in [0, length / 2, length - 1] {
                raw[at] = 1;
                assert!(!is_zero(&raw), "{at} of {length}");
                raw[at] = 0;
            }
        }
    }
}
