//! VDISKs and what is done with them.

use super::body::{Body, Nothing, vdisk_name};
use crate::engine::{Engine, Role};
use crate::problem::Problem;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use drover_replica::endpoint::{Access, EndpointSpec};
use drover_replica::source::{Dirty, EpochRefused, Mode, OnReadError, SourceVdisk};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

type Name = Result<Path<String>, PathRejection>;
type Accepted = Result<(StatusCode, Json<Value>), Problem>;

fn accepted() -> Accepted {
    Ok((StatusCode::ACCEPTED, Json(json!({}))))
}

fn unknown(name: &str) -> Problem {
    Problem::missing(
        "unknown_vdisk",
        format!("VDISK {name} is not known; PUT it first"),
    )
}

fn source_vdisk(engine: &Engine, name: Name) -> Result<Arc<SourceVdisk>, Problem> {
    let name = vdisk_name(name)?;
    engine.source()?.vdisk(&name).ok_or_else(|| unknown(&name))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VdiskRequest {
    size: u64,
    endpoint: EndpointSpec,
    on_read_error: Option<OnReadError>,
    label: Option<String>,
}

pub(super) async fn put_vdisk(
    State(engine): State<Engine>,
    name: Name,
    Body(request): Body<VdiskRequest>,
) -> Result<Json<Value>, Problem> {
    let name = vdisk_name(name)?;
    let VdiskRequest {
        size,
        endpoint,
        on_read_error,
        label,
    } = request;
    let status = match engine.any_role()? {
        Role::Source(source) => {
            endpoint.check(Access::Read).map_err(Problem::invalid)?;
            let wish = on_read_error.unwrap_or_default();
            let vdisk = source.put_vdisk(&name, size, endpoint, wish).await?;
            if let Some(label) = label {
                vdisk.set_label(checked_label(label)?);
            }
            json!(vdisk.status())
        }
        Role::Destination(_) if on_read_error.is_some() || label.is_some() => {
            return Err(Problem::invalid(
                "on_read_error and label are for a source; leave them out",
            ));
        }
        Role::Destination(destination) => {
            endpoint.check(Access::Write).map_err(Problem::invalid)?;
            json!(destination.put_vdisk(&name, size, endpoint).await?.status())
        }
    };
    Ok(Json(status))
}

/// It stands in every pack of a transport device.
fn checked_label(label: String) -> Result<String, Problem> {
    match label.len() <= 256 {
        true => Ok(label),
        false => Err(Problem::invalid("label has at most 256 bytes")),
    }
}

pub(super) async fn delete_vdisk(
    State(engine): State<Engine>,
    name: Name,
) -> Result<Json<Value>, Problem> {
    let name = vdisk_name(name)?;
    let known = match engine.any_role()? {
        Role::Source(source) => source.delete_vdisk(&name),
        Role::Destination(destination) => destination.delete_vdisk(&name).await,
    };
    if known {
        Ok(Json(json!({})))
    } else {
        Err(unknown(&name))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackgroundRequest {
    mode: Mode,
}

pub(super) async fn background(
    State(engine): State<Engine>,
    name: Name,
    Body(request): Body<BackgroundRequest>,
) -> Accepted {
    let vdisk = source_vdisk(&engine, name)?;
    engine.source()?.start_background(&vdisk, request.mode);
    accepted()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EpochRequest {
    epoch: u64,
    endpoint: Option<EndpointSpec>,
    bitmap: Option<String>,
    extents: Option<Vec<(u64, u64)>>,
}

impl EpochRequest {
    fn dirty(self) -> Result<Dirty, Problem> {
        match (self.endpoint, self.bitmap, self.extents) {
            (Some(endpoint), Some(bitmap), None) => Ok(Dirty::Bitmap { endpoint, bitmap }),
            (None, None, Some(extents)) => Ok(Dirty::Extents(extents)),
            _ => Err(Problem::invalid(
                "an epoch has either endpoint and bitmap, or extents",
            )),
        }
    }
}

pub(super) async fn epoch(
    State(engine): State<Engine>,
    name: Name,
    Body(request): Body<EpochRequest>,
) -> Accepted {
    let vdisk = source_vdisk(&engine, name)?;
    let number = request.epoch;
    let started = vdisk.start_epoch(number, request.dirty()?);
    started.map_err(|refused| match refused {
        EpochRefused::Busy(_) => Problem::conflict("epoch_open", refused.to_string()),
        _ => Problem::invalid(refused.to_string()),
    })?;
    accepted()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scope {
    Remaining,
    All,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyRequest {
    scope: Scope,
    repair: bool,
}

pub(super) async fn verify(
    State(engine): State<Engine>,
    name: Name,
    Body(request): Body<VerifyRequest>,
) -> Accepted {
    let vdisk = source_vdisk(&engine, name)?;
    vdisk.start_verify(matches!(request.scope, Scope::All), request.repair);
    accepted()
}

pub(super) async fn retry(
    State(engine): State<Engine>,
    name: Name,
    Body(Nothing {}): Body<Nothing>,
) -> Accepted {
    match engine.any_role()? {
        Role::Source(source) => {
            let vdisk = source_vdisk(&engine, name)?;
            source.retry(&vdisk).await?;
        }
        Role::Destination(destination) => {
            let name = vdisk_name(name)?;
            if !destination.retry(&name) {
                return Err(unknown(&name));
            }
        }
    }
    accepted()
}
