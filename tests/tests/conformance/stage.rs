//! The worlds that a case is played in, and who plays.

use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use dipc_tests::apart::{Namespace, apart};
use dipc_tests::observe::{all_threads_are_stopped, waits_in_kernel};
use dipc_tests::{Cluster, Node, Program, wait};
use nix::sys::signal::Signal;

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
    /// Which the first participant made for all of a case.
    namespace: Option<Namespace>,
    started: usize,
    difference: Option<&'static str>,
}

/// A driven process of a case.
pub(crate) struct Participant<'w> {
    program: Program,
    node: Option<&'w Node>,
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
                None => apart(command),
            };
        });
        if self.namespace.is_none() {
            self.namespace = Some(Namespace::of(&program));
        }
        program
    }
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
