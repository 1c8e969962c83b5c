//! What probes of the link and of VDISKs are made of: patterns, discarding, epochs by extents, samples, TCP_INFO.

mod lab;

use lab::images::mixed;
use lab::nbd_servers::NbdServer;
use lab::{Engine, Lab, file, nbd, until};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

fn pattern() -> Value {
    json!({ "type": "pattern", "seed": 5 })
}

fn discard() -> Value {
    json!({ "type": "discard" })
}

fn send_extents(lab: &Lab, number: u64, extents: &[(u64, u64)]) -> Value {
    let body = json!({ "epoch": number, "extents": extents });
    lab.source.ok("POST", "/v1/vdisks/vda/epochs", body);
    until("the acknowledgement", || {
        let epoch = lab.source.vdisk()["epoch"].clone();
        (epoch["number"] == number && epoch["state"] == "acknowledged").then_some(epoch)
    })
}

#[test]
fn a_pattern_travels_and_an_epoch_of_extents_after_it() {
    let lab = Lab::new();
    lab.pair(16 * MIB, pattern(), discard());
    lab.start("copy");
    let copied = lab.wait_clean();
    assert!(
        copied["sent"]["wire_bytes"].as_u64().unwrap() > 16 * MIB,
        "it compresses"
    );
    let epoch = send_extents(&lab, 0, &[(0, 65_536), (3 * MIB + 5, 1), (16 * MIB - 1, 1)]);
    assert_eq!(epoch["dirty_bytes"], 3 * 65_536);
    let sent = lab.source.vdisk()["sent"]["foreground_bytes"].clone();
    assert_eq!(sent, 3 * 65_536);
    assert_eq!(send_extents(&lab, 1, &[])["dirty_bytes"], 0);
}

#[test]
fn a_pattern_in_a_file_is_the_same_each_time() {
    let lab = Lab::new();
    lab.pair(5 * MIB + 7, pattern(), file(&lab.path("to.img")));
    lab.copy_and_verify();
}

#[test]
fn extents_that_make_no_sense_are_refused() {
    let lab = Lab::new();
    lab.pair(MIB, pattern(), discard());
    let refused = |body: Value| {
        let (status, code) = lab.source.refused("POST", "/v1/vdisks/vda/epochs", body);
        assert_eq!((status, code.as_str()), (400, "invalid_request"));
    };
    refused(json!({ "epoch": 0 }));
    refused(json!({ "epoch": 0, "extents": [[0, 0]] }));
    refused(json!({ "epoch": 0, "extents": [[MIB, 1]] }));
    refused(json!({ "epoch": 0, "extents": [[u64::MAX, 2]] }));
    refused(json!({ "epoch": 0, "extents": [[0, 1]], "bitmap": "x" }));
    refused(json!({ "epoch": 0, "extents": vec![[0, 1]; 8193] }));
    let many = json!({ "epoch": 0, "extents": vec![[1u64 << 48, 65_536]; 8192] });
    // Large numbers fit into a request: what is refused is where they point.
    refused(many);
    assert!(lab.source.vdisk()["epoch"].is_null());
}

#[test]
fn each_end_refuses_the_other_ones_endpoint() {
    let lab = Lab::new();
    lab.connect(&lab.address, 1);
    for (engine, endpoint) in [(&lab.source, discard()), (&lab.destination, pattern())] {
        let body = json!({ "size": MIB, "endpoint": endpoint });
        let refused = engine.refused("PUT", "/v1/vdisks/vda", body);
        assert_eq!(refused, (400, "invalid_request".into()));
    }
}

#[test]
fn what_was_discarded_is_claimed_by_nobody() {
    let mut lab = Lab::new();
    let server = NbdServer::nbdkit(&["memory", "8M"], &lab.path("memory.sock"));
    lab.pair(8 * MIB, pattern(), discard());
    lab.start("copy");
    lab.wait_clean();
    assert_eq!(lab.destination.vdisk()["stable_chunks"], 16);
    // An NBD export has no number either that a journal could know it by.
    lab.destination.put_vdisk(8 * MIB, nbd(&server.socket, ""));
    assert_eq!(lab.destination.vdisk()["stable_chunks"], 0);
    lab.destination.put_vdisk(8 * MIB, discard());
    lab.start("copy");
    lab.destination.kill_and_restart();
    lab.listen(2);
    lab.destination.put_vdisk(8 * MIB, discard());
    assert_eq!(lab.destination.vdisk()["stable_chunks"], 0);
}

