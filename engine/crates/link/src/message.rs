//! The messages of the link. Every one is pure data; `encode` and `decode` do no I/O.

mod codec;
mod codes;
mod patch;
#[cfg(test)]
mod tests;

pub use patch::Patch;

use crate::limits::LEAST_COST;
use crate::runs::StableRuns;
use bytes::Bytes;

/// The first message of every connection, from source to destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// [`crate::PROTOCOL_VERSION`] of the sender.
    pub protocol: u32,
    /// 0 on the first connection of a new session, else the number from Welcome.
    pub session: u64,
    /// The fencing token of the migration.
    pub token: u64,
    /// Number of the connection, never used twice in a session; 0 for the first.
    pub connection: u32,
    /// Version of the sender's software, for logs.
    pub software: String,
}

/// Why a session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RefuseCode {
    /// The protocol versions differ.
    Protocol = 1,
    /// The fencing token is lower than the highest that the destination has seen.
    TokenTooLow = 2,
    /// The destination is fenced for this token.
    Fenced = 3,
    /// The session number is not that of the current session.
    UnknownSession = 4,
    /// The destination is stopping or not ready.
    NotReady = 5,
    /// The message makes no sense (a connection number used twice, or too many connections).
    Malformed = 6,
}

/// How the payload of a Data message is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// As it is.
    None = 0,
    /// LZ4 block format.
    Lz4 = 1,
    /// One zstd frame.
    Zstd = 2,
    /// Some blocks of the chunk, as a [`Patch`].
    Patch = 3,
}

/// What is wrong with a VDISK at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FaultCode {
    /// A write or flush failed.
    Write = 1,
    /// The destination is full.
    NoSpace = 2,
    /// The journal could not be written.
    Journal = 3,
    /// Reading the destination failed.
    Read = 4,
    /// The payload does not have the hash it came with; send it again.
    Corrupt = 5,
    /// The VDISK's endpoint is gone.
    EndpointGone = 6,
    /// The destination does not have this VDISK.
    UnknownVdisk = 7,
    /// The sizes at both ends differ.
    SizeMismatch = 8,
    /// The destination is fenced.
    Fenced = 9,
}

/// In a Grant: this chunk is not to be written, what the device has of it is of no use.
pub const NOT_WANTED: u64 = 0;

/// In a Grant: the chunk is being written in another way just now; offer it again.
pub const NOT_NOW: u64 = u64::MAX;

/// Bytes of the fields of Data, which precede its payload.
pub const DATA_FIELDS: usize = 58;

impl Data {
    /// What it counts for in its VDISK's window, in bytes.
    pub fn cost(&self) -> u64 {
        LEAST_COST.max(self.payload.len() as u64)
    }
}

