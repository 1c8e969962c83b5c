//! Every order of events in a small world, with the real scheduler: no order loses a write.

mod actions;
mod properties;
mod sabotage;
mod search;
mod steps;
mod troubles;
mod world;

use sabotage::Sabotage;
use search::Seen;
use troubles::Trouble;

/// Most blocks of a small world.
const MAX_BLOCKS: usize = 4;

/// As many as one likes: the states are numbered so that they stay finite all the same.
const ANY: u8 = u8::MAX;

/// How small the world is.
#[derive(Debug, Clone)]
struct Limits {
    /// The blocks that the guest writes: chunk, and block in it. The VDISK ends with the last.
    blocks: &'static [(u32, u32)],
    writes: u8,
    troubles: u8,
    kinds: &'static [Trouble],
    verifies: u8,
    /// Background goes to a transport device.
    device: bool,
    sabotage: Option<Sabotage>,
}

const ALL: &[Trouble] = &[
    Trouble::Fails(0),
    Trouble::ConnectionDies(0),
    Trouble::SessionEnds,
    Trouble::SourceEngineDies,
    Trouble::DestinationEngineDies,
    Trouble::DestinationLosesPower(0),
    Trouble::JournalIsVoid,
    Trouble::DestinationIsMadeAnew,
    Trouble::PowerCycle,
    Trouble::EpochIsMergedBack,
    Trouble::DeviceIsForgotten,
];

const ONE_BLOCK: &[(u32, u32)] = &[(0, 0)];
const TWO_PIECES: &[(u32, u32)] = &[(0, 0), (0, 2)];
const TWO_CHUNKS: &[(u32, u32)] = &[(0, 0), (1, 0)];

/// No verification: the sent data alone has to make both sides equal.
const SMALLEST: Limits = Limits {
    blocks: ONE_BLOCK,
    writes: ANY,
    troubles: 2,
    kinds: ALL,
    verifies: 0,
    device: false,
    sabotage: None,
};

fn holds(name: &str, limits: &Limits) {
    let begun = std::time::Instant::now();
    match search::explore(limits) {
        Ok(Seen { states, steps }) => {
            println!(
                "{name}: {states} states, {steps} steps in {:?}",
                begun.elapsed()
            );
        }
        Err(found) => panic!("{name}: {}\n{}", found.broken, found.trace),
    }
}

#[test]
fn no_order_of_events_loses_a_write() {
    holds("one block, any writes, two troubles", &SMALLEST);
    let pieces = Limits {
        blocks: TWO_PIECES,
        writes: 2,
        troubles: 1,
        ..SMALLEST
    };
    holds("two pieces of a chunk", &pieces);
    let chunks = Limits {
        blocks: TWO_CHUNKS,
        writes: 2,
        troubles: 0,
        ..SMALLEST
    };
    holds("two chunks, no trouble", &chunks);
}

/// By road instead of over the link.
const BY_ROAD: Limits = Limits {
    device: true,
    ..SMALLEST
};

#[test]
fn no_order_of_events_loses_a_write_by_road() {
    holds("by road, one block, any writes, two troubles", &BY_ROAD);
    let pieces = Limits {
        blocks: TWO_PIECES,
        writes: 2,
        troubles: 1,
        ..BY_ROAD
    };
    holds("by road, two pieces of a chunk", &pieces);
}

#[test]
fn verification_finds_and_repairs_what_rots() {
    let rots = Limits {
        writes: 1,
        troubles: 1,
        kinds: &[Trouble::Rots(0)],
        verifies: 1,
        ..SMALLEST
    };
    holds("one block rots", &rots);
}

/// Bigger worlds, for minutes: `DROVER_EXHAUSTIVE=1 cargo test --release`.
#[test]
fn no_order_of_events_loses_a_write_in_bigger_worlds() {
    if std::env::var_os("DROVER_EXHAUSTIVE").is_none() {
        return;
    }
    let road = Limits {
        troubles: ANY,
        ..BY_ROAD
    };
    holds("by road, one block, any writes, any troubles", &road);
    let road = Limits {
        blocks: TWO_PIECES,
        writes: 2,
        troubles: 2,
        ..BY_ROAD
    };
    holds("by road, two pieces of a chunk, two troubles", &road);
    let any = Limits {
        troubles: ANY,
        ..SMALLEST
    };
    holds("one block, any writes, any troubles", &any);
    let verified = Limits {
        verifies: ANY,
        ..any.clone()
    };
    holds("the same with verification at any time", &verified);
    let pieces = Limits {
        blocks: TWO_PIECES,
        troubles: 2,
        ..any.clone()
    };
    holds("two pieces of a chunk, any writes, two troubles", &pieces);
    let chunks = Limits {
        blocks: TWO_CHUNKS,
        writes: 2,
        troubles: 2,
        ..any.clone()
    };
    holds("two chunks, two writes, two troubles", &chunks);
}

#[test]
fn every_sabotage_is_found() {
    let over_the_link = Sabotage::ALL.map(|sabotage| (sabotage, SMALLEST));
    let by_road = Sabotage::DEVICE.map(|sabotage| {
        let limits = Limits {
            blocks: TWO_PIECES,
            writes: 1,
            troubles: 1,
            ..BY_ROAD
        };
        (sabotage, limits)
    });
    for (sabotage, limits) in over_the_link.into_iter().chain(by_road) {
        let limits = Limits {
            sabotage: Some(sabotage),
            ..limits
        };
        match search::explore(&limits) {
            Ok(seen) => panic!("{sabotage:?} was not found in {} states", seen.states),
            Err(found) => println!(
                "{sabotage:?}: {} after {} states\n{}",
                found.broken, found.states, found.trace
            ),
        }
    }
}
