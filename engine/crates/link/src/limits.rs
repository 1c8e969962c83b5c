//! Limits on everything a peer can make this end hold in memory.

use std::time::Duration;

/// Most payload bytes of one Data message: one chunk of the largest size allowed.
pub const MAX_CHUNK: usize = 4 << 20;

/// Most bytes of a frame's body: a Data message that could not be compressed.
pub const MAX_BODY: usize = MAX_CHUNK + 1024;

/// Most bytes of a frame's body before the peer has been welcomed.
pub const MAX_BODY_BEFORE_WELCOME: usize = 1024;

/// Most bytes of a VDISK's name.
pub const MAX_NAME: usize = 64;

/// Most bytes of a human-readable text.
pub const MAX_TEXT: usize = 512;

/// Most identifiers in one Ack.
pub const MAX_ACK_IDS: usize = 16_384;

/// Most runs in one VdiskOpened.
pub const MAX_RUNS: usize = 65_536;

/// Most chunks that one HashRequest or Confirm may cover.
pub const MAX_HASH_CHUNKS: u32 = 4_096;

/// Most chunks in one Offer.
pub const MAX_OFFER: usize = 256;

/// Most blocks that a chunk has.
pub const MAX_BLOCKS: usize = 8;

/// Most connections of one session at a time.
pub const MAX_CONNECTIONS: u16 = 64;

/// Most connections that one session may have had when it ends; their numbers are remembered.
pub const MAX_CONNECTIONS_EVER: usize = 65_536;

/// Most bytes of received frames that wait for a VDISK's disk, over all VDISKs of a session.
pub const WINDOW_BYTES: u64 = 64 << 20;

/// What every VDISK may have waiting however many there are: room for the largest frame.
pub const LEAST_WINDOW: u64 = MAX_CHUNK as u64;

/// What a work message counts for at least in its VDISK's window.
pub const LEAST_COST: u64 = 4096;

/// Most Data, Zero and Confirm of one handle that may be unfinished at the destination.
pub const MAX_UNFINISHED: usize = 65_536;

/// Most OpenVdisk, CloseVdisk, HashRequest and BlockHashRequest of one session that may be unanswered.
pub const MAX_REQUESTS: usize = 4_096;

/// Most bytes of small messages that wait in an end for a peer which asks but does not listen.
pub const MAX_WAITING: usize = 64 << 20;

/// Most bytes of small messages sent on one connection of which the peer has not said that it took
/// them.
pub const MAX_UNCONFIRMED: usize = 4 << 20;

/// Shortest and longest time between two Pings on a connection.
pub const PING_INTERVALS: (Duration, Duration) =
    (Duration::from_millis(250), Duration::from_secs(2));

/// Silence that is borne while no other connection of the session is heard, or before the round
/// trip is known.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// Silence that is never borne, however slow the link.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(120);

/// Time for TLS and negotiation of one caller at the destination.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);

/// Time for TCP, TLS and negotiation at the source: four round trips, and losses among them.
pub const DIAL_LIMIT: Duration = Duration::from_secs(30);

/// The kernel gives a connection up when its data was not taken for this long.
pub const UNSENT_LIMIT: Duration = Duration::from_secs(120);
