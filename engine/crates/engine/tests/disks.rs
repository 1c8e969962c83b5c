//! Disks that are full, slow, lie about a flush, or are pulled away under the engines.

mod lab;

use lab::images::{Dice, assert_same, mixed, run, text};
use lab::nbd_servers::NbdServer;
use lab::{Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIZE: u64 = 64 << 20;

/// A file system in memory with a limit; needs root.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, bytes: u64) -> SmallDisk {
        std::fs::create_dir_all(&at).unwrap();
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &format!("size={bytes}"),
                "drover-test",
                text(&at),
            ],
        );
        SmallDisk(at)
    }

    fn resize(&self, bytes: u64) {
        run(
            "mount",
            &["-o", &format!("remount,size={bytes}"), text(&self.0)],
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // The engine may still hold files in it.
        run("umount", &["--lazy", text(&self.0)]);
    }
}

fn pace(lab: &Lab, background: Option<u64>) {
    let body = json!({ "background": background, "link": null });
    lab.source.ok("PUT", "/v1/pacing", body);
}

fn retry(lab: &Lab) {
    lab.source.ok("POST", "/v1/vdisks/vda/retry", json!({}));
}

/// A slow copy from file to file of which something is stable already.
fn copying(seed: u64) -> (Lab, PathBuf, PathBuf) {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    std::fs::write(&from, Dice::new(seed).bytes(SIZE as usize)).unwrap();
    lab.pair(SIZE, file(&from), file(&to));
    pace(&lab, Some(10 << 20));
    lab.start("copy");
    until("stable chunks", || (stable(&lab) > 4).then_some(()));
    (lab, from, to)
}

fn stable(lab: &Lab) -> u64 {
    lab.destination.vdisk()["stable_chunks"].as_u64().unwrap()
}

fn left(lab: &Lab) -> u64 {
    lab.source.vdisk()["background"]["left_bytes"]
        .as_u64()
        .unwrap()
}

/// Held with this code, and nothing is acknowledged from then on.
fn assert_held(lab: &Lab, code: &str, words: &str) -> Value {
    let error = lab.source.wait_held();
    assert_eq!(error["code"], code, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(words),
        "{error}"
    );
    let before = left(lab);
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(left(lab), before, "acknowledged while held");
    error
}

fn finish(lab: &Lab, from: &Path, to: &Path) {
    pace(lab, None);
    retry(lab);
    lab.copy_and_verify();
    assert_same(("raw", text(from)), ("raw", text(to)));
}

#[test]
fn a_full_file_system_holds_and_more_room_cures_it() {
    let lab = Lab::new();
    let disk = SmallDisk::mount(lab.path("small"), 12 << 20);
    let (from, to) = (lab.path("from.img"), lab.path("small/to.img"));
    std::fs::write(&from, Dice::new(41).bytes(SIZE as usize)).unwrap();
    lab.pair(SIZE, file(&from), file(&to));
    lab.start("copy");
    assert_held(&lab, "no_space", "to.img");
    assert_eq!(lab.destination.vdisk()["error"]["code"], "no_space");
    disk.resize(2 * SIZE);
    finish(&lab, &from, &to);
    drop(lab);
}

#[test]
fn a_journal_without_room_holds_and_names_the_journal() {
    let lab = Lab::new();
    let disk = SmallDisk::mount(lab.destination.state.clone(), 1 << 20);
    let filler = lab.destination.state.join("filler");
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    // Most chunks are holes, so that few claims join and they need several pages.
    let (chunk, chunks) = (512 << 10, 8000);
    let disk_image = File::create(&from).unwrap();
    disk_image.set_len(chunks * chunk).unwrap();
    let mut dice = Dice::new(42);
    for index in (0..chunks).step_by(8) {
        let data = dice.bytes(4096);
        disk_image.write_all_at(&data, index * chunk).unwrap();
    }
    lab.pair(chunks * chunk, file(&from), file(&to));
    // To the last page; the journal has one of its own.
    let _ = std::fs::write(&filler, vec![1; 2 << 20]);
    pace(&lab, Some(1 << 20));
    lab.start("copy");
    assert_held(&lab, "no_space", "journal");
    std::fs::remove_file(&filler).unwrap();
    finish(&lab, &from, &to);
    drop((lab, disk));
}

#[test]
fn a_failed_flush_is_a_lost_write() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    std::fs::write(&from, Dice::new(43).bytes(SIZE as usize)).unwrap();
    File::create(&to).unwrap().set_len(SIZE).unwrap();
    let rules = "file.inject-error.0.event=flush_to_disk,file.inject-error.0.iotype=flush,\
                 file.inject-error.0.errno=5,file.inject-error.0.once=on";
    let server = NbdServer::blkdebug(&to, rules, &lab.path("nbd.sock"));
    lab.pair(SIZE, file(&from), nbd(&server.socket, ""));
    lab.start("copy");
    assert_held(&lab, "write_error", "flushing");
    assert_eq!(stable(&lab), 0);
    retry(&lab);
    let vdisk = lab.copy_and_verify();
    // What had been written before the flush that failed went a second time.
    assert!(
        vdisk["sent"]["raw_bytes"].as_u64().unwrap() > SIZE,
        "{vdisk}"
    );
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn a_deleted_destination_is_noticed_before_anything_more_is_acknowledged() {
    let (lab, from, to) = copying(44);
    std::fs::remove_file(&to).unwrap();
    assert_held(&lab, "endpoint_gone", "was deleted");
    // With the file all that was in it is gone; retry makes a new one and sends everything.
    finish(&lab, &from, &to);
}

