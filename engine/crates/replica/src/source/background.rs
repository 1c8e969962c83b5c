//! Background replication: explores, reads ahead, sends.

use super::devices::{Content, Job};
use super::differing::blocks_to_send;
use super::lock;
use super::outbox::{Lane, Outbox, is_zero};
use super::vdisk::Vdisk;
use crate::budget::Share;
use crate::chunk::{CHUNK_SIZE, Hash};
use crate::endpoint::{Span, zero_chunks};
use crate::scheduler::Work;
use crate::trouble::{Trouble, TroubleCode};
use drover_link::Message;
use drover_link::limits::LEAST_COST;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What follows from one exploration and goes on at once; a comparison holds one chunk in memory.
const FOLLOWS_AT_ONCE: usize = 16;

/// Takes background work as long as the attachment lasts.
pub(super) async fn run(vdisk: Arc<Vdisk>, outbox: Outbox, cancel: CancellationToken) {
    let mut changed = vdisk.watch();
    loop {
        changed.borrow_and_update();
        // Memory first: a chunk stays pending, and so free to be written, until its turn comes.
        let memory = outbox.memory(Lane::Background, u64::from(CHUNK_SIZE)).await;
        vdisk.limits.look(&vdisk, &outbox);
        let work = {
            let room = outbox.lanes.shared.devices.have_room();
            let mut state = lock(&vdisk.state);
            state.scheduler.set_room(room);
            match state.may_take(&cancel) {
                true => state.scheduler.take_background(),
                false => None,
            }
        };
        let Some(work) = work else {
            drop(memory);
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        let (vdisk, outbox, cancel) = (vdisk.clone(), outbox.clone(), cancel.clone());
        if let Work::Load { id, chunk } = work {
            // It does not depend on the link, and must not be left half-way.
            tokio::spawn(async move { load_chunk(&vdisk, &outbox, id, chunk, memory).await });
            continue;
        }
        tokio::spawn(async move {
            cancel
                .run_until_cancelled(act(&vdisk, &outbox, work, memory))
                .await;
        });
    }
}

async fn act(vdisk: &Arc<Vdisk>, outbox: &Outbox, work: Work, memory: Share) {
    let attempt = vdisk.attempt();
    let outcome = match work {
        Work::Explore { id, first, count } => {
            drop(memory);
            explore(vdisk, outbox, id, first, count)
                .await
                .map_err(|trouble| (id, trouble))
        }
        Work::Read { id, chunk } => {
            let outcome = send_chunk(vdisk, outbox, id, chunk, memory).await;
            outcome.map_err(|trouble| (id, trouble))
        }
        other => unreachable!("background never hands out {other:?}"),
    };
    match outcome {
        Ok(()) => flush_if_last(vdisk, outbox),
        Err((id, trouble)) => vdisk.fail(attempt, id, trouble),
    }
}

/// Asks which chunks are zero. Used for hashing too, since the zeros need no reading there either.
pub(super) async fn explore(
    vdisk: &Arc<Vdisk>,
    outbox: &Outbox,
    id: u64,
    first: u32,
    count: u32,
) -> Result<(), Trouble> {
    let geometry = vdisk.geometry();
    let endpoint = vdisk.endpoint();
    endpoint.check().await?;
    let (offset, length) = (geometry.offset(first), geometry.bytes(first, count));
    let spans = match endpoint.spans(offset, length).await {
        // Bad sectors in the map of a VDISK hide no data: all of it is read.
        Err(trouble) if trouble.code == TroubleCode::ReadError => {
            tracing::warn!(
                vdisk = vdisk.name(),
                offset,
                length,
                "holes are unknown: {trouble}"
            );
            vec![Span {
                length,
                zero: false,
            }]
        }
        spans => spans?,
    };
    let zero = zero_chunks(geometry, first, count, &spans);
    let follows = lock(&vdisk.state).scheduler.explored(id, &zero);
    vdisk.wake();
    // Together, since each comparison waits for a round trip, and holes may cut a range into many.
    stream::iter(follows)
        .for_each_concurrent(FOLLOWS_AT_ONCE, |work| follow(vdisk, outbox, work))
        .await;
    Ok(())
}

/// Does what came out of an exploration.
async fn follow(vdisk: &Arc<Vdisk>, outbox: &Outbox, work: Work) {
    match work {
        Work::Zero { id, first, count } => {
            let geometry = vdisk.geometry();
            let (offset, length) = (geometry.offset(first), geometry.bytes(first, count));
            let memory = outbox.memory(Lane::Background, LEAST_COST).await;
            outbox
                .send_zeros(vdisk, id, offset, length, Lane::Background, memory)
                .await;
        }
        Work::Hash {
            id,
            first,
            count,
            zero,
        } => super::hashing::compare(vdisk, outbox, id, first, count, zero).await,
        other => unreachable!("{other:?} does not follow from an exploration"),
    }
}

async fn send_chunk(
    vdisk: &Arc<Vdisk>,
    outbox: &Outbox,
    id: u64,
    chunk: u32,
    memory: Share,
) -> Result<(), Trouble> {
    let geometry = vdisk.geometry();
    let offset = geometry.offset(chunk);
    let length = geometry.length(chunk);
    let asked = vdisk.ask_for_blocks(outbox, id, chunk);
    let read = vdisk.read(offset, length).await?;
    vdisk.note_unreadable(offset, length, &read.unreadable);
    let blocks = match asked {
        Some(answered) => {
            let _waiting = vdisk.limits.queue();
            let theirs = answered.await.ok();
            theirs.and_then(|theirs| blocks_to_send(&read.bytes, &theirs))
        }
        None => None,
    };
    match blocks {
        Some(blocks) => {
            outbox
                .send_blocks(vdisk, id, offset, read.bytes, blocks, memory)
                .await;
        }
        None => {
            outbox
                .send_bytes(vdisk, id, offset, read.bytes, Lane::Background, memory)
                .await;
        }
    }
    Ok(())
}

/// Reads a chunk for a transport device.
async fn load_chunk(vdisk: &Arc<Vdisk>, outbox: &Outbox, id: u64, chunk: u32, memory: Share) {
    let attempt = vdisk.attempt();
    let geometry = vdisk.geometry();
    let (offset, raw_length) = (geometry.offset(chunk), geometry.length(chunk));
    let read = match vdisk.read(offset, raw_length).await {
        Ok(read) => read,
        Err(trouble) => return vdisk.fail(attempt, id, trouble),
    };
    vdisk.note_unreadable(offset, raw_length, &read.unreadable);
    let devices = &outbox.lanes.shared.devices;
    let hash: Option<Hash> = (!is_zero(&read.bytes)).then(|| blake3::hash(&read.bytes).into());
    let Some(device) = devices.choose(hash.as_ref()) else {
        return vdisk.not_loaded(std::iter::once(id));
    };
    let content = hash.map(|hash| {
        let (compression, payload) = device.compressor.compress(&read.bytes);
        Content {
            hash,
            compression,
            payload,
        }
    });
    drop(read);
    let bytes = content.as_ref().map_or(0, |content| content.payload.len());
    let paced = vdisk.limits.pace();
    outbox.lanes.shared.pacing.pay_aside(bytes as u64).await;
    drop(paced);
    let held_up = device.is_behind();
    device
        .compressor
        .sent(u64::from(raw_length), bytes as u64, held_up);
    device.put(Job {
        vdisk: vdisk.clone(),
        id,
        chunk,
        raw_length,
        content,
        _memory: memory,
    });
}

/// The last of the background data need not wait for the next batch.
fn flush_if_last(vdisk: &Vdisk, outbox: &Outbox) {
    if !lock(&vdisk.state).scheduler.background_waits() {
        outbox.say(Message::Flush {
            handle: outbox.handle(),
        });
    }
}
