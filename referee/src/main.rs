//! `dipc-referee`: the name server of a dipc cluster, as a program.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use dipc_door::Door;
use dipc_referee::{Options, Referee};
use dipc_wire::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// The name server of a dipc cluster: its nodes' dipcd find each other, and
/// their keys, through it.
///
/// Prints `ready ADDRESS` when it serves. The log goes to standard error;
/// RUST_LOG chooses how much of it (error, warn, info, debug).
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// Where nodes reach it; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7461")]
    listen: SocketAddr,
    /// The cluster's key, made by `dipc keygen`: connections are encrypted, and only
    /// those who have it come in. Needed where --listen is not loopback
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Which nodes come in, each from which address: lines `NAME ADDRESS`. Read
    /// once, at the start [default: all who have the key]
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// After how long without a sign of life a node is dead, such as 5s or 200ms
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
    /// Nobody was a member of this cluster before: do not wait for old members
    /// to come back, as a restarted referee must
    #[arg(long)]
    new_cluster: bool,
    /// A limit of the whole cluster, such as shmmni=8192; may be said often.
    /// Those that are not set are the kernel's defaults
    #[arg(long = "limit", value_name = "NAME=VALUE")]
    limit: Vec<String>,
    /// A file of such limits, one a line; --limit goes before it
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let color = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(color)
        // They would be said on the stderr that cannot be written, by a panic.
        .log_internal_errors(false)
        .init();
    raise_descriptor_limit();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dipc-referee: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Raises the soft limit to the hard one, setrlimit(2): each node takes one.
fn raise_descriptor_limit() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // The soft limit stays what it was, and is respected.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    // Blocked before any thread starts, so that all inherit it and only the
    // wait below takes them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals
        .thread_block()
        .map_err(|error| format!("cannot block signals: {error}"))?;
    let listen = arguments.listen;
    let door = Door::load(arguments.key.as_deref(), arguments.allow.as_deref())
        .map_err(|error| error.to_string())?;
    door.may_use(listen.ip())
        .map_err(|refusal| format!("--listen: {refusal}"))?;
    let listener = TcpListener::bind(listen).map_err(|error| {
        format!("cannot listen on {listen}: {error}; choose another address with --listen, or end who has it")
    })?;
    let options = Options {
        timeout: arguments.timeout,
        new_cluster: arguments.new_cluster,
        limits: limits(arguments)?,
    };
    let referee = Referee::start_behind(door, listener, options)
        .map_err(|error| format!("cannot start: {error}; see --help"))?;
    let mut stdout = io::stdout();
    writeln!(stdout, "ready {}", referee.address())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot say on standard output that it is ready: {error}"))?;
    let signal = signals
        .wait()
        .map_err(|error| format!("cannot wait for signals: {error}"))?;
    info!(%signal, "ending; nodes look for the next referee");
    referee.stop();
    Ok(())
}

fn limits(arguments: &Arguments) -> Result<Limits, String> {
    let file = match &arguments.limits {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read --limits {}: {error}", path.display()))?,
        None => String::new(),
    };
    let settings = arguments.limit.iter().map(String::as_str);
    Limits::written(&file, settings).map_err(|error| format!("a limit cannot be set: {error}"))
}

/// A time such as `5s`, `200ms` or `100us`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time: write a whole number and s, ms or us, such as 5s");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    match &text[digits..] {
        "s" => Ok(Duration::from_secs(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "us" => Ok(Duration::from_micros(number)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_number_and_a_unit() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("100us"), Ok(Duration::from_micros(100)));
        for wrong in [
            "",
            "5",
            "s",
            "-5s",
            "5 s",
            "5m",
            "1.5s",
            "99999999999999999999s",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
