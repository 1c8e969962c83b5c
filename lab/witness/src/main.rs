//! `drover-witness`: runs inside a guest, writes numbered records, and proves later that none is lost.
//!
//! Lines on the console, each beginning with `WITNESS`: `NEW`, `OK n`, `WROTE n`, `LOST ...`,
//! `FAILED k`, `ERROR ...`, `STOPPED n`. Exit code 0: all well; 1: records are lost; 2: it could not
//! work. In the mode `load` it says `LOAD ...` each second instead.

mod block;
mod check;
mod console;
mod layout;
mod ledger;
mod load;
mod oracle;
mod pattern;
mod record;
mod store;
mod superblock;
mod writer;

use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag::register;

use check::{Outcome, State};
use console::Console;
use layout::{Areas, Sizes};
use ledger::Entry;
use pattern::Pattern;
use record::Place;
use superblock::Superblock;
use writer::{Pace, Wishes, Witness};

/// Writes numbered records to a disk and a file system, and checks that none is ever lost.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// `check`: only check, then exit; `load`: no records, write to the disk as fast as it can
    mode: Option<Mode>,
    /// The disk, or a file in its place; touched from 1 MiB on for --area-bytes
    #[arg(long)]
    device: PathBuf,
    /// A folder on a file system
    #[arg(long)]
    directory: PathBuf,
    /// How records are spread over the slots; idle writes none
    #[arg(long, value_enum, default_value = "append")]
    pattern: Pattern,
    /// Records per second
    #[arg(long, default_value_t = 20.0)]
    rate: f64,
    /// Where the lines go, for example /dev/ttyS0; standard output if not given
    #[arg(long)]
    console: Option<PathBuf>,
    /// The highest record that the caller saw announced: at least this must be there
    #[arg(long, default_value_t = 0)]
    announced: u64,
    /// Check all so often, in seconds; SIGUSR1 does it once
    #[arg(long)]
    check_every: Option<f64>,
    /// Size of the area on the disk
    #[arg(long, default_value_t = 64 << 20)]
    area_bytes: u64,
    /// Size of all files of records together
    #[arg(long, default_value_t = 32 << 20)]
    file_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Check,
    Load,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut console = match Console::open(arguments.console.as_deref()) {
        Ok(console) => console,
        Err(error) => {
            eprintln!(
                "drover-witness: opening the console {:?}: {error}",
                arguments.console
            );
            return ExitCode::from(2);
        }
    };
    match run(&arguments, &mut console) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            // If the console has failed too, the exit code is all that is left to say.
            let _ = console.say(format_args!("ERROR {error}"));
            ExitCode::from(2)
        }
    }
}

/// False: records are lost.
fn run(arguments: &Arguments, console: &mut Console) -> Result<bool, Box<dyn Error>> {
    let wishes = Wishes::default();
    for signal in [SIGTERM, SIGINT] {
        register(signal, wishes.stop.clone())?;
    }
    register(SIGUSR1, wishes.check.clone())?;
    let pace = pace(arguments)?;
    let sizes = Sizes {
        raw: arguments.area_bytes,
        file: arguments.file_bytes,
    };
    sizes.check()?;
    let device = arguments.device.display();
    if arguments.mode == Some(Mode::Load) {
        load::run(&arguments.device, sizes, console, &wishes.stop)
            .map_err(|error| format!("writing to {device}: {error}"))?;
        return Ok(true);
    }
    let mut areas = Areas::open(&arguments.device, &arguments.directory, sizes)
        .map_err(|error| format!("opening {device}: {error}"))?;
    let state = match check::at_start(&mut areas, arguments.announced)? {
        Outcome::Failed(headers, losses) => {
            console.say_lost(&headers, &losses)?;
            return Ok(false);
        }
        Outcome::New if arguments.mode == Some(Mode::Check) => {
            console.say_lost(
                &["record=0 slot=superblock where=raw found=nothing expected=superblock".into()],
                &[],
            )?;
            return Ok(false);
        }
        Outcome::New => {
            let state = initialise(&areas, arguments.pattern, sizes)?;
            console.say("NEW")?;
            state
        }
        Outcome::Good(state) => {
            console.say(format_args!("OK {}", state.highest))?;
            state
        }
    };
    if arguments.mode == Some(Mode::Check) {
        return Ok(true);
    }
    let state = settle(&areas, state, arguments.pattern)?;
    Ok(Witness::new(areas, state, console)?.run(&pace, &wishes)?)
}

fn pace(arguments: &Arguments) -> Result<Pace, String> {
    let interval = |seconds: f64, name: &str| {
        Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name} makes no sense"))
    };
    let record = match (arguments.pattern, arguments.rate) {
        (Pattern::Idle, _) | (_, 0.0) => None,
        (_, rate) => Some(interval(1.0 / rate, "--rate")?),
    };
    let check = arguments
        .check_every
        .map(|seconds| interval(seconds, "--check-every"))
        .transpose()?;
    Ok(Pace { record, check })
}

/// The files first, the device's superblock last: only with it the areas count as initialised.
fn initialise(areas: &Areas, pattern: Pattern, sizes: Sizes) -> io::Result<State> {
    let mut seed = [0; 8];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let superblock = Superblock {
        seed: u64::from_le_bytes(seed),
        pattern,
        sizes,
    };
    let ledger = Entry {
        sequence: 1,
        highest: 0,
    };
    superblock.store(areas, Place::File)?;
    ledger.store(areas, Place::File, superblock.seed)?;
    ledger.store(areas, Place::Raw, superblock.seed)?;
    superblock.store(areas, Place::Raw)?;
    Ok(State {
        superblock,
        ledger,
        highest: 0,
    })
}

/// The pattern must be the one of the initialisation, unless nothing has been written.
fn settle(areas: &Areas, state: State, pattern: Pattern) -> Result<State, Box<dyn Error>> {
    let Superblock {
        pattern: found,
        sizes,
        ..
    } = state.superblock;
    if found == pattern || pattern == Pattern::Idle {
        return Ok(state);
    }
    if state.highest > 0 {
        return Err(format!(
            "the areas were initialised for {found:?}; give that pattern, or idle"
        )
        .into());
    }
    Ok(initialise(areas, pattern, sizes)?)
}
