//! A valid sender cannot write outside the VDISKs it was given, past their size, or after cutover.

mod lab;

use drover_link::limits::MAX_HASH_CHUNKS;
use drover_link::message::FaultCode;
use drover_link::{Message, RefuseCode};
use lab::sender::{Sender, data, hello, open, zero};
use lab::{Lab, until};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const CHUNK: u64 = 512 << 10;
/// Three chunks, the last of them short.
const SIZE: u64 = 2 * CHUNK + 70_000;
const BEFORE: u8 = 0x11;
const WRITTEN: u8 = 0x77;

fn filled(path: &Path, size: u64) {
    std::fs::write(path, vec![BEFORE; size as usize]).unwrap();
}

/// A destination with vda, which the sender opens as handle 1, and vdb, which it does not.
fn attacked() -> (Lab, Sender, PathBuf, PathBuf) {
    let lab = Lab::new();
    let (vda, vdb) = (lab.path("vda.img"), lab.path("vdb.img"));
    for (name, path) in [("vda", &vda), ("vdb", &vdb)] {
        filled(path, SIZE);
        let body = json!({ "size": SIZE, "endpoint": { "type": "file", "path": path } });
        lab.destination
            .ok("PUT", &format!("/v1/vdisks/{name}"), body);
    }
    let mut sender = Sender::dial(&lab, 1);
    sender.open(1, "vda", SIZE);
    (lab, sender, vda, vdb)
}

/// Demands that a file is as before, but for what was written where.
fn assert_only(path: &Path, written: &[(u64, usize)]) {
    let mut expected = vec![BEFORE; SIZE as usize];
    for (offset, length) in written {
        expected[*offset as usize..][..*length].fill(WRITTEN);
    }
    let found = std::fs::read(path).unwrap();
    assert_eq!(
        found.len(),
        expected.len(),
        "the size of {}",
        path.display()
    );
    let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first wrong byte of {}", path.display());
}

#[test]
fn nothing_lands_outside_the_vdisk() {
    let (_lab, mut sender, vda, vdb) = attacked();
    let outside = [
        data(1, 100, SIZE, 1, 100),
        data(1, 101, SIZE - 10, 1, 11),
        data(1, 102, CHUNK - 10, 1, 20),
        data(1, 103, CHUNK * 3, 1, 100),
        data(1, 104, u64::MAX - 100, 1, 100),
        data(1, 105, 1 << 63, 1, 100),
        // Numbers of chunks that are small again when cut to 32 bits.
        data(1, 106, CHUNK << 32, 1, 100),
        data(1, 107, (CHUNK << 32) + CHUNK, 1, CHUNK as usize),
        zero(1, 108, 0, SIZE + 1),
        zero(1, 109, SIZE, 1),
        zero(1, 110, SIZE - 1, u64::MAX - SIZE),
        zero(1, 111, u64::MAX - 1, 1),
        zero(1, 112, CHUNK << 32, CHUNK),
    ];
    for message in &outside {
        sender.send(message);
    }
    let heard = sender.write(1, 1, 5 * 65_536, WRITTEN, 65_536);
    let mut refused: Vec<u64> = heard
        .iter()
        .map(|message| match message {
            Message::Fault {
                handle: 1,
                id,
                code: FaultCode::Corrupt,
                ..
            } => *id,
            other => panic!("{other:?}"),
        })
        .collect();
    refused.sort_unstable();
    assert_eq!(refused, (100..=112).collect::<Vec<_>>());
    assert_only(&vda, &[(5 * 65_536, 65_536)]);
    assert_only(&vdb, &[]);
}

