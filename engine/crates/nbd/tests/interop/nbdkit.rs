//! nbdkit and its filters.

use std::time::{Duration, Instant};

use bytes::Bytes;
use nbd::{BASE_ALLOCATION, Client, EIO, ENOSPC, Error, Extent, STATE_HOLE, STATE_ZERO};

use crate::servers::{MIB, all_extents, nbdkit, pattern};

const HOLE: u32 = STATE_HOLE | STATE_ZERO;

#[tokio::test]
async fn what_was_written_is_read_back() {
    let server = nbdkit(&["memory", "16M"]);
    let client = server.client().await;
    assert!(client.info().structured_replies);
    let data = Bytes::from(pattern(3 * MIB as usize));
    client.write(12345, data.clone(), true).await.unwrap();
    assert_eq!(client.read(12345, data.len() as u32).await.unwrap(), data);
    client.flush().await.unwrap();
    client.disconnect().await;
}

#[tokio::test]
async fn requests_over_the_payload_limit_are_split_and_joined() {
    let server = nbdkit(&[
        "--filter=blocksize-policy",
        "memory",
        "8M",
        "blocksize-minimum=512",
        "blocksize-preferred=4096",
        "blocksize-maximum=65536",
        "blocksize-error-policy=error",
    ]);
    let client = server.client().await;
    assert_eq!(
        (client.info().minimum_block, client.info().maximum_payload),
        (512, 65536)
    );
    let data = Bytes::from(pattern(5 * MIB as usize));
    client.write(512, data.clone(), false).await.unwrap();
    assert_eq!(client.read(512, data.len() as u32).await.unwrap(), data);
    assert!(matches!(
        client.read(1, 512).await,
        Err(Error::Misaligned {
            minimum_block: 512,
            ..
        })
    ));
    assert!(matches!(
        client.read(0, 511).await,
        Err(Error::Misaligned { .. })
    ));
}

#[tokio::test]
async fn a_long_request_over_32_mib_is_split() {
    let server = nbdkit(&["pattern", "100M"]);
    let client = server.client().await;
    let data = client.read(0, 100 * MIB as u32).await.unwrap();
    let wrong = data
        .chunks_exact(8)
        .enumerate()
        .find(|(at, word)| **word != (*at as u64 * 8).to_be_bytes());
    assert_eq!(wrong, None);
}

#[tokio::test]
async fn holes_are_extents_and_read_as_zeros() {
    let server = nbdkit(&["data", "@65536 1*65536 @1048576 2*65536 @2097152"]);
    let client = server.client().await;
    let extents = all_extents(&client, BASE_ALLOCATION).await;
    let expected = [
        (65536, HOLE),
        (65536, 0),
        (917_504, HOLE),
        (65536, 0),
        (983_040, HOLE),
    ];
    assert_eq!(
        extents,
        expected.map(|(length, flags)| Extent { length, flags })
    );
    let data = client.read(65535, 3).await.unwrap();
    assert_eq!(data[..], [0, 1, 1]);
}

#[tokio::test]
async fn zeros_without_and_with_the_servers_help() {
    for filter in ["--filter=nozero", "--filter=noextents"] {
        let server = nbdkit(&[filter, "memory", "8M"]);
        let client = server.client().await;
        let ones = Bytes::from(vec![1; 4 * MIB as usize]);
        client.write(0, ones, false).await.unwrap();
        client
            .write_zeroes(4096, 3 * MIB as u32, true)
            .await
            .unwrap();
        client
            .write_zeroes(3 * MIB + 4096, 4096, false)
            .await
            .unwrap();
        let data = client.read(0, 4 * MIB as u32).await.unwrap();
        let zeros = data.iter().filter(|byte| **byte == 0).count();
        assert_eq!((data[4095], zeros as u64), (1, 3 * MIB + 4096));
    }
}

#[tokio::test]
async fn the_error_number_of_a_failed_read_arrives() {
    let server = nbdkit(&[
        "--filter=error",
        "memory",
        "8M",
        "error-pread=EIO",
        "error-pread-rate=100%",
    ]);
    let client = server.client().await;
    let error = client.read(4096, 4096).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::Server {
                errno: EIO,
                offset: 4096,
                length: 4096,
                ..
            }
        ),
        "{error}"
    );
    // The connection goes on.
    client
        .write(0, Bytes::from_static(&[1; 512]), false)
        .await
        .unwrap();
}

#[tokio::test]
async fn the_error_number_of_a_failed_write_arrives() {
    let server = nbdkit(&["full", "8M"]);
    let client = server.client().await;
    let error = client
        .write(0, Bytes::from_static(&[1; 4096]), false)
        .await
        .unwrap_err();
    assert_eq!(error.errno(), Some(ENOSPC));
    let text = error.to_string();
    assert!(
        text.contains("write of 4096 bytes at 0") && text.contains("ENOSPC"),
        "{text}"
    );
}

#[tokio::test]
async fn a_slow_disk_is_waited_for_and_answers_overlap() {
    let server = nbdkit(&["--filter=delay", "memory", "8M", "rdelay=500ms"]);
    let client = server.client().await;
    let begin = Instant::now();
    let reads: Vec<_> = (0..10)
        .map(|at| {
            let client = client.clone();
            tokio::spawn(async move { client.read(at * 4096, 4096).await })
        })
        .collect();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_millis(500));
    assert!(
        begin.elapsed() < Duration::from_millis(4500),
        "{:?}",
        begin.elapsed()
    );
}

#[tokio::test]
async fn a_read_only_export_takes_no_writes() {
    let server = nbdkit(&["-r", "memory", "8M"]);
    let client = server.client().await;
    assert!(client.info().read_only);
    let outcome = client.write(0, Bytes::from_static(&[1]), false).await;
    assert!(matches!(outcome, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn without_structured_replies_reads_are_simple() {
    let server = nbdkit(&["--no-sr", "pattern", "1M"]);
    let client = server.client().await;
    assert!(!client.info().structured_replies);
    assert!(client.info().meta_contexts.is_empty());
    assert_eq!(client.read(800, 8).await.unwrap()[..], 800u64.to_be_bytes());
}

#[tokio::test]
async fn an_oldstyle_server_is_unsupported() {
    let server = nbdkit(&["-o", "memory", "1M"]);
    let outcome = Client::connect(&server.export("", &[])).await;
    assert!(matches!(outcome, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn a_server_that_dies_ends_all_requests() {
    let server = nbdkit(&["--filter=delay", "memory", "8M", "rdelay=60"]);
    let client = server.client().await;
    let read = tokio::spawn({
        let client = client.clone();
        async move { client.read(0, 4096).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(server);
    assert!(matches!(read.await.unwrap(), Err(Error::Closed)));
    assert!(client.is_closed());
    assert!(matches!(client.read(0, 1).await, Err(Error::Closed)));
}
