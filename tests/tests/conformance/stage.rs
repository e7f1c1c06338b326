//! The worlds that a case is played in, and who plays.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use dipc_tests::observe::{all_threads_are_stopped, waits_in_kernel};
use dipc_tests::{Cluster, Node, Program, wait};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid};

/// Above the largest pid of Linux: where pids of other nodes carry their node.
const NODE_SHIFT: u32 = 22;

/// What the calls of a case go to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum World {
    /// The kernel, in an IPC namespace of the case's own.
    Kernel,
    /// A daemon, which serves all participants.
    OneNode,
    /// Two daemons: the first participant, the third … are on one node, the
    /// others on the other.
    TwoNodes,
}

impl World {
    pub(crate) const ALL: [World; 3] = [World::Kernel, World::OneNode, World::TwoNodes];

    /// As the document calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            World::Kernel => "kernel",
            World::OneNode => "one node",
            World::TwoNodes => "two nodes",
        }
    }
}

/// A world, prepared for one case.
pub(crate) struct Stage<'w> {
    world: World,
    cluster: &'w Cluster,
    namespace: Option<Namespace>,
    started: usize,
    difference: Option<&'static str>,
}

/// A driven process of a case.
pub(crate) struct Participant<'w> {
    program: Program,
    node: Option<&'w Node>,
}

/// The namespaces that the first participant made for all of a case.
pub(crate) struct Namespace {
    user: Option<File>,
    ipc: File,
}

impl<'w> Stage<'w> {
    pub(crate) fn new(world: World, cluster: &'w Cluster) -> Self {
        Stage {
            world,
            cluster,
            namespace: None,
            started: 0,
            difference: None,
        }
    }

    /// The same world, but for the cluster.
    pub(crate) fn on<'c>(&self, cluster: &'c Cluster) -> Stage<'c> {
        Stage::new(self.world, cluster)
    }

    /// Whether the calls go to daemons.
    pub(crate) fn is_distributed(&self) -> bool {
        self.world != World::Kernel
    }

    /// Says that this world is otherwise, on purpose: the case goes on to see
    /// that it is otherwise as intended.
    pub(crate) fn differs(&mut self, reason: &'static str) {
        self.difference = Some(reason);
    }

    /// What was said by [`Stage::differs`].
    pub(crate) fn difference(&self) -> Option<&'static str> {
        self.difference
    }

    /// A key that nobody has used.
    pub(crate) fn key(&self) -> u32 {
        static NEXT: AtomicU32 = AtomicU32::new(0x0130_0000);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// The next participant, on the next node.
    pub(crate) fn participant(&mut self) -> Participant<'w> {
        self.participant_with(|_| {})
    }

    /// So many participants.
    pub(crate) fn participants<const N: usize>(&mut self) -> [Participant<'w>; N] {
        std::array::from_fn(|_| self.participant())
    }

    /// A participant that is another user, with these supplementary groups and
    /// this set of capabilities (bits as in `<linux/capability.h>`). Root only.
    pub(crate) fn user(&mut self, uid: u32, groups: &[u32], capabilities: u64) -> Participant<'w> {
        let mut participant = self.participant();
        participant.become_user(uid, groups, capabilities);
        participant
    }

    /// A participant whose command is changed before it starts.
    pub(crate) fn participant_with(
        &mut self,
        change: impl FnOnce(&mut Command),
    ) -> Participant<'w> {
        let number = self.started;
        self.started += 1;
        let node = match self.world {
            World::Kernel => None,
            World::OneNode => Some(self.cluster.node(1)),
            World::TwoNodes => Some(self.cluster.node(1 + number % 2)),
        };
        let program = match node {
            Some(node) => Program::start(|command| {
                node.enter(command);
                command.env("DIPC_KEYS", "all");
                change(command);
            }),
            None => self.program_of_kernel(change),
        };
        Participant { program, node }
    }

    fn program_of_kernel(&mut self, change: impl FnOnce(&mut Command)) -> Program {
        let program = Program::start(|command| {
            change(command);
            match &self.namespace {
                Some(namespace) => namespace.enter(command),
                None => Namespace::begin(command),
            }
        });
        if self.namespace.is_none() {
            self.namespace = Some(Namespace::of(&program));
        }
        program
    }
}

/// Whether programs can be given an IPC namespace of their own here.
pub(crate) fn has_namespaces() -> bool {
    let mut command = Command::new("true");
    Namespace::begin(&mut command);
    command.status().is_ok_and(|status| status.success())
}

