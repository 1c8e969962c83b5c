//! Two VDISKs on one link, and a link whose connections change while it is in use.

mod lab;

use lab::images::{assert_same, mixed, text};
use lab::nbd_servers::NbdServer;
use lab::{Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;

const SIZE: u64 = 64 << 20;
const SLOW_SIZE: u64 = 256 << 20;

fn put(lab: &Lab, name: &str, size: u64, source: Value, destination: Value) {
    let path = format!("/v1/vdisks/{name}");
    let body = |endpoint| json!({ "size": size, "endpoint": endpoint });
    lab.destination.ok("PUT", &path, body(destination));
    lab.source.ok("PUT", &path, body(source));
}

fn vdisk(lab: &Lab, name: &str) -> Value {
    lab.source.status()["vdisks"][name].clone()
}

fn start(lab: &Lab, name: &str) {
    let path = format!("/v1/vdisks/{name}/background");
    lab.source.ok("POST", &path, json!({ "mode": "copy" }));
}

fn wait_clean(lab: &Lab, name: &str) {
    until("a clean VDISK", || {
        let vdisk = vdisk(lab, name);
        assert_ne!(vdisk["state"], "held", "{vdisk}");
        (vdisk["state"] == "clean").then_some(())
    });
}

/// An image behind nbdkit with a delay in front.
fn delayed(image: &Path, delay: &str, socket: &Path) -> NbdServer {
    NbdServer::nbdkit(&["--filter=delay", "file", text(image), delay], socket)
}

#[test]
fn a_slow_destination_disk_holds_up_its_own_vdisk_only() {
    let lab = Lab::new();
    let images = ["slow.from", "slow.to", "quick.from", "quick.to"].map(|name| lab.path(name));
    let [slow_from, slow_to, quick_from, quick_to] = &images;
    mixed(slow_from, SLOW_SIZE, 31);
    mixed(quick_from, SIZE, 32);
    File::create(slow_to).unwrap().set_len(SLOW_SIZE).unwrap();
    let server = delayed(slow_to, "wdelay=5", &lab.path("slow.sock"));
    lab.connect(&lab.address, 1);
    put(
        &lab,
        "slow",
        SLOW_SIZE,
        file(slow_from),
        nbd(&server.socket, ""),
    );
    put(&lab, "quick", SIZE, file(quick_from), file(quick_to));
    start(&lab, "slow");
    // It is given time to fill whatever it can fill.
    until("a window full", || {
        (vdisk(&lab, "slow")["sent"]["raw_bytes"].as_u64()? > 32 << 20).then_some(())
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    start(&lab, "quick");
    wait_clean(&lab, "quick");
    let left = vdisk(&lab, "slow")["background"]["left_bytes"].clone();
    assert!(left.as_u64().unwrap() > SLOW_SIZE / 4, "{left} left");
    assert_same(("raw", text(quick_from)), ("raw", text(quick_to)));
}

#[test]
fn a_slow_source_disk_holds_up_its_own_vdisk_only() {
    let lab = Lab::new();
    let images = ["slow.from", "slow.to", "quick.from", "quick.to"].map(|name| lab.path(name));
    let [slow_from, slow_to, quick_from, quick_to] = &images;
    mixed(slow_from, SLOW_SIZE, 33);
    mixed(quick_from, SIZE, 34);
    let server = delayed(slow_from, "rdelay=60", &lab.path("slow.sock"));
    lab.connect(&lab.address, 1);
    put(
        &lab,
        "slow",
        SLOW_SIZE,
        nbd(&server.socket, ""),
        file(slow_to),
    );
    put(&lab, "quick", SIZE, file(quick_from), file(quick_to));
    start(&lab, "slow");
    std::thread::sleep(std::time::Duration::from_secs(1));
    start(&lab, "quick");
    // Long before the first read of the slow one comes back.
    wait_clean(&lab, "quick");
    assert_eq!(vdisk(&lab, "slow")["sent"]["raw_bytes"], 0);
    assert_same(("raw", text(quick_from)), ("raw", text(quick_to)));
}

#[test]
fn connections_are_added_and_taken_away_over_the_api() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 35);
    let patch = |connections: u16| json!({ "connections": connections });
    lab.connect(&lab.address, 1);
    put(&lab, "vda", SIZE, file(&from), file(&to));
    start(&lab, "vda");
    for wanted in [8u16, 2] {
        lab.source.ok("PATCH", "/v1/link", patch(wanted));
        until("the wanted connections at both ends", || {
            let at = |engine: &lab::Engine| engine.status()["link"]["connections"].clone();
            (at(&lab.source) == wanted && at(&lab.destination) == wanted).then_some(())
        });
    }
    let link = lab.source.status()["link"].clone();
    assert_eq!(
        (&link["reconnects"], &link["lost_connections"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(link["wanted_connections"], 2);
    for (index, connection) in link["each_connection"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        assert_eq!(connection["index"], index);
        assert_eq!(connection["state"], "up");
        assert!(connection["sent_bytes"].as_u64().unwrap() > 0);
    }
    for connections in [0, 65] {
        let refused = lab.source.refused("PATCH", "/v1/link", patch(connections));
        assert_eq!(refused, (400, "invalid_request".into()));
    }
    assert_eq!(
        lab.destination.refused("PATCH", "/v1/link", patch(3)),
        (409, "wrong_role".into())
    );
    wait_clean(&lab, "vda");
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}
