//! Starts a cluster's daemons, and ends them.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dipc_door::Key;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;

use crate::artifacts;
use crate::client::Client;
use crate::cluster::{Cluster, KEY, Member};
use crate::failure::{Doing, Failure, Result};
use crate::interrupts::Interrupts;
use crate::network::{self, REFEREE};
use crate::process::{Identity, first_readable};
use crate::sys::process::{ends_with_us, in_namespace, in_own_session};

/// A daemon that does not serve after so long is given up.
const START: Duration = Duration::from_secs(30);
/// A daemon that has not ended so long after SIGTERM is killed.
const END: Duration = Duration::from_secs(10);
/// Lines of a dead daemon's log that are shown.
const TAIL: usize = 8;

/// What kind of cluster to start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// How many nodes, at least one.
    pub(crate) nodes: u8,
    /// The referee's `--timeout`.
    pub(crate) timeout: Option<String>,
    /// The nodes' `--granule`.
    pub(crate) granule: Option<String>,
    /// The nodes' `--quantum`.
    pub(crate) quantum: Option<String>,
    /// The nodes' `--root`.
    pub(crate) root: Option<String>,
    /// The referee's `--limit`, each.
    pub(crate) limit: Vec<String>,
    /// The referee's `--limits`, which it must find from `/`.
    pub(crate) limits: Option<PathBuf>,
    /// Each node and the referee has a network namespace of its own.
    pub(crate) netns: bool,
    /// Connections are encrypted where they would not have to be, on loopback.
    pub(crate) tls: bool,
    /// The daemons end when we end, whatever ends us.
    pub(crate) ends_with_us: bool,
}

/// A cluster that is ended when this is dropped, unless it is [released](Self::release).
#[derive(Debug)]
pub(crate) struct Running(Option<Cluster>);

/// What was left over when a cluster was ended.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// Daemons that did not end when they were asked to, and were killed.
    pub(crate) killed: Vec<String>,
    /// Keepers that have not ended: programs still use their memory.
    pub(crate) keepers: Vec<u32>,
}

/// What the daemons are told. All options that do not come from the cluster itself
/// are assembled here.
impl Plan {
    /// Addresses that are not loopback are not used without one.
    fn has_key(&self) -> bool {
        self.tls || self.netns
    }

    fn referee(&self, program: &Path, cluster: &Cluster) -> Result<Command> {
        let mut command = self.member(program, cluster, REFEREE)?;
        command.arg("--new-cluster");
        let limit = self.limit.iter();
        command.args(limit.flat_map(|limit| ["--limit", limit]));
        if let Some(file) = &self.limits {
            command.arg("--limits").arg(file);
        }
        Ok(command)
    }

    fn node(&self, program: &Path, cluster: &Cluster, name: &str) -> Result<Command> {
        let mut command = self.member(program, cluster, name)?;
        command.args(["--name", name]);
        command.arg("--socket").arg(cluster.socket(name));
        let granule = self.granule.iter();
        command.args(granule.flat_map(|granule| ["--granule", granule]));
        let quantum = self.quantum.iter();
        command.args(quantum.flat_map(|quantum| ["--quantum", quantum]));
        command.args(self.root.iter().flat_map(|root| ["--root", root]));
        Ok(command)
    }

    /// What both kinds of daemons are told.
    fn member(&self, program: &Path, cluster: &Cluster, name: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command.args(["--listen", &listen(cluster, name)?]);
        if self.has_key() {
            command.arg("--key").arg(cluster.dir.join(KEY));
        }
        let timeout = self.timeout.iter();
        command.args(timeout.flat_map(|timeout| ["--timeout", timeout]));
        Ok(command)
    }
}

/// At which address a daemon shall be reached: that of its namespace, if it has one.
fn listen(cluster: &Cluster, name: &str) -> Result<String> {
    let place = cluster.place(name)?;
    let host = place.map_or("127.0.0.1".into(), |place| place.address.to_string());
    Ok(host + ":0")
}

