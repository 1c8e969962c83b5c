//! After a link loss or a restart: what the destination says against what we believe.

use super::chunks::{Chunks, Phase};
use super::{Kind, Scheduler};

impl Scheduler {
    /// The destination has opened the VDISK and said which chunks are stable, in runs of
    /// (stable, count) that cover every chunk. All unanswered work is taken back: the destination
    /// has finished or dropped every older write before it answered. `forgot` says that it dropped
    /// its claims on our request, for a comparison.
    ///
    /// A chunk that we know to be PENDING stays so even if the destination holds some version of
    /// it, because dirty blocks may have been dropped in the belief that it will be read again. It
    /// is then OUTDATED: no epoch with writes to it is acknowledged before it is stable anew, since
    /// a new source engine would believe the destination.
    ///
    /// A LOADED chunk that is stable there was unloaded. Of the others `distrusted` says whether the
    /// destination may have lost newer blocks of it since it was loaded; it is not waited for then.
    ///
    /// Returns how many bytes were on their way and have to be sent again.
    pub fn opened(
        &mut self,
        runs: impl IntoIterator<Item = (bool, u32)>,
        forgot: bool,
        distrusted: impl Fn(u32) -> bool,
    ) -> u64 {
        let mut again = self.take_all_back();
        self.allocated.clear();
        self.foreground.clear();
        let mut chunk = 0;
        for (stable, count) in runs {
            let end = chunk + count.min(self.chunks.len() - chunk);
            for chunk in chunk..end {
                again += self.reconcile(chunk, stable, forgot, &distrusted);
            }
            chunk = end;
        }
        for chunk in chunk..self.chunks.len() {
            again += self.reconcile(chunk, false, forgot, &distrusted);
        }
        if forgot {
            self.compare_what_is_being_loaded();
        }
        let first_time = !std::mem::replace(&mut self.known, true);
        self.background_cursor = 0;
        self.hash_cursor = 0;
        self.comparing &= !forgot;
        if first_time { 0 } else { again }
    }

    fn reconcile(
        &mut self,
        chunk: u32,
        stable: bool,
        forgot: bool,
        distrusted: &impl Fn(u32) -> bool,
    ) -> u64 {
        let before = self.chunks.phase(chunk);
        if before == Phase::InFlight {
            return 0;
        }
        if stable || !forgot && self.chunks.is_loaded(chunk) && distrusted(chunk) {
            self.release(chunk);
        }
        // A new source engine would believe a note that is not dropped yet.
        let noted = self.released.contains(&chunk) && !distrusted(chunk);
        let loaded = self.chunks.is_loaded(chunk);
        let lost = before == Phase::Unknown && !stable && !loaded;
        let phase = match before {
            _ if forgot => Phase::Unchecked,
            Phase::Unknown | Phase::Clean if stable => Phase::Clean,
            Phase::Unknown | Phase::Clean if loaded => Phase::Clean,
            Phase::Unchecked => Phase::Unchecked,
            _ => Phase::Pending,
        };
        if phase != Phase::Clean {
            self.chunks.set_verified(chunk, false);
        }
        self.chunks.set_outdated(chunk, stable || noted);
        self.settle(chunk, phase);
        if lost {
            u64::from(self.geometry.length(chunk))
        } else {
            0
        }
    }

    fn compare_what_is_being_loaded(&mut self) {
        for open in self.open.values_mut() {
            if let Kind::Load { compare } = &mut open.kind {
                *compare = true;
            }
        }
    }

    /// Whether the destination still has to be asked to forget its claims.
    pub fn must_forget(&self) -> bool {
        self.comparing
    }

    /// Dirty chunks are in the foreground queue exactly once, pending ones have no dirty blocks,
    /// every chunk in flight belongs to unanswered work. For tests and debug builds.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut owners = vec![0u32; self.chunks.len() as usize];
        for open in self.open.values() {
            for chunk in open.first..open.first + open.count {
                owners[chunk as usize] += 1;
            }
        }
        let mut queued = vec![0u32; self.chunks.len() as usize];
        for chunk in &self.foreground {
            queued[*chunk as usize] += 1;
        }
        for chunk in 0..self.chunks.len() {
            let (owners, queued) = (owners[chunk as usize], queued[chunk as usize]);
            Self::check_chunk(&self.chunks, chunk, owners, queued)?;
        }
        Ok(())
    }

    fn check_chunk(chunks: &Chunks, chunk: u32, owners: u32, queued: u32) -> Result<(), String> {
        let (phase, dirty) = (chunks.phase(chunk), chunks.dirty(chunk));
        let legal = match phase {
            Phase::InFlight => owners > 0 && queued == 0,
            Phase::Clean => owners == 0 && queued == u32::from(dirty != 0),
            Phase::Pending | Phase::Unchecked => owners == 0 && queued == 0 && dirty == 0,
            Phase::Unknown => owners == 0 && queued == 0,
        };
        if legal {
            return Ok(());
        }
        Err(format!(
            "chunk {chunk} is {phase:?} with {owners} owners, queued {queued}, dirty {dirty:#b}"
        ))
    }
}
