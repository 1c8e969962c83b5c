//! Callers that have not shown the migration's certificate yet: so many, and no more.
//!
//! Silence and garbage must not keep the source out, so a full place does not make anybody wait:
//! one of its older visitors is sent away instead. Those who have sent a whole hello of TLS have a
//! place of their own. A source does that as soon as it is connected, so that connections which are
//! merely open cannot push it out on any link; and because chance decides which of the older half
//! has to go, neither can a flood of hellos, however fast, push out every attempt.

use super::lock;
use drover_link::LinkError;
use std::collections::BTreeMap;
use std::fmt::Arguments;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Most visitors of each of the two places.
const MOST: usize = 512;

/// Lines that strangers may put into the log in each [`WINDOW`].
const LINES: u64 = 20;
const WINDOW: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Door {
    visitors: Mutex<Visitors>,
    complaints: Mutex<Complaints>,
}

#[derive(Debug, Default)]
struct Visitors {
    next: u64,
    /// By number, so oldest first. Connected, no more.
    silent: BTreeMap<u64, CancellationToken>,
    /// Have sent a hello of TLS.
    greeted: BTreeMap<u64, CancellationToken>,
}

#[derive(Debug, Default)]
struct Complaints {
    since: Option<Instant>,
    count: u64,
}

/// One caller; its place is free when this is dropped.
#[derive(Debug)]
pub(super) struct Visitor {
    door: Arc<Door>,
    number: u64,
    away: CancellationToken,
}

impl Door {
    pub(super) fn enter(self: &Arc<Self>) -> Visitor {
        let away = CancellationToken::new();
        let mut visitors = lock(&self.visitors);
        let number = visitors.next;
        visitors.next += 1;
        make_room(&mut visitors.silent);
        visitors.silent.insert(number, away.clone());
        Visitor {
            door: self.clone(),
            number,
            away,
        }
    }

    /// Somebody has to go, whoever it is.
    pub(super) fn send_one_away(&self) {
        let mut visitors = lock(&self.visitors);
        let Visitors {
            silent, greeted, ..
        } = &mut *visitors;
        send_away_from(if silent.is_empty() { greeted } else { silent });
    }

    /// Notes in the log what strangers do, but never lets them fill it.
    pub(super) fn complain(&self, text: Arguments<'_>) {
        let mut complaints = lock(&self.complaints);
        if complaints
            .since
            .is_none_or(|since| since.elapsed() > WINDOW)
        {
            let unsaid = complaints.count.saturating_sub(LINES);
            if unsaid > 0 {
                tracing::info!("{unsaid} more callers were not let in");
            }
            *complaints = Complaints {
                since: Some(Instant::now()),
                count: 0,
            };
        }
        complaints.count += 1;
        if complaints.count <= LINES {
            tracing::info!("{text}");
        }
    }
}

fn make_room(place: &mut BTreeMap<u64, CancellationToken>) {
    if place.len() >= MOST {
        send_away_from(place);
    }
}

fn send_away_from(place: &mut BTreeMap<u64, CancellationToken>) {
    let chosen = rand::random_range(0..=place.len() / 2);
    let number = place.keys().nth(chosen).copied();
    if let Some(away) = number.and_then(|number| place.remove(&number)) {
        away.cancel();
    }
}

impl Visitor {
    /// It has sent a hello of TLS.
    pub(super) fn greeted(&self) {
        let mut visitors = lock(&self.door.visitors);
        // Whoever was sent away already does not come back.
        if let Some(away) = visitors.silent.remove(&self.number) {
            make_room(&mut visitors.greeted);
            visitors.greeted.insert(self.number, away);
        }
    }

    pub(super) async fn unless_sent_away<T>(
        &self,
        work: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, LinkError> {
        let crowded = "it had shown no certificate when others needed its place";
        self.away
            .run_until_cancelled(work)
            .await
            .unwrap_or_else(|| Err(LinkError::Protocol(crowded.into())))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let mut visitors = lock(&self.door.visitors);
        visitors.silent.remove(&self.number);
        visitors.greeted.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_the_older_half_goes_and_silence_pushes_no_greeting_out() {
        let door = Arc::new(Door::default());
        let source = door.enter();
        source.greeted();
        let crowd: Vec<_> = (0..4 * MOST).map(|_| door.enter()).collect();
        assert!(!source.away.is_cancelled());
        let stay = |visitors: &[Visitor]| {
            let stay = visitors.iter().filter(|one| !one.away.is_cancelled());
            stay.count()
        };
        assert_eq!(stay(&crowd), MOST);
        assert_eq!(stay(&crowd[crowd.len() - MOST / 2 + 1..]), MOST / 2 - 1);
        crowd.iter().for_each(Visitor::greeted);
        assert_eq!(lock(&door.visitors).greeted.len(), MOST);
        drop((crowd, source));
        let visitors = lock(&door.visitors);
        assert!(visitors.silent.is_empty() && visitors.greeted.is_empty());
    }

    #[test]
    fn nobody_is_sent_away_while_there_is_room() {
        let door = Arc::new(Door::default());
        let crowd: Vec<_> = (0..MOST).map(|_| door.enter()).collect();
        assert!(crowd.iter().all(|visitor| !visitor.away.is_cancelled()));
        door.send_one_away();
        assert_eq!(lock(&door.visitors).silent.len(), MOST - 1);
    }
}