#[test]
fn a_replaced_destination_is_noticed() {
    let (lab, from, to) = copying(45);
    let other = lab.path("other.img");
    File::create(&other).unwrap().set_len(SIZE).unwrap();
    std::fs::hard_link(&to, lab.path("kept.img")).unwrap();
    std::fs::rename(&other, &to).unwrap();
    assert_held(&lab, "endpoint_gone", "replaced");
    finish(&lab, &from, &to);
}

#[test]
fn a_destination_that_was_moved_away_and_back_keeps_what_it_had() {
    let (lab, from, to) = copying(46);
    let away = lab.path("away.img");
    std::fs::rename(&to, &away).unwrap();
    assert_held(&lab, "endpoint_gone", "is not where it was opened");
    let stable = stable(&lab);
    std::fs::rename(&away, &to).unwrap();
    finish(&lab, &from, &to);
    let sent = lab.source.vdisk()["sent"]["raw_bytes"].as_u64().unwrap();
    assert!(
        sent < 2 * SIZE - stable * (512 << 10),
        "everything was sent again: {sent}"
    );
}

#[test]
fn a_cut_destination_is_noticed_and_its_journal_not_believed() {
    let (lab, from, to) = copying(47);
    let image = OpenOptions::new().write(true).open(&to).unwrap();
    image.set_len(0).unwrap();
    assert_held(&lab, "size_mismatch", "resized");
    image.set_len(SIZE).unwrap();
    pace(&lab, None);
    retry(&lab);
    lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn a_cut_source_is_held() {
    let (lab, from, to) = copying(48);
    let content = std::fs::read(&from).unwrap();
    OpenOptions::new()
        .write(true)
        .open(&from)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let error = lab.source.wait_held();
    assert_eq!(error["code"], "size_mismatch", "{error}");
    std::fs::write(&from, content).unwrap();
    finish(&lab, &from, &to);
}

#[test]
fn a_replaced_source_is_held_before_it_is_called_verified() {
    let (lab, from, to) = copying(49);
    pace(&lab, None);
    lab.wait_clean();
    let other = lab.path("other.img");
    mixed(&other, SIZE, 50);
    std::fs::rename(&other, &from).unwrap();
    let verify = json!({ "scope": "all", "repair": true });
    lab.source.ok("POST", "/v1/vdisks/vda/verify", verify);
    assert_held(&lab, "endpoint_gone", "replaced");
    finish(&lab, &from, &to);
}

#[test]
fn a_disk_that_stands_still_is_waited_for_and_named() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    let size = 5 * SIZE;
    std::fs::write(&from, Dice::new(51).bytes(size as usize)).unwrap();
    File::create(&to).unwrap().set_len(size).unwrap();
    let server = NbdServer::nbdkit(&["file", text(&to)], &lab.path("nbd.sock"));
    lab.pair(size, file(&from), nbd(&server.socket, ""));
    server.signal("STOP");
    lab.start("copy");
    let vdisk = until("the destination's disk to be named", || {
        let vdisk = lab.destination.vdisk();
        let named = vdisk["limited_by"] == "destination";
        // Longer than a silent peer is waited for.
        (named && vdisk["disk"]["waiting_seconds"].as_f64()? > 13.0).then_some(vdisk)
    });
    assert_eq!(vdisk["state"], "receiving", "{vdisk}");
    assert_eq!(lab.source.vdisk()["limited_by"], "link");
    server.signal("CONT");
    lab.copy_and_verify();
    assert_eq!(lab.source.status()["link"]["reconnects"], 0);
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn what_limits_is_named() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    std::fs::write(&from, Dice::new(52).bytes(SIZE as usize)).unwrap();
    let slow = ["--filter=delay", "file", text(&from), "rdelay=2"];
    let server = NbdServer::nbdkit(&slow, &lab.path("nbd.sock"));
    lab.pair(SIZE, nbd(&server.socket, ""), file(&to));
    lab.start("copy");
    let limited = |what: &str| {
        until(what, || {
            (lab.source.vdisk()["limited_by"] == what).then_some(())
        });
    };
    limited("source");
    assert!(lab.source.vdisk()["disk"]["waiting"].as_u64().unwrap() > 0);
    pace(&lab, Some(1 << 20));
    lab.source.put_vdisk(SIZE, file(&from));
    limited("pacing");
    pace(&lab, None);
    lab.wait_clean();
    assert_eq!(lab.source.vdisk()["limited_by"], Value::Null);
}
