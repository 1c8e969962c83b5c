//! Bulk copies between real engines, judged by programs that are not ours.

mod lab;

use lab::images::{Dice, assert_same, empty_qcow2, mixed, text, to_qcow2};
use lab::nbd_servers::NbdServer;
use lab::{Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const SIZE: u64 = (96 << 20) + 300 * 512;

#[test]
fn a_file_arrives_in_a_file() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 1);
    lab.pair(SIZE, file(&from), file(&to));
    let vdisk = lab.copy_and_verify();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    let sent = &vdisk["sent"];
    assert_eq!(
        sent["raw_bytes"].as_u64().unwrap() + sent["zero_bytes"].as_u64().unwrap(),
        SIZE
    );
    assert!(
        sent["wire_bytes"].as_u64() < sent["raw_bytes"].as_u64(),
        "{sent}"
    );
    // A third of the image is holes; those that fill whole chunks stay holes.
    assert!(to.metadata().unwrap().blocks() * 512 < SIZE * 9 / 10);
}

#[test]
fn a_qcow2_behind_qemu_nbd_arrives_in_a_file() {
    let lab = Lab::new();
    let (raw, qcow2, to) = (
        lab.path("from.img"),
        lab.path("from.qcow2"),
        lab.path("to.img"),
    );
    mixed(&raw, SIZE, 2);
    to_qcow2(&raw, &qcow2);
    let server = NbdServer::qemu(&qcow2, "qcow2", &lab.path("nbd.sock"));
    lab.pair(SIZE, nbd(&server.socket, ""), file(&to));
    lab.copy_and_verify();
    assert_same(("raw", text(&raw)), ("raw", text(&to)));
}

#[test]
fn a_file_arrives_in_a_qcow2_behind_qemu_nbd() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.qcow2"));
    mixed(&from, SIZE, 3);
    empty_qcow2(&to, SIZE);
    let server = NbdServer::qemu(&to, "qcow2", &lab.path("nbd.sock"));
    lab.pair(SIZE, file(&from), nbd(&server.socket, ""));
    lab.copy_and_verify();
    drop(server);
    assert_same(("raw", text(&from)), ("qcow2", text(&to)));
}

#[test]
fn nbdkit_judges_every_byte() {
    let lab = Lab::new();
    let from = lab.path("from.img");
    mixed(&from, SIZE, 4);
    let judge = NbdServer::nbdkit(
        &["file", text(&from), "--filter=checkwrite"],
        &lab.path("nbd.sock"),
    );
    lab.pair(SIZE, file(&from), nbd(&judge.socket, ""));
    lab.start("copy");
    lab.wait_clean();
}

#[test]
fn a_sparse_tebibyte_is_cheap() {
    let lab = Lab::new();
    let size = 1 << 40;
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    let disk = File::create(&from).unwrap();
    disk.set_len(size).unwrap();
    for gibibyte in (0..1000).step_by(100) {
        disk.write_all_at(&[7; 5000], (gibibyte << 30) + 12_345)
            .unwrap();
    }
    lab.pair(size, file(&from), file(&to));
    let vdisk = lab.copy_and_verify();
    assert!(vdisk["sent"]["wire_bytes"].as_u64().unwrap() < 10 << 20);
    for engine in [&lab.source, &lab.destination] {
        let memory = engine.ok("GET", "/v1/engine", Value::Null)["memory_bytes"]
            .as_u64()
            .unwrap();
        assert!(memory < 150 << 20, "{memory} bytes of memory");
    }
    let mut found = [0; 5000];
    let copy = File::open(&to).unwrap();
    copy.read_exact_at(&mut found, (900 << 30) + 12_345)
        .unwrap();
    assert_eq!(found, [7; 5000]);
}

#[test]
fn comparison_sends_only_what_differs() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 5);
    std::fs::copy(&from, &to).unwrap();
    let disk = File::options().write(true).open(&to).unwrap();
    disk.write_all_at(b"differs", 10 << 20).unwrap();
    disk.write_all_at(b"differs", 50 << 20).unwrap();
    lab.pair(SIZE, file(&from), file(&to));
    lab.start("compare");
    let vdisk = lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    let sent = &vdisk["sent"];
    let [raw, zero, skipped] =
        ["raw_bytes", "zero_bytes", "skipped_bytes"].map(|name| sent[name].as_u64().unwrap());
    assert_eq!(raw + zero + skipped, SIZE, "{sent}");
    assert!(0 < raw + zero && raw + zero <= 1 << 20, "{sent}");
}

