//! The life of the process: lease, socket, API, graceful stop.

use crate::engine::Engine;
use crate::{api, lease, log};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::path::Path;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// A stop does not wait longer than this for requests that are still being answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until SIGTERM, SIGINT or POST /v1/stop.
pub async fn serve(api: &Path, state: &Path, log: Option<&Path>) -> Result<(), String> {
    log::start(log)?;
    allow_many_files();
    let _lease = lease::hold(state)?;
    let listener = lease::bind(api)?;
    let engine = Engine::new(state.to_owned());
    tracing::info!(version = env!("CARGO_PKG_VERSION"), api = %api.display(), "engine ready");
    stop_on_signal(&engine)?;
    let stopping = engine.stopping().clone();
    let server = axum::serve(listener, api::router(engine.clone()))
        .with_graceful_shutdown(stopping.clone().cancelled_owned());
    let server = tokio::spawn(server.into_future());
    stopping.cancelled().await;
    tracing::info!("stopping");
    engine.stop_replication().await;
    let served = tokio::time::timeout(PATIENCE, server).await;
    if let Ok(Ok(Err(error))) = served {
        tracing::warn!("the API ended with an error: {error}");
    }
    // The socket is ours: the lease and the bind made sure of it.
    let _ = std::fs::remove_file(api);
    tracing::info!("stopped");
    Ok(())
}

/// As many open files as the system lets this process have: callers at the door take one each.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit on open files stays: {error}");
    }
}

fn stop_on_signal(engine: &Engine) -> Result<(), String> {
    let failed = |error| format!("listening for signals failed: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stopping = engine.stopping().clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(())
}
