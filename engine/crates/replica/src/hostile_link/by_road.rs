//! The same by road: devices come and go at both ends, are damaged, lost, and turn up again late.

use super::proxy::{Manner, Proxy};
use super::sites::{DISKS, Sites};
use super::{STEPS, schedules, step};
use crate::source::Mode;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const DEVICES: usize = 2;

fn run(seed: u64) {
    eprintln!("by road, seed {seed} begins");
    let mut dice = StdRng::seed_from_u64(seed);
    let proxy = Proxy::start(seed);
    let mut sites = Sites::new(&proxy, seed);
    (0..DEVICES).for_each(|device| sites.load(device));
    (0..DISKS).for_each(|disk| sites.start(disk, Mode::Load));
    std::thread::sleep(std::time::Duration::from_millis(dice.random_range(0..600)));
    proxy.behave(Manner::Hostile);
    for _ in 0..STEPS {
        match dice.random_range(0..100) {
            0..=39 => device_step(&mut sites, &mut dice),
            _ => step(&mut sites, &proxy, &mut dice),
        }
        sites.check_if_clean();
    }
    proxy.behave(Manner::Fair);
    for device in 0..DEVICES {
        // Loaded by an engine that was killed since, or unloaded by one.
        sites.close(device);
        sites.unload(device);
    }
    sites.wait_clean(std::time::Duration::from_secs(1));
    (0..DISKS).for_each(|disk| sites.start(disk, Mode::Copy));
    (0..DEVICES).for_each(|device| sites.forget(device));
    sites.finish();
    eprintln!("by road, seed {seed}: {} times clean", sites.times_clean);
    proxy.stop();
}

fn device_step(sites: &mut Sites, dice: &mut StdRng) {
    let device = dice.random_range(0..DEVICES);
    match dice.random_range(0..100) {
        0..=24 => sites.load(device),
        25..=39 => sites.close(device),
        40..=69 => sites.unload(device),
        70..=76 => sites.forget(device),
        77..=79 => sites.damage(device, dice),
        _ => sites.start(dice.random_range(0..DISKS), Mode::Load),
    }
}

#[test]
fn whatever_happens_to_devices_the_disks_become_equal() {
    schedules(run);
}
