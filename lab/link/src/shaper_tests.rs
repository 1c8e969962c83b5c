//! The shaper with a clock of the test's own.

use super::*;
use crate::packet::NOTES;

const MS: Duration = Duration::from_millis(1);

fn packet(length: usize, tag: u8) -> Vec<u8> {
    let mut packet = vec![0; NOTES + length];
    packet[NOTES] = tag;
    packet
}

fn shaper(settings: Settings) -> Shaper {
    let mut shaper = Shaper::new(1);
    shaper.set(&settings, Duration::ZERO);
    shaper
}

/// All packets that arrive by `end`: their tags, and when.
fn drain(shaper: &mut Shaper, end: Duration) -> Vec<(u8, Duration)> {
    let mut arrived = Vec::new();
    while let Some(now) = shaper.next_event().filter(|now| *now <= end) {
        while let Some(packet) = shaper.pop(now) {
            shaper.count(&packet, true);
            arrived.push((packet[NOTES], now));
        }
    }
    arrived
}

#[test]
fn the_rate_spaces_packets_and_the_delay_shifts_them() {
    let mut shaper = shaper(Settings {
        rate: Some(8e6),
        delay: 0.02,
        ..Settings::default()
    });
    for tag in 0..3 {
        shaper.push(&packet(1000, tag), Duration::ZERO);
    }
    // 1000 bytes at 1 MB/s take 1 ms each.
    assert_eq!(
        drain(&mut shaper, 1000 * MS),
        [(0, 21 * MS), (1, 22 * MS), (2, 23 * MS)]
    );
    assert_eq!((shaper.counters.packets, shaper.counters.bytes), (3, 3000));
}

#[test]
fn a_full_queue_drops_the_newest() {
    let settings = Settings {
        rate: Some(8e6),
        queue: Some(2500),
        ..Settings::default()
    };
    let mut shaper = shaper(settings);
    for tag in 0..4 {
        shaper.push(&packet(1000, tag), Duration::ZERO);
    }
    let tags: Vec<u8> = drain(&mut shaper, 1000 * MS)
        .iter()
        .map(|(tag, _)| *tag)
        .collect();
    assert_eq!(tags, [0, 1]);
    assert_eq!(shaper.counters.dropped.queue, 2);
    assert_eq!(shaper.waiting_bytes(), 0);
}

#[test]
fn jitter_keeps_the_order_unless_told_otherwise() {
    for reorder in [false, true] {
        let mut shaper = shaper(Settings {
            jitter: 0.05,
            reorder,
            ..Settings::default()
        });
        for tag in 0..100 {
            shaper.push(&packet(100, tag), MS * u32::from(tag));
            shaper.pop(MS * u32::from(tag));
        }
        let arrived = drain(&mut shaper, 1000 * MS);
        assert_eq!(arrived.is_sorted_by_key(|(tag, _)| *tag), !reorder);
    }
}

#[test]
fn loss_hits_the_share_that_was_set() {
    let mut shaper = shaper(Settings {
        loss: 0.1,
        ..Settings::default()
    });
    for _ in 0..100_000 {
        shaper.push(&packet(100, 0), Duration::ZERO);
        let _ = shaper.pop(Duration::ZERO);
    }
    let lost = shaper.counters.dropped.loss;
    assert!((9_500..10_500).contains(&lost), "{lost}");
}

#[test]
fn a_cut_drops_what_is_on_its_way_and_healing_lets_new_packets_pass() {
    let open = Settings {
        rate: Some(8e6),
        delay: 0.01,
        ..Settings::default()
    };
    let mut shaper = shaper(open.clone());
    shaper.push(&packet(1000, 0), Duration::ZERO);
    assert!(shaper.pop(MS).is_none());
    shaper.push(&packet(1000, 1), MS);
    shaper.set(
        &Settings {
            cut: true,
            ..open.clone()
        },
        2 * MS,
    );
    shaper.push(&packet(1000, 2), 3 * MS);
    shaper.set(&open, 100 * MS);
    shaper.push(&packet(1000, 3), 100 * MS);
    assert_eq!(drain(&mut shaper, 1000 * MS), [(3, 111 * MS)]);
    assert_eq!(shaper.counters.dropped.cut, 3);
}

#[test]
fn a_higher_rate_takes_effect_in_the_middle_of_a_packet() {
    let mut shaper = shaper(Settings {
        rate: Some(8e3),
        ..Settings::default()
    });
    shaper.push(&packet(1000, 0), Duration::ZERO);
    shaper.push(&packet(1000, 1), Duration::ZERO);
    // Half a second is left of the second that the first takes; now it goes 1000 times faster.
    shaper.set(
        &Settings {
            rate: Some(8e6),
            ..Settings::default()
        },
        500 * MS,
    );
    let arrived = drain(&mut shaper, 10_000 * MS);
    assert_eq!(arrived, [(0, 500 * MS + MS / 2), (1, 501 * MS + MS / 2)]);
}

#[test]
fn a_late_wake_up_does_not_make_the_link_slower() {
    let mut shaper = shaper(Settings {
        rate: Some(8e6),
        ..Settings::default()
    });
    for tag in 0..10 {
        shaper.push(&packet(1000, tag), Duration::ZERO);
    }
    let arrived = std::iter::from_fn(|| shaper.pop(10 * MS)).count();
    assert_eq!(arrived, 10);
}
