//! From raw bytes to the queue of a session: zero detection, hash, compression, pacing.

use super::Shared;
use super::lock;
use super::vdisk::Vdisk;
use super::window::Window;
use crate::budget::{Budget, Share};
use crate::compression::Compressor;
use crate::conversation::Outgoing;
use bytes::Bytes;
use drover_link::limits::LEAST_COST;
use drover_link::{Data, Message};
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
        let hash = blake3::hash(&raw).into();
        let raw_length = raw.len() as u32;
        let (compression, payload) = self.lanes.compressor.compress(&raw);
        drop(raw);
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
            state.sent.raw_bytes += u64::from(raw_length);
            state.sent.wire_bytes += wire;
            if lane == Lane::Foreground {
                state.sent.foreground_bytes += u64::from(raw_length);
            }
        }
        self.lanes.compressor.sent(u64::from(raw_length), wire);
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

/// Whether all bytes are zero. Data is found out by its first bytes as a rule.
fn is_zero(raw: &[u8]) -> bool {
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
