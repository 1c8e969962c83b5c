//! `drover-lab-link`: a link between two network namespaces, in user space.
//!
//! One TUN device in each namespace; IP packets travel between them through one [`shaper`] per
//! direction, which gives the link its rate, delay, jitter, loss, or cuts it. A JSON-lines socket
//! changes all of that while packets flow. See `README.md` beside this crate.

mod control;
mod counters;
mod packet;
mod relay;
mod settings;
mod shaper;
mod tun;

use std::error::Error;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use relay::Link;
use tun::{Device, Place, Prefix};

/// A link between two network namespaces, with a rate, delay, jitter, loss, and cuts.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Network namespace of the left end, for example /run/netns/source
    #[arg(long)]
    left: PathBuf,
    /// Network namespace of the right end
    #[arg(long)]
    right: PathBuf,
    /// IPv4 address of the left end with its prefix, for example 10.77.0.1/30
    #[arg(long)]
    left_address: Prefix,
    /// IPv4 address of the right end with its prefix
    #[arg(long)]
    right_address: Prefix,
    /// Unix socket to listen on for control, one JSON object a line
    #[arg(long)]
    control: PathBuf,
    /// Name of the device in both namespaces
    #[arg(long, default_value = "drover0")]
    device: String,
    /// Largest IP packet in bytes
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u16).range(576..))]
    mtu: u16,
    /// Seed of loss and jitter; without it, each run differs
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("drover-lab-link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // Before any thread is made, so that each inherits it.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let device = |namespace: &PathBuf, address| {
        let (name, mtu) = (arguments.device.clone(), arguments.mtu);
        Device::create(Place {
            namespace: namespace.clone(),
            name,
            address,
            mtu,
        })
    };
    let left = Arc::new(device(&arguments.left, arguments.left_address)?);
    let right = Arc::new(device(&arguments.right, arguments.right_address)?);
    let link = Arc::new(Link::new(
        arguments.seed.unwrap_or_else(|| fastrand::u64(..)),
    )?);
    let listener = listen(&arguments.control)?;
    let directions = [
        relay::spawn(link.clone(), 0, left.clone(), right.clone())?,
        relay::spawn(link.clone(), 1, right, left)?,
    ];
    let served = link.clone();
    thread::Builder::new()
        .name("control".into())
        .spawn(move || control::serve(&listener, &served))?;
    println!("ready");

    signals.forever().next();
    link.stop();
    for direction in directions {
        direction.join().map_err(|_| "a relay thread panicked")?;
    }
    fs::remove_file(&arguments.control)?;
    Ok(())
}

/// A socket that an earlier run left behind is replaced; one that somebody listens on is not.
fn listen(path: &PathBuf) -> Result<UnixListener, Box<dyn Error>> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(format!("another link listens on {}; stop it first", path.display()).into());
    }
    let _ = fs::remove_file(path);
    UnixListener::bind(path)
        .map_err(|error| format!("listening on {}: {error}", path.display()).into())
}
