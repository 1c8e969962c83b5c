//! A link of many bad connections: each is slow in its own way and dies at a byte of its own, by a
//! reset, an end of file, or silence.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;

/// How new and living connections are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Bytes pass.
    Fair,
    /// Connections die by themselves.
    Hostile,
}

/// Faults that have fired.
#[derive(Debug, Default, Clone)]
pub struct Faults {
    pub resets: u32,
    pub closes: u32,
    pub silences: u32,
}

#[derive(Debug, Clone, Copy)]
enum Death {
    Reset,
    Close,
    Silence,
}

pub struct Proxy {
    pub address: String,
    shared: Arc<Shared>,
    runtime: Runtime,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    dice: StdRng,
    manner: Manner,
    upstream: String,
    passed: u64,
    faults: Faults,
    next: u64,
    living: BTreeMap<u64, AbortHandle>,
    /// Living connections that pass nothing any more, and say nothing about it.
    silent: Vec<u64>,
    refusing: bool,
}

impl Proxy {
    pub fn start(seed: u64) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            dice: StdRng::seed_from_u64(!seed),
            manner: Manner::Fair,
            upstream: String::new(),
            passed: 0,
            faults: Faults::default(),
            next: 0,
            living: BTreeMap::new(),
            silent: Vec::new(),
            refusing: false,
        };
        let state = Mutex::new(state);
        let shared = Arc::new(Shared { state });
        runtime.spawn(accept(listener, shared.clone()));
        Proxy {
            address,
            shared,
            runtime,
        }
    }

    pub fn stop(self) {
        self.runtime.shutdown_background();
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    pub fn lead_to(&self, upstream: String) {
        self.state().upstream = upstream;
    }

    pub fn behave(&self, manner: Manner) {
        self.state().manner = manner;
    }

    pub fn faults(&self) -> Faults {
        self.state().faults.clone()
    }

    /// Bytes that went through, both ways.
    pub fn passed(&self) -> u64 {
        self.state().passed
    }

    /// A reset of every living connection.
    pub fn reset_all(&self) {
        self.reset_some(u64::MAX);
    }

    /// A reset of the living connections whose bit is set.
    pub fn reset_some(&self, mask: u64) {
        let mut state = self.state();
        for (number, task) in &state.living {
            if (mask >> (number % 64)) & 1 == 1 {
                // Dropping both sockets with no lingering resets them.
                task.abort();
            }
        }
        state.faults.resets += 1;
    }

    /// A reset of the oldest living connection.
    pub fn reset_oldest(&self) {
        let mut state = self.state();
        let (_, task) = state.living.pop_first().unwrap();
        task.abort();
    }

    /// The oldest living connection passes nothing on any more.
    pub fn silence_oldest(&self) {
        let mut state = self.state();
        let number = *state.living.keys().next().unwrap();
        state.silent.push(number);
    }

    /// Hangs up on whoever calls.
    pub fn refuse(&self, on: bool) {
        self.state().refusing = on;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((downstream, _)) = listener.accept().await {
        let mut state = shared.state.lock().unwrap();
        if state.refusing {
            continue;
        }
        let number = state.next;
        state.next += 1;
        let task = tokio::spawn(pass(downstream, shared.clone(), number));
        state.living.insert(number, task.abort_handle());
    }
}

/// Ends when the connection has, in whatever way.
async fn pass(downstream: TcpStream, shared: Arc<Shared>, number: u64) {
    let upstream = shared.state.lock().unwrap().upstream.clone();
    let Ok(upstream) = TcpStream::connect(upstream).await else {
        shared.state.lock().unwrap().living.remove(&number);
        return;
    };
    let _ = (downstream.set_zero_linger(), upstream.set_zero_linger());
    let (down_read, down_write) = downstream.into_split();
    let (up_read, up_write) = upstream.into_split();
    let ended = Ended(shared.clone(), number);
    tokio::select! {
        () = one_way(down_read, up_write, &shared, number) => {}
        () = one_way(up_read, down_write, &shared, number) => {}
    }
    drop(ended);
}

struct Ended(Arc<Shared>, u64);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.state.lock().unwrap().living.remove(&self.1);
    }
}

/// What becomes of the next bytes.
struct Fate {
    wait: Duration,
    death: Option<(Death, usize)>,
    silent: bool,
}

fn fate(shared: &Shared, number: u64, count: usize) -> Fate {
    let mut state = shared.state.lock().unwrap();
    state.passed += count as u64;
    let silent = state.silent.contains(&number);
    let mut death = None;
    let mut wait = Duration::ZERO;
    if state.manner == Manner::Hostile {
        // Every connection has its own pace, so that frames overtake each other.
        let most = [0, 0, 1, 6][(number % 4) as usize];
        wait = Duration::from_millis(state.dice.random_range(0..=most));
        if state.dice.random_range(0..600_000) < count {
            let kind = [Death::Reset, Death::Close, Death::Silence];
            let weight = state.dice.random_range(0..10);
            let kind = kind[match weight {
                0..=4 => 0,
                5..=8 => 1,
                _ => 2,
            }];
            match kind {
                Death::Reset => state.faults.resets += 1,
                Death::Close => state.faults.closes += 1,
                Death::Silence => state.faults.silences += 1,
            }
            death = Some((kind, state.dice.random_range(0..=count)));
        }
    }
    Fate {
        wait,
        death,
        silent,
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, number: u64) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let Ok(count) = from.read(&mut buffer).await else {
            return;
        };
        if count == 0 {
            // The other direction goes on until it ends too.
            let _ = to.shutdown().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            return;
        }
        let fate = fate(shared, number, count);
        if fate.silent {
            return std::future::pending().await;
        }
        tokio::time::sleep(fate.wait).await;
        let count = fate.death.map_or(count, |(_, last)| last);
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
        match fate.death {
            None => {}
            Some((Death::Reset, _)) => return,
            Some((Death::Close, _)) => {
                let _ = to.shutdown().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                return;
            }
            Some((Death::Silence, _)) => {
                shared.state.lock().unwrap().silent.push(number);
                // A session whose only connection is silent would wait for ten seconds.
                tokio::time::sleep(Duration::from_secs(3)).await;
                return;
            }
        }
    }
}
