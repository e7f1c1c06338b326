//! `dipcd`: reads its command line and serves.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use dipcd::config::Config;
use dipcd::{keeper, node};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(keeper::ARGUMENT) {
        return ended(keeper::run().map_err(|error| format!("keeper: {error}")));
    }
    let filter = EnvFilter::try_from_env("DIPC_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // It would say on stderr that stderr cannot be written, and panic: a full
        // disk costs the log and nothing else.
        .log_internal_errors(false)
        .init();
    fail_stop();
    let config = Config::parse();
    ended(node::run(&config, ready).map_err(|error| error.to_string()))
}

/// A thread that panics takes the daemon down, and so to its keeper: without one
/// of its threads it would let programs and peers wait for ever.
fn fail_stop() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// Tells whoever started us, by the one line that ever appears on stdout.
fn ready(socket: &str) {
    let mut out = std::io::stdout();
    // Nobody may be there to read it.
    let _ = writeln!(out, "ready {socket}").and_then(|()| out.flush());
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dipcd: {error}");
            ExitCode::FAILURE
        }
    }
}
