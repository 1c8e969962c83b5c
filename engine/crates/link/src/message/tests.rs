//! Every message survives the wire; no bytes make the decoder panic.

use super::*;
use crate::frame::{HEADER_BYTES, Header};
use crate::limits::MAX_BODY;
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;

fn code() -> impl Strategy<Value = FaultCode> {
    prop_oneof![
        Just(FaultCode::Write),
        Just(FaultCode::Corrupt),
        Just(FaultCode::Fenced)
    ]
}

fn refuse() -> impl Strategy<Value = RefuseCode> {
    prop_oneof![
        Just(RefuseCode::Protocol),
        Just(RefuseCode::TokenTooLow),
        Just(RefuseCode::Malformed)
    ]
}

fn patch(blocks: u8, compression: Compression, packed: Bytes) -> Bytes {
    let patch = Patch {
        blocks,
        compression,
        packed,
    };
    patch.encode()
}

fn data() -> impl Strategy<Value = Message> {
    (
        any::<u32>(),
        any::<u64>(),
        0..u64::MAX / 2,
        any::<bool>(),
        any::<[u8; 32]>(),
        vec(any::<u8>(), 1..100),
        (0..4u8, 1..u8::MAX),
    )
        .prop_map(
            |(handle, id, offset, foreground, hash, payload, (kind, blocks))| {
                use Compression::*;
                let compression = [None, Lz4, Zstd, Patch][usize::from(kind)];
                let raw_length = payload.len() as u32;
                let mut payload = Bytes::from(payload);
                if compression == Patch {
                    payload = patch(blocks, [None, Lz4, Zstd][usize::from(blocks) % 3], payload);
                }
                let foreground = foreground && compression != Patch;
                Message::Data(Data {
                    handle,
                    id,
                    offset,
                    foreground,
                    raw_length,
                    compression,
                    hash,
                    payload,
                })
            },
        )
}

fn negotiation() -> impl Strategy<Value = Message> {
    prop_oneof![
        (
            any::<u32>(),
            any::<u64>(),
            any::<u64>(),
            any::<u32>(),
            "[a-z .0-9]{0,40}"
        )
            .prop_map(
                |(protocol, session, token, connection, software)| Message::Hello(Hello {
                    protocol,
                    session,
                    token,
                    connection,
                    software,
                })
            ),
        (any::<u64>(), "\\PC{0,40}")
            .prop_map(|(session, software)| Message::Welcome { session, software }),
        (refuse(), "\\PC{0,40}").prop_map(|(code, message)| Message::Refuse { code, message }),
        (
            any::<u32>(),
            "[a-z0-9]{1,64}",
            any::<u64>(),
            any::<u32>(),
            any::<bool>()
        )
            .prop_map(
                |(handle, name, size, chunk_size, forget)| Message::OpenVdisk {
                    handle,
                    name,
                    size,
                    chunk_size,
                    forget
                }
            ),
        (
            any::<u32>(),
            any::<u32>(),
            vec(any::<bool>(), 0..64),
            any::<bool>(),
            any::<u64>()
        )
            .prop_map(
                |(handle, first, flags, last, incarnation)| Message::VdiskOpened {
                    handle,
                    first,
                    runs: StableRuns::from_flags(flags),
                    last,
                    incarnation
                }
            ),
    ]
}

fn work() -> impl Strategy<Value = Message> {
    prop_oneof![
        data(),
        (
            any::<u32>(),
            any::<u64>(),
            0..u64::MAX / 2,
            1..u64::MAX / 2,
            any::<bool>()
        )
            .prop_map(|(handle, id, offset, length, foreground)| Message::Zero {
                handle,
                id,
                offset,
                length,
                foreground
            }),
        (any::<u32>(), any::<u64>(), 0..1u32 << 30, 1..4096u32).prop_map(
            |(handle, id, first, count)| Message::Confirm {
                handle,
                id,
                first,
                count
            }
        ),
        (any::<u32>(), vec(any::<u64>(), 0..50))
            .prop_map(|(handle, ids)| Message::Ack { handle, ids }),
        (
            any::<u32>(),
            any::<u64>(),
            code(),
            "\\PC{0,40}",
            any::<Option<u64>>()
        )
            .prop_map(|(handle, id, code, message, offset)| Message::Fault {
                handle,
                id,
                code,
                message,
                offset
            }),
    ]
}

