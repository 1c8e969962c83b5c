//! What stops a VDISK or a session, how it is named, and how it goes on.

mod lab;

use lab::images::{Dice, assert_same, mixed, text};
use lab::nbd_servers::NbdServer;
use lab::{Authority, Lab, file, nbd, until};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::net::TcpStream;

const SIZE: u64 = 64 << 20;

/// Waits until the link is down for a reason that names `what`.
fn wait_down(lab: &Lab, what: &str) {
    until(&format!("a link that is down because of {what}"), || {
        let link = lab.source.status()["link"].clone();
        let reason = link["reason"].as_str().unwrap_or_default();
        (link["state"] == "down" && reason.contains(what)).then_some(())
    });
}

#[test]
fn a_full_destination_is_named_and_retry_goes_on() {
    let lab = Lab::new();
    let (from, to, trigger) = (
        lab.path("from.img"),
        lab.path("to.img"),
        lab.path("trigger"),
    );
    mixed(&from, SIZE, 22);
    File::create(&to).unwrap().set_len(SIZE).unwrap();
    File::create(&trigger).unwrap();
    let error_file = format!("error-file={}", trigger.display());
    let arguments = [
        "--filter=error",
        "file",
        text(&to),
        "error-pwrite=ENOSPC",
        "error-pwrite-rate=20%",
        &error_file,
    ];
    let server = NbdServer::nbdkit(&arguments, &lab.path("nbd.sock"));
    lab.pair(SIZE, file(&from), nbd(&server.socket, ""));
    lab.start("copy");
    assert_eq!(lab.source.wait_held()["code"], "no_space");
    assert_eq!(lab.destination.wait_held()["code"], "no_space");
    std::fs::remove_file(&trigger).unwrap();
    lab.source.ok("POST", "/v1/vdisks/vda/retry", json!({}));
    lab.copy_and_verify();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn retry_at_the_destination_goes_on_too() {
    let lab = Lab::new();
    let (from, to, trigger) = (
        lab.path("from.img"),
        lab.path("to.img"),
        lab.path("trigger"),
    );
    mixed(&from, SIZE, 23);
    File::create(&to).unwrap().set_len(SIZE).unwrap();
    File::create(&trigger).unwrap();
    let error_file = format!("error-file={}", trigger.display());
    let arguments = [
        "--filter=error",
        "file",
        text(&to),
        "error-pwrite=EIO",
        "error-pwrite-rate=20%",
        &error_file,
    ];
    let server = NbdServer::nbdkit(&arguments, &lab.path("nbd.sock"));
    lab.pair(SIZE, file(&from), nbd(&server.socket, ""));
    lab.start("copy");
    assert_eq!(lab.source.wait_held()["code"], "write_error");
    std::fs::remove_file(&trigger).unwrap();
    lab.destination
        .ok("POST", "/v1/vdisks/vda/retry", json!({}));
    until("the source to go on", || {
        (lab.source.vdisk()["state"] != "held").then_some(())
    });
    lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn a_dead_hypervisor_is_no_crash() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 24);
    let mut server = NbdServer::qemu(&from, "raw", &lab.path("nbd.sock"));
    lab.pair(SIZE, nbd(&server.socket, ""), file(&to));
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": 10 << 20, "link": null }),
    );
    lab.start("copy");
    until("some data", || {
        (lab.source.vdisk()["sent"]["raw_bytes"].as_u64()? > 1 << 20).then_some(())
    });
    server.kill();
    let error = lab.source.wait_held();
    assert_eq!(error["code"], "endpoint_gone", "{error}");
    assert_eq!(lab.source.status()["link"]["state"], "up");
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": null }),
    );
    let server = NbdServer::qemu(&from, "raw", &lab.path("nbd-2.sock"));
    lab.source.put_vdisk(SIZE, nbd(&server.socket, ""));
    lab.start("compare");
    lab.wait_clean();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn a_vdisk_unknown_to_the_destination_waits_for_it() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 25);
    lab.connect(&lab.address, 1);
    lab.source.put_vdisk(SIZE, file(&from));
    lab.start("copy");
    assert_eq!(lab.source.wait_held()["code"], "unknown_vdisk");
    lab.destination.put_vdisk(SIZE, file(&to));
    until("a clean VDISK", || {
        (lab.source.vdisk()["state"] == "clean").then_some(())
    });
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}

