//! Power cuts of a destination at every step of its disk: what was acknowledged is there, and the
//! journal claims nothing that is not.

mod oracle;

use super::attachment::Attachment;
use super::lock;
use super::vdisk::Vdisk;
use crate::chunk::{CHUNK_SIZE, Geometry};
use crate::conversation::Outgoing;
use crate::endpoint::EndpointSpec;
use crate::powercut::mount::Mounted;
use crate::powercut::{Disk, Image};
use bytes::Bytes;
use drover_link::message::Compression;
use drover_link::{Data, Message};
use oracle::{Life, Write};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SECTOR: usize = 512;
const SIZE: u64 = 3 * CHUNK_SIZE as u64 + 70_144;
const IMAGE: &str = "to.img";
const WRITES: u64 = 24;
const LIVES: u64 = 2;

/// What the destination writes to.
#[derive(Debug, Clone, Copy)]
enum Kind {
    File,
    Nbd,
}

type Acknowledged = Arc<Mutex<HashMap<u64, usize>>>;

/// `qemu-nbd` on the image; killed when this is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(kind: Kind, folder: &Path, sockets: &Path) -> (Option<Server>, EndpointSpec) {
    let path = folder.join(IMAGE);
    if matches!(kind, Kind::File) {
        return (None, EndpointSpec::File { path, create: true });
    }
    let socket = sockets.join("nbd.sock");
    let _ = std::fs::remove_file(&socket);
    let child = Command::new("qemu-nbd")
        .args([
            "-t",
            "-e",
            "8",
            "-f",
            "raw",
            "--cache=writeback",
            "--discard=unmap",
            "-k",
        ])
        .args([&socket, &path])
        .spawn();
    let server = Server(child.expect("qemu-nbd is needed by this test"));
    while UnixStream::connect(&socket).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let export = String::new();
    (Some(server), EndpointSpec::Nbd { socket, export })
}

/// Notes what is acknowledged, at once.
async fn listen(outgoing: Outgoing, disk: Arc<Disk>, acknowledged: Acknowledged) {
    while let Some(message) = outgoing.next_small().await {
        match message {
            Message::Ack { ids, .. } => {
                let mut acknowledged = lock(&acknowledged);
                let now = disk.steps();
                for id in ids {
                    acknowledged.entry(id).or_insert(now);
                }
            }
            other => panic!("the destination says {other:?}"),
        }
    }
}

/// A source that writes at random, one write to a chunk at a time.
struct Writer {
    geometry: Geometry,
    disk: Arc<Disk>,
    attachment: Arc<Attachment>,
    acknowledged: Acknowledged,
    writes: Vec<Write>,
}

impl Writer {
    async fn write(&mut self, id: u64, random: &mut StdRng) {
        let (offset, length) = self.place(random);
        while self.writes.iter().any(|write| {
            write.touches(offset, length) && !lock(&self.acknowledged).contains_key(&write.id)
        }) {
            if random.random_bool(0.2) {
                self.attachment.hurry();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let zero = length > u64::from(CHUNK_SIZE) || random.random_bool(0.2);
        let begun = self.disk.steps();
        let write = Write {
            id,
            zero,
            offset,
            length,
            begun,
        };
        let foreground = random.random_bool(0.5);
        let (attachment, raw) = (self.attachment.clone(), bytes_of(&write));
        self.writes.push(write);
        tokio::spawn(async move {
            if zero {
                return attachment.zero(id, offset, length, foreground).await;
            }
            let data = Data {
                handle: 1,
                id,
                offset,
                foreground,
                raw_length: raw.len() as u32,
                compression: Compression::None,
                hash: blake3::hash(&raw).into(),
                payload: raw,
            };
            attachment.write(data).await;
        });
        if random.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..15))).await;
        }
    }

    /// A whole chunk, blocks of one, or two chunks.
    fn place(&self, random: &mut StdRng) -> (u64, u64) {
        let geometry = self.geometry;
        let chunk = random.random_range(0..geometry.chunks());
        match random.random_range(0..10) {
            0 if chunk + 1 < geometry.chunks() => {
                (geometry.offset(chunk), geometry.bytes(chunk, 2))
            }
            1..=4 => {
                let blocks = geometry.all_blocks(chunk).count_ones();
                let first = random.random_range(0..blocks);
                let count = random.random_range(1..=blocks - first);
                let (offset, length) = geometry.piece(chunk, first, count);
                (offset, length.into())
            }
            _ => (geometry.offset(chunk), geometry.length(chunk).into()),
        }
    }
}

