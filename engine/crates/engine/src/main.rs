//! `drover-engine`: moves the bytes of one VM between two sites. Drover tells it what to do over
//! HTTP on a unix socket (`docs/engine-api.yaml`).

use clap::{Parser, Subcommand};
use drover_engine::serve;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "drover-engine",
    version,
    about = "Moves the bytes of VDISKs from one site to another"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Offer the control API until stopped.
    Serve {
        /// Unix socket of the API; made with mode 0600.
        #[arg(long)]
        api: PathBuf,
        /// Folder for journals and tokens; one engine at a time may use it.
        #[arg(long)]
        state: PathBuf,
        /// Log file; standard error if left out.
        #[arg(long)]
        log: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Verb::Serve { api, state, log } = Arguments::parse().verb;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime
        .map_err(|error| format!("starting the runtime failed: {error}"))
        .and_then(|runtime| runtime.block_on(serve::serve(&api, &state, log.as_deref())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("drover-engine: {message}");
            ExitCode::FAILURE
        }
    }
}
