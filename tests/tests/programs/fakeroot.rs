//! fakeroot: a server that remembers who owns files, and a library preloaded into
//! its clients that asks it at every `stat` and `chown`. The version that does so
//! by System V queues has them, and its server may be on another node.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dipc_tests::process::Process;
use dipc_tests::wait::until;
use dipc_tests::{Cluster, Node, artifacts, skip};

use crate::{distributed, objects, until_no_objects};

const KEY: &str = "1735287157";

/// Its client half, where a distribution keeps it.
fn library() -> Option<PathBuf> {
    let folders = ["x86_64-linux-gnu/", "aarch64-linux-gnu/", "", "../lib64/"];
    folders
        .map(|folder| format!("/usr/lib/{folder}libfakeroot/libfakeroot-sysv.so"))
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// Has a client's command ask the server.
fn ask_server<'c>(command: &'c mut Command, library: &Path) -> &'c mut Command {
    let both = [artifacts::built("libdipc.so"), library.to_owned()];
    let both = both.map(|path| path.display().to_string()).join(":");
    command.env("LD_PRELOAD", both).env("FAKEROOTKEY", KEY)
}

fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn start_server(node: &Node) -> Process {
    let mut command = distributed(node, "faked-sysv");
    command
        .args(["--foreground", "--key", KEY])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let server = Process::start("faked-sysv", &mut command);
    until("the server has its queues and semaphore", || {
        objects(node).len() == 3
    });
    server
}

/// A client changes a file's owner; another one is told of it by the server, and
/// could not be by the kernel.
fn remembers(server: usize, client: usize) {
    let what = "fakeroot with every key distributed";
    let Some(library) = library() else {
        return skip::because(what, "no libfakeroot-sysv.so");
    };
    let command = ["sh", "-c", "command -v faked-sysv"];
    if !skip::unless_runs(what, "faked-sysv", &command) {
        return;
    }
    let cluster = Cluster::start(2);
    let mut server = start_server(cluster.node(server));
    let file = cluster.file("owned");
    std::fs::write(&file, "").unwrap();
    let truth = std::fs::metadata(&file).unwrap();

    let client = |program: &str, arguments: &[&str]| {
        let mut command = distributed(cluster.node(client), program);
        command.args(arguments).arg(&file);
        run(ask_server(&mut command, &library))
    };
    client("chown", &["123:456"]);
    client("chmod", &["4711"]);
    // Under fakeroot, who may change a file's owner does: so that is taken back.
    std::os::unix::fs::chown(&file, Some(truth.uid()), Some(truth.gid())).unwrap();
    std::fs::set_permissions(&file, truth.permissions()).unwrap();
    assert_eq!(client("stat", &["-c", "%u %g %a"]), "123 456 4711\n");

    server.end();
    until_no_objects(cluster.node(1));
}

#[test]
fn a_server_remembers_the_owner_of_a_file_for_clients_of_its_node() {
    remembers(1, 1);
}

#[test]
fn a_server_remembers_the_owner_of_a_file_for_clients_of_another_node() {
    remembers(1, 2);
}