#[test]
fn what_was_discarded_cannot_be_verified() {
    let lab = Lab::new();
    lab.pair(MIB, pattern(), discard());
    lab.start("copy");
    lab.wait_clean();
    let body = json!({ "scope": "all", "repair": false });
    lab.source.ok("POST", "/v1/vdisks/vda/verify", body);
    let error = lab.source.wait_held();
    assert_eq!(error["code"], "read_error");
    assert!(
        error["message"].as_str().unwrap().contains("discard"),
        "{error}"
    );
}

#[test]
fn the_kernel_is_asked_about_the_connections() {
    let lab = Lab::new();
    lab.pair(32 * MIB, pattern(), discard());
    lab.start("copy");
    lab.wait_clean();
    let link = lab.source.status()["link"].clone();
    let tcp = &link["each_connection"][0]["tcp"];
    assert!(tcp["round_trip_seconds"].as_f64().unwrap() > 0.0, "{tcp}");
    assert!(
        tcp["mss"].as_u64().unwrap() < tcp["path_mtu"].as_u64().unwrap(),
        "{tcp}"
    );
    assert!(!tcp["congestion"].as_str().unwrap().is_empty(), "{tcp}");
    let sent = |engine: &Engine| engine.status()["link"]["tcp"]["sent_wire_bytes"].clone();
    let before = sent(&lab.source).as_u64().unwrap();
    assert!(before > 32 * MIB, "{before}");
    let answered = sent(&lab.destination).as_u64().unwrap();
    assert!(answered > 0 && answered < MIB, "{answered}");
    // Connections that are taken away stay in the totals.
    lab.source
        .ok("PATCH", "/v1/link", json!({ "connections": 1 }));
    until("a single connection", || {
        (lab.source.status()["link"]["connections"] == 1).then_some(())
    });
    assert!(sent(&lab.source).as_u64().unwrap() >= before);
}

#[test]
fn a_sample_needs_no_role() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), "engine");
    let path = folder.path().join("vdisk.img");
    mixed(&path, 8 << 20, 3);
    let request = |chunks: u64| json!({ "endpoint": file(&path), "size": 8 * MIB, "chunks": chunks, "rate": null });
    let id = engine.ok("POST", "/v1/samples", request(1000))["id"].clone();
    let sample = format!("/v1/samples/{id}");
    let found = until("the sample", || {
        let found = engine.ok("GET", &sample, Value::Null);
        assert_ne!(found["state"], "failed", "{found}");
        (found["state"] == "done").then_some(found)
    });
    let rows = found["chunks"].as_array().unwrap();
    assert_eq!(found["sampled_chunks"], rows.len());
    assert!(rows.len() <= 16 && !rows.is_empty());
    let lz4: u64 = rows
        .iter()
        .map(|row| row["lz4_bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(found["compressed_bytes"]["lz4"], lz4);
    assert_eq!(engine.status()["role"], Value::Null);
    engine.ok("DELETE", &sample, Value::Null);
    for method in ["GET", "DELETE"] {
        let gone = engine.refused(method, &sample, Value::Null);
        assert_eq!(gone, (404, "unknown_sample".into()));
    }
    assert_eq!(engine.refused("POST", "/v1/samples", request(0)).0, 400);
    assert_eq!(
        engine.refused("POST", "/v1/samples", request(16_385)).0,
        400
    );
    let discarded = json!({ "endpoint": discard(), "size": MIB, "chunks": 1 });
    assert_eq!(engine.refused("POST", "/v1/samples", discarded).0, 400);
    let missing =
        json!({ "endpoint": { "type": "file", "path": "/nowhere" }, "size": MIB, "chunks": 1 });
    assert_eq!(
        engine.refused("POST", "/v1/samples", missing),
        (409, "endpoint_gone".into())
    );
}

#[test]
fn samples_are_bounded_and_end_when_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), "engine");
    // One byte a second: they would take years.
    let slow = json!({ "endpoint": pattern(), "size": 64 * MIB, "chunks": 100, "rate": 1 });
    let ids: Vec<_> = (0..64)
        .map(|_| engine.ok("POST", "/v1/samples", slow.clone())["id"].clone())
        .collect();
    let refused = engine.refused("POST", "/v1/samples", slow.clone());
    assert_eq!(refused, (409, "too_many_samples".into()));
    engine.ok("DELETE", &format!("/v1/samples/{}", ids[0]), Value::Null);
    engine.ok("POST", "/v1/samples", slow);
}