#[test]
fn sizes_must_agree() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 26);
    let wrong = json!({ "size": SIZE + 512, "endpoint": file(&from) });
    lab.connect(&lab.address, 1);
    assert_eq!(
        lab.source.refused("PUT", "/v1/vdisks/vda", wrong),
        (409, "size_mismatch".into())
    );
    lab.destination.put_vdisk(SIZE * 2, file(&to));
    lab.source.put_vdisk(SIZE, file(&from));
    lab.start("copy");
    assert_eq!(lab.source.wait_held()["code"], "size_mismatch");
}

#[test]
fn strangers_stay_outside() {
    let lab = Lab::new();
    let address = json!(lab.address);
    let connect = |mut link: Value| {
        link["connect"] = address.clone();
        link["token"] = json!(1);
        lab.source.ok("PUT", "/v1/link", link);
        wait_down(&lab, "");
    };
    connect(Authority::new().link("source"));
    wait_down(&lab, "certificate");
    // The right authority, but the destination's name: it must not act as a source.
    connect(lab.authority.link_as("source", "destination.drover"));
    assert_eq!(lab.destination.status()["link"]["state"], "listening");
    let log = std::fs::read_to_string(&lab.destination.log).unwrap();
    assert!(log.contains("does not name source.drover"), "{log}");
    for secret in ["PRIVATE KEY", "BEGIN CERTIFICATE"] {
        assert!(!log.contains(secret));
    }
}

#[test]
fn noise_at_the_port_does_no_harm() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 28);
    let call = || TcpStream::connect(&lab.address).unwrap();
    let silent: Vec<_> = (0..200).map(|_| call()).collect();
    let mut dice = Dice::new(28);
    for _ in 0..50 {
        let length = 1 + dice.roll(5000) as usize;
        // The engine may hang up at the first byte.
        let _ = call().write_all(&dice.bytes(length));
    }
    lab.pair(SIZE, file(&from), file(&to));
    lab.copy_and_verify();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    drop(silent);
}

#[test]
fn an_older_token_is_refused() {
    let mut lab = Lab::new();
    lab.connect(&lab.address, 5);
    until("the link", || {
        (lab.source.status()["link"]["state"] == "up").then_some(())
    });
    lab.connect(&lab.address, 4);
    wait_down(&lab, "TokenTooLow");
    lab.destination.kill_and_restart();
    let mut link = lab.authority.link("destination");
    link["listen"] = json!(lab.address);
    link["token"] = json!(4);
    assert_eq!(
        lab.destination.refused("PUT", "/v1/link", link).1,
        "token_refused"
    );
}

#[test]
fn after_the_fence_nothing_is_written() {
    let mut lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 27);
    lab.pair(SIZE, file(&from), file(&to));
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": 20 << 20, "link": null }),
    );
    lab.start("copy");
    until("some data", || {
        (lab.source.vdisk()["sent"]["raw_bytes"].as_u64()? > 4 << 20).then_some(())
    });
    lab.destination
        .ok("POST", "/v1/fence", json!({ "token": 1 }));
    let fenced = std::fs::read(&to).unwrap();
    assert_eq!(lab.destination.vdisk()["state"], "fenced");
    wait_down(&lab, "Fenced");
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(
        fenced == std::fs::read(&to).unwrap(),
        "written after the fence"
    );
    // Also after a restart, until a newer token comes.
    lab.destination.kill_and_restart();
    let mut link = lab.authority.link("destination");
    link["listen"] = json!(lab.address);
    link["token"] = json!(1);
    assert_eq!(
        lab.destination.refused("PUT", "/v1/link", link).1,
        "token_refused"
    );
    lab.listen(2);
    lab.destination.put_vdisk(SIZE, file(&to));
    lab.connect(&lab.address, 2);
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": null, "link": null }),
    );
    lab.copy_and_verify();
    assert_same(("raw", text(&from)), ("raw", text(&to)));
}
