//! Extents of others (allocation, dirty bitmaps) and what they come to in chunks and blocks.

use arbitrary::{Arbitrary, Result, Unstructured};
use drover_replica::chunk::{BLOCK_SIZE, CHUNK_SIZE, Geometry};
use drover_replica::endpoint::{Span, zero_chunks};
use drover_replica::scheduler::Scheduler;
use std::collections::BTreeSet;

/// Most chunks of a VDISK here, so that every chunk can be looked at.
const CHUNKS: u64 = 64;

/// A plan of a geometry, spans and dirty ranges.
pub(crate) fn extents(bytes: &[u8]) {
    let mut plan = Unstructured::new(bytes);
    // Bytes that end before a plan is complete are no plan.
    let _ = zeros(&mut plan).and_then(|geometry| dirt(geometry, &mut plan));
}

/// Chunks count as zero exactly if every byte of them does.
fn zeros(plan: &mut Unstructured) -> Result<Geometry> {
    let size = 1 + u64::arbitrary(plan)? % (CHUNKS * u64::from(CHUNK_SIZE));
    let geometry = Geometry::new(size);
    let first = u32::arbitrary(plan)? % geometry.chunks();
    let count = 1 + u32::arbitrary(plan)? % (geometry.chunks() - first);
    let mut spans: Vec<Span> = Vec::new();
    for _ in 0..u8::arbitrary(plan)? % 32 {
        let length = 1 + u64::from(u32::arbitrary(plan)?) % (4 * u64::from(CHUNK_SIZE));
        let zero = bool::arbitrary(plan)?;
        match spans.last_mut() {
            Some(last) if last.zero == zero => last.length += length,
            _ => spans.push(Span { length, zero }),
        }
    }
    let found: BTreeSet<u32> = zero_chunks(geometry, first, count, &spans)
        .into_iter()
        .flat_map(|(first, count)| first..first + count)
        .collect();
    for chunk in 0..geometry.chunks() {
        let begin = geometry.offset(chunk);
        let end = begin + u64::from(geometry.length(chunk));
        let wanted = (first..first + count).contains(&chunk);
        let zero = wanted && is_zero(geometry.offset(first), &spans, begin, end);
        assert_eq!(
            found.contains(&chunk),
            zero,
            "chunk {chunk} of {geometry:?}"
        );
    }
    Ok(geometry)
}

fn is_zero(mut position: u64, spans: &[Span], begin: u64, end: u64) -> bool {
    spans.iter().any(|span| {
        let span_begin = position;
        position += span.length;
        span.zero && span_begin <= begin && end <= position
    })
}

/// Every dirty block of a clean VDISK travels, and no other.
fn dirt(geometry: Geometry, plan: &mut Unstructured) -> Result<()> {
    let mut scheduler = Scheduler::new(geometry);
    scheduler.opened([(true, geometry.chunks())], false, |_| false);
    let mut wanted = BTreeSet::new();
    for _ in 0..u8::arbitrary(plan)? % 16 {
        let offset = match u8::arbitrary(plan)? {
            0 => u64::arbitrary(plan)?,
            _ => u64::from(u32::arbitrary(plan)?) % geometry.size(),
        };
        let length = match u8::arbitrary(plan)? {
            0 => u64::arbitrary(plan)?,
            few => u64::from(few) * u64::from(u16::arbitrary(plan)?),
        };
        scheduler.mark_dirty(offset, length);
        let end = offset.saturating_add(length).min(geometry.size());
        if offset < end {
            let block = u64::from(BLOCK_SIZE);
            wanted.extend(offset / block..=(end - 1) / block);
        }
        scheduler
            .check_invariants()
            .expect("the scheduler's invariants");
    }
    let mut taken = BTreeSet::new();
    while let Some(pieces) = scheduler.take_foreground() {
        for piece in pieces {
            let (offset, length) = geometry.piece(piece.chunk, piece.first_block, piece.blocks);
            assert!(length > 0 && offset + u64::from(length) <= geometry.size());
            let first = offset / u64::from(BLOCK_SIZE);
            for block in first..first + u64::from(piece.blocks) {
                assert!(taken.insert(block), "block {block} travels twice");
            }
            assert!(scheduler.acknowledged(piece.id));
        }
    }
    assert_eq!(taken, wanted);
    assert!(scheduler.is_clean() && scheduler.epoch_is_stable());
    Ok(())
}