impl Running {
    /// Starts a cluster in `dir`. If anything fails, or a signal comes, all of
    /// it is ended again.
    pub(crate) fn start(dir: &Path, plan: &Plan, interrupts: &Interrupts) -> Result<Self> {
        let (referee, daemon) = (artifacts::referee()?, artifacts::daemon()?);
        artifacts::library()?;
        if plan.ends_with_us {
            // Keepers outlive their daemons by a moment. As their next parent we
            // see them off, and not whenever process 1 gets to it.
            set_child_subreaper(true).doing(|| "cannot adopt keepers".into())?;
        }
        let mut running = Running(Some(Cluster::claim(dir, plan.nodes)?));
        let cluster = running
            .0
            .as_mut()
            .ok_or_else(|| Failure::new("no cluster", "released"))?;

        if plan.has_key() {
            Key::generate(&cluster.dir.join(KEY)).doing(|| "cannot encrypt".into())?;
        }
        if plan.netns {
            let command = network::holder(plan.nodes)?;
            let member = start_member(cluster, network::NAME, command, plan, interrupts)?;
            cluster.record.network = Some(member);
            cluster.save()?;
        }

        let command = plan.referee(&referee, cluster)?;
        let member = start_member(cluster, REFEREE, command, plan, interrupts)?;
        let address = member.at.clone();
        cluster.record.referee = Some(member);
        cluster.save()?;

        for number in 1..=plan.nodes {
            let name = format!("node{number}");
            let mut command = plan.node(&daemon, cluster, &name)?;
            command.args(["--referee", &address]);
            let member = start_member(cluster, &name, command, plan, interrupts)?;
            cluster.record.nodes.push(member);
            cluster.save()?;
        }
        cluster.record.launcher = None;
        cluster.save()?;
        Ok(running)
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.0
            .as_ref()
            .ok_or_else(|| Failure::new("no cluster", "it was released"))
    }

    /// Leaves it running.
    pub(crate) fn release(mut self) -> Option<Cluster> {
        self.0.take()
    }

    /// Ends it and removes its files.
    pub(crate) fn end(mut self) -> Result<Remains> {
        self.0
            .take()
            .map_or(Ok(Remains::default()), |cluster| end(&cluster))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(Err(failure)) = self.0.take().map(|cluster| end(&cluster)) {
            eprintln!("dipc: {failure}");
        }
    }
}

/// Ends every process of the cluster, nodes first and their network last, and
/// removes its files.
pub(crate) fn end(cluster: &Cluster) -> Result<Remains> {
    let keepers = keepers(cluster);
    let mut remains = Remains::default();
    let (nodes, referee): (Vec<_>, Vec<_>) = cluster
        .members()
        .partition(|member| cluster.record.referee.as_ref() != Some(member));
    let network = cluster.record.network.iter().collect();
    for group in [nodes, referee, network] {
        remains.killed.extend(end_members(&group)?);
    }
    let deadline = Instant::now() + END;
    remains.keepers = keepers
        .into_iter()
        .filter(|keeper| {
            keeper
                .open()
                .is_some_and(|handle| !handle.wait(Some(deadline)))
        })
        .map(|keeper| keeper.pid)
        .collect();
    cluster.remove_files()?;
    Ok(remains)
}

/// SIGTERM to all, then time for all to end, then SIGKILL. Returns who was killed.
fn end_members(members: &[&Member]) -> Result<Vec<String>> {
    let alive: Vec<_> = members
        .iter()
        .filter_map(|member| Some((member, member.process.open()?)))
        .collect();
    for (member, handle) in &alive {
        handle
            .signal(Signal::SIGTERM)
            .doing(|| format!("cannot end {}", member.name))?;
    }
    let deadline = Instant::now() + END;
    let mut killed = Vec::new();
    for (member, handle) in &alive {
        if !handle.wait(Some(deadline)) {
            handle
                .signal(Signal::SIGKILL)
                .doing(|| format!("cannot kill {}", member.name))?;
            handle.wait(None);
            killed.push(member.name.clone());
        }
    }
    Ok(killed)
}

