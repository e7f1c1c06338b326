//! A cluster on this machine, for one test.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use nix::sys::signal::Signal;

use crate::observe::{NodeStatus, all_threads_are_stopped, all_threads_sleep, status};
use crate::process::{Process, into_file};
use crate::scratch::Scratch;
use crate::wait::{DEADLINE, until};
use crate::{Network, Program, Relay, artifacts};

/// What the referee is called in a network of its own.
const REFEREE: &str = "referee";

/// How a cluster is started.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many nodes.
    pub nodes: usize,
    /// After what silence a node is dead. Long where no test waits for that: a
    /// busy machine must not make nodes die.
    pub timeout: &'static str,
    /// The unit of coherence.
    pub granule: &'static str,
    /// How long a node keeps one.
    pub quantum: &'static str,
    /// Limits that are not the kernel's defaults, such as `shmmni=5`.
    pub limits: &'static [&'static str],
    /// Without a referee there is one node, which is a cluster of its own.
    pub referee: bool,
    /// Whether all connections are encrypted, with the key in [`Cluster::key`], also
    /// where they would not have to be.
    pub tls: bool,
    /// How many descriptors a daemon may have, if fewer than the test itself.
    pub descriptors: Option<u64>,
    /// Each node and the referee is in a network namespace of its own. Needs root:
    /// see [`crate::network::can_be_made`].
    pub network: bool,
}

impl Options {
    /// So many nodes.
    #[must_use]
    pub fn nodes(nodes: usize) -> Self {
        Options {
            nodes,
            timeout: "20s",
            granule: "4K",
            quantum: "200us",
            limits: &[],
            referee: true,
            tls: false,
            descriptors: None,
            network: false,
        }
    }

    /// One node that has no referee.
    #[must_use]
    pub fn alone() -> Self {
        Options {
            referee: false,
            ..Options::nodes(1)
        }
    }
}

/// A referee and its nodes.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: nodes before their referee, the folder last.
    nodes: Vec<Node>,
    referee: Option<Process>,
    /// The referee's address.
    pub referee_address: String,
    options: Options,
    network: Option<Arc<Network>>,
    scratch: Scratch,
}

/// A node: its daemon, and what programs of this node need.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its programs connect.
    pub socket: PathBuf,
    log: PathBuf,
    /// Its number, from 1.
    pub number: usize,
    daemon: Process,
    network: Option<Arc<Network>>,
}

/// A daemon that did not come up.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said.
    pub message: String,
}

