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

/// Most connections of one session.
pub const MAX_CONNECTIONS: u16 = 64;

/// How often each end sends a Ping on every connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);

/// A connection on which no byte arrived for this long is dead.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// Time for TCP, TLS and negotiation of one connection.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// The kernel gives a connection up when its data was not taken for this long. Much longer than
/// [`SILENCE_LIMIT`], because it also counts the time in which a living peer waits for its disk.
pub const UNSENT_LIMIT: Duration = Duration::from_secs(120);
