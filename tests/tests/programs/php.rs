//! PHP's sysvsem, sysvshm and sysvmsg: extensions, which PHP loads with
//! `RTLD_DEEPBIND`.

use crate::interpreters::Actor;

const HAS_ALL: &str = "exit(extension_loaded('sysvsem') && extension_loaded('sysvshm')
                        && extension_loaded('sysvmsg') ? 0 : 1);";

const ACTOR: Actor = Actor {
    interpreter: "php",
    needs: (
        "php with sysvsem, sysvshm and sysvmsg",
        &["php", "-r", HAS_ALL],
    ),
    script: "ipc.php",
    details: "has not 5000 too big removed free taken ENOMSG 1 mine 640 E2BIG 5 plain",
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
