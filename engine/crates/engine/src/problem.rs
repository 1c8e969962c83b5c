//! Errors of the API: `application/problem+json` with a code for programs.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use drover_replica::trouble::{Trouble, TroubleCode};
use serde::Serialize;

/// What went wrong with a request.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    title: &'static str,
    detail: String,
    code: String,
    #[serde(skip)]
    status: StatusCode,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, code: &str, detail: impl Into<String>) -> Self {
        Problem {
            title,
            detail: detail.into(),
            code: code.to_owned(),
            status,
        }
    }

    /// The request makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "The request is not valid",
            "invalid_request",
            detail,
        )
    }

    /// There is no such thing.
    pub fn missing(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", code, detail)
    }

    /// Not in this state or role.
    pub fn conflict(code: &str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "Not possible now", code, detail)
    }

    /// The engine failed.
    pub fn internal(code: &str, detail: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The engine failed",
            code,
            detail,
        )
    }

    /// The method is not offered on this path.
    pub fn method() -> Self {
        let (status, title) = (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        Self::new(
            status,
            title,
            "method_not_allowed",
            "this path does not offer this method",
        )
    }
}

impl From<Trouble> for Problem {
    fn from(trouble: Trouble) -> Self {
        let code = serde_json::to_value(trouble.code).ok();
        let code = code
            .as_ref()
            .and_then(|code| code.as_str())
            .unwrap_or("trouble")
            .to_owned();
        let status = match trouble.code {
            TroubleCode::SizeMismatch | TroubleCode::EndpointGone | TroubleCode::Fenced => {
                StatusCode::CONFLICT
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, "The VDISK cannot be used", &code, trouble.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self)).into_response();
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}
