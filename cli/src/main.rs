//! `dipc`: the command. It starts clusters on this machine, runs programs on
//! their nodes or against this machine's own daemon, and looks at both.
//!
//! | subcommand | module |
//! |---|---|
//! | `up`, `down` | [`up`], [`down`]; daemons are started and ended in [`launch`] |
//! | `exec`, `run` | [`exec`], [`run`]; what a program needs is in [`program`] |
//! | `ls`, `rm`, `status` | [`ls`], [`rm`], [`status`]; whom they ask is in [`target`] |
//! | `keygen` | [`keygen`] |
//! | `demo`, `bench` | [`demo`], [`mod@bench`] |
//!
//! A local cluster is a folder with a record ([`cluster`]), and with `--netns` a
//! [`network`] of its own; its processes are
//! known by number and start time ([`process`]), so no stranger is ever hit.
//! [`client`] speaks with daemons. `unsafe` lives in [`sys`].

mod artifacts;
mod bench;
mod client;
mod cluster;
mod demo;
mod down;
mod exec;
mod failure;
mod interrupts;
mod keygen;
mod launch;
mod ls;
mod network;
mod output;
mod process;
mod program;
mod rm;
mod run;
mod scratch;
mod status;
mod sys;
mod table;
mod target;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::failure::Result;

/// System V IPC that spans machines: clusters, and programs on them.
#[derive(Parser, Debug)]
#[command(name = "dipc", version, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Up(up::Args),
    Exec(exec::Args),
    Run(run::Args),
    Down(down::Args),
    Ls(ls::Args),
    Rm(rm::Args),
    Status(status::Args),
    Keygen(keygen::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    #[command(hide = true)]
    BenchWorker(bench::worker::Args),
    #[command(hide = true)]
    HoldNetwork(network::Args),
}

fn main() -> ExitCode {
    match perform(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("dipc: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

fn perform(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::main(args),
        Command::Exec(args) => exec::main(args).map(|never| match never {}),
        Command::Run(args) => run::main(args).map(|never| match never {}),
        Command::Down(args) => down::main(args),
        Command::Ls(args) => ls::main(args),
        Command::Rm(args) => rm::main(args),
        Command::Status(args) => status::main(args),
        Command::Keygen(args) => keygen::main(args),
        Command::Demo(args) => demo::main(args),
        Command::Bench(args) => bench::main(args),
        Command::BenchWorker(args) => bench::worker::main(args),
        Command::HoldNetwork(args) => network::main(&args),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parses(line: &str) -> bool {
        CommandLine::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn the_table_of_options_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn a_programs_own_options_are_left_to_it() {
        let line = CommandLine::parse_from("dipc exec -n 2 -- ls -n --help".split(' '));
        let Command::Exec(args) = line.command else {
            panic!("{line:?}")
        };
        assert!(
            format!("{args:?}").contains(r#"["ls", "-n", "--help"]"#),
            "{args:?}"
        );
    }

    #[test]
    fn commands_without_what_they_need_are_refused() {
        for line in [
            "dipc",
            "dipc exec -- ls",
            "dipc exec -n 2",
            "dipc run",
            "dipc up --nodes 0",
            "dipc up --nodes 256",
            "dipc rm",
        ] {
            assert!(!parses(line), "{line}");
        }
        for line in [
            "dipc up",
            "dipc ls --kind shm --json -n 2",
            "dipc bench --one-cpu",
            "dipc run -- true",
        ] {
            assert!(parses(line), "{line}");
        }
    }
}
