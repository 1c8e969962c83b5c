//! Tests against the NBD servers that others wrote: qemu-nbd, qemu-storage-daemon, nbdkit.

mod nbdkit;
mod pool;
mod qemu;
mod servers;
