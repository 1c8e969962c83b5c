//! qemu-nbd and qemu-storage-daemon: dirty bitmaps above all.

use bytes::Bytes;
use nbd::{BASE_ALLOCATION, Client, DIRTY, DIRTY_BITMAP, EPERM, Error, Extent, STATE_ZERO};

use crate::servers::{MIB, Server, all_extents, folder, pattern, run};

const BITMAP: &str = "drover-7";

/// A qcow2 VDISK of 64 MiB with a persistent bitmap; 128 KiB at 1 MiB and 64 KiB at 32 MiB are dirty.
fn disk_with_bitmap() -> tempfile::TempDir {
    let folder = folder();
    run(
        folder.path(),
        "qemu-img",
        &["create", "-f", "qcow2", "vda.qcow2", "64M"],
    );
    run(
        folder.path(),
        "qemu-io",
        &["-c", "write -P 1 0 4M", "vda.qcow2"],
    );
    run(
        folder.path(),
        "qemu-img",
        &["bitmap", "--add", "--enable", "vda.qcow2", BITMAP],
    );
    run(
        folder.path(),
        "qemu-io",
        &[
            "-c",
            "write -P 2 1M 128k",
            "-c",
            "write -P 3 32M 64k",
            "vda.qcow2",
        ],
    );
    run(
        folder.path(),
        "qemu-img",
        &["bitmap", "--disable", "vda.qcow2", BITMAP],
    );
    folder
}

fn storage_daemon(folder: tempfile::TempDir, writable: bool) -> Server {
    let export = format!(
        "type=nbd,id=export,node-name=vda,name=vda,writable={},bitmaps.0={BITMAP}",
        if writable { "on" } else { "off" }
    );
    let arguments = [
        "--blockdev",
        "driver=file,node-name=file,filename=vda.qcow2",
        "--blockdev",
        "driver=qcow2,node-name=vda,file=file",
        "--nbd-server",
        "addr.type=unix,addr.path=SOCKET,max-connections=0",
        "--export",
        &export,
    ];
    Server::start(folder, "qemu-storage-daemon", &arguments)
}

#[tokio::test]
async fn a_dirty_bitmap_is_read_as_extents() {
    let server = storage_daemon(disk_with_bitmap(), false);
    let context = format!("{DIRTY_BITMAP}{BITMAP}");
    let export = server.export("vda", &[BASE_ALLOCATION, &context]);
    let client = Client::connect(&export).await.unwrap();
    assert_eq!(client.info().meta_contexts, export.meta_contexts);
    let extents = all_extents(&client, &context).await;
    let expected = [
        (MIB, 0),
        (128 << 10, DIRTY),
        (31 * MIB - (128 << 10), 0),
        (64 << 10, DIRTY),
        (32 * MIB - (64 << 10), 0),
    ];
    assert_eq!(
        extents,
        expected.map(|(length, flags)| Extent { length, flags })
    );
    // The data of the dirty extents comes through the same connection.
    assert_eq!(
        client.read(MIB, 128 << 10).await.unwrap(),
        vec![2; 128 << 10]
    );
    assert_eq!(
        client.read(32 * MIB, 64 << 10).await.unwrap(),
        vec![3; 64 << 10]
    );
    let allocation = all_extents(&client, BASE_ALLOCATION).await;
    assert_eq!(
        allocation[0],
        Extent {
            length: 4 * MIB,
            flags: 0
        }
    );
    assert!(allocation[1].flags & STATE_ZERO != 0);
}

#[tokio::test]
async fn a_bitmap_that_is_not_there_is_not_granted() {
    let server = storage_daemon(disk_with_bitmap(), false);
    let missing = format!("{DIRTY_BITMAP}drover-8");
    let client = Client::connect(&server.export("vda", &[BASE_ALLOCATION, &missing]))
        .await
        .unwrap();
    assert_eq!(client.info().meta_contexts, [BASE_ALLOCATION]);
    assert!(matches!(
        client.block_status(&missing, 0, 4096).await,
        Err(Error::Unsupported(_))
    ));
}

#[tokio::test]
async fn writes_zeros_and_flushes_arrive_in_the_image() {
    let server = storage_daemon(disk_with_bitmap(), true);
    let export = server.export("vda", &[]);
    let client = Client::connect(&export).await.unwrap();
    let data = Bytes::from(pattern(2 * MIB as usize));
    client.write(40 * MIB, data.clone(), false).await.unwrap();
    client.write_zeroes(0, MIB as u32, true).await.unwrap();
    client.flush().await.unwrap();
    client.disconnect().await;
    let again = Client::connect(&export).await.unwrap();
    assert_eq!(again.read(40 * MIB, data.len() as u32).await.unwrap(), data);
    assert_eq!(
        again.read(0, 2 * MIB as u32).await.unwrap()[..MIB as usize],
        vec![0; MIB as usize]
    );
}

#[tokio::test]
async fn an_unknown_export_names_those_that_exist() {
    let server = storage_daemon(disk_with_bitmap(), false);
    let error = Client::connect(&server.export("vdz", &[]))
        .await
        .err()
        .unwrap();
    let Error::Refused { option, reason } = error else {
        panic!("{error}")
    };
    assert_eq!(option, "NBD_OPT_GO");
    assert!(
        reason.contains("\"vdz\"") && reason.contains("offers \"vda\""),
        "{reason}"
    );
}

fn qemu_nbd(arguments: &[&str]) -> Server {
    let folder = folder();
    run(
        folder.path(),
        "qemu-img",
        &["create", "-f", "raw", "vda.raw", "16M"],
    );
    let arguments = [
        &["-k", "SOCKET", "-t", "-f", "raw"],
        arguments,
        &["vda.raw"],
    ]
    .concat();
    Server::start(folder, "qemu-nbd", &arguments)
}

#[tokio::test]
async fn qemu_nbd_serves_reads_and_writes_out_of_order() {
    let server = qemu_nbd(&[]);
    let client = server.client().await;
    let data = pattern(16 * MIB as usize);
    let writes: Vec<_> = (0..256)
        .map(|at| {
            let part = Bytes::copy_from_slice(&data[at << 16..][..1 << 16]);
            let client = client.clone();
            tokio::spawn(async move { client.write((at as u64) << 16, part, false).await })
        })
        .collect();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    client.flush().await.unwrap();
    assert_eq!(client.read(0, 16 * MIB as u32).await.unwrap(), data);
}

#[tokio::test]
async fn qemu_nbd_read_only_says_so() {
    let server = qemu_nbd(&["-r"]);
    let client = server.client().await;
    assert!(client.info().read_only);
    let outcome = client.write_zeroes(0, 4096, true).await;
    assert!(
        matches!(outcome, Err(Error::Unsupported(_))),
        "not even sent, so no {EPERM}"
    );
}
