//! Comparison and verification: our hashes against those that the destination reads back.

use super::background::explore;
use super::lock;
use super::outbox::Outbox;
use super::vdisk::Vdisk;
use crate::chunk::Hash;
use crate::hash_table::zero_hash_at;
use crate::scheduler::{HASH_WINDOW, Work};
use crate::trouble::Trouble;
use drover_link::Message;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// Comparisons under way for one VDISK. Each holds one chunk in memory, so they need no share of a
/// budget, and neither background nor pacing can hold up a verification.
const AT_ONCE: usize = 8;

/// Takes hash work as long as the attachment lasts.
pub(super) async fn run(vdisk: Arc<Vdisk>, outbox: Outbox, cancel: CancellationToken) {
    let mut changed = vdisk.watch();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        changed.borrow_and_update();
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        let work = {
            let mut state = lock(&vdisk.state);
            match state.may_take(&cancel) {
                true => state.scheduler.take_hash(),
                false => None,
            }
        };
        let Some(work) = work else {
            drop(place);
            if changed.changed().await.is_err() {
                return;
            }
            continue;
        };
        let (vdisk, outbox, cancel) = (vdisk.clone(), outbox.clone(), cancel.clone());
        tokio::spawn(async move {
            cancel.run_until_cancelled(act(&vdisk, &outbox, work)).await;
            drop(place);
        });
    }
}

async fn act(vdisk: &Arc<Vdisk>, outbox: &Outbox, work: Work) {
    let attempt = vdisk.attempt();
    match work {
        Work::Explore { id, first, count } => {
            if let Err(trouble) = explore(vdisk, outbox, id, first, count).await {
                vdisk.fail(attempt, id, trouble);
            }
        }
        Work::Hash {
            id,
            first,
            count,
            zero,
        } => compare(vdisk, outbox, id, first, count, zero).await,
        other => unreachable!("hashing never hands out {other:?}"),
    }
}

/// Hashes chunks at both ends at the same time and tells the scheduler what is equal.
pub(super) async fn compare(
    vdisk: &Arc<Vdisk>,
    outbox: &Outbox,
    id: u64,
    first: u32,
    count: u32,
    zero: bool,
) {
    let attempt = vdisk.attempt();
    let (answer, answered) = oneshot::channel();
    lock(&vdisk.state).replies.insert(id, answer);
    outbox.say(Message::HashRequest {
        handle: outbox.handle(),
        request: id,
        first,
        count,
    });
    let (ours, theirs) = tokio::join!(hash_here(vdisk, first, count, zero), answered);
    // Without an answer the session is over, and the work is taken back with it.
    let Ok(theirs) = theirs else { return };
    let ours = match ours {
        Ok(ours) => ours,
        Err(trouble) => return vdisk.fail(attempt, id, trouble),
    };
    let theirs: Vec<Hash> = theirs
        .into_iter()
        .flat_map(|(count, hash)| std::iter::repeat_n(hash, count as usize))
        .take(ours.len())
        .collect();
    decide(vdisk, outbox, id, first, &ours, &theirs);
}

fn decide(
    vdisk: &Arc<Vdisk>,
    outbox: &Outbox,
    id: u64,
    first: u32,
    ours: &[Hashed],
    theirs: &[Hash],
) {
    let geometry = vdisk.geometry();
    let mut state = lock(&vdisk.state);
    if !state.scheduler.is_open(id) {
        return;
    }
    let both = ours.iter().enumerate();
    let equal: Vec<bool> = both
        .map(|(index, ours)| theirs.get(index) == Some(&ours.hash))
        .collect();
    for ((chunk, ours), equal) in (first..).zip(ours).zip(&equal) {
        match equal {
            true => state.hashes.set(chunk, ours.hash),
            false => state.hashes.clear(chunk),
        }
        // What can be read again stays in the list until it has been sent.
        if *equal || !ours.unreadable.is_empty() {
            let offset = geometry.offset(chunk);
            let range = offset..offset + u64::from(geometry.length(chunk));
            state.unreadable.replace(range, &ours.unreadable);
        }
    }
    for ((chunk, theirs), equal) in (first..).zip(theirs).zip(&equal) {
        if !equal && *theirs != zero_hash_at(geometry, chunk) {
            state.differing.insert(chunk);
        }
    }
    let confirm = state.scheduler.hashed(id, &equal);
    for work in confirm {
        if let Work::Confirm { id, first, count } = work {
            state.sent.skipped_bytes += geometry.bytes(first, count);
            outbox.say(Message::Confirm {
                handle: outbox.handle(),
                id,
                first,
                count,
            });
        }
    }
    state.after_progress();
    drop(state);
    vdisk.wake();
}

/// Our hash of a chunk; what could not be read of it counts as zeros.
struct Hashed {
    hash: Hash,
    unreadable: Vec<Range<u64>>,
}

async fn hash_here(
    vdisk: &Vdisk,
    first: u32,
    count: u32,
    zero: bool,
) -> Result<Vec<Hashed>, Trouble> {
    let geometry = vdisk.geometry();
    if zero {
        return Ok((first..first + count)
            .map(|chunk| Hashed {
                hash: zero_hash_at(geometry, chunk),
                unreadable: Vec::new(),
            })
            .collect());
    }
    vdisk.endpoint().check().await?;
    debug_assert!(count <= HASH_WINDOW);
    let mut hashes = Vec::with_capacity(count as usize);
    for chunk in first..first + count {
        let read = vdisk
            .read(geometry.offset(chunk), geometry.length(chunk))
            .await?;
        hashes.push(Hashed {
            hash: blake3::hash(&read.bytes).into(),
            unreadable: read.unreadable,
        });
    }
    Ok(hashes)
}
