//! Misdeeds in replies to requests.

use bytes::Bytes;
use nbd::{Client, EIO, ENOSPC, ENOTSUP, EPERM, Error, Extent};
use tempfile::TempDir;

use crate::server::{
    CONTEXT, CONTEXT_ID, DONE, Request, SIZE, Server, assert_violation, chunk, chunk_header,
    client, data, error, extents, hole, simple, soon,
};

/// Every read here is of `LENGTH` bytes at `AT`.
const AT: u64 = 8192;
const LENGTH: u32 = 4096;
const HALF: u32 = LENGTH / 2;

/// A client whose first request gets `answer`; then nothing more comes.
async fn answered(structured: bool, answer: fn(&Request) -> Vec<u8>) -> (TempDir, Client) {
    client(structured, async move |mut server: Server| {
        if let Some(request) = server.request().await {
            server.send(&answer(&request)).await;
        }
        server.linger().await;
    })
    .await
}

async fn read(answer: fn(&Request) -> Vec<u8>) -> Result<Vec<u8>, Error> {
    let (_folder, client) = answered(true, answer).await;
    soon(client.read(AT, LENGTH))
        .await
        .map(|data| data.to_vec())
}

async fn read_simple(answer: fn(&Request) -> Vec<u8>) -> Result<Vec<u8>, Error> {
    let (_folder, client) = answered(false, answer).await;
    soon(client.read(AT, LENGTH))
        .await
        .map(|data| data.to_vec())
}

async fn status(answer: fn(&Request) -> Vec<u8>) -> Result<Vec<Extent>, Error> {
    let (_folder, client) = answered(true, answer).await;
    soon(client.block_status(CONTEXT, AT, LENGTH)).await
}

fn full() -> Vec<u8> {
    vec![7; LENGTH as usize]
}

fn half() -> Vec<u8> {
    vec![7; HALF as usize]
}

fn none(cookie: u64) -> Vec<u8> {
    chunk(cookie, DONE, 0, &[])
}

#[tokio::test]
async fn an_honest_read_works_simple_and_structured() {
    assert_eq!(
        read(|r| data(r.cookie, DONE, AT, &full())).await.unwrap(),
        full()
    );
    assert_eq!(
        read_simple(|r| simple(r.cookie, 0, &full())).await.unwrap(),
        full()
    );
}

#[tokio::test]
async fn pieces_out_of_order_with_a_hole_are_put_together() {
    let outcome = read(|r| {
        let second = data(r.cookie, 0, AT + u64::from(HALF), &half());
        [second, hole(r.cookie, 0, AT, HALF), none(r.cookie)].concat()
    });
    assert_eq!(
        outcome.await.unwrap(),
        [vec![0; HALF as usize], half()].concat()
    );
}

#[tokio::test]
async fn a_wrong_reply_magic_is_a_violation() {
    assert_violation(read(|_| vec![0x55; 64]).await, "no reply magic");
}

#[tokio::test]
async fn an_unknown_cookie_is_a_violation() {
    assert_violation(
        read(|r| data(r.cookie + 1, DONE, AT, &full())).await,
        "cookie",
    );
    assert_violation(
        read_simple(|r| simple(r.cookie + 1, 0, &full())).await,
        "cookie",
    );
}

#[tokio::test]
async fn a_reply_that_comes_twice_is_a_violation() {
    let (_folder, client) = answered(true, |r| {
        [
            data(r.cookie, DONE, AT, &full()),
            data(r.cookie, DONE, AT, &full()),
        ]
        .concat()
    })
    .await;
    // The first is honest; the connection is given up at the second.
    soon(client.read(AT, LENGTH)).await.unwrap();
    assert_violation(soon(client.read(AT, LENGTH)).await, "cookie");
}

#[tokio::test]
async fn a_chunk_outside_the_request_is_a_violation() {
    assert_violation(
        read(|r| data(r.cookie, DONE, AT - 1, &full())).await,
        "in the reply to a read",
    );
    assert_violation(
        read(|r| data(r.cookie, DONE, AT + 1, &full())).await,
        "in the reply to a read",
    );
    assert_violation(
        read(|r| data(r.cookie, DONE, u64::MAX, &full())).await,
        "in the reply to a read",
    );
    assert_violation(
        read(|r| hole(r.cookie, DONE, AT, u32::MAX)).await,
        "in the reply to a read",
    );
}

