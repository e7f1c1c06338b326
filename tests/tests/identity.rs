//! Who a caller is at the moment of its call, on its own node: the kernel and
//! one node of ours are taken through the same steps, and must agree in all.
//!
//! A step that changes user needs root, and so do these tests.

use dipc_tests::apart::{Namespace, apart, can_be_apart};
use dipc_tests::wait::until;
use dipc_tests::{Answer, CREATE, Cluster, Program, skip};

/// Ordinary users, and a group, that no test machine knows.
const ANN: u32 = 51_001;
const BOB: u32 = 51_002;
const STAFF: u32 = 53_000;

const CAP_IPC_LOCK: u32 = 14;
const CAP_IPC_OWNER: u32 = 15;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;

/// Where programs of a test run: all meet the same objects.
enum World {
    /// The kernel: an IPC namespace, kept by a process that does nothing else.
    Kernel(Program),
    Node(Cluster),
}

impl World {
    fn program(&self) -> Program {
        match self {
            World::Kernel(keeper) => {
                let namespace = Namespace::of(keeper);
                Program::start(|command| {
                    namespace.enter(command);
                })
            }
            World::Node(cluster) => cluster.program(1),
        }
    }

    fn is_ours(&self) -> bool {
        matches!(self, World::Node(_))
    }
}

/// What the steps of a test came to.
#[derive(Default)]
struct Steps(Vec<(String, Answer)>);

impl Steps {
    /// Makes a step. `ID` in a command is never part of what is compared.
    fn take(&mut self, program: &mut Program, command: &str, id: i64) {
        let answer = program.ask(command.replace("ID", &id.to_string()));
        self.0.push((command.to_owned(), answer));
    }

    /// A step without an object.
    fn change(&mut self, program: &mut Program, command: &str) {
        self.take(program, command, 0);
    }
}

/// Goes through the same steps with the kernel and with a node; `expected` is
/// what both must have come to, `*` where that depends on the machine.
fn twin(what: &str, steps: impl Fn(&World, &mut Steps), expected: &[(&str, &str)]) {
    if !skip::unless_root(what) || !can_be_apart(what) {
        return;
    }
    let keeper = Program::start(|command| {
        apart(command);
    });
    let worlds = [World::Kernel(keeper), World::Node(Cluster::start(1))];
    let mut kernels = Vec::new();
    for world in worlds {
        let mut taken = Steps::default();
        steps(&world, &mut taken);
        if world.is_ours() {
            assert_eq!(taken.0, kernels, "dipc, and the kernel");
        }
        let place = if world.is_ours() {
            "dipc"
        } else {
            "the kernel"
        };
        let mut expected = expected.iter();
        for (command, answer) in &taken.0 {
            let (step, wanted) = expected.next().expect("so many steps");
            assert_eq!(command, step);
            assert!(
                *wanted == "*" || *answer == *wanted,
                "{place}: {command}: {answer:?}, not {wanted}"
            );
        }
        assert_eq!(expected.next(), None, "all steps were taken");
        kernels = taken.0;
    }
}

#[test]
fn root_that_becomes_a_user_is_that_user_on_the_same_connection() {
    twin(
        "a root process that becomes a user",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            let before = program.ask("sockets");
            steps.take(&mut program, "getval ID 0", id);
            steps.change(&mut program, &format!("resuid {ANN} {ANN} {ANN}"));
            steps.take(&mut program, "getval ID 0", id);
            steps.take(&mut program, "semop ID 0:1", id);
            steps.take(&mut program, "set sem ID 0 0 0666", id);
            steps.take(&mut program, "semrm ID", id);
            assert_eq!(program.ask("sockets"), before);
            assert_eq!(before.numbers().len(), usize::from(world.is_ours()));
        },
        &[
            ("getval ID 0", "= 0"),
            ("resuid 51001 51001 51001", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("semop ID 0:1", "! EACCES"),
            ("set sem ID 0 0 0666", "! EPERM"),
            ("semrm ID", "! EPERM"),
        ],
    );
}