#[test]
fn handles_that_stand_for_nothing_write_nothing() {
    let (_lab, mut sender, vda, vdb) = attacked();
    for handle in [0, 2, 99, u32::MAX] {
        sender.send(&data(handle, 50, 0, 1, 100));
        sender.send(&zero(handle, 51, 0, SIZE));
        sender.send(&Message::Confirm {
            handle,
            id: 52,
            first: 0,
            count: 3,
        });
        sender.send(&Message::HashRequest {
            handle,
            request: 53,
            first: 0,
            count: MAX_HASH_CHUNKS,
        });
        sender.send(&Message::RootRequest { handle });
        sender.send(&Message::CloseVdisk { handle });
    }
    assert_eq!(sender.write(1, 1, 0, WRITTEN, 10), []);
    // A newer handle of the same VDISK ends the older one.
    sender.open(2, "vda", SIZE);
    sender.send(&data(1, 2, 100, 1, 10));
    assert_eq!(sender.write(2, 3, 20, WRITTEN, 10), []);
    // Closed is closed; the answer to the next open comes when that is over.
    sender.send(&Message::CloseVdisk { handle: 2 });
    sender.send(&data(2, 4, 200, 1, 10));
    sender.send(&zero(2, 5, 0, SIZE));
    sender.open(3, "vda", SIZE);
    assert_eq!(sender.write(3, 6, 40, WRITTEN, 10), []);
    assert_only(&vda, &[(0, 10), (20, 10), (40, 10)]);
    assert_only(&vdb, &[]);
}

#[test]
fn only_vdisks_that_were_given_open() {
    let (lab, mut sender, vda, vdb) = attacked();
    let mut faults = |message: Message| {
        sender.send(&message);
        match sender.hear().unwrap() {
            Message::Fault { id: 0, code, .. } => code,
            other => panic!("{other:?}"),
        }
    };
    for name in ["vdc", "", "../vdb", "/etc/passwd", "vda.journal"] {
        assert_eq!(faults(open(7, name, SIZE)), FaultCode::UnknownVdisk);
    }
    assert_eq!(faults(open(8, "vdb", SIZE + 1)), FaultCode::SizeMismatch);
    assert_eq!(faults(open(9, "vdb", u64::MAX)), FaultCode::SizeMismatch);
    lab.destination.ok("DELETE", "/v1/vdisks/vdb", Value::Null);
    assert_eq!(faults(open(10, "vdb", SIZE)), FaultCode::UnknownVdisk);
    for handle in 7..=10 {
        sender.send(&data(handle, 1, 0, 1, 100));
    }
    assert_eq!(sender.write(1, 2, 0, WRITTEN, 100), []);
    assert_only(&vda, &[(0, 100)]);
    assert_only(&vdb, &[]);
}