fn bytes_of(write: &Write) -> Bytes {
    let sectors = write.offset / SECTOR as u64..(write.offset + write.length) / SECTOR as u64;
    sectors.flat_map(|sector| write.sector(sector)).collect()
}

/// Lives one life on the disk.
async fn live(
    disk: &Arc<Disk>,
    kind: Kind,
    random: &mut StdRng,
    (context, base, base_claims): (String, Vec<u8>, Vec<bool>),
) -> Life {
    let (mounted, sockets) = (Mounted::new(disk.clone()), tempfile::tempdir().unwrap());
    let (_server, spec) = serve(kind, mounted.path(), sockets.path());
    let vdisk = Vdisk::open("vda", SIZE, spec, mounted.path()).await;
    let vdisk = Arc::new(vdisk.unwrap());
    let forget = random.random_bool(0.2);
    vdisk.prepare(forget, 1).await.unwrap();
    let opened = disk.steps();
    let outgoing = Outgoing::default();
    let attachment = Attachment::start(vdisk.clone(), 1, 1, outgoing.clone());
    let acknowledged = Acknowledged::default();
    let listener = tokio::spawn(listen(outgoing, disk.clone(), acknowledged.clone()));
    let mut writer = Writer {
        geometry: vdisk.geometry(),
        disk: disk.clone(),
        attachment: attachment.clone(),
        acknowledged: acknowledged.clone(),
        writes: Vec::new(),
    };
    for id in 1..=WRITES {
        writer.write(id, random).await;
    }
    attachment.close().await;
    let (geometry, writes) = (vdisk.geometry(), std::mem::take(&mut writer.writes));
    let medium = vdisk.endpoint().unwrap().medium();
    drop((writer, attachment, vdisk));
    tokio::time::timeout(Duration::from_secs(10), listener)
        .await
        .expect("all tasks of the attachment have ended")
        .unwrap();
    let acknowledged = lock(&acknowledged).clone();
    Life {
        context,
        geometry,
        medium,
        base,
        base_claims: if forget {
            vec![false; base_claims.len()]
        } else {
            base_claims
        },
        opened,
        writes,
        acknowledged,
    }
}

async fn lives(seed: u64, kind: Kind, states: &mut u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut image = Image::default();
    if matches!(kind, Kind::Nbd) {
        image.files.insert(2, vec![0; SIZE as usize]);
        image.names.insert(IMAGE.into(), 2);
    }
    let mut claims = vec![false; Geometry::new(SIZE).chunks() as usize];
    for number in 0..LIVES {
        let base = image.read(IMAGE).cloned().unwrap_or(vec![0; SIZE as usize]);
        let disk = Arc::new(Disk::holding(image));
        let context = format!("{kind:?}, seed {seed}, life {number}");
        let life = live(&disk, kind, &mut random, (context, base, claims)).await;
        (image, claims) = life.cut_everywhere(&disk, &mut random, states);
    }
}

/// `DROVER_POWER_CUTS` sets how many seeds are tried, `DROVER_SEED` the first.
async fn all_seeds(kind: Kind, by_default: u64) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().unwrap())
    };
    let first = number("DROVER_SEED").unwrap_or_else(|| rand::random_range(0..1 << 40));
    let count = number("DROVER_POWER_CUTS").unwrap_or(by_default);
    let mut states = 0;
    for seed in first..first + count {
        lives(seed, kind, &mut states).await;
    }
    println!("{kind:?}: {count} seeds from {first}, {states} states after power cuts");
    assert!(states > 100 * count, "too few states: {states}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_keeps_what_was_acknowledged() {
    all_seeds(Kind::File, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_nbd_server_keeps_what_was_acknowledged() {
    all_seeds(Kind::Nbd, 2).await;
}