impl Namespace {
    /// Has a command run in new namespaces. For an ordinary user that takes a
    /// user namespace too, in which he is who he is.
    pub(crate) fn begin(command: &mut Command) {
        let root = geteuid().is_root();
        let maps = [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{0} {0} 1", geteuid())),
            ("/proc/self/gid_map", format!("{0} {0} 1", getegid())),
        ];
        let prepare = move || {
            if root {
                return Ok(unshare(CloneFlags::CLONE_NEWIPC)?);
            }
            unshare(CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUSER)?;
            for (path, text) in &maps {
                std::fs::write(path, text)?;
            }
            Ok(())
        };
        in_child(command, prepare);
    }

    fn of(program: &Program) -> Self {
        let open = |kind: &str| {
            let path = format!("/proc/{}/ns/{kind}", program.pid());
            File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        Namespace {
            user: (!geteuid().is_root()).then(|| open("user")),
            ipc: open("ipc"),
        }
    }

    fn enter(&self, command: &mut Command) {
        let duplicate = |file: &File| file.try_clone().expect("a descriptor");
        let user = self.user.as_ref().map(duplicate);
        let ipc = duplicate(&self.ipc);
        in_child(command, move || {
            if let Some(user) = &user {
                setns(user, CloneFlags::CLONE_NEWUSER)?;
            }
            Ok(setns(&ipc, CloneFlags::CLONE_NEWIPC)?)
        });
    }
}

fn in_child(command: &mut Command, act: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: between fork and exec `act` makes system calls only: it opens
    // short paths, which the standard library does without allocating, and it
    // formats and locks nothing.
    unsafe { command.pre_exec(act) };
}

impl Participant<'_> {
    /// A call that fails by this errno.
    #[track_caller]
    pub(crate) fn fails(&mut self, command: impl AsRef<str>, errno: &str) {
        let command = command.as_ref();
        let answer = self.program.ask(command);
        assert_eq!(answer, format!("! {errno}").as_str(), "{command}");
    }

    /// A call that is answered so.
    #[track_caller]
    pub(crate) fn gives(&mut self, command: impl AsRef<str>, expected: &str) {
        let command = command.as_ref();
        let answer = self.program.ask(command);
        assert_eq!(answer, expected, "{command}");
    }

    /// A field that IPC_STAT fills in.
    #[track_caller]
    pub(crate) fn stat(&mut self, kind: &str, id: i64, field: &str) -> i64 {
        self.program.must(format!("stat {kind} {id} {field}"))
    }

    /// Begins a call, and waits until it waits at the object.
    pub(crate) fn block(&mut self, command: impl AsRef<str>) {
        self.program.begin(command.as_ref());
        self.until_blocked(self.program.pid());
    }

    /// Waits until a process on this node, this one or a child, waits in a call.
    pub(crate) fn until_blocked(&self, pid: u32) {
        match self.node {
            Some(node) => node.until_waiting(pid, 1),
            None => wait::until(&format!("process {pid} waits"), || waits_in_kernel(pid)),
        }
    }

    /// What was begun is answered so.
    #[track_caller]
    pub(crate) fn answers(&self, expected: &str) {
        assert_eq!(self.program.answer(), expected);
    }

    /// Stops the process by SIGSTOP, and waits until it is stopped.
    pub(crate) fn stop(&self) {
        self.program.signal(Signal::SIGSTOP);
        wait::until("the process is stopped", || {
            all_threads_are_stopped(self.program.pid())
        });
    }

    /// Whether it is on another node than the first participant.
    pub(crate) fn is_abroad(&self) -> bool {
        self.node.is_some_and(|node| node.number != 1)
    }

    /// The pid by which this one knows another, as in GETPID.
    pub(crate) fn knows(&self, other: &Participant<'_>) -> i64 {
        let node = match (self.node, other.node) {
            (Some(ours), Some(theirs)) if ours.number != theirs.number => theirs.number,
            _ => 0,
        };
        (node as i64) << NODE_SHIFT | i64::from(other.pid())
    }

    /// Becomes another user for good; see [`Stage::user`].
    pub(crate) fn become_user(&mut self, uid: u32, groups: &[u32], capabilities: u64) {
        let groups: Vec<String> = groups.iter().map(u32::to_string).collect();
        let groups = groups.join(" ");
        self.program
            .must(format!("identity {uid} {uid} {capabilities} {groups}"));
    }

    /// Forks: the child's pid. It is child 0 for the first.
    pub(crate) fn fork(&mut self) -> u32 {
        self.program.ask("fork").numbers()[1] as u32
    }
}

impl Deref for Participant<'_> {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Participant<'_> {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
