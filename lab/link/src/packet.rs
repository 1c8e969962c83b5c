//! A packet as a TUN device with `IFF_VNET_HDR` gives it: 10 bytes of offload notes, then IP.

/// Bytes of `struct virtio_net_hdr`.
pub const NOTES: usize = 10;
/// Largest packet with its notes, in bytes.
pub const MAX_PACKET: usize = NOTES + 65535;

const GSO_NONE: u8 = 0;
/// Where a TCP header holds its own length.
const TCP_DATA_OFFSET: usize = 12;

/// What a packet comes to on a wire without offload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnWire {
    /// IP packets.
    pub segments: u64,
    /// Bytes of all IP packets.
    pub bytes: u64,
}

/// A TCP packet of many segments counts as all of them, each with its own headers.
pub fn on_wire(packet: &[u8]) -> OnWire {
    let ip = packet.get(NOTES..).unwrap_or_default();
    let whole = OnWire {
        segments: 1,
        bytes: ip.len() as u64,
    };
    let (Some(notes), Some(headers)) = (packet.get(..NOTES), tcp_headers(packet)) else {
        return whole;
    };
    let segment = usize::from(u16::from_ne_bytes([notes[4], notes[5]]));
    let payload = ip.len().saturating_sub(headers);
    if notes[1] == GSO_NONE || segment == 0 || payload <= segment {
        return whole;
    }
    let segments = payload.div_ceil(segment) as u64;
    OnWire {
        segments,
        bytes: whole.bytes + (segments - 1) * headers as u64,
    }
}

/// Bytes of the IP and TCP headers; the notes tell where TCP begins.
fn tcp_headers(packet: &[u8]) -> Option<usize> {
    let notes = packet.get(..NOTES)?;
    let tcp = usize::from(u16::from_ne_bytes([notes[6], notes[7]]));
    let words = packet.get(NOTES + tcp + TCP_DATA_OFFSET)? >> 4;
    Some(tcp + usize::from(words) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP packet over IPv4 with so many bytes of payload, to be cut into segments of `segment`.
    fn packet(gso: u8, segment: u16, payload: usize) -> Vec<u8> {
        let mut packet = vec![0, gso, 0, 0];
        packet.extend(segment.to_ne_bytes());
        packet.extend(20u16.to_ne_bytes());
        packet.extend(16u16.to_ne_bytes());
        packet.extend(vec![0; 40 + payload]);
        packet[NOTES + 20 + TCP_DATA_OFFSET] = 5 << 4;
        packet
    }

    #[test]
    fn a_plain_packet_is_itself() {
        assert_eq!(
            on_wire(&packet(GSO_NONE, 0, 1000)),
            OnWire {
                segments: 1,
                bytes: 1040
            }
        );
    }

    #[test]
    fn a_packet_of_many_segments_counts_all_their_headers() {
        let expected = OnWire {
            segments: 3,
            bytes: 40 * 3 + 3000,
        };
        assert_eq!(on_wire(&packet(1, 1460, 3000)), expected);
    }

    #[test]
    fn stumps_do_not_panic() {
        let whole = packet(1, 1460, 3000);
        for length in 0..60 {
            on_wire(&whole[..length]);
        }
    }
}