/// A piece of a chunk, or a whole one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The VDISK, as opened.
    pub handle: u32,
    /// What an Ack will name.
    pub id: u64,
    /// Where the piece begins, in bytes.
    pub offset: u64,
    /// Foreground pieces are made stable sooner.
    pub foreground: bool,
    /// Bytes after decompression.
    pub raw_length: u32,
    /// How `payload` is compressed.
    pub compression: Compression,
    /// BLAKE3 of the bytes after decompression.
    pub hash: [u8; 32],
    /// The bytes.
    pub payload: Bytes,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Source: begin a connection.
    Hello(Hello),
    /// Destination: the connection belongs to the session with this number.
    Welcome {
        /// Number for the Hello of the other connections.
        session: u64,
        /// Version of the destination's software, for logs.
        software: String,
    },
    /// Destination: no, and why. The connection is closed afterwards.
    Refuse {
        /// For programs.
        code: RefuseCode,
        /// For people.
        message: String,
    },
    /// Source: I want to send this VDISK; a new handle ends the older one of the same name.
    OpenVdisk {
        /// Number that later messages use; never used twice in a session.
        handle: u32,
        /// Name of the VDISK.
        name: String,
        /// Bytes of the VDISK.
        size: u64,
        /// Bytes of a chunk.
        chunk_size: u32,
        /// Drop every claim that a chunk is stable (comparison follows).
        forget: bool,
    },
    /// Destination: what is stable, in one or more pieces.
    VdiskOpened {
        /// The VDISK.
        handle: u32,
        /// First chunk of this piece.
        first: u32,
        /// Chunk states.
        runs: StableRuns,
        /// Whether this is the last piece.
        last: bool,
        /// Another number whenever the destination has lost what it knew of the VDISK.
        incarnation: u64,
    },
    /// A piece of data.
    Data(Data),
    /// A run of zeros; may cover many chunks.
    Zero {
        /// The VDISK.
        handle: u32,
        /// What an Ack will name.
        id: u64,
        /// Begin in bytes.
        offset: u64,
        /// Length in bytes.
        length: u64,
        /// Foreground pieces are made stable sooner.
        foreground: bool,
    },
    /// Source: these chunks were compared and are equal; note them as stable.
    Confirm {
        /// The VDISK.
        handle: u32,
        /// What an Ack will name.
        id: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// Destination: these are stable on the medium and in the journal.
    Ack {
        /// The VDISK.
        handle: u32,
        /// Of Data, Zero and Confirm.
        ids: Vec<u64>,
    },
    /// Destination: something is wrong with the VDISK (id 0) or with one piece.
    Fault {
        /// The VDISK.
        handle: u32,
        /// The piece, or 0.
        id: u64,
        /// For programs.
        code: FaultCode,
        /// For people.
        message: String,
        /// Where, in bytes, if known.
        offset: Option<u64>,
    },
    /// Source: re-read and hash these chunks.
    HashRequest {
        /// The VDISK.
        handle: u32,
        /// Number for the reply.
        request: u64,
        /// First chunk.
        first: u32,
        /// How many chunks.
        count: u32,
    },
    /// Destination: hashes in order, equal neighbours as one run.
    HashReply {
        /// The VDISK.
        handle: u32,
        /// Number of the request.
        request: u64,
        /// (count of chunks, BLAKE3 of each of them).
        runs: Vec<(u32, [u8; 32])>,
    },
    /// Source: hash the blocks of this chunk as they are now.
    BlockHashRequest {
        /// The VDISK.
        handle: u32,
        /// Number for the reply.
        request: u64,
        /// The chunk.
        chunk: u32,
    },
    /// Destination: BLAKE3 of each block in order.
    BlockHashReply {
        /// The VDISK.
        handle: u32,
        /// Number of the request.
        request: u64,
        /// As many as the chunk has blocks, at most 8.
        hashes: Vec<[u8; 32]>,
    },
    /// Source: the root hash over the chunks you re-read, please.
    RootRequest {
        /// The VDISK.
        handle: u32,
    },
    /// Destination: BLAKE3 over all re-read chunk hashes, if every chunk has one.
    RootReply {
        /// The VDISK.
        handle: u32,
        /// The root.
        root: Option<[u8; 32]>,
    },
    /// Destination: a transport device brings these chunks, as they were loaded then.
    Offer {
        /// The VDISK.
        handle: u32,
        /// Number for the reply.
        offer: u64,
        /// Names the load; random.
        load: [u8; 16],
        /// At most [`MAX_OFFER`](crate::limits::MAX_OFFER); none asks only whether the load is known.
        chunks: Vec<u32>,
    },
    /// Source: which of the chunks offered may be written.
    Grant {
        /// The VDISK.
        handle: u32,
        /// Number of the offer.
        offer: u64,
        /// Whether the source waits for anything of this load.
        known: bool,
        /// For each chunk what an Ack will name, [`NOT_WANTED`] or [`NOT_NOW`], and which of its blocks
        /// are not to be written, as a mask: newer ones are there.
        answers: Vec<(u64, u8)>,
    },
    /// Source: make everything received so far stable at once.
    Flush {
        /// The VDISK.
        handle: u32,
    },
    /// Destination: an administrator cured the VDISK; open it again.
    Resume {
        /// The VDISK.
        handle: u32,
    },
    /// Source: no more of this VDISK in this session.
    CloseVdisk {
        /// The VDISK.
        handle: u32,
    },
    /// Are you there?
    Ping {
        /// Comes back in Pong, on the same connection.
        stamp: u64,
        /// Frames taken from this connection so far.
        received: u64,
        /// Milliseconds within which the next Ping follows on this connection.
        interval: u32,
    },
    /// I am.
    Pong {
        /// From the Ping.
        stamp: u64,
    },
    /// This end has torn a connection down: so many frames were taken from it, no more will be.
    ConnectionClosed {
        /// Number of the connection.
        connection: u32,
        /// Frames taken from it.
        received: u64,
    },
    /// Destination: how much of this VDISK may be sent in all.
    Window {
        /// The VDISK.
        handle: u32,
        /// Sum of the costs of all Data and Zero under this handle.
        limit: u64,
    },
}