impl Cluster {
    /// A cluster of so many nodes that serve.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        Self::with(Options::nodes(nodes))
    }

    /// A cluster that serves.
    ///
    /// # Panics
    /// If one of its daemons does not come up.
    #[must_use]
    pub fn with(options: Options) -> Self {
        Self::prepared(options, |_, _| {})
    }

    /// The same; `prepare` has a look at each node's daemon before it is started.
    ///
    /// # Panics
    /// If one of them does not come up.
    #[must_use]
    pub fn prepared(options: Options, prepare: impl Fn(usize, &mut Command)) -> Self {
        let scratch = Scratch::new();
        let mut cluster = Cluster {
            nodes: Vec::new(),
            referee: None,
            referee_address: String::new(),
            options,
            network: (options.network).then(|| Arc::new(Network::start(options.nodes))),
            scratch,
        };
        cluster.referee_address = cluster.listen(REFEREE);
        if cluster.has_key() {
            make_key(&cluster.key());
        }
        if options.referee {
            cluster.start_referee(&["--new-cluster"], options.limits);
        }
        for number in 1..=options.nodes {
            let node = cluster
                .start_node(number, &[], |command| prepare(number, command))
                .unwrap_or_else(|refusal| panic!("node {number}: {refusal:?}"));
            cluster.nodes.push(node);
        }
        cluster
    }

    fn start_referee(&mut self, more: &[&str], limits: &[&str]) {
        let mut command = Command::new(artifacts::built("dipc-referee"));
        command
            .args(["--listen", &self.referee_address])
            .args(["--timeout", self.options.timeout])
            .args(more)
            .args(self.door())
            .args(limits.iter().flat_map(|limit| ["--limit", limit]))
            .stderr(into_file(&self.scratch.join("referee.log")));
        if let Some(network) = &self.network {
            network.enter(REFEREE, &mut command);
        }
        let (process, ready) = start("dipc-referee", &mut command)
            .unwrap_or_else(|status| panic!("dipc-referee: {status}"));
        self.referee = Some(process);
        self.referee_address = ready;
    }

    /// Where a daemon listens, on any free port.
    fn listen(&self, name: &str) -> String {
        let host = (self.network.as_ref()).map_or("127.0.0.1", |network| network.address(name));
        format!("{host}:0")
    }

    /// The nodes' network, in which they have the names `node1`, `node2` … and
    /// `referee`.
    ///
    /// # Panics
    /// If the cluster has none of its own.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("Options::network")
    }

    /// Where its key is, if it has one.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.scratch.join("key")
    }

    /// Addresses that are not loopback are not used without one.
    fn has_key(&self) -> bool {
        self.options.tls || self.options.network
    }

    fn door(&self) -> Vec<String> {
        let key = ["--key".into(), self.key().display().to_string()];
        key.into_iter().filter(|_| self.has_key()).collect()
    }

    /// Node `number`, from 1.
    #[must_use]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// All of them.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A program on node `number`.
    #[must_use]
    pub fn program(&self, number: usize) -> Program {
        self.node(number).program()
    }

    /// A path for a file of the test.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The folder of such files.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.scratch.path()
    }

    /// The referee's process id.
    ///
    /// # Panics
    /// If it was killed.
    #[must_use]
    pub fn referee_pid(&self) -> u32 {
        self.referee.as_ref().expect("a referee").pid()
    }

    /// What the referee has logged so far.
    #[must_use]
    pub fn referee_log(&self) -> String {
        fs::read_to_string(self.scratch.join("referee.log")).unwrap_or_default()
    }

    /// Kills the referee by SIGKILL.
    pub fn kill_referee(&mut self) {
        self.referee = None;
    }

    /// Starts a referee where the last one was.
    pub fn restart_referee(&mut self) {
        self.start_referee(&[], self.options.limits);
    }

    /// The same, with other limits than before.
    pub fn restart_referee_with(&mut self, limits: &[&str]) {
        self.start_referee(&[], limits);
    }

    /// Kills a node's daemon by SIGKILL.
    pub fn kill_node(&mut self, number: usize) {
        self.nodes[number - 1].daemon.kill();
    }

    /// Ends a node's daemon by SIGTERM.
    pub fn terminate_node(&mut self, number: usize) -> ExitStatus {
        let daemon = &mut self.nodes[number - 1].daemon;
        daemon.signal(Signal::SIGTERM);
        daemon.ended()
    }

    /// Waits for the end of a node's daemon.
    pub fn node_ended(&mut self, number: usize) -> ExitStatus {
        self.nodes[number - 1].daemon.ended()
    }

    /// How a node's daemon has ended, if it has.
    pub fn end_of_node(&mut self, number: usize) -> Option<ExitStatus> {
        self.nodes[number - 1].daemon.end_so_far()
    }

    /// Starts the daemon of a node anew, by the same name and socket.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn restart_node(&mut self, number: usize) {
        let node = self
            .try_node(number, &[])
            .unwrap_or_else(|refusal| panic!("node {number}: {refusal:?}"));
        self.nodes[number - 1] = node;
    }

    /// Starts one more node, which is the last then; the others reach it by `relay`.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn add_node_behind(&mut self, relay: &Relay) {
        let (listen, advertise) = (relay.target().to_string(), relay.address());
        let more = ["--listen", &listen, "--advertise", &advertise];
        let number = self.nodes.len() + 1;
        let node = self
            .try_node(number, &more)
            .unwrap_or_else(|refusal| panic!("node {number}: {refusal:?}"));
        self.nodes.push(node);
    }

    /// Starts one more node, which is the last then.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn add_node(&mut self) {
        let number = self.nodes.len() + 1;
        let node = self
            .try_node(number, &[])
            .unwrap_or_else(|refusal| panic!("node {number}: {refusal:?}"));
        self.nodes.push(node);
    }

    /// Whether a node's daemon has ended.
    pub fn has_ended(&mut self, number: usize) -> bool {
        self.nodes[number - 1].daemon.has_ended()
    }

    /// Starts a daemon as node `number`; `more` overrides or adds arguments.
    ///
    /// # Errors
    /// What it said, if it does not come up.
    pub fn try_node(&self, number: usize, more: &[&str]) -> Result<Node, Refusal> {
        self.start_node(number, more, |_| {})
    }

    fn start_node(
        &self,
        number: usize,
        more: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Node, Refusal> {
        let name = format!("node{number}");
        let socket = self.scratch.join(&format!("{name}.sock"));
        let mut arguments = vec![
            ("--name", name.clone()),
            ("--socket", socket.display().to_string()),
            ("--listen", self.listen(&name)),
            ("--granule", self.options.granule.into()),
            ("--quantum", self.options.quantum.into()),
            ("--timeout", self.options.timeout.into()),
        ];
        if self.options.referee {
            arguments.push(("--referee", self.referee_address.clone()));
        } else {
            let limits = self.options.limits.iter();
            arguments.extend(limits.map(|limit| ("--limit", (*limit).into())));
        }
        if self.has_key() {
            arguments.push(("--key", self.key().display().to_string()));
        }
        for pair in more.chunks_exact(2) {
            arguments.retain(|(option, _)| *option != pair[0]);
            arguments.push((pair[0], pair[1].into()));
        }
        let log = self.scratch.join(&format!("{name}.log"));
        let before = fs::metadata(&log).map_or(0, |log| log.len() as usize);
        let mut command = Command::new(artifacts::built("dipcd"));
        for (option, value) in &arguments {
            command.args([option, value.as_str()]);
        }
        command.stderr(into_file(&log));
        if let Some(most) = self.options.descriptors {
            limit_descriptors(&mut command, most);
        }
        if let Some(network) = &self.network {
            network.enter(&name, &mut command);
        }
        prepare(&mut command);
        match start("dipcd", &mut command) {
            Ok((daemon, _)) => Ok(Node {
                name,
                socket,
                log,
                number,
                daemon,
                network: self.network.clone(),
            }),
            Err(status) => Err(Refusal {
                status,
                message: fs::read_to_string(&log).unwrap_or_default()[before..].into(),
            }),
        }
    }

    /// Waits until a node is connected to so many peers.
    pub fn until_peers(&self, number: usize, peers: usize) {
        let node = self.node(number);
        until(&format!("{} has {peers} peers", node.name), || {
            node.own_status()
                .is_some_and(|status| status.peers == peers)
        });
    }

    /// Shows what the daemons and programs of all nodes have said.
    pub fn print_logs(&self) {
        let names = fs::read_dir(self.scratch.path()).into_iter().flatten();
        for path in names.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "log") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                eprintln!("--- {}\n{text}", path.display());
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.daemon.end();
        }
        if let Some(mut referee) = self.referee.take() {
            referee.end();
        }
        if thread::panicking() {
            self.print_logs();
        }
    }
}

