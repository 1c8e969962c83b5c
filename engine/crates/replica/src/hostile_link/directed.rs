//! One fault at a time: the session goes on, and what was lost goes over the other connections.

use super::proxy::Proxy;
use super::sites::{DISKS, Sites};
use crate::source::Mode;
use std::time::{Duration, Instant};

/// Slow enough to be in the middle of a copy, in bytes per second.
const PACE: u64 = 400_000;

fn until(what: &str, mut check: impl FnMut() -> bool) {
    let began = Instant::now();
    while !check() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A copy in progress over so many connections.
fn copying(seed: u64, connections: u16) -> (Proxy, Sites) {
    let proxy = Proxy::start(seed);
    let mut sites = Sites::new(&proxy, seed);
    until("the link", || sites.link_status().state == "up");
    sites.set_connections(connections);
    until("all connections", || {
        sites.link_status().connections == connections
    });
    sites.source().pacing().background.set(Some(PACE));
    for disk in 0..DISKS {
        sites.start(disk, Mode::Copy);
    }
    let before = proxy.passed();
    until("some data", || proxy.passed() > before + 100_000);
    (proxy, sites)
}

fn finish(proxy: Proxy, mut sites: Sites) {
    assert_eq!(sites.link_status().reconnects, 0);
    sites.source().pacing().background.set(None);
    sites.finish();
    proxy.stop();
}

fn resent(sites: &Sites) -> u64 {
    let of_disk = |disk| sites.vdisk(disk).status().sent.resent_bytes;
    (0..DISKS).map(of_disk).sum()
}

#[test]
fn a_reset_connection_is_replaced_and_the_session_goes_on() {
    let (proxy, sites) = copying(1001, 3);
    for round in 1..4 {
        proxy.reset_oldest();
        until("its loss", || sites.link_status().lost_connections == round);
        until("its replacement", || sites.link_status().connections == 3);
    }
    let before = proxy.passed();
    until("more data", || proxy.passed() > before + 100_000);
    finish(proxy, sites);
}

#[test]
fn a_silent_connection_is_found_out_by_the_others() {
    let (proxy, sites) = copying(1002, 3);
    let began = Instant::now();
    proxy.silence_oldest();
    until("its loss", || sites.link_status().lost_connections == 1);
    // The limit without others would be ten seconds.
    assert!(began.elapsed() < Duration::from_secs(8));
    until("its replacement", || sites.link_status().connections == 3);
    finish(proxy, sites);
}

#[test]
fn connections_come_and_go_and_nothing_is_sent_twice() {
    let (proxy, mut sites) = copying(1003, 2);
    for wanted in [6, 1, 4, 2] {
        sites.set_connections(wanted);
        until("the wanted number", || {
            let status = sites.link_status();
            status.connections == wanted && status.each_connection.len() == usize::from(wanted)
        });
    }
    assert_eq!(sites.link_status().lost_connections, 0);
    assert_eq!(resent(&sites), 0);
    finish(proxy, sites);
}

#[test]
fn without_any_connection_it_waits_and_says_why_and_goes_on_by_itself() {
    let (proxy, mut sites) = copying(1004, 2);
    proxy.refuse(true);
    proxy.reset_all();
    until("the reason", || {
        let status = sites.link_status();
        status.state == "down" && status.reason.is_some() && status.connections == 0
    });
    let before = sites.link_status().since_seconds;
    until("time to pass", || {
        sites.link_status().since_seconds > before
    });
    proxy.refuse(false);
    until("the link", || sites.link_status().state == "up");
    assert_eq!(sites.link_status().reconnects, 1);
    sites.source().pacing().background.set(None);
    sites.finish();
    proxy.stop();
}
