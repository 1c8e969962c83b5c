//! Replication of VDISKs between two engines, without knowing any VM.
//!
//! * [`source`] and [`destination`] are the two sides of a conversation over the link.
//! * [`scheduler`] decides what of a VDISK travels next; it does no I/O.
//! * [`journal`] is what a destination remembers over a crash.
//! * [`endpoint`] is where a VDISK's bytes are: a file, a block device, an NBD export.
//! * [`carrier`] reads transport devices.
//! * [`sample`] looks at what a VDISK holds, before anything is replicated.
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
pub mod sample;
pub mod scheduler;
pub mod source;
pub mod trouble;

pub use conversation::TcpTotals;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whoever panicked with the lock held has changed nothing half: what it guards is used on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
