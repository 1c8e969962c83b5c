//! Work that blocks, off the async threads.

use tokio::task::{JoinError, spawn_blocking};

/// Runs `work` where it may block. An error says that it panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match spawn_blocking(work).await {
        // The engine is ending. A failure would go to the peer as one of the disk, and hold it.
        Err(error) if error.is_cancelled() => std::future::pending().await,
        outcome => outcome,
    }
}
