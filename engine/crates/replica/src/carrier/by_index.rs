//! Goes through a pack by its own list of its frames: some are read ahead while others are checked.

use super::blocks::{Decoded, Subject, describe};
use super::contents::unless_io;
use super::{Contents, Damage, Walk};
use device::{Entry, Indexed, MAX_STRETCH, PackError, PackReader, Stretch};
use std::collections::{HashMap, VecDeque};
use std::iter::Peekable;
use std::ops::Range;
use std::slice::Iter;
use std::thread;

/// Most blocks that are checked together (8 MiB), however small they are on the device.
const TOGETHER: usize = 16;

/// Batches that are ordered: one is checked, one waits, one is being read.
const ORDERED: usize = 3;

/// Frames that are read at once and checked together.
#[derive(Default)]
struct Batch<'a> {
    frames: Vec<&'a Indexed>,
    blocks: usize,
    bytes: Range<u64>,
}

impl<'a> Batch<'a> {
    fn has_room_for(&self, frame: &Indexed) -> bool {
        let bytes = frame.bytes();
        let near = bytes.start >= self.bytes.start && bytes.end - self.bytes.start <= MAX_STRETCH;
        self.frames.is_empty() || near && self.blocks < TOGETHER
    }

    fn push(&mut self, frame: &'a Indexed) {
        let bytes = frame.bytes();
        if self.frames.is_empty() {
            self.bytes = bytes.clone();
        }
        self.bytes.end = self.bytes.end.max(bytes.end);
        self.blocks += usize::from(frame.is_block());
        self.frames.push(frame);
    }

    /// What is to be read: the list may name what is no place in the pack.
    fn bytes(&self, pack: &PackReader) -> Range<u64> {
        let start = self.bytes.start.min(pack.length());
        let most = start.saturating_add(MAX_STRETCH).min(pack.length());
        start..self.bytes.end.clamp(start, most)
    }
}

/// The frames that were not asked for yet.
struct Rest<'a> {
    frames: Peekable<Iter<'a, Indexed>>,
    behind: u64,
}

impl<'a> Rest<'a> {
    /// The next ones that are wanted.
    fn batch(
        &mut self,
        walk: &mut impl Walk,
        subjects: &HashMap<u32, Subject>,
    ) -> Option<Batch<'a>> {
        let mut batch = Batch::default();
        while let Some(frame) = self.frames.next_if(|frame| batch.has_room_for(frame)) {
            if walk.stop() {
                return None;
            }
            let end = frame.bytes().end;
            walk.passed(end.saturating_sub(self.behind));
            self.behind = self.behind.max(end);
            let mut chunks = frame.first..frame.first.saturating_add(frame.count);
            // Of a VDISK that nobody described, or that is not so long, it is told that it is damaged.
            let wanted = subjects.get(&frame.vdisk).is_none_or(|subject| {
                chunks.end > subject.chunks() || chunks.any(|chunk| walk.wants(subject, chunk))
            });
            if frame.has_content() && wanted {
                batch.push(frame);
            }
        }
        (!batch.frames.is_empty()).then_some(batch)
    }
}

fn subjects_of(pack: &PackReader, index: &[Indexed]) -> Result<HashMap<u32, Subject>, PackError> {
    let mut subjects = HashMap::new();
    for frame in index.iter().filter(|frame| frame.is_vdisk()) {
        if let Ok(Entry::Vdisk {
            number,
            description,
        }) = unless_io(pack.read(frame.offset))?
            && let Some(subject) = describe(&description)
        {
            subjects.insert(number, subject);
        }
    }
    Ok(subjects)
}

impl Contents {
    /// By the pack's own list of its frames.
    pub(super) fn walk_index(
        &mut self,
        walk: &mut impl Walk,
        pack: &PackReader,
        index: &[Indexed],
    ) -> Result<(), PackError> {
        let subjects = subjects_of(pack, index)?;
        let ahead = pack.ahead()?;
        let mut rest = Rest {
            frames: index.iter().peekable(),
            behind: 0,
        };
        let mut ordered = VecDeque::new();
        loop {
            while ordered.len() < ORDERED
                && let Some(batch) = rest.batch(walk, &subjects)
            {
                ahead.order(batch.bytes(pack));
                ordered.push_back(batch.frames);
            }
            let Some(frames) = ordered.pop_front().filter(|_| !walk.stop()) else {
                return Ok(());
            };
            let stretch = pack.take(&ahead)?;
            self.hand_out(walk, pack, &subjects, (&frames, &stretch))?;
        }
    }

    /// Reads and checks frames on several cores, and hands out what they hold in their order.
    fn hand_out(
        &mut self,
        walk: &mut impl Walk,
        pack: &PackReader,
        subjects: &HashMap<u32, Subject>,
        (frames, stretch): (&[&Indexed], &Stretch),
    ) -> Result<(), PackError> {
        let read = |frame: &&Indexed| {
            let entry = unless_io(pack.read_in(stretch, frame.offset))?;
            Ok(entry.map(|entry| Decoded::of(entry, subjects)))
        };
        let share = frames.len().div_ceil(self.cores).max(1);
        let decoded: Vec<Result<Result<Decoded, String>, PackError>> = thread::scope(|scope| {
            let parts = frames.chunks(share);
            let threads: Vec<_> = parts
                .map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>()))
                .collect();
            let parts = threads.into_iter().map(|thread| thread.join());
            parts
                .flat_map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        });
        for (frame, decoded) in frames.iter().zip(decoded) {
            let bytes = u64::from(frame.length);
            match decoded? {
                Ok(decoded) => {
                    let place = (pack.number(), frame.offset, bytes);
                    self.entry(walk, subjects, decoded, place)?;
                }
                Err(why) => {
                    let subject = subjects.get(&frame.vdisk);
                    walk.damaged(Damage {
                        pack: pack.number(),
                        offset: frame.offset,
                        bytes,
                        migration: subject.map(|subject| subject.migration.clone()),
                        vdisk: subject.map(|subject| subject.vdisk.clone()),
                        chunk: Some(frame.first),
                        why,
                    });
                }
            }
        }
        Ok(())
    }
}
