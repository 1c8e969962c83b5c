//! The running witness: writes, announces, checks when asked.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::block::{Aligned, BLOCK};
use crate::check::{self, State};
use crate::console::Console;
use crate::layout::Areas;
use crate::ledger::Entry;
use crate::record::{Origin, Place, encode};
use crate::superblock::Superblock;

/// No durable record stays unannounced for longer.
const ANNOUNCE: Duration = Duration::from_millis(200);
/// How soon a signal is noticed.
const SLICE: Duration = Duration::from_millis(50);
/// Stands for never.
const FAR: Duration = Duration::from_secs(3600);

/// What was asked by signals.
#[derive(Clone, Default)]
pub struct Wishes {
    /// SIGTERM, SIGINT.
    pub stop: Arc<AtomicBool>,
    /// SIGUSR1.
    pub check: Arc<AtomicBool>,
}

/// How fast to write, and how often to check.
pub struct Pace {
    /// Time between two records; none = no records.
    pub record: Option<Duration>,
    /// Time between two checks.
    pub check: Option<Duration>,
}

/// The witness after its start.
pub struct Witness<'a> {
    areas: Areas,
    superblock: Superblock,
    origin: Origin,
    ledger: Entry,
    console: &'a mut Console,
    written: u64,
    announced_at: Instant,
}

impl<'a> Witness<'a> {
    /// Goes on from `state`.
    pub fn new(areas: Areas, state: State, console: &'a mut Console) -> io::Result<Witness<'a>> {
        let State {
            superblock,
            ledger,
            highest,
        } = state;
        // The files may be one entry behind; if they stayed so, the next crash could make it two.
        ledger.store(&areas, Place::File, superblock.seed)?;
        let origin = Origin {
            seed: superblock.seed,
            pattern: superblock.pattern,
            boot: boot_id()?,
        };
        let announced_at = Instant::now();
        Ok(Witness {
            areas,
            superblock,
            origin,
            ledger,
            console,
            written: highest,
            announced_at,
        })
    }

    /// Writes until it is told to stop (true), or a check fails (false).
    pub fn run(&mut self, pace: &Pace, wishes: &Wishes) -> io::Result<bool> {
        let mut record_due = Instant::now();
        let mut check_due = Instant::now() + pace.check.unwrap_or(FAR);
        while !wishes.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            if let Some(interval) = pace.record.filter(|_| now >= record_due) {
                self.write()?;
                // Not a series from the start: after a pause of the guest there is no rush.
                record_due = (record_due + interval).max(now);
            }
            if self.written > self.ledger.highest && self.announced_at.elapsed() >= ANNOUNCE {
                self.announce()?;
            }
            let asked = wishes.check.swap(false, Ordering::Relaxed);
            if asked || (pace.check.is_some() && now >= check_due) {
                if !self.check()? {
                    return Ok(false);
                }
                check_due = Instant::now() + pace.check.unwrap_or(FAR);
            }
            let next = if pace.record.is_some() {
                record_due
            } else {
                now + FAR
            };
            thread::sleep(next.saturating_duration_since(Instant::now()).min(SLICE));
        }
        self.announce()?;
        self.console.say(format_args!("STOPPED {}", self.written))?;
        Ok(true)
    }

    /// One record, durable in both places when this returns.
    fn write(&mut self) -> io::Result<()> {
        let number = self.written + 1;
        let mut block = Aligned::zeroed(BLOCK);
        for place in [Place::Raw, Place::File] {
            let slot = self.superblock.slots(place).of(number);
            encode(&mut block, &self.origin, place, slot, number, monotonic());
            self.areas.write_slot(place, slot, &block)?;
        }
        self.written = number;
        Ok(())
    }

    /// Writes the ledger, then tells the world.
    fn announce(&mut self) -> io::Result<()> {
        if self.written > self.ledger.highest {
            let entry = Entry {
                sequence: self.ledger.sequence + 1,
                highest: self.written,
            };
            for place in [Place::Raw, Place::File] {
                entry.store(&self.areas, place, self.superblock.seed)?;
            }
            self.ledger = entry;
            self.console.say(format_args!("WROTE {}", self.written))?;
        }
        self.announced_at = Instant::now();
        Ok(())
    }

    fn check(&mut self) -> io::Result<bool> {
        self.announce()?;
        let losses = check::at_rest(&mut self.areas, &self.superblock, self.written)?;
        match losses.is_empty() {
            true => self.console.say(format_args!("OK {}", self.written))?,
            false => self.console.say_lost(&[], &losses)?,
        }
        Ok(losses.is_empty())
    }
}

/// The kernel's name of this boot.
fn boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let number = u128::from_str_radix(&digits, 16).map_err(io::Error::other)?;
    Ok(number.to_be_bytes())
}

/// Nanoseconds since the boot.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
