//! Message bodies to bytes and back.

mod decode;
mod encode;

/// Numbers of the message types on the wire.
mod kind {
    pub const HELLO: u8 = 1;
    pub const WELCOME: u8 = 2;
    pub const REFUSE: u8 = 3;
    pub const OPEN_VDISK: u8 = 4;
    pub const VDISK_OPENED: u8 = 5;
    pub const DATA: u8 = 6;
    pub const ZERO: u8 = 7;
    pub const CONFIRM: u8 = 8;
    pub const ACK: u8 = 9;
    pub const FAULT: u8 = 10;
    pub const HASH_REQUEST: u8 = 11;
    pub const HASH_REPLY: u8 = 12;
    pub const ROOT_REQUEST: u8 = 13;
    pub const ROOT_REPLY: u8 = 14;
    pub const FLUSH: u8 = 15;
    pub const RESUME: u8 = 16;
    pub const CLOSE_VDISK: u8 = 17;
    pub const PING: u8 = 18;
    pub const PONG: u8 = 19;
    pub const CONNECTION_CLOSED: u8 = 20;
    pub const WINDOW: u8 = 21;
    pub const BLOCK_HASH_REQUEST: u8 = 22;
    pub const BLOCK_HASH_REPLY: u8 = 23;
    pub const OFFER: u8 = 24;
    pub const GRANT: u8 = 25;
}
