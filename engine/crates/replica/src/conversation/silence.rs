//! When silence means death. A connection is measured against the others of its session: if they
//! are heard and get their answers in a time r, one that is silent for four times r and its peer's
//! Ping interval is dead. While nothing else is heard, the whole link may be the cause, and it is
//! given longer.

use drover_link::limits::{LONGEST_SILENCE, SILENCE_LIMIT};
use std::time::Duration;

/// What the watchdog sees of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sight {
    pub(super) silent: Duration,
    /// Interval that the peer promised for its Pings.
    pub(super) interval: Duration,
    pub(super) estimate: Option<Duration>,
    /// The estimate, or how long a Ping has been unanswered.
    pub(super) at_least: Duration,
}

/// How long this one may be silent.
pub(super) fn limit(this: Sight, others: impl Iterator<Item = Sight>) -> Duration {
    let patience = |round_trip: Duration| (4 * (this.interval + round_trip)).min(LONGEST_SILENCE);
    let own = this.estimate.unwrap_or_default();
    let heard: Vec<_> = others
        .filter(|other| other.silent < this.silent / 2)
        .collect();
    let quickest = heard.iter().map(|other| other.at_least).min();
    let patience = patience(own.max(quickest.unwrap_or_default()));
    // A round trip that was never measured is no measure.
    match this.estimate.is_some() && heard.iter().any(|other| other.estimate.is_some()) {
        true => patience,
        false => patience.max(SILENCE_LIMIT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(silent: u64, interval: u64, round_trip: u64) -> Sight {
        let round_trip = Duration::from_millis(round_trip);
        Sight {
            silent: Duration::from_millis(silent),
            interval: Duration::from_millis(interval),
            estimate: Some(round_trip),
            at_least: round_trip,
        }
    }

    fn millis(this: Sight, others: &[Sight]) -> u128 {
        limit(this, others.iter().copied()).as_millis()
    }

    #[test]
    fn on_a_quick_link_a_second_is_enough() {
        assert_eq!(millis(sight(900, 250, 1), &[sight(100, 250, 2)]), 1008);
    }

    #[test]
    fn a_slow_link_is_given_its_time() {
        assert_eq!(
            millis(sight(9000, 2000, 2000), &[sight(500, 2000, 2500)]),
            18_000
        );
        // The others wait for their answers as well: the link is busy.
        let mut other = sight(500, 250, 10);
        other.at_least = Duration::from_secs(5);
        assert_eq!(millis(sight(4000, 250, 10), &[other]), 21_000);
    }

    #[test]
    fn alone_or_with_all_silent_it_takes_ten_seconds() {
        assert_eq!(millis(sight(900, 250, 1), &[]), 10_000);
        assert_eq!(millis(sight(900, 250, 1), &[sight(800, 250, 1)]), 10_000);
        let mut fresh = sight(900, 250, 1);
        fresh.estimate = None;
        assert_eq!(millis(fresh, &[sight(0, 250, 1)]), 10_000);
        assert_eq!(millis(fresh, &[sight(0, 250, 5000)]), 21_000);
    }
}
