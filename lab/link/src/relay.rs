//! The threads that carry packets, one per direction, and what they share with the control socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use crate::counters::Counters;
use crate::packet::MAX_PACKET;
use crate::settings::{Change, Settings};
use crate::shaper::Shaper;
use crate::tun::Device;

/// The directions by their number.
pub const DIRECTIONS: [&str; 2] = ["left_to_right", "right_to_left"];

/// Most packets taken before those that are due are delivered.
const BURST: usize = 64;
/// Packets that are due soon after each other are delivered together: each wake-up costs about 30 µs.
const GRAIN: Duration = Duration::from_micros(250);
/// How long a change may take until the relay has it.
const APPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// One direction as both sides see it.
#[derive(Default)]
struct Direction {
    settings: Settings,
    version: u64,
    applied: u64,
    counters: Counters,
}

#[derive(Default)]
struct State {
    directions: [Direction; 2],
    stopped: bool,
}

/// The link: settings go in, counters come out.
pub struct Link {
    state: Mutex<State>,
    applied: Condvar,
    wake: [OwnedFd; 2],
    seed: u64,
}

impl Link {
    /// An open link.
    pub fn new(seed: u64) -> io::Result<Link> {
        let wake = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        Ok(Link {
            state: Mutex::default(),
            applied: Condvar::new(),
            wake: [wake()?, wake()?],
            seed,
        })
    }

    /// Changes the settings of these directions, and returns when the relay has them.
    pub fn set(&self, change: &Change, directions: &[usize]) -> Result<(), String> {
        let mut state = self.lock();
        for &at in directions {
            change.apply(&mut state.directions[at].settings);
            state.directions[at].version += 1;
        }
        self.wake();
        let waits = |state: &mut State| state.directions.iter().any(|d| d.applied < d.version);
        let waited = self.applied.wait_timeout_while(state, APPLY_TIMEOUT, waits);
        match waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            true => Err("the relay does not take the change; is it still running?".into()),
            false => Ok(()),
        }
    }

    /// Settings and counters of both directions.
    pub fn get(&self) -> [(Settings, Counters); 2] {
        let state = self.lock();
        [0, 1].map(|at| {
            let direction = &state.directions[at];
            (direction.settings.clone(), direction.counters)
        })
    }

    /// Ends both relay threads.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.wake();
    }

    fn wake(&self) {
        for wake in &self.wake {
            // Fails only if it is full of wake-ups already.
            let _ = rustix::io::write(wake, &1u64.to_ne_bytes());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread of direction number `at`.
pub fn spawn(
    link: Arc<Link>,
    at: usize,
    from: Arc<Device>,
    to: Arc<Device>,
) -> io::Result<JoinHandle<()>> {
    let shaper = Shaper::new(link.seed.wrapping_add(at as u64));
    let mut relay = Relay {
        link,
        at,
        from,
        to,
        shaper,
        version: 0,
        offload: true,
        origin: Instant::now(),
    };
    thread::Builder::new()
        .name(DIRECTIONS[at].into())
        .spawn(move || relay.run())
}

struct Relay {
    link: Arc<Link>,
    at: usize,
    from: Arc<Device>,
    to: Arc<Device>,
    shaper: Shaper,
    version: u64,
    offload: bool,
    origin: Instant,
}

impl Relay {
    fn run(&mut self) {
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let emptied = self.take(&mut buffer);
            self.deliver();
            // Before the wait, so that the counters are true while nothing happens.
            if !self.exchange() {
                return;
            }
            if emptied {
                self.wait();
            }
        }
    }

    /// Settings in, counters out. False: stop.
    fn exchange(&mut self) -> bool {
        let now = self.origin.elapsed();
        let link = self.link.clone();
        let mut state = link.lock();
        let running = !state.stopped;
        let direction = &mut state.directions[self.at];
        if direction.version != self.version {
            self.version = direction.version;
            self.shaper.set(&direction.settings, now);
            self.apply_offload(direction.settings.offload());
            direction.applied = self.version;
            link.applied.notify_all();
        }
        direction.counters = Counters {
            waiting_bytes: self.shaper.waiting_bytes(),
            ..self.shaper.counters
        };
        running
    }

    fn apply_offload(&mut self, offload: bool) {
        if offload == self.offload {
            return;
        }
        match self.from.set_offload(offload) {
            Ok(()) => self.offload = offload,
            Err(error) => eprintln!("drover-lab-link: switching offload to {offload}: {error}"),
        }
    }

    /// Takes packets from the device. True: there are no more for now.
    fn take(&mut self, buffer: &mut [u8]) -> bool {
        for _ in 0..BURST {
            let packet = match self.from.read(buffer) {
                Ok(Some(length)) => &buffer[..length],
                Ok(None) => return true,
                Err(error) => {
                    // The device is down; it may come up again.
                    eprintln!("drover-lab-link: reading {}: {error}", DIRECTIONS[self.at]);
                    thread::sleep(Duration::from_millis(100));
                    return true;
                }
            };
            if self.shaper.is_open() {
                let delivered = self.to.write(packet).is_ok();
                self.shaper.count(packet, delivered);
            } else {
                self.shaper.push(packet, self.origin.elapsed());
            }
        }
        false
    }

    fn deliver(&mut self) {
        let now = self.origin.elapsed();
        while let Some(packet) = self.shaper.pop(now) {
            let delivered = self.to.write(&packet).is_ok();
            self.shaper.count(&packet, delivered);
        }
    }

    /// Until a packet comes, one is due, or settings change.
    fn wait(&self) {
        let now = self.origin.elapsed();
        let timeout = self
            .shaper
            .next_event()
            .map(|event| event.saturating_sub(now).max(GRAIN));
        let timeout = timeout.map(|left| Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos().into(),
        });
        let wake = self.link.wake[self.at].as_fd();
        let mut watched = [
            PollFd::new(&*self.from, PollFlags::IN),
            PollFd::from_borrowed_fd(wake, PollFlags::IN),
        ];
        // Interrupted or not: the loop looks at everything anyway.
        let _ = poll(&mut watched, timeout.as_ref());
        // Fails if there was no wake-up.
        let _ = rustix::io::read(wake, &mut [0; 8]);
    }
}
