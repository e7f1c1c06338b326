//! Python's sysv_ipc.

use dipc_tests::skip;

use crate::interpreters::Actor;

const ACTOR: Actor = Actor {
    interpreter: "python3",
    script: "ipc.py",
    details: "2 0 0 busy mine 640 128 1 0 0 16384 gone",
    removed: "! ExistentialError",
    unknown: "! OSError",
};

fn is_there() -> bool {
    let command = ["python3", "-c", "import sysv_ipc"];
    skip::unless_runs(
        "python3 with every key distributed",
        "python3 with sysv_ipc",
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
