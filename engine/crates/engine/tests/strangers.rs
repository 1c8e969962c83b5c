//! Whoever connects without the migration's certificate gets nothing and costs nothing lasting.

mod lab;

use drover_link::{Message, PROTOCOL_VERSION};
use lab::images::{Dice, assert_same, mixed, text};
use lab::proxy::Proxy;
use lab::sender::hello;
use lab::{Authority, Lab, file, stranger, until};
use serde_json::{Value, json};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const SIZE: u64 = 64 << 20;
/// Connections that are only opened, and those that say garbage.
const SILENT: usize = 6_000;
const NOISY: usize = 4_000;
/// Connections that send a hello of TLS byte by byte.
const SLOW: usize = 200;
/// Bytes that the destination may have more afterwards; 10,000 strangers at 3 KiB each would be over.
const MORE_MEMORY: u64 = 24 << 20;

fn open_files(pid: u64) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

fn frame(message: &Message) -> Vec<u8> {
    let (head, payload) = message.encode();
    [&head[..], &payload].concat()
}

/// The beginning of a hello of TLS that announces more than is ever sent.
const TLS_HELLO: [u8; 20] = [
    0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Opens and says what strangers do, and keeps what the destination leaves open until `enough`.
fn crowd(address: &str, enough: &AtomicBool, made: &AtomicUsize) {
    let mut dice = Dice::new(77);
    let mut open = Vec::new();
    let mut slow: Vec<TcpStream> = (0..SLOW).map(|_| call(address)).collect();
    let mut typed = 0;
    for turn in 0..SILENT.max(NOISY) {
        if turn < NOISY {
            let length = 1 + dice.roll(3000) as usize;
            let _ = call(address).write_all(&dice.bytes(length));
            made.fetch_add(1, Ordering::Relaxed);
        }
        open.push(call(address));
        made.fetch_add(1, Ordering::Relaxed);
        if turn % 300 == 0 {
            let byte = &TLS_HELLO[typed % TLS_HELLO.len()..][..1];
            slow.iter_mut()
                .for_each(|stream| drop(stream.write_all(byte)));
            typed += 1;
        }
    }
    // Whoever says nothing still holds what it has.
    while !enough.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn call(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

/// Those who know how to speak TLS, but not with the right certificate, or not what may be said.
fn impostors(lab: &Lab) {
    let greeting = frame(&Message::Hello(hello(0, 9, 0)));
    let foreign = Authority::new().link("source");
    let expired = lab.authority.link_until("source", "source.drover", 2020);
    let other_role = lab.authority.link("destination");
    for link in [foreign, expired, other_role] {
        let config = stranger::config(lab, &link);
        for _ in 0..10 {
            assert!(stranger::say(&lab.address, &config, &greeting).is_empty());
        }
    }
    let config = stranger::config(lab, &lab.authority.link("source"));
    let long = |length: u32| [&[1, 0, 0, 0][..], &length.to_le_bytes(), &[0; 2000]].concat();
    let early = frame(&Message::Ping {
        stamp: 1,
        interval: 2_000,
        received: 0,
    });
    for said in [long(1025), long(u32::MAX), early, vec![9; 5000]] {
        assert!(stranger::say(&lab.address, &config, &said).is_empty());
    }
    let mut newer = hello(0, 1, 0);
    newer.protocol = PROTOCOL_VERSION + 1;
    let answer = stranger::say(&lab.address, &config, &frame(&Message::Hello(newer)));
    assert_eq!(answer.first(), Some(&3), "no Refuse: {answer:?}");
}

/// Copies to a file of its own, paced until `meanwhile` has returned.
fn copy(lab: &Lab, from: &Path, to: &Path, meanwhile: impl FnOnce()) {
    let pace = |rate: Value| {
        let body = json!({ "background": rate, "link": null });
        lab.source.ok("PUT", "/v1/pacing", body);
    };
    pace(json!(4 << 20));
    lab.destination.put_vdisk(SIZE, file(to));
    lab.source.put_vdisk(SIZE, file(from));
    lab.start("copy");
    meanwhile();
    pace(Value::Null);
    lab.wait_clean();
    assert_same(("raw", text(from)), ("raw", text(to)));
    for engine in [&lab.source, &lab.destination] {
        engine.ok("DELETE", "/v1/vdisks/vda", Value::Null);
    }
}

/// The source loses its connections in the thick of it, and has to get in again.
fn come_again(lab: &Lab, proxy: &Proxy) {
    let reconnects = || lab.destination.status()["link"]["reconnects"].as_u64();
    let before = reconnects().unwrap();
    proxy.cut();
    until("the source to be let in again", || {
        let link = lab.source.status()["link"].clone();
        (reconnects()? > before && link["state"] == "up").then_some(())
    });
}

#[test]
fn ten_thousand_strangers_cost_nothing_lasting() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 31);
    let proxy = Proxy::to(&lab.address);
    lab.connect(&proxy.address, 1);
    let about = || lab.destination.ok("GET", "/v1/engine", Value::Null);
    let pid = about()["pid"].as_u64().unwrap();
    // Once with a few strangers of each kind, so that what an engine keeps for good is there.
    copy(&lab, &from, &to, || {
        let few: Vec<_> = (0..1000).map(|_| call(&lab.address)).collect();
        impostors(&lab);
        come_again(&lab, &proxy);
        drop(few);
    });
    let few = || Some(open_files(pid)).filter(|files| *files < 100);
    let files_before = until("the first strangers' files to be closed", few);
    let memory_before = about()["memory_bytes"].as_u64().unwrap();
    let (enough, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd(&lab.address, &enough, &made));
        // However long that takes on a busy machine.
        let wait_for = |count| {
            while made.load(Ordering::Relaxed) < count {
                assert!(!crowd.is_finished(), "the strangers gave up");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        copy(&lab, &from, &lab.path("second.img"), || {
            for part in 1..=3 {
                wait_for(part * 2_500);
                come_again(&lab, &proxy);
            }
            impostors(&lab);
            wait_for(SILENT + NOISY);
        });
        let files = open_files(pid);
        assert!(
            files < files_before + 2 * 512,
            "{files} files are more than there are places"
        );
        enough.store(true, Ordering::Relaxed);
    });
    until("the files to come back", || {
        (open_files(pid) <= files_before + 8).then_some(())
    });
    let memory = about()["memory_bytes"].as_u64().unwrap();
    assert!(
        memory < memory_before + MORE_MEMORY,
        "{memory_before} bytes of memory became {memory}"
    );
    let log = std::fs::metadata(&lab.destination.log).unwrap().len();
    assert!(log < 64 << 10, "the strangers filled {log} bytes of log");
}