/// The keepers of those nodes that still say who theirs is.
fn keepers(cluster: &Cluster) -> Vec<Identity> {
    let status = |member: &Member| Client::connect(Path::new(&member.at))?.status();
    let answered = cluster
        .record
        .nodes
        .iter()
        .find_map(|member| status(member).ok());
    answered
        .into_iter()
        .flatten()
        .filter_map(|node| Identity::of(node.keeper))
        .collect()
}

/// Starts one daemon and waits for its `ready` line.
fn start_member(
    cluster: &Cluster,
    name: &str,
    mut command: Command,
    plan: &Plan,
    interrupts: &Interrupts,
) -> Result<Member> {
    let log = cluster.log(name);
    let stderr = File::create(&log).doing(|| format!("cannot write {}", log.display()))?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .current_dir("/");
    in_own_session(&mut command);
    if let Some(namespace) = cluster.namespace(name)? {
        in_namespace(&mut command, namespace);
    }
    if plan.ends_with_us {
        ends_with_us(&mut command, libc::SIGTERM);
    }
    let program = command.get_program().to_owned();
    let mut child = command
        .spawn()
        .doing(|| format!("cannot start {}", program.display()))?;
    let started = await_ready(&mut child, name, &log, interrupts).and_then(|at| {
        let process = Identity::of(child.id()).ok_or_else(|| died(name, &log, "at once"))?;
        Ok(Member {
            name: name.to_string(),
            process,
            at,
        })
    });
    if started.is_err() {
        // Not in the record yet, so nobody else would end it.
        let _ = child.kill();
        let _ = child.wait();
    }
    started
}

/// What stands behind `ready` in the daemon's first line.
fn await_ready(
    child: &mut Child,
    name: &str,
    log: &Path,
    interrupts: &Interrupts,
) -> Result<String> {
    let mut stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failure::new(name, "no pipe"))?;
    let deadline = Instant::now() + START;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        match first_readable(&[interrupts.as_fd(), stdout.as_fd()], Some(deadline)) {
            Some(0) => interrupts.check()?,
            Some(_) => {
                let mut bytes = [0; 256];
                let count = stdout
                    .read(&mut bytes)
                    .doing(|| format!("cannot hear {name}"))?;
                if count == 0 {
                    let status = child.wait().doing(|| format!("cannot wait for {name}"))?;
                    return Err(died(name, log, &format!("ended with {status}")));
                }
                line.extend_from_slice(&bytes[..count]);
            }
            None => {
                let why = format!("said nothing for {} seconds", START.as_secs());
                return Err(died(name, log, &why));
            }
        }
    }
    let line = String::from_utf8_lossy(&line);
    ready_line(&line).map(str::to_string).ok_or_else(|| {
        died(
            name,
            log,
            &format!("said {:?} instead of being ready", line.trim()),
        )
    })
}

fn ready_line(line: &str) -> Option<&str> {
    line.lines()
        .next()?
        .strip_prefix("ready ")
        .map(str::trim)
        .filter(|at| !at.is_empty())
}

/// A daemon that does not serve, with the end of its log: the folder is removed.
fn died(name: &str, log: &Path, why: &str) -> Failure {
    let text = fs::read_to_string(log).unwrap_or_default();
    let failure = Failure::new(format!("{name} does not start"), format!("it {why}"));
    match tail(&text) {
        said if said.is_empty() => failure.next("it left nothing in its log"),
        said => failure.next(format!("its last words:\n{said}")),
    }
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(TAIL)..];
    last.iter()
        .map(|line| format!("    {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_ready_line_makes_a_daemon_ready() {
        assert_eq!(ready_line("ready 127.0.0.1:4000\n"), Some("127.0.0.1:4000"));
        assert_eq!(ready_line("ready /run/a b.sock\n"), Some("/run/a b.sock"));
        for line in ["", "\n", "ready \n", "readyish x\n", "listening\n"] {
            assert_eq!(ready_line(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_last_words_of_a_daemon_are_the_end_of_its_log() {
        let log: Vec<_> = (1..=20).map(|n| n.to_string()).collect();
        let said = tail(&log.join("\n"));
        assert!(
            said.starts_with("    13\n") && said.ends_with("    20"),
            "{said}"
        );
        assert_eq!(tail(""), "");
    }
}
