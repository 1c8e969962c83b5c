//! Properties of the reply parser: right data or an error, whatever a server sends.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::replay::replay;
use crate::protocol::{SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC};
use crate::{Command, Error};

const OFFSET: u64 = 1 << 40;

fn chunk(flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = STRUCTURED_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(7u64.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A piece of a read's reply: relative offset and data; no data at all means a hole.
type Piece = (usize, usize, Option<u8>);

fn encode(piece: &Piece) -> Vec<u8> {
    let (start, length, fill) = *piece;
    let mut payload = (OFFSET + start as u64).to_be_bytes().to_vec();
    match fill {
        Some(fill) => {
            payload.extend(vec![fill; length]);
            chunk(0, 1, &payload)
        }
        None => {
            payload.extend((length as u32).to_be_bytes());
            chunk(0, 2, &payload)
        }
    }
}

/// Pieces that cover a read exactly, in any order, and the length of the read.
fn covering() -> impl Strategy<Value = (Vec<Piece>, usize)> {
    vec((1usize..300, proptest::option::of(any::<u8>())), 1..12)
        .prop_flat_map(|parts| {
            let mut at = 0;
            let mut pieces = Vec::new();
            for (length, fill) in parts {
                pieces.push((at, length, fill));
                at += length;
            }
            (Just(pieces).prop_shuffle(), Just(at))
        })
        .boxed()
}

fn reply_of(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes: Vec<u8> = pieces.iter().flat_map(encode).collect();
    bytes.extend(chunk(1, 0, &[]));
    bytes
}

fn read(length: usize) -> (Command, u64, u32) {
    (Command::Read, OFFSET, length as u32)
}

fn is_violation<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Protocol(_)))
}

