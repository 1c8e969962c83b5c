//! The API itself: its document, its validation, its guards.

mod lab;

use lab::images::mixed;
use lab::{Authority, Engine, Lab, file};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

/// (method, path) of every operation in the document.
fn documented() -> Vec<(String, String)> {
    let document = include_str!("../../../../docs/engine-api.yaml");
    let mut path = String::new();
    let mut operations = Vec::new();
    let paths = document
        .lines()
        .skip_while(|line| *line != "paths:")
        .skip(1);
    for line in paths.take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let text = line.trim_end();
        match text.len() - text.trim_start().len() {
            2 => path = text.trim().trim_end_matches(':').to_owned(),
            4 => {
                let method = text.trim().trim_end_matches(':').to_uppercase();
                if ["GET", "PUT", "PATCH", "POST", "DELETE"].contains(&method.as_str()) {
                    operations.push((method, path.clone()));
                }
            }
            _ => {}
        }
    }
    operations
}

/// (method, path) of every route in the source.
fn routed() -> Vec<(String, String)> {
    let source = include_str!("../src/api.rs");
    let mut operations = Vec::new();
    for route in source.split(".route(").skip(1) {
        let (path, handlers) = route
            .trim_start()
            .trim_start_matches('"')
            .split_once('"')
            .unwrap();
        for method in ["get", "put", "patch", "post", "delete"] {
            if handlers.contains(&format!("{method}(")) {
                operations.push((method.to_uppercase(), path.to_owned()));
            }
        }
    }
    operations
}

#[test]
fn the_document_and_the_router_name_the_same_operations() {
    let (mut documented, mut routed) = (documented(), routed());
    documented.sort();
    routed.sort();
    assert!(routed.len() >= 13, "{routed:?}");
    assert_eq!(documented, routed);
}

#[test]
fn every_documented_operation_answers() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::start(folder.path(), "engine");
    for (method, path) in documented() {
        if path == "/v1/events" || path == "/v1/stop" {
            continue;
        }
        let (status, answer) = engine.call(&method, &path.replace("{name}", "vda"), Value::Null);
        let code = answer["code"].as_str().unwrap_or("");
        assert!(
            !["unknown_path", "method_not_allowed"].contains(&code),
            "{method} {path}: {status} {answer}"
        );
    }
    assert_eq!(
        engine.refused("GET", "/v2/engine", Value::Null),
        (404, "unknown_path".into())
    );
    assert_eq!(
        engine.refused("POST", "/v1/status", Value::Null),
        (405, "method_not_allowed".into())
    );
}

#[test]
fn nonsense_is_refused_in_one_form() {
    let lab = Lab::new();
    let endpoint = file(&lab.path("x"));
    let bad = |method: &str, path: &str, body: Value| {
        assert_eq!(
            lab.source.refused(method, path, body).1,
            "invalid_request",
            "{method} {path}"
        );
    };
    lab.connect(&lab.address, 1);
    bad(
        "PUT",
        "/v1/vdisks/vda",
        json!({ "size": 1, "endpoint": endpoint, "more": 1 }),
    );
    bad(
        "PUT",
        "/v1/vdisks/vda",
        json!({ "size": -1, "endpoint": endpoint }),
    );
    bad(
        "PUT",
        "/v1/vdisks/vda",
        json!({ "size": 1, "endpoint": { "type": "floppy" } }),
    );
    bad(
        "PUT",
        "/v1/vdisks/vda",
        json!({ "size": 1, "endpoint": { "type": "block", "path": "/x", "create": true } }),
    );
    bad(
        "PUT",
        "/v1/vdisks/-vda",
        json!({ "size": 1, "endpoint": endpoint }),
    );
    bad(
        "PUT",
        "/v1/vdisks/%2e%2e%2fx",
        json!({ "size": 1, "endpoint": endpoint }),
    );
    bad(
        "PUT",
        "/v1/pacing",
        json!({ "background": 0, "link": null }),
    );
    bad("PUT", "/v1/link", json!({ "role": "source" }));
    bad("GET", "/v1/events?interval=0", Value::Null);
    bad("GET", "/v1/events?every=1", Value::Null);
    let mut link = lab.authority.link("source");
    link["connect"] = json!(lab.address);
    link["token"] = json!(1);
    link["key"] = Authority::new().link("source")["key"].clone();
    bad("PUT", "/v1/link", link);
    let unknown = json!({ "mode": "copy" });
    let refused = lab
        .source
        .refused("POST", "/v1/vdisks/vdx/background", unknown);
    assert_eq!(refused, (404, "unknown_vdisk".into()));
    let wrong_role = lab
        .source
        .refused("POST", "/v1/fence", json!({ "token": 1 }));
    assert_eq!(wrong_role, (409, "wrong_role".into()));
}

#[test]
fn one_engine_per_state_folder_and_a_private_socket() {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::start(folder.path(), "engine");
    let mode = std::fs::metadata(&engine.api).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = folder.path().join("other.sock");
    let second = Command::new(env!("CARGO_BIN_EXE_drover-engine"))
        .args([
            "serve",
            "--api",
            other.to_str().unwrap(),
            "--state",
            engine.state.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another drover-engine holds"));
    engine.ok("POST", "/v1/stop", json!({}));
    assert!(engine.ended());
    assert!(!engine.api.exists());
}

#[test]
fn events_carry_the_status() {
    let lab = Lab::new();
    let mut stream = UnixStream::connect(&lab.source.api).unwrap();
    stream
        .write_all(b"GET /v1/events?interval=0.05 HTTP/1.1\r\nhost: engine\r\n\r\n")
        .unwrap();
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    let events: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .take(3)
        .collect();
    assert_eq!(events.len(), 3);
    assert!(events[0]["link"]["state"].is_string());
}

#[test]
fn putting_the_same_again_changes_nothing_and_deleting_forgets() {
    let lab = Lab::new();
    let (from, to) = (lab.path("from.img"), lab.path("to.img"));
    mixed(&from, 8 << 20, 41);
    lab.pair(8 << 20, file(&from), file(&to));
    lab.start("copy");
    lab.start("copy");
    lab.wait_clean();
    lab.destination.put_vdisk(8 << 20, file(&to));
    lab.source.put_vdisk(8 << 20, file(&from));
    assert_eq!(lab.source.vdisk()["state"], "clean");
    assert_eq!(lab.destination.vdisk()["state"], "receiving");
    for engine in [&lab.source, &lab.destination] {
        engine.ok("DELETE", "/v1/vdisks/vda", Value::Null);
        assert_eq!(
            engine.refused("DELETE", "/v1/vdisks/vda", Value::Null).0,
            404
        );
    }
    assert!(to.exists());
}
