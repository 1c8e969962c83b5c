//! A bad link: passes bytes on, stalls, cuts, or garbles, as told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PASS: u8 = 0;
const STALL: u8 = 1;
const GARBLE: u8 = 2;

#[derive(Default)]
struct State {
    mode: AtomicU8,
    passed: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    pub address: String,
    state: Arc<State>,
}

impl Proxy {
    pub fn to(upstream: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<State>::default();
        let (upstream, shared) = (upstream.to_owned(), state.clone());
        std::thread::spawn(move || {
            for downstream in listener.incoming().flatten() {
                if let Ok(upstream) = TcpStream::connect(&upstream) {
                    pass_on(&shared, downstream, upstream);
                }
            }
        });
        Proxy { address, state }
    }

    /// Bytes that went through, both ways.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }

    /// Ends all connections; new ones are welcome.
    pub fn cut(&self) {
        for stream in self.state.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Passes nothing on, and says nothing about it.
    pub fn stall(&self) {
        self.state.mode.store(STALL, Ordering::Relaxed);
    }

    pub fn go_on(&self) {
        self.state.mode.store(PASS, Ordering::Relaxed);
    }

    /// Changes one byte of the next bytes that pass.
    pub fn garble_once(&self) {
        self.state.mode.store(GARBLE, Ordering::Relaxed);
    }
}

fn pass_on(state: &Arc<State>, downstream: TcpStream, upstream: TcpStream) {
    let ends = [
        downstream.try_clone().unwrap(),
        upstream.try_clone().unwrap(),
    ];
    state.open.lock().unwrap().extend(ends);
    let pairs = [
        (
            downstream.try_clone().unwrap(),
            upstream.try_clone().unwrap(),
        ),
        (upstream, downstream),
    ];
    for (from, to) in pairs {
        let state = state.clone();
        std::thread::spawn(move || one_way(&state, from, to));
    }
}

fn one_way(state: &State, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer) {
        while state.mode.load(Ordering::Relaxed) == STALL {
            std::thread::sleep(Duration::from_millis(5));
        }
        let garbles =
            state
                .mode
                .compare_exchange(GARBLE, PASS, Ordering::Relaxed, Ordering::Relaxed);
        if garbles.is_ok() && count > 0 {
            buffer[count / 2] ^= 0x20;
        }
        state.passed.fetch_add(count as u64, Ordering::Relaxed);
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
