//! What must hold in every state, and what must stay reachable from each.

use super::Limits;
use super::troubles::Trouble;
use super::world::{Content, Item, Stage, World};
use crate::scheduler::Kind;
use crate::scheduler::chunks::Phase;

/// Nothing that the guest was told is durable waits anywhere.
pub(super) fn is_quiet(world: &World) -> bool {
    let captured = world.captured && !world.compare && world.bitmap == 0 && world.sealed.is_none();
    captured && world.stopped && world.scheduler.known && world.scheduler.is_clean()
}

/// The cutover may go on to start the VM at the destination.
pub(super) fn is_goal(world: &World, limits: &Limits) -> bool {
    is_quiet(world) && (limits.verifies == 0 || world.scheduler.is_verified())
}

pub(super) fn check(world: &World, limits: &Limits) -> Result<(), String> {
    world.scheduler.check_invariants()?;
    one_copy_in_flight(world)?;
    let rots = limits
        .kinds
        .iter()
        .any(|kind| matches!(kind, Trouble::Rots(_)));
    let done = match rots {
        true => is_quiet(world) && world.scheduler.is_verified(),
        false => is_quiet(world),
    };
    for block in 0..limits.blocks.len() {
        if done && world.medium[block] != world.source[block] {
            return Err(format!("finished, and block {block} differs"));
        }
        if rots || world.writing & (1 << block) != 0 {
            continue;
        }
        let chunk = limits.blocks[block].0;
        let noted = world.noted & world.trusted & !world.claims & (1 << chunk) != 0;
        if in_the_end(world, block, noted) != world.source[block] {
            survives_the_source_engine(world, limits, block, noted)?;
        }
        let loaded = world.scheduler.is_loaded(chunk) && world.claims & (1 << chunk) == 0;
        if in_the_end(world, block, loaded) != world.source[block] {
            is_remembered(world, limits, block)?;
        }
    }
    Ok(())
}

/// What the destination will hold if nothing is done but that devices are unloaded.
fn in_the_end(world: &World, block: usize, from_device: bool) -> Content {
    match from_device && world.newer & (1 << block) == 0 {
        true => world.device[block],
        false => world.medium[block],
    }
}

/// Two writes of one block that could land in either order; a write under a hash.
fn one_copy_in_flight(world: &World) -> Result<(), String> {
    let mut seen = 0;
    for item in &world.items {
        if !matches!(item.stage, Stage::OnTheWire | Stage::ToHash | Stage::Hashed) {
            continue;
        }
        if seen & item.blocks != 0 {
            return Err(format!(
                "two copies of blocks {:b} in flight",
                seen & item.blocks
            ));
        }
        seen |= item.blocks;
    }
    Ok(())
}

/// If the source's engine died now, the block would be sent again: because of a bitmap, because the
/// journal does not claim its chunk and no load does, or because of a comparison.
fn survives_the_source_engine(
    world: &World,
    limits: &Limits,
    block: usize,
    noted: bool,
) -> Result<(), String> {
    let bits = world.bitmap | world.sealed.map_or(0, |sealed| sealed.bits);
    let claimed = world.claims & (1 << limits.blocks[block].0) != 0;
    let believed = claimed || noted;
    if bits & (1 << block) != 0 || !believed || world.compare || !world.captured {
        return Ok(());
    }
    Err(format!(
        "block {block} would be lost with the source's engine"
    ))
}

/// The engine that lives knows that the block has to be sent, or will be told so.
fn is_remembered(world: &World, limits: &Limits, block: usize) -> Result<(), String> {
    let told = world.bitmap | world.sealed.map_or(0, |sealed| sealed.unread);
    let comparing = !world.captured || world.scheduler.must_forget();
    if told & (1 << block) != 0 || comparing || !world.up {
        return Ok(());
    }
    let (chunk, index) = limits.blocks[block];
    let dirty = world.scheduler.chunks.dirty(chunk) & (1 << index) != 0;
    let known = match world.scheduler.chunks.phase(chunk) {
        Phase::Unknown | Phase::Pending | Phase::Unchecked => true,
        Phase::Clean => dirty,
        Phase::InFlight => dirty || is_on_its_way(world, block, chunk),
    };
    if known {
        return Ok(());
    }
    Err(format!("block {block} is forgotten"))
}

fn is_on_its_way(world: &World, block: usize, chunk: u32) -> bool {
    let live = world
        .items
        .iter()
        .filter(|item| world.scheduler.is_open(item.id));
    live.filter(|item| (item.first..item.first + item.count).contains(&chunk))
        .any(|item| {
            let carries = item.blocks & (1 << block) != 0;
            // The sync that follows makes stable what the destination reads back already.
            let confirms = item.claims && item.blocks == 0;
            match item.stage {
                _ if is_compared_later(world, item) => true,
                Stage::OnTheWire | Stage::Landed if confirms => {
                    world.cache[block] == world.source[block]
                }
                Stage::ToExplore => true,
                Stage::Explored(_) if !carries => true,
                Stage::ToRead | Stage::ToHash => carries,
                Stage::Explored(_) | Stage::Hashed if hashes(world, item) => {
                    // What differs is sent again; what is equal is made stable.
                    let equal = item.contents[block] == world.cache[block];
                    carries && (!equal || world.cache[block] == world.source[block])
                }
                Stage::Explored(_) | Stage::Hashed | Stage::OnTheWire | Stage::Loading => {
                    carries && item.contents[block] == world.source[block]
                }
                Stage::Landed => carries && world.cache[block] == world.source[block],
                // It is noted that it is newer than on a device before it is acknowledged.
                Stage::Stable => {
                    let newer = world.scheduler.newer_than_device(item.id).is_some();
                    newer && carries && world.medium[block] == world.source[block]
                }
            }
        })
}

/// By way of a transport device, and compared whatever that has brought.
fn is_compared_later(world: &World, item: &Item) -> bool {
    let open = world.scheduler.open.get(&item.id);
    open.is_some_and(|open| {
        matches!(
            open.kind,
            Kind::Load { compare: true } | Kind::Unload { compare: true }
        )
    })
}

/// Whether what was read is compared, not sent.
fn hashes(world: &World, item: &Item) -> bool {
    let open = world.scheduler.open.get(&item.id);
    open.is_some_and(|open| matches!(open.kind, Kind::Hash(_) | Kind::Explore(Some(_))))
}
