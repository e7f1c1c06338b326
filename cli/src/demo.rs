//! `dipc demo`: a cluster of three nodes draws a picture, and everything is
//! gone afterwards but the picture.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dipc_wire::admin::NodeStatus;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::exec::environment;
use crate::failure::{Doing, Failure, Result};
use crate::interrupts::Interrupts;
use crate::launch::{Plan, Running};
use crate::output::print;
use crate::process::first_readable;
use crate::scratch::Scratch;
use crate::sys::process::ends_with_us;
use crate::table::{Table, bytes};

const NODES: u8 = 3;
const WORKERS_A_NODE: usize = 2;
/// Workers end by themselves when the master is done.
const WORKERS_END: Duration = Duration::from_secs(10);

/// The program that runs over the cluster, as C source: the demo needs nothing
/// but a compiler, wherever dipc is installed.
const SOURCES: [(&str, &str); 3] = [
    ("mandelbrot.c", include_str!("../../examples/mandelbrot.c")),
    ("dipc.h", include_str!("../../examples/dipc.h")),
    ("png.h", include_str!("../../examples/png.h")),
];

/// Starts a cluster of three nodes, draws a picture over it, shows who did what,
/// and ends everything.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Where the picture goes
    #[arg(long, short, value_name = "FILE", default_value = "mandelbrot.png")]
    output: PathBuf,
    /// The picture's width in pixels
    #[arg(long, default_value_t = 960, value_parser = clap::value_parser!(u16).range(32..=8192))]
    width: u16,
    /// The picture's height in pixels
    #[arg(long, default_value_t = 640, value_parser = clap::value_parser!(u16).range(32..=8192))]
    height: u16,
}

pub(crate) fn main(args: Args) -> Result<()> {
    let output = std::path::absolute(&args.output)
        .doing(|| format!("cannot resolve {}", args.output.display()))?;
    build_parts()?;
    let interrupts = Interrupts::catch()?;
    let scratch = Scratch::new()?;
    let program = compile(scratch.path())?;

    eprintln!("Starting a referee and {NODES} nodes …");
    let plan = Plan {
        nodes: NODES,
        ends_with_us: true,
        ..Plan::default()
    };
    let running = Running::start(&scratch.path().join("cluster"), &plan, &interrupts)?;
    let cluster = running.cluster()?;

    eprintln!("Drawing with {WORKERS_A_NODE} workers on each node, the master on node 1 …");
    let size = [args.width.to_string(), args.height.to_string()];
    let drawn = draw(cluster, &program, &output, size, &interrupts)?;
    let status = Client::connect(Path::new(&cluster.node(1)?.at))?.status()?;
    let remains = running.end()?;

    print(&format!(
        "\n{}\nThe picture is {}: a tile's border shows its node\n(1 red, 2 green, 3 blue).\n",
        table(&drawn, &status),
        output.display()
    ))?;
    for name in remains.killed {
        eprintln!("dipc: {name} did not end when asked to, and was killed");
    }
    match (1..=NODES).find(|node| !drawn.contains_key(node)) {
        None => Ok(()),
        Some(idle) => Err(Failure::new(
            "not all nodes took part",
            format!("node {idle} drew no tile"),
        )
        .next("a larger picture gives everybody work: --width 1920 --height 1280")),
    }
}

/// Started by cargo in our workspace, the other parts may not be built yet, or
/// be older than we.
fn build_parts() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let ours = env::var_os("CARGO_MANIFEST_DIR")
        .is_some_and(|dir| Path::new(&dir) == Path::new(env!("CARGO_MANIFEST_DIR")));
    let Some(cargo) = env::var_os("CARGO").filter(|_| ours) else {
        return Ok(());
    };
    eprintln!("Building dipcd, dipc-referee and libdipc.so …");
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--package",
        "dipcd",
        "--package",
        "dipc-referee",
        "--package",
        "dipc-shim",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let status = command
        .current_dir(workspace)
        .status()
        .doing(|| "cannot run cargo".into())?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::new(
            "cannot build dipc",
            format!("cargo ended with {status}"),
        ))
    }
}

/// Compiles the program in `folder`.
fn compile(folder: &Path) -> Result<PathBuf> {
    for (name, text) in SOURCES {
        fs::write(folder.join(name), text).doing(|| format!("cannot write {name}"))?;
    }
    let program = folder.join("mandelbrot");
    let mut command = Command::new("cc");
    command
        .arg("-O2")
        .arg("-o")
        .arg(&program)
        .arg(folder.join("mandelbrot.c"));
    let status = command.status().map_err(|error| {
        Failure::new("cannot run cc", error).next("install a C compiler, such as gcc or clang")
    })?;
    if status.success() {
        Ok(program)
    } else {
        Err(Failure::new(
            "cannot compile examples/mandelbrot.c",
            format!("cc ended with {status}"),
        ))
    }
}

