//! Several connections.

use bytes::Bytes;
use nbd::{BASE_ALLOCATION, Error, Pool};

use crate::servers::{MIB, nbdkit, pattern};

#[tokio::test]
async fn writes_on_several_connections_are_flushed_by_one() {
    let server = nbdkit(&["memory", "16M"]);
    let pool = Pool::connect(&server.export("", &[BASE_ALLOCATION]), 4)
        .await
        .unwrap();
    assert!(pool.info().can_multi_conn);
    assert_eq!(pool.connections(), 4);
    let data = Bytes::from(pattern(16 * MIB as usize));
    let parts = (0..16).map(|at| data.slice(at << 20..(at + 1) << 20));
    let writes = parts
        .enumerate()
        .map(|(at, part)| pool.write((at as u64) << 20, part, false));
    futures_util::future::try_join_all(writes).await.unwrap();
    pool.flush().await.unwrap();
    assert_eq!(pool.read(0, data.len() as u32).await.unwrap(), data);
    assert!(
        !pool
            .block_status(BASE_ALLOCATION, 0, 4096)
            .await
            .unwrap()
            .is_empty()
    );
    pool.disconnect().await;
}

#[tokio::test]
async fn a_writable_export_without_multi_conn_gets_one_connection() {
    let server = nbdkit(&[
        "--filter=multi-conn",
        "memory",
        "16M",
        "multi-conn-mode=disable",
    ]);
    let pool = Pool::connect(&server.export("", &[]), 4).await.unwrap();
    assert_eq!(pool.connections(), 1);
}

#[tokio::test]
async fn a_pool_ends_with_its_server() {
    let server = nbdkit(&["memory", "16M"]);
    let pool = Pool::connect(&server.export("", &[]), 2).await.unwrap();
    drop(server);
    assert!(matches!(pool.read(0, 512).await, Err(Error::Closed)));
    assert!(pool.is_closed());
}