#[test]
fn a_handle_used_twice_writes_only_what_it_stands_for_last() {
    let (_lab, mut sender, vda, vdb) = attacked();
    sender.open(1, "vdb", SIZE);
    assert_eq!(sender.write(1, 1, 0, WRITTEN, 10), []);
    assert_only(&vda, &[]);
    assert_only(&vdb, &[(0, 10)]);
    // Many opens of one VDISK at once: those that are overtaken need no answer, and are over.
    for handle in 10..40 {
        sender.send(&open(handle, "vda", SIZE));
    }
    loop {
        match sender.hear().unwrap() {
            Message::VdiskOpened { handle: 39, .. } => break,
            Message::VdiskOpened { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    for handle in 10..40 {
        sender.send(&data(handle, 100 + u64::from(handle), 20, WRITTEN, 10));
        sender.send(&Message::Flush { handle });
    }
    let Message::Ack { handle, ids } = sender.hear().unwrap() else {
        panic!("no Ack");
    };
    assert_eq!((handle, ids), (39, vec![139]));
    // The one that acknowledged is the one that still writes; no other does.
    assert_eq!(sender.write(handle, 999, 40, WRITTEN, 10), []);
    assert_only(&vda, &[(20, 10), (40, 10)]);
}

#[test]
fn a_chunk_that_is_not_there_is_not_hashed() {
    let (lab, mut sender, vda, _) = attacked();
    sender.send(&Message::Confirm {
        handle: 1,
        id: 1,
        first: u32::MAX - 10,
        count: 10,
    });
    sender.send(&Message::Confirm {
        handle: 1,
        id: 2,
        first: 3,
        count: 4096,
    });
    assert_eq!(
        lab.destination.status()["vdisks"]["vda"]["stable_chunks"],
        0
    );
    sender.send(&Message::HashRequest {
        handle: 1,
        request: 1,
        first: 2,
        count: 2,
    });
    let fault = std::iter::repeat_with(|| sender.hear().unwrap())
        .find(|message| !matches!(message, Message::Ack { .. }));
    assert!(
        matches!(
            fault,
            Some(Message::Fault {
                id: 0,
                code: FaultCode::SizeMismatch,
                ..
            })
        ),
        "{fault:?}"
    );
    assert_only(&vda, &[]);
}

#[test]
fn a_lower_token_gets_nothing_and_disturbs_nobody() {
    let (lab, mut old, vda, _) = attacked();
    let mut sender = Sender::dial(&lab, 5);
    old.ended();
    sender.open(1, "vda", SIZE);
    for token in [0, 1, 4] {
        assert_eq!(
            Sender::refused(&lab, hello(0, token, 0)),
            RefuseCode::TokenTooLow
        );
        let joining = hello(sender.session, token, 1);
        assert_eq!(Sender::refused(&lab, joining), RefuseCode::UnknownSession);
    }
    assert_eq!(Sender::refused(&lab, hello(0, 5, 1)), RefuseCode::Malformed);
    let guessed = hello(sender.session.wrapping_add(1), 5, 1);
    assert_eq!(Sender::refused(&lab, guessed), RefuseCode::UnknownSession);
    old.send(&data(1, 1, 100, 1, 10));
    assert_eq!(sender.write(1, 2, 0, WRITTEN, 10), []);
    assert_only(&vda, &[(0, 10)]);
}

#[test]
fn a_hello_said_again_takes_over_and_the_older_session_writes_no_more() {
    let (lab, mut first, vda, _) = attacked();
    let mut second = Sender::dial(&lab, 1);
    assert_ne!(first.session, second.session);
    first.send(&data(1, 1, 100, 1, 10));
    first.ended();
    let joining = hello(first.session, 1, 1);
    assert_eq!(Sender::refused(&lab, joining), RefuseCode::UnknownSession);
    second.open(1, "vda", SIZE);
    assert_eq!(second.write(1, 1, 0, WRITTEN, 10), []);
    assert_only(&vda, &[(0, 10)]);
}

#[test]
fn a_late_engine_writes_nothing_after_the_fence() {
    let (lab, mut late, vda, _) = attacked();
    let mut helper = Sender::try_dial(&lab, hello(late.session, 1, 1)).unwrap();
    assert_eq!(late.write(1, 1, 0, WRITTEN, 10), []);
    // It goes on writing all through the fence, on two connections.
    let writer = std::thread::spawn(move || {
        for id in 0..2_000 {
            let at = CHUNK + (id % 100) * 100;
            let one = if id % 2 == 0 { &mut late } else { &mut helper };
            one.send(&data(1, 10 + id, at, WRITTEN, 100));
        }
        (late, helper)
    });
    until("writes of the late engine", || {
        (lab.destination.status()["vdisks"]["vda"]["written_bytes"].as_u64()? > 1000).then_some(())
    });
    lab.destination
        .ok("POST", "/v1/fence", json!({ "token": 1 }));
    // From here on the VM may run at the destination: the file is its own.
    filled(&vda, SIZE);
    let (mut late, mut helper) = writer.join().unwrap();
    for sender in [&mut late, &mut helper] {
        sender.send(&data(1, 9_000, 0, 1, 10));
        sender.send(&zero(1, 9_001, 0, SIZE));
        sender.send(&open(2, "vda", SIZE));
        sender.send(&data(2, 9_002, 0, 1, 10));
        sender.ended();
    }
    assert_eq!(Sender::refused(&lab, hello(0, 1, 0)), RefuseCode::Fenced);
    let joining = hello(late.session, 1, 2);
    assert_eq!(Sender::refused(&lab, joining), RefuseCode::UnknownSession);
    assert_only(&vda, &[]);
    // A newer token is somebody who may.
    let mut newer = Sender::dial(&lab, 2);
    newer.open(1, "vda", SIZE);
    assert_eq!(newer.write(1, 1, 0, WRITTEN, 10), []);
    assert_only(&vda, &[(0, 10)]);
}

#[test]
fn messages_that_only_a_destination_sends_end_the_session() {
    let (lab, mut sender, vda, _) = attacked();
    sender.send(&Message::Ack {
        handle: 1,
        ids: vec![1],
    });
    sender.send(&data(1, 1, 0, 1, 10));
    sender.ended();
    assert_only(&vda, &[]);
    Sender::dial(&lab, 1).open(1, "vda", SIZE);
}
