//! Request bodies: JSON of exactly the expected type, with errors in our own form.

use crate::problem::Problem;
use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A JSON body. The content type is not asked for: there is no other.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let raw = Bytes::from_request(request, state)
            .await
            .map_err(|error| Problem::invalid(format!("reading the body failed: {error}")))?;
        // An empty body is an empty object, so that verbs without arguments need none.
        let text: &[u8] = if raw.is_empty() { b"{}" } else { &raw };
        // serde names the field and what is wrong with it, but quotes no long values.
        serde_json::from_slice(text)
            .map(Body)
            .map_err(|error| Problem::invalid(shortened(&error.to_string())))
    }
}

/// Values of a request may hold keys; no error message carries a whole one.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 200;
    text.chars().take(LONGEST).collect()
}

/// No fields at all.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// The name of a VDISK from the path.
pub fn vdisk_name(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(name) = path.map_err(|error| Problem::invalid(error.to_string()))?;
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if first && name.len() <= 64 && name.bytes().all(legal) {
        return Ok(name);
    }
    Err(Problem::invalid(
        "a VDISK's name is [a-z0-9][a-z0-9._-]{0,63}",
    ))
}
