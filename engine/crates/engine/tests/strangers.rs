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
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const SIZE: u64 = 96 << 20;
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
fn crowd(address: &str, enough: &AtomicBool, made: &AtomicU64) {
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
    let early = frame(&Message::Ping { stamp: 1 });
    for said in [long(1025), long(u32::MAX), early, vec![9; 5000]] {
        assert!(stranger::say(&lab.address, &config, &said).is_empty());
    }
    let mut newer = hello(0, 1, 0);
    newer.protocol = PROTOCOL_VERSION + 1;
    let answer = stranger::say(&lab.address, &config, &frame(&Message::Hello(newer)));
    assert_eq!(answer.first(), Some(&3), "no Refuse: {answer:?}");
}

#[test]
fn ten_thousand_strangers_cost_nothing_lasting() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, SIZE, 31);
    let proxy = Proxy::to(&lab.address);
    lab.destination.put_vdisk(SIZE, file(&to));
    lab.connect(&proxy.address, 1);
    lab.source.put_vdisk(SIZE, file(&from));
    let pace = |rate: Value| {
        let body = json!({ "background": rate, "foreground": null });
        lab.source.ok("PUT", "/v1/pacing", body);
    };
    pace(json!(16 << 20));
    lab.start("copy");
    // A first few hundred, so that what is kept for good (pools, threads) is there.
    let first: Vec<_> = (0..1200).map(|_| call(&lab.address)).collect();
    impostors(&lab);
    drop(first);
    let about = || lab.destination.ok("GET", "/v1/engine", Value::Null);
    let pid = about()["pid"].as_u64().unwrap();
    let files_before = until("the strangers' files to be closed", || {
        let files = open_files(pid);
        (files < 60).then_some(files)
    });
    let memory_before = about()["memory_bytes"].as_u64().unwrap();
    let (enough, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| crowd(&lab.address, &enough, &made));
        until("half of the strangers", || {
            (made.load(Ordering::Relaxed) > 5_000).then_some(())
        });
        // The source loses its connections in the thick of it, and has to get in again.
        for _ in 0..3 {
            let reconnects = || lab.destination.status()["link"]["reconnects"].as_u64();
            let before = reconnects().unwrap();
            proxy.cut();
            until("the source to be let in again", || {
                let link = lab.source.status()["link"].clone();
                (reconnects()? > before && link["state"] == "up").then_some(())
            });
        }
        impostors(&lab);
        until("all strangers", || {
            (made.load(Ordering::Relaxed) == (SILENT + NOISY) as u64).then_some(())
        });
        pace(Value::Null);
        lab.wait_clean();
        assert!(
            open_files(pid) < 512 + 512 + 60,
            "more strangers than there are places"
        );
        enough.store(true, Ordering::Relaxed);
    });
    assert_same(("raw", text(&from)), ("raw", text(&to)));
    until("the files to come back", || {
        (open_files(pid) <= files_before + 8).then_some(())
    });
    let memory = about()["memory_bytes"].as_u64().unwrap();
    println!("memory {memory_before} before, {memory} after");
    assert!(
        memory < memory_before + MORE_MEMORY,
        "{memory_before} bytes became {memory}"
    );
    let log = std::fs::metadata(&lab.destination.log).unwrap().len();
    assert!(log < 64 << 10, "the strangers filled {log} bytes of log");
}
