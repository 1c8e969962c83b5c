//! The control API: paths and methods, in the order of `docs/engine-api.yaml`.

mod body;
mod devices;
mod events;
mod link;
mod samples;
mod status;
mod vdisks;

use crate::engine::Engine;
use crate::problem::Problem;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};

/// Certificates are a few kilobytes.
const LONGEST_BODY: usize = 256 << 10;

/// Every path of the API with its handlers.
pub fn router(engine: Engine) -> Router {
    Router::new()
        .route("/v1/engine", get(status::engine))
        .route("/v1/link", put(link::put_link).patch(link::patch_link))
        .route(
            "/v1/vdisks/{name}",
            put(vdisks::put_vdisk).delete(vdisks::delete_vdisk),
        )
        .route("/v1/vdisks/{name}/background", post(vdisks::background))
        .route("/v1/vdisks/{name}/epochs", post(vdisks::epoch))
        .route("/v1/vdisks/{name}/verify", post(vdisks::verify))
        .route("/v1/vdisks/{name}/retry", post(vdisks::retry))
        .route(
            "/v1/devices/{id}",
            put(devices::put_device).delete(devices::delete_device),
        )
        .route("/v1/devices/{id}/forget", post(devices::forget))
        .route("/v1/samples", post(samples::post_sample))
        .route(
            "/v1/samples/{id}",
            get(samples::get_sample).delete(samples::delete_sample),
        )
        .route("/v1/pacing", put(link::put_pacing))
        .route("/v1/fence", post(link::fence))
        .route("/v1/status", get(status::status))
        .route("/v1/events", get(events::events))
        .route("/v1/stop", post(status::stop))
        .fallback(async || {
            Problem::missing(
                "unknown_path",
                "there is no such path; see the API's document",
            )
        })
        .method_not_allowed_fallback(async || Problem::method())
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(engine)
}
