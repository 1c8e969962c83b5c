//! What the kernel says of a TCP connection: TCP_INFO of Linux, as far as the running kernel has it.

use socket2::SockRef;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Longer than the answer of any kernel of today.
const LONGEST: usize = 512;

/// What is told of one connection. What an older kernel does not know is 0.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TcpInfo {
    /// Smoothed round trip and its mean deviation, in seconds.
    pub round_trip: f64,
    /// See `round_trip`.
    pub round_trip_deviation: f64,
    /// The smallest round trip of the latest minutes, in seconds.
    pub min_round_trip: f64,
    /// Bytes of a segment without headers.
    pub mss: u32,
    /// Bytes of a packet that the path takes.
    pub path_mtu: u32,
    /// Segments that may be on their way.
    pub congestion_window: u32,
    /// Segments with data that were sent, repetitions too.
    pub segments: u64,
    /// Of these: repetitions.
    pub retransmitted: u64,
    /// Of these: the peer had the segment already.
    pub spurious: u64,
    /// Bytes sent, repetitions too.
    pub sent_bytes: u64,
    /// Of these: repetitions.
    pub retransmitted_bytes: u64,
    /// Bytes that have reached the peer, those behind a gap too; these are counted in whole segments.
    pub delivered_bytes: u64,
    /// Bytes/s that were delivered lately.
    pub delivery_rate: u64,
    /// Seconds with something to send.
    pub busy: f64,
    /// Of these: the peer's receive buffer held it up.
    pub receiver_limited: f64,
    /// Of these: the own send buffer held it up.
    pub sender_limited: f64,
    /// Congestion control, as `cubic`.
    pub congestion: String,
}

/// Asks the kernel about one connection, for as long as it is there.
pub struct TcpMeter {
    socket: OwnedFd,
}

impl fmt::Debug for TcpMeter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TcpMeter")
    }
}

impl TcpMeter {
    /// None if the process has no descriptor left. A connection is closed only when its meter is gone, too.
    pub(crate) fn new(socket: &impl AsFd) -> Option<TcpMeter> {
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        Some(TcpMeter { socket })
    }

    /// What the kernel says now; None if it says nothing.
    pub fn read(&self) -> Option<TcpInfo> {
        let mut raw = [0; LONGEST];
        let length = tcp_info(&self.socket, &mut raw)?;
        let mut info = decode(&raw[..length]);
        if let Ok(name) = SockRef::from(&self.socket).tcp_congestion() {
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            info.congestion = String::from_utf8_lossy(name).into_owned();
        }
        Some(info)
    }
}

/// How many bytes the kernel wrote.
#[expect(unsafe_code, reason = "no crate in the tree wraps TCP_INFO")]
fn tcp_info(socket: &OwnedFd, into: &mut [u8; LONGEST]) -> Option<usize> {
    let mut length = LONGEST as libc::socklen_t;
    // SAFETY: the descriptor is open, the buffer has `length` bytes, and any bytes are valid in it.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            into.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (outcome == 0).then_some((length as usize).min(LONGEST))
}

/// Offsets are those of `struct tcp_info` in linux/tcp.h, which only ever grows at its end.
fn decode(raw: &[u8]) -> TcpInfo {
    let word = |at: usize| {
        let bytes = raw.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    };
    let long = |at: usize| {
        let bytes = raw.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_ne_bytes)
    };
    let micros = |count: u64| count as f64 / 1e6;
    let min_round_trip = match word(148) {
        // Not measured yet.
        u32::MAX => 0,
        measured => measured,
    };
    TcpInfo {
        round_trip: micros(word(68).into()),
        round_trip_deviation: micros(word(72).into()),
        min_round_trip: micros(min_round_trip.into()),
        mss: word(16),
        path_mtu: word(60),
        congestion_window: word(80),
        segments: word(156).into(),
        retransmitted: word(100).into(),
        spurious: word(216).into(),
        sent_bytes: long(200),
        retransmitted_bytes: long(208),
        delivered_bytes: long(120).saturating_add(u64::from(word(28)) * u64::from(word(16))),
        delivery_rate: long(160),
        busy: micros(long(168)),
        receiver_limited: micros(long(176)),
        sender_limited: micros(long(184)),
        congestion: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_counts_what_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let meter = TcpMeter::new(&client).unwrap();
        client.write_all(&[1; 30_000]).unwrap();
        server.read_exact(&mut [0; 30_000]).unwrap();
        let info = meter.read().unwrap();
        assert!(info.sent_bytes >= 30_000 && info.segments >= 1, "{info:?}");
        assert!(info.round_trip > 0.0 && info.round_trip < 5.0, "{info:?}");
        assert!(info.mss >= 536 && info.path_mtu > info.mss, "{info:?}");
        assert!(!info.congestion.is_empty() && !info.congestion.contains('\0'));
    }

    proptest! {
        #[test]
        fn any_length_is_understood(raw in proptest::collection::vec(any::<u8>(), 0..LONGEST)) {
            let info = decode(&raw);
            prop_assert!(info.round_trip >= 0.0 && info.busy >= 0.0);
            prop_assert_eq!(decode(&[]), TcpInfo::default());
        }
    }
}
