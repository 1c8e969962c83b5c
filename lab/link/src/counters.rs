//! What passed in one direction, and what did not.

use serde::Serialize;

/// Counted as on a wire: each segment of a TCP packet is a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets delivered.
    pub packets: u64,
    /// Bytes delivered.
    pub bytes: u64,
    /// Packets not delivered.
    pub dropped: Dropped,
    /// Bytes on their way now.
    pub waiting_bytes: u64,
}

/// Packets by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Dropped {
    /// By chance.
    pub loss: u64,
    /// The queue was full.
    pub queue: u64,
    /// The link was cut.
    pub cut: u64,
    /// The receiving device did not take them.
    pub device: u64,
}
