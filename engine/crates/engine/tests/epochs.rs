//! Foreground replication against a live storage daemon whose guest keeps writing.

mod lab;

use lab::images::{Dice, empty_qcow2, run, text};
use lab::proxy::Proxy;
use lab::qmp::StorageDaemon;
use lab::{Lab, file, nbd, until};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

const SIZE: u64 = 128 << 20;

/// Random writes, zeros and discards of a guest over its own export.
fn write_some(uri: &str, dice: &mut Dice) {
    let mut arguments = vec!["-f".to_owned(), "raw".to_owned()];
    for _ in 0..25 {
        let length = [512, 4096, 65_536, 1 << 20][dice.roll(4) as usize];
        let offset = dice.roll((SIZE - length) / 512) * 512;
        let verb = match dice.roll(10) {
            0 => "write -z".to_owned(),
            1 => "discard".to_owned(),
            _ => format!("write -P {}", 1 + dice.roll(254)),
        };
        arguments.extend(["-c".to_owned(), format!("{verb} {offset} {length}")]);
    }
    arguments.push(uri.to_owned());
    run(
        "qemu-io",
        &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

struct Guest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Guest {
    fn start(uri: String, seed: u64) -> Guest {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut dice = Dice::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                write_some(&uri, &mut dice);
            }
        });
        Guest { stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// A lab with a storage daemon that has been written to; the first bitmap runs.
fn lab(seed: u64) -> (Lab, StorageDaemon) {
    let lab = Lab::new();
    let image = lab.path("vm.qcow2");
    empty_qcow2(&image, SIZE);
    let mut daemon = StorageDaemon::start(lab.folder.path(), &image);
    let mut dice = Dice::new(seed);
    (0..4).for_each(|_| write_some(&daemon.uri("guest"), &mut dice));
    daemon.add_bitmap(0);
    (lab, daemon)
}

fn send_epoch(lab: &Lab, daemon: &StorageDaemon, number: u64, export: &str) {
    let endpoint = nbd(&daemon.socket, export);
    let body =
        json!({ "epoch": number, "endpoint": endpoint, "bitmap": format!("drover-{number}") });
    lab.source.ok("POST", "/v1/vdisks/vda/epochs", body);
}

fn wait_acknowledged(lab: &Lab, number: u64) {
    until("the acknowledgement of an epoch", || {
        let epoch = lab.source.vdisk()["epoch"].clone();
        assert_eq!(epoch["number"], number);
        assert_ne!(epoch["state"], "failed", "{epoch}");
        (epoch["state"] == "acknowledged").then_some(())
    });
}

fn whole_epoch(lab: &Lab, daemon: &mut StorageDaemon, number: u64) {
    let export = daemon.seal(number);
    send_epoch(lab, daemon, number, &export);
    wait_acknowledged(lab, number);
    daemon.release(number);
}

/// The guest has stopped: the last epoch, then both disks must be the same.
fn finish(lab: &Lab, daemon: &mut StorageDaemon, last: u64) {
    whole_epoch(lab, daemon, last);
    lab.wait_clean();
    let vdisk = lab.verify("remaining", false);
    assert_eq!(vdisk["verify"]["differing_chunks"], 0, "{vdisk}");
    let to = lab.path("to.img");
    run(
        "qemu-img",
        &[
            "compare",
            "-f",
            "raw",
            "-F",
            "raw",
            &daemon.uri("vda"),
            text(&to),
        ],
    );
}

#[test]
fn epochs_follow_a_busy_guest_while_background_runs() {
    let (lab, mut daemon) = lab(31);
    lab.pair(SIZE, nbd(&daemon.socket, "vda"), file(&lab.path("to.img")));
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": 8 << 20, "link": null }),
    );
    let guest = Guest::start(daemon.uri("guest"), 32);
    lab.start("copy");
    for number in 0..8 {
        whole_epoch(&lab, &mut daemon, number);
    }
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": null }),
    );
    for number in 8..12 {
        whole_epoch(&lab, &mut daemon, number);
    }
    guest.stop();
    finish(&lab, &mut daemon, 12);
    assert!(
        lab.source.vdisk()["sent"]["foreground_bytes"]
            .as_u64()
            .unwrap()
            > 0
    );
}