/// Programs that are killed, and waited for, when this is dropped.
struct Programs(Vec<Child>);

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs workers and master; returns how many tiles each node drew.
fn draw(
    cluster: &Cluster,
    program: &Path,
    output: &Path,
    size: [String; 2],
    interrupts: &Interrupts,
) -> Result<BTreeMap<u8, u64>> {
    let spawn = |node: u8, prepare: &dyn Fn(&mut Command)| {
        let mut command = Command::new(program);
        environment(cluster, node)?
            .apply(&mut command)
            .stdin(Stdio::null());
        ends_with_us(&mut command, libc::SIGKILL);
        prepare(&mut command);
        command
            .spawn()
            .doing(|| format!("cannot start {}", program.display()))
    };
    let mut workers = Programs(Vec::new());
    for node in (1..=NODES).flat_map(|node| [node; WORKERS_A_NODE]) {
        workers.0.push(spawn(node, &|command| {
            command.arg("worker").stdout(Stdio::null());
        })?);
    }
    let mut master = Programs(vec![spawn(1, &|command| {
        command
            .arg("master")
            .arg(output)
            .args(&size)
            .stdout(Stdio::piped());
    })?]);
    let said = listen(&mut master, interrupts)?;
    let deadline = Instant::now() + WORKERS_END;
    for worker in &mut workers.0 {
        wait_for_worker(worker, deadline, interrupts)?;
    }
    tiles(&said)
}

/// What the master says, until it has ended well.
fn listen(master: &mut Programs, interrupts: &Interrupts) -> Result<String> {
    let what = || "cannot hear the master".to_string();
    let child = master
        .0
        .first_mut()
        .ok_or_else(|| Failure::new(what(), "not started"))?;
    let mut stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failure::new(what(), "no pipe"))?;
    let mut said = Vec::new();
    loop {
        let ready = first_readable(&[interrupts.as_fd(), stdout.as_fd()], None);
        if ready == Some(0) {
            interrupts.check()?;
        }
        let mut room = [0; 4096];
        match stdout.read(&mut room).doing(what)? {
            0 => break,
            count => said.extend_from_slice(&room[..count]),
        }
    }
    let status = child.wait().doing(what)?;
    if status.success() {
        Ok(String::from_utf8_lossy(&said).into_owned())
    } else {
        Err(Failure::new(
            "the master failed",
            format!("it ended with {status}"),
        ))
    }
}

/// A worker ends when its queue is gone; one that does not is killed by the caller.
fn wait_for_worker(worker: &mut Child, deadline: Instant, interrupts: &Interrupts) -> Result<()> {
    let id = worker.id();
    let what = || format!("cannot wait for worker {id}");
    let pidfd = crate::sys::process::pidfd_open(id).doing(what)?;
    match first_readable(&[interrupts.as_fd(), pidfd.as_fd()], Some(deadline)) {
        Some(0) => interrupts.check(),
        Some(_) => match worker.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(
                "a worker failed",
                format!("it ended with {status}"),
            )),
            Err(error) => Err(Failure::new(what(), error)),
        },
        None => Err(Failure::new(
            "a worker does not end",
            "its queue is gone, and it did not notice",
        )),
    }
}

/// Reads the master's `node N drew M tiles`.
fn tiles(said: &str) -> Result<BTreeMap<u8, u64>> {
    let line = |line: &str| {
        let (node, count) = line
            .strip_prefix("node ")?
            .strip_suffix(" tiles")?
            .split_once(" drew ")?;
        Some((node.parse().ok()?, count.parse().ok()?))
    };
    said.lines()
        .map(|text| line(text).ok_or_else(|| Failure::new("the master speaks in riddles", text)))
        .collect()
}

fn table(drawn: &BTreeMap<u8, u64>, status: &[NodeStatus]) -> String {
    let mut table = Table::new([
        "NODE",
        ">TILES",
        ">READ FAULTS",
        ">WRITE FAULTS",
        ">MESSAGES",
        ">BYTES",
    ]);
    for node in status {
        let counters = &node.counters;
        table.row([
            node.name.clone(),
            drawn.get(&node.node.get()).unwrap_or(&0).to_string(),
            counters.read_faults.to_string(),
            counters.write_faults.to_string(),
            counters.messages_out.to_string(),
            bytes(counters.bytes_out),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_table_is_read_and_nothing_else_is_taken_for_it() {
        let drawn = tiles("node 1 drew 200 tiles\nnode 3 drew 400 tiles\n").unwrap();
        assert_eq!(drawn, BTreeMap::from([(1, 200), (3, 400)]));
        assert!(tiles("node x drew 1 tiles").is_err());
        assert!(tiles("done").is_err());
    }

    #[test]
    fn the_picture_program_compiles_without_a_warning() {
        let scratch = Scratch::new().unwrap();
        let program = compile(scratch.path()).unwrap();
        assert!(program.is_file());
        let strict = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o", "/dev/null"])
            .arg(scratch.path().join("mandelbrot.c"))
            .status();
        assert!(strict.unwrap().success());
    }
}
