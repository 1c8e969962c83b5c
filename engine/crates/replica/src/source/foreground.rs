//! Foreground replication: the dirty blocks of an epoch.

use super::lock;
use super::outbox::{Lane, Outbox};
use super::vdisk::Vdisk;
use crate::budget::Share;
use crate::chunk::CHUNK_SIZE;
use crate::scheduler::Piece;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Takes foreground work as long as the attachment lasts.
pub(super) async fn run(vdisk: Arc<Vdisk>, outbox: Outbox, cancel: CancellationToken) {
    let mut changed = vdisk.watch();
    loop {
        changed.borrow_and_update();
        let memory = outbox.memory(Lane::Foreground, u64::from(CHUNK_SIZE)).await;
        let pieces = {
            let mut state = lock(&vdisk.state);
            let pieces = match state.may_take(&cancel) {
                true => state.scheduler.take_foreground(),
                false => None,
            };
            if pieces.is_some() {
                state.root = None;
            }
            pieces
        };
        let Some(pieces) = pieces else {
            drop(memory);
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        // With the last entry gone background may take its turn.
        vdisk.wake();
        send(&vdisk, &outbox, &cancel, pieces, memory);
    }
}

/// One task per piece; together they hold the memory of one chunk at most.
fn send(
    vdisk: &Arc<Vdisk>,
    outbox: &Outbox,
    cancel: &CancellationToken,
    pieces: Vec<Piece>,
    mut memory: Share,
) {
    let geometry = vdisk.geometry();
    for piece in pieces {
        let (offset, length) = geometry.piece(piece.chunk, piece.first_block, piece.blocks);
        let Some(memory) = memory.split(u64::from(length)) else {
            unreachable!("the pieces of a chunk are not longer than a chunk")
        };
        let (vdisk, outbox, cancel) = (vdisk.clone(), outbox.clone(), cancel.clone());
        tokio::spawn(async move {
            let attempt = vdisk.attempt();
            let work = async {
                match vdisk.read(offset, length).await {
                    Err(trouble) => vdisk.fail(attempt, piece.id, trouble),
                    Ok(read) => {
                        vdisk.note_unreadable(offset, length, &read.unreadable);
                        outbox
                            .send_bytes(
                                &vdisk,
                                piece.id,
                                offset,
                                read.bytes,
                                Lane::Foreground,
                                memory,
                            )
                            .await;
                    }
                }
            };
            cancel.run_until_cancelled(work).await;
        });
    }
}