#[test]
fn epochs_survive_a_link_that_is_cut_again_and_again() {
    let (lab, mut daemon) = lab(33);
    let proxy = Proxy::to(&lab.address);
    lab.pair(SIZE, nbd(&daemon.socket, "vda"), file(&lab.path("to.img")));
    lab.connect(&proxy.address, 1);
    let guest = Guest::start(daemon.uri("guest"), 34);
    lab.start("copy");
    for number in 0..6 {
        let export = daemon.seal(number);
        send_epoch(&lab, &daemon, number, &export);
        proxy.cut();
        wait_acknowledged(&lab, number);
        daemon.release(number);
    }
    guest.stop();
    finish(&lab, &mut daemon, 6);
}

#[test]
fn a_killed_destination_gets_the_epoch_again() {
    let (mut lab, mut daemon) = lab(35);
    let to = lab.path("to.img");
    lab.pair(SIZE, nbd(&daemon.socket, "vda"), file(&to));
    lab.start("copy");
    lab.wait_clean();
    let guest = Guest::start(daemon.uri("guest"), 36);
    for number in 0..4 {
        let export = daemon.seal(number);
        send_epoch(&lab, &daemon, number, &export);
        lab.destination.kill_and_restart();
        lab.listen(1);
        lab.destination.put_vdisk(SIZE, file(&to));
        wait_acknowledged(&lab, number);
        daemon.release(number);
    }
    guest.stop();
    finish(&lab, &mut daemon, 4);
}

#[test]
fn a_killed_source_loses_nothing_because_the_bitmap_is_merged_back() {
    let (mut lab, mut daemon) = lab(37);
    let to = lab.path("to.img");
    lab.pair(SIZE, nbd(&daemon.socket, "vda"), file(&to));
    lab.start("copy");
    let guest = Guest::start(daemon.uri("guest"), 38);
    for number in 0..4 {
        let export = daemon.seal(number);
        send_epoch(&lab, &daemon, number, &export);
        lab.source.kill_and_restart();
        daemon.merge_back(number);
        lab.connect(&lab.address, 1);
        lab.source.put_vdisk(SIZE, nbd(&daemon.socket, "vda"));
        lab.start("copy");
    }
    guest.stop();
    finish(&lab, &mut daemon, 4);
}

#[test]
fn epochs_keep_their_rules() {
    let (lab, mut daemon) = lab(39);
    lab.pair(SIZE, nbd(&daemon.socket, "vda"), file(&lab.path("to.img")));
    let request = |number: u64, bitmap: &str| json!({ "epoch": number, "endpoint": nbd(&daemon.socket, "vda"), "bitmap": bitmap });
    lab.source
        .ok("POST", "/v1/vdisks/vda/epochs", request(0, "missing"));
    until("the failure", || {
        (lab.source.vdisk()["epoch"]["state"] == "failed").then_some(())
    });
    let error = lab.source.vdisk()["epoch"]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("missing"), "{error}");
    let file = json!({ "epoch": 0, "endpoint": file(&lab.path("to.img")), "bitmap": "x" });
    assert_eq!(
        lab.source.refused("POST", "/v1/vdisks/vda/epochs", file).0,
        400
    );
    // Held open by pacing: another number is refused, the same is a no-op.
    lab.start("copy");
    lab.wait_clean();
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": 1000 }),
    );
    run(
        "qemu-io",
        &[
            "-f",
            "raw",
            "-c",
            "write -P 3 0 1M",
            "-c",
            "write -P 9 9M 9M",
            &daemon.uri("guest"),
        ],
    );
    let export = daemon.seal(0);
    send_epoch(&lab, &daemon, 0, &export);
    send_epoch(&lab, &daemon, 0, &export);
    assert_eq!(
        lab.source.refused(
            "POST",
            "/v1/vdisks/vda/epochs",
            json!({ "epoch": 1, "endpoint": nbd(&daemon.socket, &export), "bitmap": "x" })
        ),
        (409, "epoch_open".into())
    );
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": null }),
    );
    wait_acknowledged(&lab, 0);
}