const CHUNK: u64 = 512 << 10;
const BLOCK: u64 = 64 << 10;

/// Random content, and a copy of it in which a block of so many chunks is different; where.
fn altered(from: &Path, to: &Path, chunks: u64, altered: u64) -> Vec<u64> {
    let mut dice = Dice::new(chunks);
    let mut content = dice.bytes((chunks * CHUNK) as usize);
    std::fs::write(from, &content).unwrap();
    let mut places = Vec::new();
    for index in 0..altered {
        let chunk = index * chunks / altered;
        let place = chunk * CHUNK + dice.roll(7) * BLOCK;
        content[place as usize..][..BLOCK as usize].copy_from_slice(&dice.bytes(BLOCK as usize));
        places.push(place);
    }
    std::fs::write(to, content).unwrap();
    places
}

#[test]
fn comparison_sends_only_the_blocks_that_differ() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    altered(&from, &to, 128, 40);
    lab.pair(128 * CHUNK, file(&from), file(&to));
    lab.start("compare");
    let vdisk = lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    let sent = &vdisk["sent"];
    assert_eq!(sent["raw_bytes"].as_u64(), Some(40 * BLOCK), "{sent}");
    let wire = sent["wire_bytes"].as_u64().unwrap();
    assert!(wire < 40 * BLOCK * 101 / 100, "{sent}");
    assert_eq!(sent["resent_bytes"], 0);
    // What was patched is as well known as what was sent whole.
    let vdisk = lab.verify("all", false);
    assert_eq!(vdisk["verify"]["differing_chunks"], 0);
}

#[test]
fn a_destination_altered_during_the_comparison_becomes_equal_all_the_same() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    let mut places = altered(&from, &to, 32, 32);
    lab.pair(32 * CHUNK, file(&from), file(&to));
    // One piece passes, the others wait: they are made for what is at the destination now.
    let pacing = |rate| json!({ "background": rate, "link": null });
    lab.source.ok("PUT", "/v1/pacing", pacing(json!(1)));
    lab.start("compare");
    let (source, destination) = (
        File::open(&from).unwrap(),
        File::options().read(true).write(true).open(&to).unwrap(),
    );
    let block_of = |file: &File, place| {
        let mut block = [0; 512];
        file.read_exact_at(&mut block, place).unwrap();
        block
    };
    let landed = until("the first patch", || {
        places
            .iter()
            .position(|place| block_of(&source, *place) == block_of(&destination, *place))
    });
    places.remove(landed);
    for place in places {
        let last_block = place - place % CHUNK + 7 * BLOCK;
        destination.write_all_at(b"altered", last_block).unwrap();
    }
    lab.source.ok("PUT", "/v1/pacing", pacing(Value::Null));
    let vdisk = lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    assert!(
        vdisk["sent"]["resent_bytes"].as_u64().unwrap() > 0,
        "{vdisk}"
    );
}

#[test]
fn verification_finds_names_and_repairs_damage() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 6);
    lab.pair(SIZE, file(&from), file(&to));
    lab.copy_and_verify();
    let disk = File::options().write(true).read(true).open(&to).unwrap();
    let mut byte = [0];
    disk.read_exact_at(&mut byte, 20 << 20).unwrap();
    disk.write_all_at(&[byte[0] ^ 1], 20 << 20).unwrap();
    let vdisk = lab.verify("all", true);
    assert_eq!(vdisk["verify"]["differing_offsets"], json!([20 << 20]));
    lab.wait_clean();
    let vdisk = lab.verify("remaining", true);
    assert_eq!(
        vdisk["verify"]["total_bytes"],
        512 << 10,
        "only the repaired chunk"
    );
    assert_eq!(vdisk["verify"]["differing_chunks"], 0);
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn pacing_holds_and_can_be_lifted() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    std::fs::write(&from, lab::images::Dice::new(9).bytes(32 << 20)).unwrap();
    lab.pair(32 << 20, file(&from), file(&to));
    let rate = json!({ "background": 4 << 20, "link": null });
    lab.source.ok("PUT", "/v1/pacing", rate);
    let began = std::time::Instant::now();
    lab.start("copy");
    until("a few megabytes", || {
        let wire = lab.source.vdisk()["sent"]["wire_bytes"].as_u64()?;
        (wire > 8 << 20).then_some(())
    });
    assert!(began.elapsed().as_secs_f64() > 1.0, "{:?}", began.elapsed());
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": null }),
    );
    lab.wait_clean();
    assert!(began.elapsed().as_secs_f64() < 7.0, "{:?}", began.elapsed());
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}
