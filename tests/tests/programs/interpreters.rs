//! One play for Perl, PHP and Python: two processes share what they have opened
//! by one key. `programs/real/` has the actors.

use std::path::Path;

use dipc_tests::{Cluster, Program, skip};

use crate::{distributed, objects, until_no_objects};

/// A language and its script.
pub(crate) struct Actor {
    pub(crate) interpreter: &'static str,
    /// What must be installed, and a command that succeeds if it is.
    pub(crate) needs: (&'static str, &'static [&'static str]),
    pub(crate) script: &'static str,
    /// What it says of what it finds out about its library's further functions.
    pub(crate) details: &'static str,
    /// What its library says of an object that was removed while it waited.
    pub(crate) removed: &'static str,
    /// What its library says of one that was removed before.
    pub(crate) unknown: &'static str,
}

const KEY: &str = "0x7265616c";

impl Actor {
    fn start(&self, cluster: &Cluster, node: usize) -> Program {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/real");
        let mut command = distributed(cluster.node(node), self.interpreter);
        command.arg(scripts.join(self.script));
        Program::drive(command)
    }

    /// The play, with the second process on node `second`, if the language is
    /// there.
    pub(crate) fn play(&self, second: usize) {
        let what = format!("{} with every key distributed", self.interpreter);
        let (package, check) = self.needs;
        if !skip::unless_runs(&what, package, check) {
            return;
        }
        let cluster = Cluster::start(2);
        let mut a = self.start(&cluster, 1);
        a.must(format!("create {KEY}"));
        assert_eq!(a.ask("details"), &*format!("= {}", self.details));
        let mut b = self.start(&cluster, second);
        b.must(format!("find {KEY}"));
        assert_eq!(objects(cluster.node(1)).len(), 3, "none is local");

        takes_turns(&cluster, second, &mut a, &mut b);
        passes_messages(&cluster, second, &mut a, &mut b);
        let mut c = self.start(&cluster, second);
        c.must(format!("find {KEY}"));
        inherits_from_the_killed(&cluster, &mut a, &mut c);
        self.is_told_of_removal(&cluster, second, &mut a, &mut b);
    }

    /// Who waits in the moment of removal hears of it, and so does who comes later.
    fn is_told_of_removal(
        &self,
        cluster: &Cluster,
        second: usize,
        a: &mut Program,
        b: &mut Program,
    ) {
        b.begin("receive 9");
        cluster.node(second).until_blocked(b);
        a.must("remove");
        assert_eq!(b.answer(), self.removed);
        assert_eq!(b.ask("send 1 late"), self.unknown);
        assert_eq!(b.ask("get"), "= after", "removed, but still attached");
        for program in [a, b] {
            program.exit();
        }
        until_no_objects(cluster.node(1));
    }
}

/// A semaphore with SEM_UNDO guards the memory.
fn takes_turns(cluster: &Cluster, second: usize, a: &mut Program, b: &mut Program) {
    a.must("acquire");
    a.must("put before");
    assert_eq!(b.ask("get"), "= before");
    b.begin("acquire");
    cluster.node(second).until_blocked(b);
    a.must("put changed");
    a.must("release");
    assert_eq!(b.answer(), "= 0");
    assert_eq!(b.ask("get"), "= changed");
    b.must("put after");
    b.must("release");
    a.must("acquire");
    assert_eq!(a.ask("get"), "= after");
    a.must("release");
}

fn passes_messages(cluster: &Cluster, second: usize, a: &mut Program, b: &mut Program) {
    b.begin("receive 7");
    cluster.node(second).until_blocked(b);
    a.must("send 3 other");
    a.must("send 7 wanted");
    assert_eq!(b.answer(), "= wanted");
    b.must("send 8 back");
    assert_eq!(a.ask("receive 8"), "= back");
    assert_eq!(a.ask("receive 3"), "= other");
}

/// The killed one's semaphore is free again.
fn inherits_from_the_killed(cluster: &Cluster, a: &mut Program, killed: &mut Program) {
    killed.must("acquire");
    a.begin("acquire");
    cluster.node(1).until_blocked(a);
    killed.kill();
    assert_eq!(a.answer(), "= 0");
    a.must("release");
}