#[tokio::test]
async fn overlapping_chunks_are_a_violation() {
    let outcome = read(|r| {
        [
            data(r.cookie, 0, AT, &half()),
            data(r.cookie, DONE, AT + 1, &half()),
        ]
        .concat()
    });
    assert_violation(outcome.await, "sent twice");
}

#[tokio::test]
async fn a_gap_is_a_violation() {
    assert_violation(
        read(|r| data(r.cookie, DONE, AT, &half())).await,
        "answered with 2048",
    );
    assert_violation(read(|r| none(r.cookie)).await, "answered with 0");
}

#[tokio::test]
async fn a_reply_without_an_end_fails_when_the_server_hangs_up() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let Some(request) = server.request().await else {
            return;
        };
        server.send(&data(request.cookie, 0, AT, &full())).await;
    })
    .await;
    assert!(matches!(
        soon(client.read(AT, LENGTH)).await,
        Err(Error::Closed)
    ));
}

#[tokio::test]
async fn a_hang_up_in_the_middle_of_a_chunk_fails_all_requests() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let Some(request) = server.request().await else {
            return;
        };
        let _second = server.request().await;
        server
            .send(&data(request.cookie, DONE, AT, &full())[..100])
            .await;
    })
    .await;
    let (first, second) =
        soon(async { tokio::join!(client.read(AT, LENGTH), client.flush()) }).await;
    assert!(matches!(first, Err(Error::Closed)));
    assert!(matches!(second, Err(Error::Closed)));
    assert!(matches!(soon(client.flush()).await, Err(Error::Closed)));
}

#[tokio::test]
async fn oversized_lengths_are_refused_before_they_are_read() {
    assert_violation(
        read(|r| chunk_header(r.cookie, DONE, 1, u32::MAX)).await,
        "bytes of data",
    );
    assert_violation(
        read(|r| chunk_header(r.cookie, DONE, 0x8001, u32::MAX)).await,
        "error chunk",
    );
    assert_violation(
        read(|r| chunk_header(r.cookie, DONE, 0, u32::MAX)).await,
        "empty chunk",
    );
    assert_violation(
        status(|r| chunk_header(r.cookie, DONE, 5, u32::MAX - 3)).await,
        "block status",
    );
}

#[tokio::test]
async fn empty_pieces_are_a_violation() {
    assert_violation(read(|r| data(r.cookie, 0, AT, &[])).await, "holds no data");
    assert_violation(
        read(|r| hole(r.cookie, 0, AT, 0)).await,
        "a hole of no bytes",
    );
    assert_violation(read(|r| chunk(r.cookie, 0, 0, &[])).await, "not the last");
}

#[tokio::test]
async fn chunks_of_another_kind_of_request_are_a_violation() {
    assert_violation(
        status(|r| data(r.cookie, DONE, AT, &full())).await,
        "reply to a block status",
    );
    let outcome = read(|r| extents(r.cookie, DONE, CONTEXT_ID, &[(LENGTH, 0)]));
    assert_violation(outcome.await, "reply to a read");
    assert_violation(read(|r| chunk(r.cookie, DONE, 99, &[])).await, "kind 99");
}

#[tokio::test]
async fn structured_replies_without_agreement_are_a_violation() {
    assert_violation(
        read_simple(|r| data(r.cookie, DONE, AT, &full())).await,
        "none were agreed",
    );
}

#[tokio::test]
async fn a_simple_reply_in_a_structured_one_is_a_violation() {
    let outcome = read(|r| [data(r.cookie, 0, AT, &half()), simple(r.cookie, 5, &[])].concat());
    assert_violation(outcome.await, "in the middle");
    assert_violation(
        read(|r| simple(r.cookie, 0, &full())).await,
        "simple reply to a read",
    );
}

#[tokio::test]
async fn endless_error_chunks_are_cut_off() {
    let outcome = read(|r| error(r.cookie, 0, 5, "again", None).repeat(2000));
    assert_violation(outcome.await, "more than 1024 error chunks");
}

#[tokio::test]
async fn error_chunks_that_make_no_sense_are_a_violation() {
    assert_violation(
        read(|r| error(r.cookie, DONE, 0, "", None)).await,
        "without an error",
    );
    assert_violation(
        read(|r| error(r.cookie, DONE, 5, "", Some(0))).await,
        "outside",
    );
    let lying_length = read(|r| chunk(r.cookie, DONE, 0x8001, b"\0\0\0\x05\xff\xffab"));
    assert_violation(lying_length.await, "error message of 65535");
}

