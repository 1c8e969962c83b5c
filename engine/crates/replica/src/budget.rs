//! Memory in bytes that several VDISKs share, so that a slow one holds no more than its part.
//!
//! A VDISK may hold `total / n` bytes, where n counts those that hold or want some, and `least`
//! whatever the others hold; one piece it may always hold. So no VDISK waits for the disk of
//! another, and in all no more than `total` and one `least` (or one piece) per VDISK is held.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The memory of one purpose.
pub struct Budget {
    total: u64,
    least: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// By handle: those that hold or want some.
    holders: BTreeMap<u32, Holder>,
}

#[derive(Default)]
struct Holder {
    used: u64,
    waiting: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Bytes that are held until this is dropped.
pub struct Share {
    budget: Arc<Budget>,
    handle: u32,
    bytes: u64,
}

/// A wish that gives its bytes back if nobody waits for them any more.
struct Wish {
    share: Share,
    granted: oneshot::Receiver<()>,
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.granted.close();
        if self.granted.try_recv().is_err() {
            self.share.bytes = 0;
        }
    }
}

impl Budget {
    /// `total` bytes, and `least` for each VDISK.
    pub fn new(total: u64, least: u64) -> Arc<Budget> {
        let state = Mutex::default();
        Arc::new(Budget {
            total,
            least,
            state,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for memory for the VDISK of a handle; in turn with others of the same handle.
    pub async fn acquire(self: &Arc<Self>, handle: u32, bytes: u64) -> Share {
        let (grant, granted) = oneshot::channel();
        let mut wish = Wish {
            share: self.share(handle, bytes),
            granted,
        };
        {
            let mut state = self.lock();
            let holder = state.holders.entry(handle).or_default();
            holder.waiting.push_back((bytes, grant));
            self.serve(&mut state);
        }
        // The sender lives in the queue until it grants.
        let granted = (&mut wish.granted).await.is_ok();
        debug_assert!(granted);
        self.share(handle, std::mem::take(&mut wish.share.bytes))
    }

    /// Bytes that the VDISK of a handle holds.
    pub fn held(&self, handle: u32) -> u64 {
        self.lock()
            .holders
            .get(&handle)
            .map_or(0, |holder| holder.used)
    }

    fn share(self: &Arc<Self>, handle: u32, bytes: u64) -> Share {
        let budget = self.clone();
        Share {
            budget,
            handle,
            bytes,
        }
    }

    /// Grants what fits; whoever holds least is first.
    fn serve(&self, state: &mut State) {
        loop {
            let part = self.total / (state.holders.len() as u64).max(1);
            let free = self.total.saturating_sub(state.used);
            let fits = |holder: &Holder| {
                let Some((bytes, _)) = holder.waiting.front() else {
                    return false;
                };
                let would = holder.used + bytes;
                holder.used == 0 || would <= self.least || (would <= part && *bytes <= free)
            };
            let next = state.holders.values_mut().filter(|holder| fits(holder));
            let Some(holder) = next.min_by_key(|holder| holder.used) else {
                break;
            };
            if let Some((bytes, grant)) = holder.waiting.pop_front()
                && grant.send(()).is_ok()
            {
                holder.used += bytes;
                state.used += bytes;
            }
        }
        let idle = |holder: &Holder| holder.used == 0 && holder.waiting.is_empty();
        state.holders.retain(|_, holder| !idle(holder));
    }

    fn release(&self, handle: u32, bytes: u64) {
        let mut state = self.lock();
        state.used -= bytes;
        if let Some(holder) = state.holders.get_mut(&handle) {
            holder.used -= bytes;
        }
        self.serve(&mut state);
    }
}

impl Share {
    /// Takes a part out of it; None if it holds less.
    pub fn split(&mut self, bytes: u64) -> Option<Share> {
        self.bytes = self.bytes.checked_sub(bytes)?;
        Some(self.budget.share(self.handle, bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.release(self.handle, self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn now(budget: &Arc<Budget>, handle: u32, bytes: u64) -> Option<Share> {
        budget.acquire(handle, bytes).now_or_never()
    }

    #[test]
    fn one_alone_has_all_and_no_more() {
        let budget = Budget::new(100, 10);
        let held: Vec<_> = (0..10).map(|_| now(&budget, 1, 10).unwrap()).collect();
        assert!(now(&budget, 1, 1).is_none());
        drop(held);
        assert!(now(&budget, 1, 100).is_some());
        assert_eq!(budget.lock().used, 0);
        assert!(budget.lock().holders.is_empty());
    }

    #[test]
    fn a_slow_one_keeps_nobody_out() {
        let budget = Budget::new(100, 10);
        let _slow: Vec<_> = (0..10).map(|_| now(&budget, 1, 10).unwrap()).collect();
        let first = now(&budget, 2, 5).unwrap();
        let _second = now(&budget, 2, 5).unwrap();
        assert!(now(&budget, 2, 5).is_none());
        drop(first);
        assert!(now(&budget, 2, 5).is_some());
        assert!(
            now(&budget, 3, 50).is_some(),
            "one piece is always possible"
        );
    }

    #[tokio::test]
    async fn what_is_freed_goes_to_the_one_that_holds_least() {
        let budget = Budget::new(100, 10);
        let mut greedy: Vec<_> = (0..10).map(|_| now(&budget, 1, 10).unwrap()).collect();
        let mut modest: Vec<_> = (0..1).map(|_| now(&budget, 2, 10).unwrap()).collect();
        for _ in 0..3 {
            assert!(now(&budget, 1, 10).is_none());
            greedy.pop();
            greedy.pop();
            modest.push(now(&budget, 2, 10).unwrap());
        }
    }

    #[tokio::test]
    async fn a_wish_that_is_given_up_costs_nothing() {
        let budget = Budget::new(10, 1);
        let held = now(&budget, 1, 10).unwrap();
        let mut wish = Box::pin(budget.acquire(1, 10));
        assert!((&mut wish).now_or_never().is_none());
        drop(held);
        // Granted, but not taken.
        drop(wish);
        assert!(now(&budget, 1, 10).is_some());
    }
}
