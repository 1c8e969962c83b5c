//! A disk of the tests' own: it remembers everything that is done to it, and says what a power cut
//! may leave of that.
//!
//! What was synced stays. Of the rest any subset of sectors may be there, whatever the order of the
//! writes; a file may have its new length without its new data; a name stays only if its folder was
//! synced.

pub(crate) mod mount;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) type Inode = u64;

/// One thing that was done.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Data {
        inode: Inode,
        offset: usize,
        bytes: Vec<u8>,
    },
    Length {
        inode: Inode,
        length: usize,
    },
    Create {
        name: String,
        inode: Inode,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    /// Everything done to the file before this number of steps is safe.
    Sync {
        inode: Inode,
        before: usize,
    },
    /// The same for names.
    SyncNames {
        before: usize,
    },
}

/// Files and their names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    pub(crate) files: BTreeMap<Inode, Vec<u8>>,
    pub(crate) names: BTreeMap<String, Inode>,
}

impl Image {
    /// Content by name.
    pub(crate) fn read(&self, name: &str) -> Option<&Vec<u8>> {
        self.files.get(self.names.get(name)?)
    }

    fn put(&mut self, inode: Inode, offset: usize, bytes: &[u8]) {
        let file = self.files.entry(inode).or_default();
        file.resize(file.len().max(offset + bytes.len()), 0);
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Data {
                inode,
                offset,
                bytes,
            } => self.put(*inode, *offset, bytes),
            Step::Length { inode, length } => {
                self.files.entry(*inode).or_default().resize(*length, 0);
            }
            Step::Create { name, inode } => {
                self.files.entry(*inode).or_default();
                self.names.insert(name.clone(), *inode);
            }
            Step::Unlink { name } => {
                self.names.remove(name);
            }
            Step::Rename { from, to } => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                }
            }
            Step::Sync { .. } | Step::SyncNames { .. } => {}
        }
    }
}

/// The disk as programs see it, and how it became so.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    base: Image,
    now: Image,
    steps: Vec<Step>,
}

impl Disk {
    pub(crate) fn holding(image: Image) -> Disk {
        let state = State {
            base: image.clone(),
            now: image,
            steps: Vec::new(),
        };
        Disk {
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many steps there were until now.
    pub(crate) fn steps(&self) -> usize {
        self.lock().steps.len()
    }

    /// The history, to be cut anywhere.
    pub(crate) fn history(&self) -> (Image, Vec<Step>) {
        let state = self.lock();
        (state.base.clone(), state.steps.clone())
    }

    fn act(&self, step: Step) {
        let mut state = self.lock();
        state.now.apply(&step);
        state.steps.push(step);
    }
}

/// A walk along a history that stops before each step.
pub(crate) struct Cuts {
    safe: Image,
    /// Done, but not safe yet, with their numbers.
    pending: Vec<(usize, Step)>,
    next: usize,
}

impl Cuts {
    pub(crate) fn new(base: Image) -> Cuts {
        Cuts {
            safe: base,
            pending: Vec::new(),
            next: 0,
        }
    }

    /// The next step was done too.
    pub(crate) fn advance(&mut self, step: &Step) {
        let now_safe = |number: usize, pending: &Step| match (step, pending) {
            (Step::Sync { inode, before }, Step::Data { inode: of, .. })
            | (Step::Sync { inode, before }, Step::Length { inode: of, .. }) => {
                inode == of && number < *before
            }
            (
                Step::SyncNames { before },
                Step::Create { .. } | Step::Unlink { .. } | Step::Rename { .. },
            ) => number < *before,
            _ => false,
        };
        let (safe, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition(|(number, pending)| now_safe(*number, pending));
        safe.iter().for_each(|(_, step)| self.safe.apply(step));
        self.pending = rest;
        if !matches!(step, Step::Sync { .. } | Step::SyncNames { .. }) {
            self.pending.push((self.next, step.clone()));
        }
        self.next += 1;
    }

    /// What a cut here leaves; `stays` decides for each sector, length and name that is not safe.
    pub(crate) fn cut(&self, sector: usize, mut stays: impl FnMut() -> bool) -> Image {
        let mut image = self.safe.clone();
        for (_, step) in &self.pending {
            match step {
                Step::Data {
                    inode,
                    offset,
                    bytes,
                } => {
                    if stays() {
                        let file = image.files.entry(*inode).or_default();
                        file.resize(file.len().max(offset + bytes.len()), 0);
                    }
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = ((offset + at) / sector + 1) * sector - offset;
                        let end = end.min(bytes.len());
                        if stays() {
                            image.put(*inode, offset + at, &bytes[at..end]);
                        }
                        at = end;
                    }
                }
                step if stays() => image.apply(step),
                _ => {}
            }
        }
        image
    }
}
