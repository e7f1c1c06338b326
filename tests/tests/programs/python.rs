//! Python's sysv_ipc.

use crate::interpreters::Actor;

const ACTOR: Actor = Actor {
    interpreter: "python3",
    needs: (
        "python3 with sysv_ipc",
        &["python3", "-c", "import sysv_ipc"],
    ),
    script: "ipc.py",
    details: "2 0 0 busy mine 640 128 1 0 0 16384 gone",
    removed: "! ExistentialError",
    unknown: "! OSError",
};

#[test]
fn two_processes_of_one_node_share_everything() {
    ACTOR.play(1);
}

#[test]
fn two_processes_of_two_nodes_share_everything() {
    ACTOR.play(2);
}