proptest! {
    #[test]
    fn pieces_in_any_order_make_the_data((pieces, length) in covering()) {
        let mut expected = vec![0; length];
        for (start, length, fill) in &pieces {
            expected[*start..start + length].fill(fill.unwrap_or(0));
        }
        let answer = replay(read(length), true, &[], &reply_of(&pieces)).unwrap();
        prop_assert_eq!(answer.map(|(data, _)| data), Some(expected));
    }

    #[test]
    fn a_missing_piece_is_noticed((mut pieces, length) in covering(), at in any::<Index>()) {
        pieces.remove(at.index(pieces.len()));
        prop_assert!(is_violation(replay(read(length), true, &[], &reply_of(&pieces))));
    }

    #[test]
    fn a_piece_sent_twice_is_noticed((mut pieces, length) in covering(), at in any::<Index>()) {
        let again = pieces[at.index(pieces.len())];
        pieces.push(again);
        prop_assert!(is_violation(replay(read(length), true, &[], &reply_of(&pieces))));
    }

    #[test]
    fn a_piece_outside_is_noticed((mut pieces, length) in covering(), at in any::<Index>(), by in 1usize..1000) {
        let at = at.index(pieces.len());
        pieces[at].0 = length - pieces[at].1 + by;
        prop_assert!(is_violation(replay(read(length), true, &[], &reply_of(&pieces))));
    }

    #[test]
    fn a_cut_reply_waits_for_more((pieces, length) in covering(), at in any::<Index>()) {
        let bytes = reply_of(&pieces);
        let cut = &bytes[..at.index(bytes.len())];
        prop_assert!(matches!(replay(read(length), true, &[], cut), Ok(None)));
    }

    #[test]
    fn extents_come_back_as_sent(lengths in vec((1u32..1 << 20, any::<u32>()), 1..50), ids in any::<[bool; 2]>()) {
        let descriptors: Vec<u8> =
            lengths.iter().flat_map(|(length, flags)| [length.to_be_bytes(), flags.to_be_bytes()].concat()).collect();
        let of = |id: u32| [&id.to_be_bytes()[..], &descriptors].concat();
        let total: u32 = lengths.iter().map(|(length, _)| length).sum();
        let mut bytes = chunk(0, 5, &of(3));
        bytes.extend(chunk(1, 5, &of(if ids[0] { 4 } else { 5 })));
        let outcome = replay((Command::BlockStatus, 0, total), true, &[3, 4], &bytes);
        if ids[0] {
            let (_, extents) = outcome.unwrap().unwrap();
            let got: Vec<_> = extents.iter().map(|extent| (extent.length as u32, extent.flags)).collect();
            prop_assert_eq!(got, lengths);
        } else {
            prop_assert!(is_violation(outcome));
        }
    }

    /// The parser's answer to noise that looks like a reply: no panic, and never data of a read that
    /// was not sent in full.
    #[test]
    fn noise_never_panics(
        command in prop_oneof![Just(Command::Read), Just(Command::Write), Just(Command::BlockStatus), Just(Command::Flush)],
        structured: bool,
        length in 0u32..5000,
        offset in prop_oneof![Just(0), Just(OFFSET), Just(i64::MAX as u64 - 5000)],
        chunks in vec((prop_oneof![Just(SIMPLE_REPLY_MAGIC), Just(STRUCTURED_REPLY_MAGIC)], 0u16..4,
                       prop_oneof![0u16..8, 0x8000u16..0x8004], any::<u32>(), vec(prop_oneof![Just(0u8), any::<u8>()], 0..64)), 0..6),
    ) {
        let mut bytes = Vec::new();
        for (magic, flags, kind, announced, payload) in chunks {
            bytes.extend(magic.to_be_bytes());
            bytes.extend(flags.to_be_bytes());
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0; 8]);
            let announced = if announced % 4 == 0 { announced } else { payload.len() as u32 };
            bytes.extend(announced.to_be_bytes());
            bytes.extend(payload);
        }
        let sent = bytes.len();
        if let Ok(Some((data, extents))) = replay((command, offset, length), structured, &[1], &bytes) {
            prop_assert!(data.iter().filter(|byte| **byte != 0).count() <= sent);
            prop_assert!(extents.iter().map(|extent| extent.length).sum::<u64>() <= u64::from(length));
            prop_assert!(command != Command::BlockStatus || !extents.is_empty());
        }
    }

    #[test]
    fn a_flipped_bit_of_a_header_never_panics((pieces, length) in covering(), at in any::<Index>(), bit in 0..8u8) {
        let mut bytes = reply_of(&pieces);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        let _ = replay(read(length), true, &[], &bytes);
    }
}

#[test]
fn an_error_chunk_keeps_errno_offset_and_words() {
    let mut payload = 5u32.to_be_bytes().to_vec();
    payload.extend([0, 3]);
    payload.extend(b"bad");
    payload.extend((OFFSET + 4).to_be_bytes());
    let outcome = replay(read(8), true, &[], &chunk(1, 0x8002, &payload));
    let Err(Error::Server {
        errno: 5,
        offset,
        length: 8,
        message,
        ..
    }) = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((offset, message.as_str()), (OFFSET + 4, "bad"));
}

#[test]
fn an_unknown_error_chunk_is_an_error_of_the_request() {
    let mut payload = 28u32.to_be_bytes().to_vec();
    payload.extend([0, 0]);
    payload.extend(b"some extension");
    let outcome = replay(read(8), true, &[], &chunk(1, 0x8123, &payload));
    assert_eq!(outcome.unwrap_err().errno(), Some(28));
}

#[test]
fn an_error_outside_the_request_is_a_violation() {
    let mut payload = 5u32.to_be_bytes().to_vec();
    payload.extend([0, 0]);
    payload.extend((OFFSET + 8).to_be_bytes());
    assert!(is_violation(replay(
        read(8),
        true,
        &[],
        &chunk(1, 0x8002, &payload)
    )));
}

#[test]
fn a_simple_reply_to_a_structured_read_is_a_violation() {
    let mut bytes = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend([0; 12 + 8]);
    assert!(is_violation(replay(read(8), true, &[], &bytes)));
    assert!(matches!(replay(read(8), false, &[], &bytes), Ok(Some(_))));
}
