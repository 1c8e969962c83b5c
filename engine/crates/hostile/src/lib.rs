//! Bytes of others against every place that takes them.
//!
//! Each function here takes any bytes and panics if Drover does with them what it must not. The fuzz
//! targets in `engine/fuzz` call them with what the fuzzer makes up; the test of this crate calls
//! them with the corpora, so that every finding stays found.

mod api;
mod decompress;
mod extents;
mod folder;
mod journal;
mod link;
mod nbd;
mod pack;
mod sender;
mod tls;

/// The body of a fuzz target.
pub type Target = fn(&[u8]);

/// All targets by the names of their corpora.
pub const TARGETS: [(&str, Target); 10] = [
    ("api", api::requests),
    ("decompress", decompress::payload),
    ("extents", extents::extents),
    ("journal", journal::file),
    ("link_hello", link::hello),
    ("link_message", link::message),
    ("nbd_handshake", nbd::handshake),
    ("nbd_replies", nbd::replies),
    ("pack", pack::file),
    ("sender", sender::messages),
];

/// Runs one target.
///
/// # Panics
/// If there is no such target, or if `bytes` are a finding.
pub fn run(target: &str, bytes: &[u8]) {
    let known = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = known.unwrap_or_else(|| panic!("no target is named {target}"));
    body(bytes);
}