fn rest() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u32>(), any::<u64>(), 0..1u32 << 30, 1..4096u32).prop_map(
            |(handle, request, first, count)| Message::HashRequest {
                handle,
                request,
                first,
                count
            }
        ),
        (
            any::<u32>(),
            any::<u64>(),
            vec(any::<(u32, [u8; 32])>(), 0..8)
        )
            .prop_map(|(handle, request, runs)| Message::HashReply {
                handle,
                request,
                runs
            }),
        any::<(u32, u64, u32)>().prop_map(|(handle, request, chunk)| Message::BlockHashRequest {
            handle,
            request,
            chunk
        }),
        (any::<u32>(), any::<u64>(), vec(any::<[u8; 32]>(), 0..9)).prop_map(
            |(handle, request, hashes)| Message::BlockHashReply {
                handle,
                request,
                hashes
            }
        ),
        (any::<(u32, u64, [u8; 16])>(), vec(any::<u32>(), 0..50)).prop_map(
            |((handle, offer, load), chunks)| Message::Offer {
                handle,
                offer,
                load,
                chunks
            }
        ),
        (any::<(u32, u64, bool)>(), vec(any::<(u64, u8)>(), 0..50)).prop_map(
            |((handle, offer, known), answers)| Message::Grant {
                handle,
                offer,
                known,
                answers
            }
        ),
        any::<u32>().prop_map(|handle| Message::RootRequest { handle }),
        (any::<u32>(), any::<Option<[u8; 32]>>())
            .prop_map(|(handle, root)| Message::RootReply { handle, root }),
        any::<u32>().prop_map(|handle| Message::Flush { handle }),
        any::<u32>().prop_map(|handle| Message::Resume { handle }),
        any::<u32>().prop_map(|handle| Message::CloseVdisk { handle }),
        any::<(u64, u64, u32)>().prop_map(|(stamp, received, interval)| Message::Ping {
            stamp,
            received,
            interval
        }),
        any::<(u32, u64)>().prop_map(|(connection, received)| Message::ConnectionClosed {
            connection,
            received
        }),
        any::<(u32, u64)>().prop_map(|(handle, limit)| Message::Window { handle, limit }),
        any::<u64>().prop_map(|stamp| Message::Pong { stamp }),
    ]
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![negotiation(), work(), rest()]
}

fn framed(message: &Message) -> (Header, Bytes) {
    let (head, payload) = message.encode();
    let mut whole = BytesMut::from(&head[..]);
    whole.extend_from_slice(&payload);
    let header = whole.split_to(HEADER_BYTES);
    let header = Header::decode(header[..].try_into().unwrap(), MAX_BODY).unwrap();
    assert_eq!(header.length, whole.len());
    (header, whole.freeze())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_message_survives_the_wire(message in any_message()) {
        let (header, body) = framed(&message);
        prop_assert_eq!(Message::decode(header.kind, body).unwrap(), message);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(kind in any::<u8>(), body in vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(kind % 26, Bytes::from(body));
    }

    #[test]
    fn a_cut_or_changed_message_never_panics(message in any_message(), cut in any::<usize>(), flip in any::<(usize, u8)>()) {
        let (header, body) = framed(&message);
        let mut changed = body.to_vec();
        if !changed.is_empty() {
            let position = flip.0 % changed.len();
            changed[position] ^= flip.1;
            changed.truncate(cut % (changed.len() + 1));
        }
        let _ = Message::decode(header.kind, Bytes::from(changed));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(kind in 0..26u8, body in vec(any::<u8>(), 0..120)) {
        let body = Bytes::from(body);
        if let Ok(message) = Message::decode(kind, body.clone()) {
            let (header, again) = framed(&message);
            prop_assert_eq!(header.kind, kind);
            prop_assert_eq!(again, body);
        }
    }

    #[test]
    fn no_header_allocates_over_the_limit(raw in any::<[u8; HEADER_BYTES]>()) {
        if let Ok(header) = Header::decode(raw, MAX_BODY) {
            prop_assert!(header.length <= MAX_BODY);
        }
    }
}

#[test]
fn long_texts_are_cut_at_a_character() {
    let message = "ä".repeat(400);
    let (header, body) = framed(&Message::Refuse {
        code: RefuseCode::Fenced,
        message,
    });
    match Message::decode(header.kind, body).unwrap() {
        Message::Refuse { message, .. } => assert_eq!(message, "ä".repeat(256)),
        other => panic!("{other:?}"),
    }
}

/// Whether a background Data with this payload of a patch is a message.
fn is_taken(payload: impl Into<Bytes>, foreground: bool) -> bool {
    let data = Data {
        handle: 1,
        id: 1,
        offset: 0,
        foreground,
        raw_length: 512 << 10,
        compression: Compression::Patch,
        hash: [0; 32],
        payload: payload.into(),
    };
    let (header, body) = framed(&Message::Data(data));
    Message::decode(header.kind, body).is_ok()
}

#[test]
fn a_patch_says_which_blocks_and_how_they_are_compressed() {
    assert!(is_taken(vec![1, 0, 5], false) && is_taken(vec![0xfe, 2, 5], false));
    assert!(!is_taken(vec![0, 0, 5], false), "no block");
    assert!(!is_taken(vec![0xff, 0, 5], false), "all blocks");
    assert!(!is_taken(vec![1, 3, 5], false), "a patch in a patch");
    assert!(!is_taken(vec![1, 4, 5], false), "no such compression");
    assert!(!is_taken(vec![1, 0, 5], true), "in the foreground");
    assert!(!is_taken(vec![1], false) && !is_taken(vec![], false));
}

#[test]
fn a_chunk_has_no_nine_blocks() {
    let (header, body) = framed(&Message::BlockHashReply {
        handle: 1,
        request: 2,
        hashes: vec![[7; 32]; 9],
    });
    assert!(Message::decode(header.kind, body).is_err());
}