#[test]
fn seteuid_counts_there_and_back() {
    twin(
        "seteuid",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            for euid in [ANN, 0, ANN, 0] {
                steps.change(&mut program, &format!("resuid -1 {euid} -1"));
                steps.take(&mut program, "getval ID 0", id);
            }
            steps.change(&mut program, &format!("resuid -1 {ANN} -1"));
            let own = program.must(format!("semget 0 1 {CREATE}"));
            steps.take(&mut program, "stat sem ID uid gid cuid cgid", own);
            steps.take(&mut program, "semrm ID", own);
        },
        &[
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("resuid -1 0 -1", "= 0"),
            ("getval ID 0", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("resuid -1 0 -1", "= 0"),
            ("getval ID 0", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("stat sem ID uid gid cuid cgid", "= 51001 0 51001 0"),
            ("semrm ID", "= 0"),
        ],
    );
}

#[test]
fn groups_count_as_they_are_and_may_also_take_rights_away() {
    twin(
        "setgroups and setegid",
        |world, steps| {
            let mut program = world.program();
            let [open, shut] = [0o060, 0o604].map(|mode| {
                let id = program.must(format!("semget 0 1 {CREATE}"));
                program.must(format!("set sem {id} 0 {STAFF} {mode}"));
                id
            });
            program.must(format!("resgid -1 {ANN} -1"));
            for groups in ["groups", "groups 5 53000", "groups 5"] {
                steps.change(&mut program, "resuid -1 0 -1");
                steps.change(&mut program, groups);
                steps.change(&mut program, &format!("resuid -1 {ANN} -1"));
                steps.take(&mut program, "getval ID 0", open);
                steps.take(&mut program, "getval ID 0", shut);
            }
            steps.change(&mut program, "resuid -1 0 -1");
            steps.change(&mut program, "resgid -1 53000 -1");
            steps.change(&mut program, &format!("resuid -1 {ANN} -1"));
            steps.take(&mut program, "getval ID 0", open);
            steps.take(&mut program, "getval ID 0", shut);
        },
        &[
            ("resuid -1 0 -1", "= 0"),
            ("groups", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("getval ID 0", "= 0"),
            ("resuid -1 0 -1", "= 0"),
            ("groups 5 53000", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("resuid -1 0 -1", "= 0"),
            ("groups 5", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("getval ID 0", "= 0"),
            ("resuid -1 0 -1", "= 0"),
            ("resgid -1 53000 -1", "= 0"),
            ("resuid -1 51001 -1", "= 0"),
            ("getval ID 0", "= 0"),
            ("getval ID 0", "! EACCES"),
        ],
    );
}

#[test]
fn a_thread_may_be_another_user_than_its_siblings() {
    twin(
        "threads of several users",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            program.must(format!("set sem {id} 0 {STAFF} 0640"));
            // Not in its creator's group.
            program.must("groups");
            program.must(format!("resgid {ANN} {ANN} {ANN}"));
            steps.take(&mut program, "as 51001 getval ID 0", id);
            steps.take(&mut program, "getval ID 0", id);
            steps.take(&mut program, "groups 53000", id);
            steps.take(&mut program, "as 51001 getval ID 0", id);
            steps.take(&mut program, "as 51001 semop ID 0:1", id);
            steps.take(&mut program, "as 51001 semrm ID", id);
            steps.take(&mut program, "as 0 capdrop 15", id);
            steps.take(&mut program, "semop ID 0:1", id);
        },
        &[
            ("as 51001 getval ID 0", "! EACCES"),
            ("getval ID 0", "= 0"),
            ("groups 53000", "= 0"),
            ("as 51001 getval ID 0", "= 0"),
            ("as 51001 semop ID 0:1", "! EACCES"),
            ("as 51001 semrm ID", "! EPERM"),
            ("as 0 capdrop 15", "= 0"),
            ("semop ID 0:1", "= 0"),
        ],
    );
}

#[test]
fn root_without_a_capability_lacks_what_it_gives() {
    let drop = |capability: u32| format!("capdrop {capability}");
    twin(
        "dropped capabilities",
        |world, steps| {
            let mut anns = world.program();
            anns.must(format!("setuid {ANN}"));
            let set = anns.must(format!("semget 0 1 {CREATE}"));
            let queue = anns.must(format!("msgget 0 {CREATE}"));
            let segment = anns.must(format!("shmget 0 4096 {CREATE}"));
            let mut root = world.program();
            let calls = [
                ("getval ID 0", set),
                ("shmlock ID", segment),
                ("msgset ID 16385", queue),
                ("msgset ID 100", queue),
                ("set sem ID 51001 0 0600", set),
            ];
            for (command, id) in calls {
                steps.take(&mut root, command, id);
            }
            steps.change(&mut root, &drop(CAP_SYS_RESOURCE));
            steps.take(&mut root, "msgset ID 16385", queue);
            steps.take(&mut root, "msgset ID 100", queue);
            steps.change(&mut root, &drop(CAP_IPC_LOCK));
            steps.take(&mut root, "shmlock ID", segment);
            steps.change(&mut root, &drop(CAP_IPC_OWNER));
            steps.take(&mut root, "getval ID 0", set);
            steps.take(&mut root, "set sem ID 51001 0 0600", set);
            steps.change(&mut root, &drop(CAP_SYS_ADMIN));
            steps.take(&mut root, "set sem ID 51001 0 0600", set);
            steps.take(&mut root, "semrm ID", set);
        },
        &[
            ("getval ID 0", "= 0"),
            ("shmlock ID", "= 0"),
            // Root of a container may lack CAP_SYS_RESOURCE from the start.
            ("msgset ID 16385", "*"),
            ("msgset ID 100", "= 0"),
            ("set sem ID 51001 0 0600", "= 0"),
            ("capdrop 24", "= 0"),
            ("msgset ID 16385", "! EPERM"),
            ("msgset ID 100", "= 0"),
            ("capdrop 14", "= 0"),
            ("shmlock ID", "! EPERM"),
            ("capdrop 15", "= 0"),
            ("getval ID 0", "! EACCES"),
            ("set sem ID 51001 0 0600", "= 0"),
            ("capdrop 21", "= 0"),
            ("set sem ID 51001 0 0600", "! EPERM"),
            ("semrm ID", "! EPERM"),
        ],
    );
}

#[test]
fn capabilities_in_a_user_namespace_of_ones_own_count_for_nothing() {
    twin(
        "user namespaces",
        |world, steps| {
            let mut roots = world.program();
            let id = roots.must(format!("semget 0 1 {CREATE}"));
            let mut anns = world.program();
            anns.must(format!("setuid {ANN}"));
            let own = anns.must(format!("semget 0 1 {CREATE}"));
            // Refused on some machines, and then nothing changes.
            let _ = anns.ask("userns");
            steps.take(&mut anns, "getval ID 0", id);
            steps.take(&mut anns, "semrm ID", id);
            steps.take(&mut anns, "getval ID 0", own);
            steps.take(&mut anns, "semrm ID", own);
        },
        &[
            ("getval ID 0", "! EACCES"),
            ("semrm ID", "! EPERM"),
            ("getval ID 0", "= 0"),
            ("semrm ID", "= 0"),
        ],
    );
}

#[test]
fn a_forked_child_is_who_it_becomes_and_its_parent_who_it_was() {
    twin(
        "a child of another user",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            program.must("fork");
            steps.take(&mut program, "child 0 getval ID 0", id);
            steps.change(&mut program, "child 0 resuid 51001 51001 51001");
            steps.take(&mut program, "child 0 getval ID 0", id);
            steps.take(&mut program, "child 0 semrm ID", id);
            steps.take(&mut program, "getval ID 0", id);
        },
        &[
            ("child 0 getval ID 0", "= 0"),
            ("child 0 resuid 51001 51001 51001", "= 0"),
            ("child 0 getval ID 0", "! EACCES"),
            ("child 0 semrm ID", "! EPERM"),
            ("getval ID 0", "= 0"),
        ],
    );
}

#[test]
fn a_thread_keeps_its_groups_in_a_pid_namespace_of_its_own() {
    twin(
        "threads in a pid namespace",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            program.must(format!("set sem {id} 0 {STAFF} 0640"));
            program.must(format!("groups {STAFF}"));
            program.must(format!("resgid {ANN} {ANN} {ANN}"));
            program.must("newpids");
            program.must("fork");
            steps.take(&mut program, "child 0 getval ID 0", id);
            steps.take(&mut program, "child 0 as 51001 getval ID 0", id);
            steps.take(&mut program, "child 0 as 51001 semop ID 0:1", id);
            steps.take(&mut program, "child 0 as 0 semrm ID", id);
        },
        &[
            ("child 0 getval ID 0", "= 0"),
            ("child 0 as 51001 getval ID 0", "= 0"),
            ("child 0 as 51001 semop ID 0:1", "! EACCES"),
            ("child 0 as 0 semrm ID", "= 0"),
        ],
    );
}

#[test]
fn a_vfork_child_of_a_user_calls_as_itself() {
    twin(
        "vfork",
        |world, steps| {
            let mut program = world.program();
            program.must(format!("setuid {ANN}"));
            let id = program.must(format!("semget 0 1 {CREATE}"));
            steps.take(&mut program, "vforkop ID 0 2", id);
            steps.take(&mut program, "vforkop ID 5 2", id);
            steps.take(&mut program, "getval ID 0", id);
            // A first call of the whole process, in a vfork child.
            let mut fresh = world.program();
            fresh.must(format!("setuid {ANN}"));
            steps.take(&mut fresh, "vforkop ID 0 2", id);
            steps.take(&mut fresh, "getval ID 0", id);
        },
        &[
            ("vforkop ID 0 2", "= 1"),
            ("vforkop ID 5 2", "! EFBIG"),
            ("getval ID 0", "= 2"),
            ("vforkop ID 0 2", "= 1"),
            ("getval ID 0", "= 4"),
        ],
    );
}

#[test]
fn setuid_interrupts_another_thread_that_waits_and_counts_for_its_next_call() {
    twin(
        "setuid of a waiting process",
        |world, steps| {
            let mut program = world.program();
            let id = program.must(format!("semget 0 1 {CREATE}"));
            program.must(format!("thread semop {id} 0:-1"));
            until("the thread waits", || {
                program.must(format!("getncnt {id} 0")) == 1
            });
            steps.change(&mut program, "resuid 51001 51001 51001");
            steps.change(&mut program, "join");
            steps.take(&mut program, "getval ID 0", id);
            let mut root = world.program();
            steps.take(&mut root, "getncnt ID 0", id);
        },
        &[
            ("resuid 51001 51001 51001", "= 0"),
            ("join", "! EINTR"),
            ("getval ID 0", "! EACCES"),
            ("getncnt ID 0", "= 0"),
        ],
    );
}

/// Whether a program's call is answered already or waits still can be seen only
/// by what happens next; so each step ends with a message.
#[test]
fn a_receiver_is_judged_again_by_ipc_set_with_its_groups_behaviour_72() {
    twin(
        "receivers that wait",
        |world, steps| {
            let mut root = world.program();
            let queue = root.must(format!("msgget 0 {CREATE}"));
            root.must(format!("set msg {queue} 0 0 0666"));
            let set = root.must(format!("semget 0 1 {CREATE}"));
            root.must(format!("set sem {set} 0 0 0666"));
            let [mut member, mut stranger, mut waiter] = [ANN, BOB, BOB].map(|uid| {
                let mut program = world.program();
                program.must(format!("resgid {uid} {uid} {uid}"));
                program.must(if uid == ANN {
                    format!("groups {STAFF}")
                } else {
                    "groups".into()
                });
                program.must(format!("resuid {uid} {uid} {uid}"));
                program
            });
            waiter.begin(format!("semop {set} 0:-1"));
            member.begin(format!("msgrcv {queue} 9 1 0"));
            stranger.begin(format!("msgrcv {queue} 9 2 0"));
            until("the set's waiter waits", || {
                root.must(format!("getncnt {set} 0")) == 1
            });
            until("both receivers wait", || {
                [&member, &stranger]
                    .iter()
                    .all(|program| waits(program.pid(), world))
            });
            steps.take(&mut root, "set msg ID 0 53000 0060", queue);
            steps.0.push(("stranger".into(), stranger.answer()));
            steps.take(&mut root, "msgsnd ID 1 0 first", queue);
            steps.0.push(("member".into(), member.answer()));
            steps.take(&mut root, "set sem ID 0 0 0600", set);
            steps.take(&mut root, "semop ID 0:1", set);
            steps.0.push(("waiter".into(), waiter.answer()));
        },
        &[
            ("set msg ID 0 53000 0060", "= 0"),
            ("stranger", "! EACCES"),
            ("msgsnd ID 1 0 first", "= 0"),
            ("member", "= 5 1 first"),
            ("set sem ID 0 0 0600", "= 0"),
            ("semop ID 0:1", "= 0"),
            ("waiter", "= 0"),
        ],
    );
}

/// Whether a process waits in its `msgrcv`: asleep in the kernel's, or counted
/// by the node.
fn waits(pid: u32, world: &World) -> bool {
    match world {
        World::Kernel(_) => {
            let call = std::fs::read_to_string(format!("/proc/{pid}/syscall"));
            let number = call.unwrap_or_default();
            number.split(' ').next() == Some(&libc::SYS_msgrcv.to_string())
        }
        World::Node(cluster) => {
            cluster.node(1).until_waiting(pid, 1);
            true
        }
    }
}
