//! Words of a server, made fit for a log or a screen.

/// Lossy UTF-8 without control characters, so that a server cannot forge lines of a log.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
