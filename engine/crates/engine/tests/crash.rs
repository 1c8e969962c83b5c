//! kill -9 of either engine, cut, stalled and garbled links: it goes on by itself, nothing that was
//! stable travels again, and the result is right.

mod lab;

use lab::images::{Dice, assert_same, mixed, text};
use lab::proxy::Proxy;
use lab::{Lab, file, until};
use serde_json::{Value, json};
use std::time::Duration;

const SIZE: u64 = 128 << 20;

/// A copy in progress, slow enough to be interrupted, made stable every now and then.
fn copying(seed: u64) -> (Lab, String, String) {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, seed);
    lab.pair(SIZE, file(&from), file(&to));
    pace(&lab, Some(25 << 20));
    lab.start("copy");
    (lab, text(&from).to_owned(), text(&to).to_owned())
}

fn pace(lab: &Lab, background: Option<u64>) {
    lab.source.ok(
        "PUT",
        "/v1/pacing",
        json!({ "background": background, "link": null }),
    );
}

fn finish(lab: &Lab, from: &str, to: &str) -> Value {
    pace(lab, None);
    lab.wait_clean();
    assert_same(("raw", from), ("raw", to));
    lab.source.vdisk()["sent"].clone()
}

fn stable_chunks(lab: &Lab) -> u64 {
    lab.destination.vdisk()["stable_chunks"].as_u64().unwrap()
}

#[test]
fn a_killed_destination_costs_only_what_was_not_stable() {
    let (mut lab, from, to) = copying(11);
    let mut dice = Dice::new(11);
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(300 + dice.roll(900)));
        lab.destination.kill_and_restart();
        lab.listen(1);
        lab.destination.put_vdisk(SIZE, file(to.as_ref()));
    }
    let sent = finish(&lab, &from, &to);
    assert!(
        sent["resent_bytes"].as_u64().unwrap() > 0,
        "nothing was interrupted: {sent}"
    );
    let chunks = lab.path("from.img").metadata().unwrap().len();
    let travelled = sent["raw_bytes"].as_u64().unwrap() + sent["zero_bytes"].as_u64().unwrap();
    assert!(
        travelled <= chunks + sent["resent_bytes"].as_u64().unwrap() + (8 << 20),
        "{sent}"
    );
}

#[test]
fn a_killed_source_sends_only_what_the_journal_lacks() {
    let (mut lab, from, to) = copying(12);
    until("some stable data", || {
        (stable_chunks(&lab) > 100).then_some(())
    });
    lab.source.kill_and_restart();
    lab.connect(&lab.address, 1);
    // What had arrived is made stable when the session ends.
    until("the new session", || {
        (lab.source.status()["link"]["state"] == "up").then_some(())
    });
    let stable = stable_chunks(&lab);
    lab.source.put_vdisk(SIZE, file(from.as_ref()));
    lab.start("copy");
    let sent = finish(&lab, &from, &to);
    let travelled = sent["raw_bytes"].as_u64().unwrap() + sent["zero_bytes"].as_u64().unwrap();
    assert_eq!(travelled, SIZE - stable * (512 << 10), "{sent}");
}

#[test]
fn a_cut_link_comes_back_by_itself() {
    let (lab, from, to) = copying(13);
    let proxy = Proxy::to(&lab.address);
    lab.connect(&proxy.address, 1);
    let mut dice = Dice::new(13);
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(200 + dice.roll(500)));
        proxy.cut();
        until("a reason", || {
            let link = lab.source.status()["link"].clone();
            (link["state"] == "up" || link["reason"].is_string()).then_some(())
        });
    }
    finish(&lab, &from, &to);
    assert!(lab.source.status()["link"]["reconnects"].as_u64().unwrap() >= 3);
}

#[test]
fn a_silent_link_is_noticed_and_replaced() {
    let (lab, from, to) = copying(14);
    let proxy = Proxy::to(&lab.address);
    lab.connect(&proxy.address, 1);
    until("traffic", || (proxy.passed() > 1 << 20).then_some(()));
    proxy.stall();
    let link = until("the link to be called down", || {
        let link = lab.source.status()["link"].clone();
        (link["state"] == "down").then_some(link)
    });
    assert!(
        link["reason"]
            .as_str()
            .unwrap()
            .contains("nothing was heard"),
        "{link}"
    );
    proxy.cut();
    proxy.go_on();
    finish(&lab, &from, &to);
}

#[test]
fn a_garbled_byte_ends_its_connection_and_never_arrives() {
    let (lab, from, to) = copying(15);
    pace(&lab, Some(8 << 20));
    let proxy = Proxy::to(&lab.address);
    lab.connect(&proxy.address, 1);
    until("all connections", || {
        (lab.source.status()["link"]["connections"] == 4).then_some(())
    });
    let before = lab.source.status()["link"]["reconnects"].clone();
    for _ in 0..3 {
        // Else a connection that is being dialled might be the one.
        until("all connections", || {
            (lab.source.status()["link"]["connections"] == 4).then_some(())
        });
        let passed = proxy.passed();
        let lost = lab.source.status()["link"]["lost_connections"].clone();
        until("traffic", || {
            (proxy.passed() > passed + (1 << 20)).then_some(())
        });
        proxy.garble_once();
        until("a lost connection", || {
            (lab.source.status()["link"]["lost_connections"] != lost).then_some(())
        });
    }
    assert_eq!(lab.source.status()["link"]["reconnects"], before);
    finish(&lab, &from, &to);
}

#[test]
fn a_graceful_stop_keeps_everything_that_had_arrived() {
    let (mut lab, from, to) = copying(16);
    until("some data", || {
        (lab.destination.vdisk()["written_bytes"].as_u64()? > 30 << 20).then_some(())
    });
    lab.destination.ok("POST", "/v1/stop", json!({}));
    assert!(lab.destination.ended());
    // What comes after the restart must not count.
    pace(&lab, Some(1 << 10));
    lab.destination.kill_and_restart();
    lab.listen(1);
    lab.destination.put_vdisk(SIZE, file(to.as_ref()));
    assert!(stable_chunks(&lab) > 30);
    finish(&lab, &from, &to);
}
