//! The status as a stream of server-sent events.

use super::status::snapshot;
use crate::engine::Engine;
use crate::problem::Problem;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, Sse};
use futures_util::stream::{Stream, unfold};
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;

/// Shortest and longest interval between two events, in seconds.
const INTERVALS: std::ops::RangeInclusive<f64> = 0.05..=60.0;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    #[serde(default = "one")]
    interval: f64,
}

fn one() -> f64 {
    1.0
}

pub(super) async fn events(
    State(engine): State<Engine>,
    wish: Result<Query<Wish>, QueryRejection>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Query(wish) = wish.map_err(|error| Problem::invalid(error.to_string()))?;
    if !INTERVALS.contains(&wish.interval) {
        return Err(Problem::invalid("interval must be 0.05 to 60 seconds"));
    }
    let ticks = tokio::time::interval(Duration::from_secs_f64(wish.interval));
    let stream = unfold((engine, ticks), async |(engine, mut ticks)| {
        tokio::select! {
            _ = ticks.tick() => {}
            () = engine.stopping().cancelled() => return None,
        }
        let event = Event::default().data(snapshot(&engine).to_string());
        Some((Ok(event), (engine, ticks)))
    });
    Ok(Sse::new(stream))
}
