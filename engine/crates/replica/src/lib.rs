//! Replication of VDISKs between two engines, without knowing any VM.
//!
//! * [`source`] and [`destination`] are the two sides of a conversation over the link.
//! * [`scheduler`] decides what of a VDISK travels next; it does no I/O.
//! * [`journal`] is what a destination remembers over a crash.
//! * [`endpoint`] is where a VDISK's bytes are: a file, a block device, an NBD export.
//! * [`pacing`] and [`compression`] decide how fast and how small.

mod blocking;
mod budget;
pub mod carrier;
pub mod chunk;
pub mod compression;
mod conversation;
mod counted;
pub mod destination;
pub mod disk_time;
pub mod endpoint;
pub mod hash_table;
#[cfg(test)]
mod hostile_link;
pub mod journal;
pub mod pacing;
#[cfg(test)]
mod powercut;
pub mod scheduler;
pub mod source;
pub mod trouble;
