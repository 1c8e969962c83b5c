//! Requests to the control API.

use crate::folder;
use crate::tls::{Pem, ends};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use drover_engine::api::router;
use drover_engine::engine::Engine;
use serde_json::Value;
use std::path::Path;
use tower::ServiceExt;

/// VDISKs up to this size are as good as larger ones, and cost less.
const LARGEST: u64 = 32 << 20;
/// Most requests of one run.
const REQUESTS: usize = 16;
/// No answer is longer.
const LONGEST_ANSWER: usize = 1 << 20;
/// Stands in a corpus for whatever takes a real certificate, key or authority.
const REAL: &str = "@";

/// Requests with a zero byte between them, each a line of method and path, then the body.
///
/// Paths and addresses in bodies are replaced by harmless ones: what may be opened is for whoever
/// holds the API's socket to say, so there is nothing to find in that.
pub(crate) fn requests(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let folder = folder::fresh();
        let engine = Engine::new(folder.path().to_owned());
        let router = router(engine.clone());
        for raw in bytes.split(|byte| *byte == 0).take(REQUESTS) {
            if let Some(request) = request(raw, folder.path()) {
                answer(&router, request).await;
            }
        }
        let status = Request::builder().uri("/v1/status").body(Body::empty());
        let code = answer(&router, status.expect("a request")).await;
        assert_eq!(code, 200, "the status is gone");
        engine.stop_replication().await;
    });
}

fn request(raw: &[u8], folder: &Path) -> Option<Request<Body>> {
    let end = raw
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(raw.len());
    let (head, body) = (&raw[..end], raw.get(end + 1..).unwrap_or_default());
    let gap = head.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&head[..gap]).ok()?;
    let body = match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            tame(&mut value, folder);
            value.to_string().into_bytes()
        }
        // Not even JSON; it cannot name a file.
        Err(_) => body.to_vec(),
    };
    let request = Request::builder().method(method).uri(&head[gap + 1..]);
    request.body(Body::from(body)).ok()
}

/// Keeps what a body names within the folder of this run and off the network.
fn tame(value: &mut Value, folder: &Path) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| tame(value, folder)),
        Value::Object(fields) => {
            for (name, value) in fields {
                tame_field(name, value, folder);
            }
        }
        _ => {}
    }
}

fn tame_field(name: &str, value: &mut Value, folder: &Path) {
    let source = ends();
    let end = |of: fn(&Pem) -> &String| Value::from(of(&source.source).as_str());
    match (name, &*value) {
        ("path" | "socket", Value::String(path)) => {
            let file = folder.join(format!("file-{}", path.len() % 4));
            *value = Value::from(file.to_string_lossy());
        }
        ("listen", Value::String(_)) => *value = Value::from("127.0.0.1:0"),
        // Nothing listens there.
        ("connect", Value::String(_)) => *value = Value::from("127.0.0.1:1"),
        ("size", Value::Number(size)) => {
            if let Some(large) = size
                .as_u64()
                .filter(|size| (LARGEST..=1 << 49).contains(size))
            {
                *value = Value::from(large % LARGEST);
            }
        }
        ("certificate", Value::String(text)) if text == REAL => {
            *value = end(|pem| &pem.certificate)
        }
        ("key", Value::String(text)) if text == REAL => *value = end(|pem| &pem.key),
        ("authority", Value::String(text)) if text == REAL => *value = end(|pem| &pem.authority),
        _ => tame(value, folder),
    }
}

/// Demands an answer as documented.
async fn answer(router: &Router, request: Request<Body>) -> u16 {
    let shown = format!("{} {}", request.method(), request.uri());
    let response = router.clone().oneshot(request).await.expect("an answer");
    let code = response.status().as_u16();
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let kind = kind
        .as_ref()
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or_default();
    if kind == "text/event-stream" {
        return code;
    }
    let body = to_bytes(response.into_body(), LONGEST_ANSWER).await;
    let body = body.unwrap_or_else(|error| panic!("{shown}: {code}, {error}"));
    let text = String::from_utf8_lossy(&body);
    assert!(
        !text.contains("PRIVATE KEY"),
        "{shown}: the answer holds a key"
    );
    match code {
        // HEAD has no body.
        _ if body.is_empty() && shown.starts_with("HEAD ") => {}
        200 | 202 => drop(serde_json::from_slice::<Value>(&body).expect("JSON")),
        400..=599 => {
            assert_eq!(kind, "application/problem+json", "{shown}: {code} {text}");
            let problem: Value = serde_json::from_slice(&body).expect("JSON");
            for field in ["title", "detail", "code"] {
                assert!(problem[field].is_string(), "{shown}: {code} {text}");
            }
        }
        _ => panic!("{shown}: {code} is no answer of this API"),
    }
    code
}
