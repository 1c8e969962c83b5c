//! Both ends with all their real code, over sockets that die at any byte: whatever is sent, lost,
//! reordered between connections or restarted, in the end the disks are equal, and so they are
//! whenever the source says that everything is clean.
//!
//! A seed names a schedule. `DROVER_LINK_SEEDS=500` runs so many, `DROVER_LINK_SEED=17` that one.

mod by_road;
mod directed;
mod proxy;
mod sites;

use crate::source::Mode;
use proxy::{Manner, Proxy};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sites::{DISKS, Sites};
use std::time::Duration;

/// Steps of a schedule before the link heals.
const STEPS: u32 = 60;

fn run(seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let proxy = Proxy::start(seed);
    let mut sites = Sites::new(&proxy, seed);
    proxy.behave(Manner::Hostile);
    for disk in 0..DISKS {
        let mode = if dice.random_bool(0.8) {
            Mode::Copy
        } else {
            Mode::Compare
        };
        sites.start(disk, mode);
    }
    for _ in 0..STEPS {
        step(&mut sites, &proxy, &mut dice);
        sites.check_if_clean();
    }
    proxy.behave(Manner::Fair);
    sites.finish();
    let faults = proxy.faults();
    eprintln!("seed {seed}: {faults:?}, {} times clean", sites.times_clean);
    proxy.stop();
}

/// Disks of these tests take their time now and then, so that an old copy has a chance to land late.
pub(crate) async fn slow_disk() {
    if rand::random_bool(0.15) {
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..500))).await;
    }
}

/// As many schedules as were asked for, or the one.
fn schedules(run: impl Fn(u64) + Sync) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("DROVER_LINK_SEED") {
        return run(seed);
    }
    let seeds = number("DROVER_LINK_SEEDS").unwrap_or(4);
    let next = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    run(seed);
                }
            });
        }
    });
}

fn step(sites: &mut Sites, proxy: &Proxy, dice: &mut StdRng) {
    let disk = dice.random_range(0..DISKS);
    match dice.random_range(0..100) {
        0..=49 => {
            for _ in 0..dice.random_range(1..6) {
                sites.guest_writes(disk, dice);
            }
        }
        50..=54 => sites.verify(disk, dice.random()),
        55..=64 => sites.set_connections(dice.random_range(1..7)),
        65..=69 => proxy.reset_some(dice.random()),
        70..=71 => proxy.reset_all(),
        72 => sites.restart_source(),
        73 => sites.restart_destination(dice.random()),
        74..=75 => sites.start(disk, Mode::Compare),
        76..=79 => {
            sites.wait_clean(Duration::from_millis(700));
        }
        80..=83 => proxy.behave(Manner::Fair),
        84..=89 => proxy.behave(Manner::Hostile),
        _ => std::thread::sleep(Duration::from_millis(dice.random_range(0..60))),
    }
}

#[test]
fn whatever_happens_to_connections_the_disks_become_equal() {
    schedules(run);
}
