//! Perl's IPC::Semaphore, IPC::SharedMem and IPC::Msg, and the functions below them.

use dipc_tests::skip;

use crate::interpreters::Actor;

const ACTOR: Actor = Actor {
    interpreter: "perl",
    script: "ipc.pl",
    details: "4,5,6 refused 11 4 0 0 mine 3 600 640 128 1 0 silent",
    removed: "! EIDRM",
    unknown: "! EINVAL",
};

fn is_there() -> bool {
    let command = [
        "perl",
        "-MIPC::Msg",
        "-MIPC::Semaphore",
        "-MIPC::SharedMem",
        "-e",
        "1",
    ];
    skip::unless_runs(
        "perl with every key distributed",
        "perl with IPC::SharedMem",
        &command,
    )
}

#[test]
fn two_processes_of_one_node_share_everything() {
    if is_there() {
        ACTOR.play(1);
    }
}

#[test]
fn two_processes_of_two_nodes_share_everything() {
    if is_there() {
        ACTOR.play(2);
    }
}
