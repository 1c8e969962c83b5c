//! Transport devices: loading at a source, unloading at a destination, verifying anywhere.

use super::body::{Body, Nothing};
use crate::engine::{Engine, Role};
use crate::problem::Problem;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use device::{DeviceId, DeviceKey};
use drover_replica::carrier::{DeviceStatus, Verification, from_hex};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

type Id = Result<Path<String>, PathRejection>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Purpose {
    Load,
    Unload,
    Verify,
}

/// No `Debug`: it holds a key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceRequest {
    path: PathBuf,
    key: String,
    purpose: Purpose,
}

fn device_id(path: Id) -> Result<DeviceId, Problem> {
    let Path(text) = path.map_err(|error| Problem::invalid(error.to_string()))?;
    let id = from_hex(&text).filter(|_| text == text.to_ascii_lowercase());
    let id =
        id.ok_or_else(|| Problem::invalid("a device's id is 32 lower-case hexadecimal digits"));
    id.map(DeviceId)
}

fn device_key(text: &str) -> Result<DeviceKey, Problem> {
    let mut key = [0; 32];
    let halves = text
        .split_at_checked(32)
        .map(|(first, last)| [from_hex(first), from_hex(last)]);
    let Some([Some(first), Some(last)]) = halves else {
        return Err(Problem::invalid("a device's key is 64 hexadecimal digits"));
    };
    key[..16].copy_from_slice(&first);
    key[16..].copy_from_slice(&last);
    Ok(DeviceKey::new(key))
}

pub(super) async fn put_device(
    State(engine): State<Engine>,
    id: Id,
    Body(request): Body<DeviceRequest>,
) -> Result<Json<DeviceStatus>, Problem> {
    let id = device_id(id)?;
    let key = device_key(&request.key)?;
    let packs = request.path;
    if !packs.is_absolute() {
        return Err(Problem::invalid("path must be absolute"));
    }
    let shown = packs.display().to_string();
    let status = match request.purpose {
        Purpose::Load => {
            let source = engine.source()?.clone();
            blocking(move || source.open_device(id, &packs, key)).await
        }
        Purpose::Unload => {
            let destination = engine.destination()?.clone();
            blocking(move || destination.unload_device(id, &packs, key)).await
        }
        Purpose::Verify => {
            let started = blocking(move || Verification::start(&packs, id, key)).await;
            started.map(|verification| {
                let status = verification.status();
                engine.verify(id, verification);
                status
            })
        }
    };
    status.map(Json).map_err(|error| {
        Problem::conflict(
            "device_error",
            format!("opening the packs of the device in {shown} failed: {error}"),
        )
    })
}

pub(super) async fn delete_device(
    State(engine): State<Engine>,
    id: Id,
) -> Result<Json<Value>, Problem> {
    let id = device_id(id)?;
    let mut known = engine.end_verification(id);
    known |= match engine.role() {
        Some(Role::Source(source)) => {
            let source = source.clone();
            tokio::task::spawn_blocking(move || source.close_device(id))
                .await
                .unwrap_or(true)
        }
        Some(Role::Destination(destination)) => destination.close_device(id),
        None => false,
    };
    match known {
        true => Ok(Json(json!({}))),
        false => Err(Problem::missing(
            "unknown_device",
            "this device is not open; PUT it first",
        )),
    }
}

pub(super) async fn forget(
    State(engine): State<Engine>,
    id: Id,
    Body(Nothing {}): Body<Nothing>,
) -> Result<Json<Value>, Problem> {
    let id = device_id(id)?;
    let source = engine.source()?.clone();
    let forgotten = tokio::task::spawn_blocking(move || source.forget_device(id)).await;
    let chunks = forgotten
        .map_err(|error| Problem::internal("state_error", error.to_string()))?
        .map_err(Problem::from)?;
    Ok(Json(json!({ "chunks": chunks })))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