impl Node {
    /// What the daemon has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The daemon's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Stops the daemon by SIGSTOP, and waits until it does nothing any more.
    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
        until(&format!("the dipcd of {} is stopped", self.name), || {
            all_threads_are_stopped(self.pid())
        });
    }

    /// Puts what programs of this node need into a command's environment.
    pub fn enter(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", artifacts::built("libdipc.so"))
            .env("DIPC_SOCKET", &self.socket)
            .env("DIPC_NODE", self.number.to_string())
            .stderr(into_file(&self.log.with_extension("programs.log")));
        if let Some(network) = &self.network {
            network.enter(&self.name, command);
        }
    }

    /// A program on this node.
    #[must_use]
    pub fn program(&self) -> Program {
        Program::start(|command| self.enter(command))
    }

    /// A command on this node, still to be started.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        self.enter(&mut command);
        command
    }

    /// What the node says about its cluster; `None` if it does not answer.
    #[must_use]
    pub fn status(&self) -> Option<Vec<NodeStatus>> {
        status(&self.socket)
    }

    /// What it says about itself.
    #[must_use]
    pub fn own_status(&self) -> Option<NodeStatus> {
        self.status()?
            .into_iter()
            .find(|status| status.name == self.name)
    }

    /// Waits until so many calls of a process wait where their objects are.
    ///
    /// The daemon counts a call before it sends it on. So nothing of the daemon
    /// may still run; and as messages of two nodes keep their order, the answer
    /// to a further question proves that the home has the call.
    ///
    /// # Panics
    /// If they do not.
    pub fn until_waiting(&self, pid: u32, calls: u64) {
        until(&format!("{calls} calls of process {pid} wait"), || {
            let waiting = self.own_status().and_then(|status| {
                let mut programs = status.programs.into_iter();
                programs.find(|program| program.0 == pid)
            });
            waiting == Some((pid, calls)) && all_threads_sleep(self.pid())
        });
        assert!(self.status().is_some(), "{} answers", self.name);
    }

    /// Waits until a program waits in its call.
    pub fn until_blocked(&self, program: &Program) {
        self.until_waiting(program.pid(), 1);
        assert!(program.is_silent());
    }
}

/// Makes a cluster's key by `dipc keygen`.
///
/// # Panics
/// If it cannot be made.
pub fn make_key(path: &std::path::Path) {
    let mut command = Command::new(artifacts::built("dipc"));
    let made = command.arg("keygen").arg(path).output();
    let made = made.expect("dipc can be run");
    assert!(made.status.success(), "{made:?}");
}

/// Has a program begin with so many descriptors at most, setrlimit(2).
fn limit_descriptors(command: &mut Command, most: u64) {
    let limit = libc::rlimit {
        rlim_cur: most,
        rlim_max: most,
    };
    // SAFETY: setrlimit is async-signal-safe, and only reads the copy of `limit`
    // that the closure owns.
    unsafe {
        command.pre_exec(
            move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            },
        );
    }
}

/// Starts a daemon and waits for its `ready` line; what that names.
pub(crate) fn start(name: &str, command: &mut Command) -> Result<(Process, String), ExitStatus> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(name, command);
    let output = process.child().stdout.take().expect("it is piped");
    let (sender, lines) = channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(line);
    });
    match lines.recv_timeout(DEADLINE) {
        Ok(line) if line.starts_with("ready ") => Ok((process, line[6..].trim().to_owned())),
        Ok(line) => {
            assert_eq!(line, "", "{name} says something else than ready");
            Err(process.ended())
        }
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            panic!("{name} is not ready after {DEADLINE:?}")
        }
    }
}

/// Makes a file of these bytes.
///
/// # Panics
/// If it cannot be made.
pub fn create(path: &std::path::Path, bytes: &[u8]) {
    File::create(path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
