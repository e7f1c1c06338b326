//! PHP's sysvsem, sysvshm and sysvmsg: extensions, which PHP loads with
//! `RTLD_DEEPBIND`.

use dipc_tests::skip;

use crate::interpreters::Actor;

const ACTOR: Actor = Actor {
    interpreter: "php",
    script: "ipc.php",
    details: "has not 5000 too big removed free taken ENOMSG 1 mine 640 E2BIG 5 plain",
    removed: "! EIDRM",
    unknown: "! EINVAL",
};

fn is_there() -> bool {
    let has_all = "exit(extension_loaded('sysvsem') && extension_loaded('sysvshm')
                   && extension_loaded('sysvmsg') ? 0 : 1);";
    let command = ["php", "-r", has_all];
    skip::unless_runs(
        "php with every key distributed",
        "php with sysvsem, sysvshm and sysvmsg",
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
