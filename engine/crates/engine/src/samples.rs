//! The samples of an engine: a bounded number, each under a number of its own until it is deleted.

use drover_replica::sample::{Sample, SampleStatus};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most samples at once, finished ones too.
pub const MOST_SAMPLES: usize = 64;

/// All samples by number.
#[derive(Clone, Default)]
pub struct Samples {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// None while its endpoint is being opened.
    samples: BTreeMap<u64, Option<Sample>>,
    next: u64,
}

/// A number for a sample that is about to begin; given back if it does not.
pub struct Place {
    samples: Samples,
    number: u64,
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more. None if there are too many.
    pub fn reserve(&self) -> Option<Place> {
        let mut shared = self.lock();
        if shared.samples.len() >= MOST_SAMPLES {
            return None;
        }
        shared.next += 1;
        let number = shared.next;
        shared.samples.insert(number, None);
        let samples = self.clone();
        Some(Place { samples, number })
    }

    /// How one is doing.
    pub fn status(&self, number: u64) -> Option<SampleStatus> {
        let shared = self.lock();
        let sample = shared.samples.get(&number)?.as_ref();
        sample.map(Sample::status)
    }

    /// Ends one and forgets it. False if there is none.
    pub fn end(&self, number: u64) -> bool {
        let mut shared = self.lock();
        let begun = matches!(shared.samples.get(&number), Some(Some(_)));
        begun && shared.samples.remove(&number).is_some()
    }
}

impl Place {
    /// The sample has begun; its number.
    pub fn fill(self, sample: Sample) -> u64 {
        self.samples
            .lock()
            .samples
            .insert(self.number, Some(sample));
        self.number
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shared = self.samples.lock();
        if matches!(shared.samples.get(&self.number), Some(None)) {
            shared.samples.remove(&self.number);
        }
    }
}
