//! The program: its flags, what it prints, how it ends.

#![allow(clippy::unwrap_used)] // the lint's own exception ends at helper functions

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_dipc-referee"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn output(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn it_says_where_it_serves_and_ends_well_on_both_signals() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut child = start(&[
            "--listen",
            "127.0.0.1:0",
            "--timeout",
            "2s",
            "--new-cluster",
        ]);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address: SocketAddr = line
            .strip_prefix("ready ")
            .and_then(|a| a.trim_end().parse().ok())
            .expect(&line);
        let _member = TcpStream::connect(address).unwrap();
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(output(stdout), "", "one line and nothing more");
    }
}

#[test]
fn an_address_that_is_taken_is_one_clear_line_and_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child = start(&["--listen", &address]);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let error = output(child.stderr.take().unwrap());
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(
        error.contains(&address) && error.contains("--listen"),
        "{error}"
    );
    assert_eq!(output(child.stdout.take().unwrap()), "");
}

#[test]
fn a_time_without_a_unit_is_refused_by_the_flags() {
    let mut child = start(&["--timeout", "5"]);
    assert!(!child.wait().unwrap().success());
    assert!(output(child.stderr.take().unwrap()).contains("such as 5s"));
}

#[test]
fn a_limit_that_cannot_be_kept_is_one_clear_line_and_exit_1() {
    let folder = std::env::temp_dir().join(format!("dipc-limits-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let file = folder.join("limits");
    std::fs::write(&file, "# of this cluster\nshmmni = many\n").unwrap();
    let file = file.to_str().unwrap();
    let cases = [
        (["--limit", "shmmin=1"], "there is no limit \"shmmin\""),
        (["--limit", "semmsl=70000"], "dipc supports 1 to 65535"),
        (["--limits", file], "must be a whole number"),
        (["--limits", "/nowhere"], "cannot read --limits /nowhere"),
    ];
    for (arguments, reason) in cases {
        let mut child = start(&[&["--listen", "127.0.0.1:0"], &arguments[..]].concat());
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let error = output(child.stderr.take().unwrap());
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains(reason), "{error}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
