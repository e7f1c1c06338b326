//! Perl's IPC::Semaphore, IPC::SharedMem and IPC::Msg, and the functions below them.

use crate::interpreters::Actor;

const ACTOR: Actor = Actor {
    interpreter: "perl",
    needs: (
        "perl with IPC::SharedMem",
        &[
            "perl",
            "-MIPC::Msg",
            "-MIPC::Semaphore",
            "-MIPC::SharedMem",
            "-e",
            "1",
        ],
    ),
    script: "ipc.pl",
    details: "4,5,6 refused 11 4 0 0 mine 3 600 640 128 1 0 silent",
    removed: "! EIDRM",
    unknown: "! EINVAL",
};

#[test]
fn two_processes_of_one_node_share_everything() {
    ACTOR.play(1);
}

#[test]
fn two_processes_of_two_nodes_share_everything() {
    ACTOR.play(2);
}
