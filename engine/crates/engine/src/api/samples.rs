//! Samples of what a VDISK holds; no role is needed.

use super::body::Body;
use crate::engine::Engine;
use crate::problem::Problem;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use drover_replica::endpoint::{Access, EndpointSpec};
use drover_replica::sample::{MOST_CHUNKS, Sample, SampleRequest, SampleStatus};
use serde::Deserialize;
use serde_json::{Value, json};

type Id = Result<Path<String>, PathRejection>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    endpoint: EndpointSpec,
    size: u64,
    chunks: usize,
    #[serde(default)]
    seed: u64,
    rate: Option<u64>,
}

pub(super) async fn post_sample(
    State(engine): State<Engine>,
    Body(request): Body<Request>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    request
        .endpoint
        .check(Access::Read)
        .map_err(Problem::invalid)?;
    if !(1..=MOST_CHUNKS).contains(&request.chunks) {
        return Err(Problem::invalid(format!(
            "chunks must be 1 to {MOST_CHUNKS}"
        )));
    }
    if request.rate == Some(0) {
        return Err(Problem::invalid(
            "a rate must be at least 1 byte per second, or null for no limit",
        ));
    }
    let place = engine.reserve_sample()?;
    let sample = Sample::start(SampleRequest {
        endpoint: request.endpoint,
        size: request.size,
        chunks: request.chunks,
        seed: request.seed,
        rate: request.rate,
    });
    let id = place.fill(sample.await?);
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

fn number(id: Id) -> Result<u64, Problem> {
    let Path(text) = id.map_err(|error| Problem::invalid(error.to_string()))?;
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::missing(
        "unknown_sample",
        "this sample is not known; POST /v1/samples takes one",
    )
}

pub(super) async fn get_sample(
    State(engine): State<Engine>,
    id: Id,
) -> Result<Json<SampleStatus>, Problem> {
    engine.sample(number(id)?).map(Json).ok_or_else(unknown)
}

pub(super) async fn delete_sample(
    State(engine): State<Engine>,
    id: Id,
) -> Result<Json<Value>, Problem> {
    match engine.end_sample(number(id)?) {
        true => Ok(Json(json!({}))),
        false => Err(unknown()),
    }
}
