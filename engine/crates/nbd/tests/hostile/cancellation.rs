//! Callers that stop waiting, and servers that answer late.

use std::time::Duration;

use bytes::Bytes;
use nbd::Error;
use tokio::time::{sleep, timeout};

use crate::server::{DONE, SIZE, Server, client, data, simple, soon};

#[tokio::test]
async fn a_dropped_read_does_not_disturb_the_next() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let Some(first) = server.request().await else {
            return;
        };
        let Some(second) = server.request().await else {
            return;
        };
        // Half of the first comes before, the rest after the caller has gone, around the second.
        server.send(&data(first.cookie, 0, 0, &[1; 2048])).await;
        server
            .send(&data(second.cookie, DONE, 4096, &[2; 4096]))
            .await;
        server
            .send(&data(first.cookie, DONE, 2048, &[1; 2048]))
            .await;
        let Some(third) = server.request().await else {
            return;
        };
        server.send(&data(third.cookie, DONE, 0, &[3; 4096])).await;
        server.linger().await;
    })
    .await;
    assert!(
        timeout(Duration::from_millis(50), client.read(0, 4096))
            .await
            .is_err()
    );
    assert_eq!(client.in_flight(), 1);
    assert_eq!(soon(client.read(4096, 4096)).await.unwrap(), vec![2; 4096]);
    assert_eq!(soon(client.read(0, 4096)).await.unwrap(), vec![3; 4096]);
    assert_eq!(client.in_flight(), 0);
}

#[tokio::test]
async fn a_dropped_write_is_sent_whole() {
    let (_folder, client) = client(true, async |mut server: Server| {
        // Long enough for the socket's buffer to fill while the payload is on its way.
        sleep(Duration::from_millis(100)).await;
        for _ in 0..2 {
            let Some(r) = server.request().await else {
                return;
            };
            assert_eq!((r.command, u64::from(r.length)), (1, SIZE));
            server.send(&simple(r.cookie, 0, &[])).await;
        }
        server.linger().await;
    })
    .await;
    let data = Bytes::from(vec![1; SIZE as usize]);
    assert!(
        timeout(
            Duration::from_millis(20),
            client.write(0, data.clone(), false)
        )
        .await
        .is_err()
    );
    soon(client.write(0, data, false)).await.unwrap();
}

#[tokio::test]
async fn a_slow_answer_is_waited_for() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let Some(r) = server.request().await else {
            return;
        };
        sleep(Duration::from_secs(1)).await;
        server.send(&data(r.cookie, DONE, 0, &[9; 512])).await;
        server.linger().await;
    })
    .await;
    assert_eq!(client.read(0, 512).await.unwrap(), vec![9; 512]);
}

#[tokio::test]
async fn more_requests_than_slots_wait_their_turn() {
    let (_folder, client) = client(true, async |mut server: Server| {
        let mut held = Vec::new();
        while let Ok(Some(r)) = timeout(Duration::from_millis(200), server.request()).await {
            held.push(r);
        }
        assert_eq!(held.len(), 256);
        for r in held {
            server
                .send(&data(r.cookie, DONE, r.offset, &[5; 512]))
                .await;
        }
        while let Some(r) = server.request().await {
            server
                .send(&data(r.cookie, DONE, r.offset, &[5; 512]))
                .await;
        }
    })
    .await;
    let reads: Vec<_> = (0..300)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.read(0, 512).await })
        })
        .collect();
    for read in reads {
        assert_eq!(soon(read).await.unwrap().unwrap(), vec![5; 512]);
    }
}

#[tokio::test]
async fn disconnect_ends_all_clones_even_if_the_server_ignores_it() {
    let (_folder, client) = client(true, async |mut server: Server| {
        assert_eq!(server.request().await.map(|r| r.command), Some(2));
        server.linger().await;
    })
    .await;
    let clone = client.clone();
    soon(client.disconnect()).await;
    assert!(matches!(soon(clone.flush()).await, Err(Error::Closed)));
}

#[tokio::test]
async fn dropping_the_last_clone_hangs_up() {
    let (ended, wait) = tokio::sync::oneshot::channel();
    let (_folder, client) = client(true, async |mut server: Server| {
        server.linger().await;
        let _ = ended.send(());
    })
    .await;
    drop(client);
    soon(wait).await.unwrap();
}
