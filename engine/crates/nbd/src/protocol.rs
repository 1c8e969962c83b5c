//! Numbers of the NBD protocol specification.

use std::fmt;

/// The meta context of allocation: bits [`STATE_HOLE`] and [`STATE_ZERO`].
pub const BASE_ALLOCATION: &str = "base:allocation";
/// Prefix of QEMU's dirty bitmap contexts: bit [`DIRTY`]. The bitmap's name follows.
pub const DIRTY_BITMAP: &str = "qemu:dirty-bitmap:";
/// `base:allocation`: the extent is not allocated.
pub const STATE_HOLE: u32 = 1;
/// `base:allocation`: the extent reads as zeros.
pub const STATE_ZERO: u32 = 2;
/// `qemu:dirty-bitmap:`: the extent was written.
pub const DIRTY: u32 = 1;

pub(crate) const NBD_MAGIC: u64 = 0x4e42_444d_4147_4943;
pub(crate) const OPTION_MAGIC: u64 = 0x4948_4156_454F_5054;
pub(crate) const OLDSTYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
pub(crate) const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub(crate) const REQUEST_MAGIC: u32 = 0x2560_9513;
pub(crate) const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
pub(crate) const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags, server and client alike.
pub(crate) const FLAG_FIXED_NEWSTYLE: u16 = 1;
pub(crate) const FLAG_NO_ZEROES: u16 = 2;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;
pub(crate) const OPT_SET_META_CONTEXT: u32 = 10;

pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_META_CONTEXT: u32 = 4;
pub(crate) const REP_FLAG_ERROR: u32 = 1 << 31;
pub(crate) const REP_ERR_UNSUP: u32 = REP_FLAG_ERROR + 1;
pub(crate) const REP_ERR_POLICY: u32 = REP_FLAG_ERROR + 2;
pub(crate) const REP_ERR_INVALID: u32 = REP_FLAG_ERROR + 3;
pub(crate) const REP_ERR_PLATFORM: u32 = REP_FLAG_ERROR + 4;
pub(crate) const REP_ERR_TLS_REQD: u32 = REP_FLAG_ERROR + 5;
pub(crate) const REP_ERR_UNKNOWN: u32 = REP_FLAG_ERROR + 6;
pub(crate) const REP_ERR_SHUTDOWN: u32 = REP_FLAG_ERROR + 7;
pub(crate) const REP_ERR_BLOCK_SIZE_REQD: u32 = REP_FLAG_ERROR + 8;
pub(crate) const REP_ERR_TOO_BIG: u32 = REP_FLAG_ERROR + 9;

pub(crate) const INFO_EXPORT: u16 = 0;
pub(crate) const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags of an export.
pub(crate) const HAS_FLAGS: u16 = 1 << 0;
pub(crate) const READ_ONLY: u16 = 1 << 1;
pub(crate) const SEND_FLUSH: u16 = 1 << 2;
pub(crate) const SEND_FUA: u16 = 1 << 3;
pub(crate) const SEND_TRIM: u16 = 1 << 5;
pub(crate) const SEND_WRITE_ZEROES: u16 = 1 << 6;
pub(crate) const SEND_DF: u16 = 1 << 7;
pub(crate) const CAN_MULTI_CONN: u16 = 1 << 8;
pub(crate) const SEND_FAST_ZERO: u16 = 1 << 11;

/// Command flags.
pub(crate) const CMD_FLAG_FUA: u16 = 1 << 0;
pub(crate) const CMD_FLAG_NO_HOLE: u16 = 1 << 1;
pub(crate) const CMD_FLAG_DF: u16 = 1 << 2;

pub(crate) const REPLY_FLAG_DONE: u16 = 1;
pub(crate) const CHUNK_NONE: u16 = 0;
pub(crate) const CHUNK_OFFSET_DATA: u16 = 1;
pub(crate) const CHUNK_OFFSET_HOLE: u16 = 2;
pub(crate) const CHUNK_BLOCK_STATUS: u16 = 5;
pub(crate) const CHUNK_FLAG_ERROR: u16 = 1 << 15;
pub(crate) const CHUNK_ERROR_OFFSET: u16 = CHUNK_FLAG_ERROR + 2;

/// Bytes of a request before its payload.
pub(crate) const REQUEST_SIZE: usize = 28;
/// Longest name or message that the specification allows, in bytes.
pub(crate) const MAX_STRING: usize = 4096;
/// The specification's limit of one payload when the server names none, and ours in any case, in bytes.
pub(crate) const MAX_PAYLOAD: u32 = 32 << 20;

/// The requests this client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// `NBD_CMD_READ`
    Read = 0,
    /// `NBD_CMD_WRITE`
    Write = 1,
    /// `NBD_CMD_DISC`
    Disconnect = 2,
    /// `NBD_CMD_FLUSH`
    Flush = 3,
    /// `NBD_CMD_WRITE_ZEROES`
    WriteZeroes = 6,
    /// `NBD_CMD_BLOCK_STATUS`
    BlockStatus = 7,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Command::Read => "read",
            Command::Write => "write",
            Command::Disconnect => "disconnect",
            Command::Flush => "flush",
            Command::WriteZeroes => "write of zeros",
            Command::BlockStatus => "block status",
        })
    }
}

/// The name of a refusal in the handshake.
pub(crate) fn refusal_name(reply: u32) -> &'static str {
    match reply {
        REP_ERR_UNSUP => "not supported",
        REP_ERR_POLICY => "forbidden by the server's policy",
        REP_ERR_INVALID => "called invalid",
        REP_ERR_PLATFORM => "not supported on the server's platform",
        REP_ERR_TLS_REQD => "the server requires TLS",
        REP_ERR_UNKNOWN => "no such export",
        REP_ERR_SHUTDOWN => "the server is shutting down",
        REP_ERR_BLOCK_SIZE_REQD => "the server requires block size negotiation",
        REP_ERR_TOO_BIG => "too big",
        _ => "unknown refusal",
    }
}
