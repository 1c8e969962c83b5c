//! The link, its pacing, and the fence.

use super::body::Body;
use crate::engine::Engine;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use drover_link::LinkError;
use drover_link::limits::MAX_CONNECTIONS;
use drover_link::tls::{DESTINATION_NAME, Identity};
use drover_replica::compression::Choice;
use drover_replica::destination::DestinationLink;
use drover_replica::source::SourceLink;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum LinkRequest {
    Destination {
        listen: String,
        certificate: String,
        key: String,
        authority: String,
        token: u64,
    },
    Source {
        connect: String,
        #[serde(default = "destination_name")]
        server_name: String,
        #[serde(default = "eight")]
        connections: u16,
        certificate: String,
        key: String,
        authority: String,
        token: u64,
        #[serde(default)]
        compression: Choice,
    },
}

fn destination_name() -> String {
    DESTINATION_NAME.to_owned()
}

fn eight() -> u16 {
    8
}

pub(super) async fn put_link(
    State(engine): State<Engine>,
    Body(request): Body<LinkRequest>,
) -> Result<Json<Value>, Problem> {
    match request {
        LinkRequest::Destination {
            listen,
            certificate,
            key,
            authority,
            token,
        } => {
            let identity = identity(&certificate, &key, &authority)?;
            let destination = engine.become_destination()?;
            let link = DestinationLink {
                listen,
                identity,
                token,
            };
            let address = destination.put_link(link).await.map_err(link_problem)?;
            Ok(Json(json!({ "address": address.to_string() })))
        }
        LinkRequest::Source {
            connect,
            server_name,
            connections,
            certificate,
            key,
            authority,
            token,
            compression,
        } => {
            check_connections(connections)?;
            let identity = identity(&certificate, &key, &authority)?;
            let source = engine.become_source()?;
            source.put_link(SourceLink {
                connect,
                server_name,
                connections,
                identity,
                token,
                compression,
            });
            Ok(Json(json!({})))
        }
    }
}

fn check_connections(connections: u16) -> Result<(), Problem> {
    match (1..=MAX_CONNECTIONS).contains(&connections) {
        true => Ok(()),
        false => Err(Problem::invalid(format!(
            "connections must be 1 to {MAX_CONNECTIONS}"
        ))),
    }
}

/// What can be changed while a session goes on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkChange {
    connections: u16,
}

pub(super) async fn patch_link(
    State(engine): State<Engine>,
    Body(change): Body<LinkChange>,
) -> Result<Json<Value>, Problem> {
    check_connections(change.connections)?;
    if engine.source()?.set_connections(change.connections) {
        return Ok(Json(json!({})));
    }
    Err(Problem::conflict(
        "link_error",
        "there is no link to change yet; PUT /v1/link first",
    ))
}

fn identity(certificate: &str, key: &str, authority: &str) -> Result<Identity, Problem> {
    Identity::from_pem(certificate, key, authority)
        .map_err(|error| Problem::invalid(error.to_string()))
}

fn link_problem(error: LinkError) -> Problem {
    match error {
        LinkError::Refused { message, .. } => Problem::conflict("token_refused", message),
        other => Problem::conflict("link_error", other.to_string()),
    }
}

/// Bytes per second; null = as fast as it goes.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pacing {
    background: Option<u64>,
    link: Option<u64>,
}

pub(super) async fn put_pacing(
    State(engine): State<Engine>,
    Body(request): Body<Pacing>,
) -> Result<Json<Pacing>, Problem> {
    if request.background == Some(0) || request.link == Some(0) {
        return Err(Problem::invalid(
            "a rate must be at least 1 byte per second, or null for no limit",
        ));
    }
    let source = engine.become_source()?;
    source.pacing().background.set(request.background);
    source.pacing().link.set(request.link);
    Ok(Json(request))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fence {
    token: u64,
}

pub(super) async fn fence(
    State(engine): State<Engine>,
    Body(request): Body<Fence>,
) -> Result<Json<Value>, Problem> {
    let destination = engine.become_destination()?;
    destination.fence(request.token).await.map_err(|error| {
        Problem::internal("state_error", format!("storing the fence failed: {error}"))
    })?;
    Ok(Json(json!({})))
}
