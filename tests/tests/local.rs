//! Without a daemon everything is local, in the kernel; and programs that know
//! nothing of dipc are distributed by `DIPC_KEYS`.
//!
//! What is local happens in an IPC namespace of its own, so that no object of
//! this machine is touched and none is left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dipc_tests::apart::{apart, can_be_apart};
use dipc_tests::process::Process;
use dipc_tests::scratch::Scratch;
use dipc_tests::{CREATE, Cluster, FIND, Program, artifacts, skip};

/// The environment of a program that no daemon serves.
fn without_daemon<'c>(command: &'c mut Command, scratch: &Scratch) -> &'c mut Command {
    apart(command)
        .env("LD_PRELOAD", artifacts::built("libdipc.so"))
        .env("DIPC_SOCKET", scratch.join("nobody.sock"))
}

fn local_program(scratch: &Scratch) -> Program {
    Program::start(|command| {
        without_daemon(command, scratch);
    })
}

#[test]
fn the_flag_means_nothing_without_a_daemon() {
    if !can_be_apart("local objects") {
        return;
    }
    let scratch = Scratch::new();
    let mut program = local_program(&scratch);
    let set = program.must(format!("semget 0x1 2 {CREATE}"));
    let queue = program.must(format!("msgget 0x1 {CREATE}"));
    let segment = program.must(format!("shmget 0x1 4096 {CREATE}"));
    assert!(
        [set, queue, segment].iter().all(|id| *id < 1 << 30),
        "they are the kernel's"
    );
    assert_eq!(program.must(format!("semget 0x1 2 {FIND}")), set);
    program.must(format!("shmat {segment} 0"));
    program.must("fork");
    program.must(format!("send 0 semop {set} 0:-1"));
    program.must(format!("semop {set} 0:1"));
    assert_eq!(program.ask("receive 0"), "= 0");
    assert_eq!(program.ask("child 0 poke 0 8 9"), "= 0");
    assert_eq!(program.must("peek 0 8"), 9);
    assert_eq!(
        program.ask(format!("child 0 msgsnd {queue} 3 0 local")),
        "= 0"
    );
    assert_eq!(program.ask(format!("msgrcv {queue} 9 0 0")), "= 5 3 local");
    assert_eq!(program.must(format!("shmstat {segment}")), 2);
}

#[test]
fn the_two_halves_of_hello_talk_without_a_daemon() {
    if !can_be_apart("hello without a daemon") {
        return;
    }
    let (greeter, answerer) = hello();
    let scratch = Scratch::new();
    let mut command = Command::new("sh");
    let script = r#""$1" & "$0"; status=$?; wait; exit $status"#;
    command
        .args(["-c", script])
        .args([&greeter, &answerer])
        .stdout(Stdio::piped());
    let (heard, success) = output(without_daemon(&mut command, &scratch));
    assert!(success, "{heard}");
    assert!(heard.contains("Do you see this memory?"), "{heard}");
    assert_eq!(heard.matches("I hear").count(), 4, "{heard}");
}

#[test]
fn a_required_daemon_that_is_missing_is_an_error_with_a_clear_message() {
    if !can_be_apart("DIPC_REQUIRE") {
        return;
    }
    let scratch = Scratch::new();
    let log = scratch.join("message");
    let mut program = Program::start(|command| {
        without_daemon(command, &scratch)
            .env("DIPC_REQUIRE", "1")
            .stderr(dipc_tests::process::into_file(&log));
    });
    assert_eq!(program.ask(format!("semget 0x1 1 {CREATE}")), "! ENOSYS");
    program.must("semget 0x1 1 01600");
    let message = std::fs::read_to_string(&log).unwrap();
    for part in ["nobody.sock", "DIPC_REQUIRE", "start dipcd"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_two_halves_of_hello_talk_over_two_nodes() {
    let (greeter, answerer) = hello();
    let cluster = Cluster::start(3);
    converse(
        &cluster,
        (1, &mut Command::new(greeter)),
        (3, &mut Command::new(answerer)),
    );
}

#[test]
fn perl_that_knows_nothing_of_dipc_greets_perl_on_another_node() {
    if !has("perl", &["-MIPC::SysV", "-e", "1"], "perl with IPC::SysV") {
        return;
    }
    let cluster = Cluster::start(2);
    converse(
        &cluster,
        (1, &mut script("perl", "hello.pl", "greet")),
        (2, &mut script("perl", "hello.pl", "answer")),
    );
}

#[test]
fn perl_greets_python_on_another_node_and_python_perl() {
    if !has("python3", &["-c", "import sysv_ipc"], "sysv_ipc")
        || !has("perl", &["-MIPC::SysV", "-e", "1"], "perl with IPC::SysV")
    {
        return;
    }
    for (greeter, answerer) in [
        (("perl", "hello.pl"), ("python3", "hello.py")),
        (("python3", "hello.py"), ("perl", "hello.pl")),
    ] {
        converse(
            &Cluster::start(2),
            (1, &mut script(greeter.0, greeter.1, "greet")),
            (2, &mut script(answerer.0, answerer.1, "answer")),
        );
    }
}

#[test]
fn only_the_keys_of_dipc_keys_are_distributed() {
    let cluster = Cluster::start(2);
    let mut programs = [1, 2].map(|number| {
        Program::start(|command| {
            cluster.node(number).enter(command);
            command.env("DIPC_KEYS", "0x1234,0x5000-0x5fff");
        })
    });
    for key in [0x1234, 0x5000, 0x5abc, 0x5fff] {
        let id = programs[0].must(format!("semget {key} 1 01600"));
        assert!(id >= 1 << 30);
        assert_eq!(programs[1].must(format!("semget {key} 1 0")), id);
    }
    let private = programs[0].must("semget 0 1 0600");
    assert!(private < 1 << 30);
    programs[0].must(format!("semrm {private}"));
}

fn hello() -> (PathBuf, PathBuf) {
    (
        artifacts::example("hello_greeter"),
        artifacts::example("hello_answerer"),
    )
}

/// A program of `examples/` that plays a part, with every key distributed.
fn script(interpreter: &str, name: &str, part: &str) -> Command {
    let mut command = Command::new(interpreter);
    let path = artifacts::workspace().join("examples").join(name);
    command.arg(path).arg(part).env("DIPC_KEYS", "all");
    command
}

/// Whether a program is there and does what is asked.
fn has(program: &str, arguments: &[&str], what: &str) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stderr(Stdio::null());
    let there = command.status().is_ok_and(|status| status.success());
    if !there {
        skip::because("a conversation of interpreters", &format!("no {what}"));
    }
    there
}

/// Runs a greeter and an answerer on their nodes, until both have said goodbye.
fn converse(cluster: &Cluster, greeter: (usize, &mut Command), answerer: (usize, &mut Command)) {
    let start = |(number, command): (usize, &mut Command), name: &str| {
        cluster.node(number).enter(command);
        let path = cluster.file(name);
        command.stdout(dipc_tests::process::into_file(&path));
        (Process::start(name, command), path)
    };
    let mut both = [
        start(greeter, "greeter.log"),
        start(answerer, "answerer.log"),
    ];
    for (process, path) in &mut both {
        let status = process.ended();
        let heard = read(path);
        assert!(status.success(), "{}: {status}\n{heard}", path.display());
        assert_eq!(heard.matches("I hear").count(), 2, "{heard}");
        assert_eq!(heard.matches("I say").count(), 2, "{heard}");
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// What a command says, and whether it succeeds.
fn output(command: &mut Command) -> (String, bool) {
    let output = command.output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}
