//! What the engine is and what it is doing.

use super::body::{Body, Nothing};
use crate::engine::{Engine, Role};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use drover_replica::TcpTotals;
use serde_json::{Map, Value, json};

pub(super) async fn engine(State(engine): State<Engine>) -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": drover_link::PROTOCOL_VERSION,
        "pid": std::process::id(),
        "role": role(&engine),
        "uptime_seconds": engine.uptime(),
        "memory_bytes": memory_bytes(),
    }))
}

fn role(engine: &Engine) -> Option<&'static str> {
    engine.role().map(|role| match role {
        Role::Source(_) => "source",
        Role::Destination(_) => "destination",
    })
}

/// Resident memory of this process.
fn memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

pub(super) async fn status(State(engine): State<Engine>) -> Json<Value> {
    Json(snapshot(&engine))
}

/// The status object, also sent as events.
pub(super) fn snapshot(engine: &Engine) -> Value {
    let mut pacing = json!({ "background": null, "link": null });
    let (link, vdisks) = match engine.role() {
        None => (unconfigured(), Map::new()),
        Some(Role::Source(source)) => {
            pacing["background"] = json!(source.pacing().background.rate());
            pacing["link"] = json!(source.pacing().link.rate());
            let vdisks = source.vdisks().into_iter();
            let vdisks = vdisks
                .map(|(name, vdisk)| (name, json!(vdisk.status())))
                .collect();
            (json!(source.link_status()), vdisks)
        }
        Some(Role::Destination(destination)) => {
            let vdisks = destination.vdisks().into_iter();
            let vdisks = vdisks
                .map(|(name, vdisk)| (name, json!(vdisk.status())))
                .collect();
            (json!(destination.link_status()), vdisks)
        }
    };
    json!({
        "role": role(engine),
        "link": link,
        "pacing": pacing,
        "vdisks": vdisks,
        "devices": engine.devices(),
    })
}

fn unconfigured() -> Value {
    json!({
        "state": "unconfigured",
        "since_seconds": 0.0,
        "reason": null,
        "connections": 0,
        "each_connection": [],
        "lost_connections": 0,
        "sent_bytes": 0,
        "received_bytes": 0,
        "round_trip_seconds": null,
        "reconnects": 0,
        "tcp": TcpTotals::default(),
    })
}

pub(super) async fn stop(
    State(engine): State<Engine>,
    Body(Nothing {}): Body<Nothing>,
) -> (StatusCode, Json<Value>) {
    engine.stopping().cancel();
    (StatusCode::ACCEPTED, Json(json!({})))
}