#[tokio::test]
async fn errors_keep_their_number_and_the_connection_goes_on() {
    let (_folder, client) = client(true, async |mut server: Server| {
        for errno in [5, 28, 1, 4_000_000_000] {
            let Some(r) = server.request().await else {
                return;
            };
            server.send(&error(r.cookie, DONE, errno, "", None)).await;
        }
        let Some(r) = server.request().await else {
            return;
        };
        server.send(&data(r.cookie, DONE, AT, &full())).await;
        server.linger().await;
    })
    .await;
    for errno in [EIO, ENOSPC, EPERM, nbd::EINVAL] {
        let error = soon(client.read(AT, LENGTH)).await.unwrap_err();
        assert_eq!(error.errno(), Some(errno));
        assert!(error.connection_survives());
    }
    assert_eq!(soon(client.read(AT, LENGTH)).await.unwrap(), full());
}

#[tokio::test]
async fn extents_that_make_no_sense_are_a_violation() {
    let zero_length = status(|r| extents(r.cookie, DONE, CONTEXT_ID, &[(HALF, 0), (0, 1)]));
    assert_violation(zero_length.await, "extent of no bytes");
    let strange_context = status(|r| extents(r.cookie, DONE, 99, &[(LENGTH, 0)]));
    assert_violation(strange_context.await, "context 99");
    let beyond = status(|r| extents(r.cookie, DONE, CONTEXT_ID, &[(LENGTH, 0), (1, 1)]));
    assert_violation(beyond.await, "beyond");
    assert_violation(status(|r| none(r.cookie)).await, "without the extents");
    assert_violation(
        status(|r| chunk(r.cookie, DONE, 5, &[0; 4])).await,
        "block status chunk of 4",
    );
    assert_violation(
        status(|r| chunk(r.cookie, DONE, 5, &[0; 11])).await,
        "block status chunk of 11",
    );
    assert_violation(
        status(|r| simple(r.cookie, 0, &[])).await,
        "simple reply to a block status",
    );
    let twice = status(|r| {
        let once = extents(r.cookie, 0, CONTEXT_ID, &[(LENGTH, 0)]);
        [once.clone(), once, none(r.cookie)].concat()
    });
    assert_violation(twice.await, "spoken already");
}

#[tokio::test]
async fn extents_may_be_short_and_are_cut_at_the_request() {
    let short = status(|r| extents(r.cookie, DONE, CONTEXT_ID, &[(HALF, 3)]))
        .await
        .unwrap();
    assert_eq!(
        short,
        [Extent {
            length: HALF.into(),
            flags: 3
        }]
    );
    let long = status(|r| extents(r.cookie, DONE, CONTEXT_ID, &[(1, 3), (u32::MAX, 0)]))
        .await
        .unwrap();
    assert_eq!(
        long[1],
        Extent {
            length: u64::from(LENGTH) - 1,
            flags: 0
        }
    );
}

#[tokio::test]
async fn zeros_are_written_plainly_if_the_server_will_not() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let Some(r) = server.request().await else {
            return;
        };
        assert_eq!(r.command, 6);
        server
            .send(&error(r.cookie, DONE, ENOTSUP as u32, "", None))
            .await;
        let Some(r) = server.request().await else {
            return;
        };
        assert_eq!((r.command, r.offset, r.length), (1, AT, LENGTH));
        server.send(&simple(r.cookie, 0, &[])).await;
        server.linger().await;
    })
    .await;
    soon(client.write_zeroes(AT, LENGTH, true)).await.unwrap();
}

#[tokio::test]
async fn requests_beyond_the_end_are_not_sent() {
    let (_folder, client) = client(true, async |mut server: Server| {
        assert!(server.request().await.is_none());
    })
    .await;
    let read = client.read(SIZE, 1).await;
    assert!(matches!(read, Err(Error::TooLarge { size, limit: SIZE, .. }) if size == SIZE + 1));
    let write = client
        .write(u64::MAX, Bytes::from_static(b"x"), false)
        .await;
    assert!(matches!(write, Err(Error::TooLarge { .. })));
    let other = client.block_status("qemu:dirty-bitmap:none", 0, 1).await;
    assert!(matches!(other, Err(Error::Unsupported(_))));
    assert!(client.read(SIZE, 0).await.unwrap().is_empty());
}
