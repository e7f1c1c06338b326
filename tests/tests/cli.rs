//! The command `dipc`, with a cluster that `dipc up` starts in the background.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use dipc_tests::observe::exists;
use dipc_tests::process::Process;
use dipc_tests::scratch::Scratch;
use dipc_tests::{CREATE, Program, artifacts, network, skip, wait};
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;

/// A cluster of `dipc up`, which lives in the background on purpose. A guard,
/// which waits for the end of its input, ends it even if this test is killed.
struct Up {
    guard: Child,
    dir: PathBuf,
    _scratch: Scratch,
}

impl Up {
    fn nodes(nodes: u8) -> Self {
        Self::with(nodes, &[])
    }

    fn with(nodes: u8, more: &[&str]) -> Self {
        let scratch = Scratch::new();
        let dir = scratch.join("c");
        let guard = Command::new("sh")
            .args(["-c", r#"cat; "$0" down --dir "$1" 2>&1"#])
            .arg(artifacts::built("dipc"))
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let up = Up {
            guard,
            dir,
            _scratch: scratch,
        };
        let output = up.dipc(&[&["up", "--nodes", &nodes.to_string()], more].concat());
        assert!(output.status.success(), "{}", text(&output));
        up
    }

    /// `dipc WORDS`, up to a `--`, for this cluster.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(artifacts::built("dipc"));
        let (first, rest) = words.split_at(1);
        command.args(first).arg("--dir").arg(&self.dir).args(rest);
        command
    }

    fn dipc(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("dipc can be run")
    }

    /// A driven program on one of its nodes, by `dipc exec`.
    fn program(&self, node: u8) -> Program {
        Program::run(self.command(&["exec", "-n", &node.to_string(), "--"]))
    }

    /// The process ids that `dipc status --json` names.
    fn pids(&self) -> Vec<u32> {
        let output = self.dipc(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let rows = status["processes"].as_array().expect("it lists processes");
        let pid = |row: &Value| row["pid"].as_u64().expect("each has a pid") as u32;
        rows.iter().map(pid).collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

#[test]
fn down_ends_every_process_and_removes_the_folder() {
    let up = Up::nodes(3);
    let pids = up.pids();
    // A referee, three daemons, three keepers.
    assert!(
        pids.len() >= 7 && pids.iter().all(|pid| exists(*pid)),
        "{pids:?}"
    );
    assert!(up.dir.exists());
    let output = up.dipc(&["down"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!up.dir.exists());
    for pid in pids {
        wait::until(&format!("the end of process {pid}"), || !exists(pid));
    }
    let again = up.dipc(&["down"]);
    assert!(!again.status.success());
    assert!(text(&again).contains("dipc up"), "{}", text(&again));
}

#[test]
fn a_second_cluster_in_one_folder_is_refused_and_the_first_goes_on() {
    let up = Up::nodes(1);
    let again = up.dipc(&["up", "--nodes", "1"]);
    assert!(!again.status.success());
    assert!(text(&again).contains("dipc down"), "{}", text(&again));
    assert!(up.dipc(&["exec", "-n", "1", "--", "true"]).status.success());
}

#[test]
fn exec_passes_input_output_folder_and_exit_status_through() {
    let up = Up::nodes(1);
    let script = r#"cat; pwd; echo "$DIPC_NODE" >&2; exit 42"#;
    let mut child = up
        .command(&["exec", "-n", "1", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .current_dir("/")
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let mut input = child.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(42));
    assert_eq!(output.stdout[..bytes.len()], bytes);
    assert_eq!(output.stdout[bytes.len()..], *b"/\n");
    assert_eq!(output.stderr, b"1\n");
}

#[test]
fn exec_passes_signals_to_the_program() {
    let up = Up::nodes(1);
    let mut command = up.command(&["exec", "-n", "1", "--", "sleep", "1000"]);
    let mut process = Process::start("dipc exec sleep", &mut command);
    wait::until("dipc has become the program", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", process.pid()));
        name.is_ok_and(|name| name.trim() == "sleep")
    });
    process.signal(Signal::SIGTERM);
    let status = process.ended();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(signal, Some(libc::SIGTERM));
}

#[test]
fn exec_tells_its_own_failures_from_the_programs() {
    let up = Up::nodes(1);
    let code = |words: &[&str]| up.dipc(words).status.code();
    assert_eq!(
        code(&["exec", "-n", "1", "--", "/no/such/program"]),
        Some(127)
    );
    assert_eq!(code(&["exec", "-n", "1", "--", "/"]), Some(126));
    let output = up.dipc(&["exec", "-n", "2", "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output).contains("node"), "{}", text(&output));
}

#[test]
fn programs_on_two_nodes_share_objects_that_ls_shows_and_rm_removes() {
    let up = Up::nodes(2);
    let (mut one, mut two) = (up.program(1), up.program(2));
    let set = one.must(format!("semget 0xabc1 3 {CREATE}"));
    let queue = two.must(format!("msgget 0xabc2 {CREATE}"));
    let segment = two.must(format!("shmget 0xabc3 8192 {CREATE}"));
    assert_eq!(two.must(format!("semget 0xabc1 3 {CREATE}")), set);
    two.must(format!("shmat {segment} 0"));
    one.must(format!("msgsnd {queue} 1 0 12345"));
    for node in ["1", "2"] {
        let list = text(&up.dipc(&["ls", "-n", node]));
        for (key, id, home) in [
            ("0x0000abc1", set, "node1"),
            ("0x0000abc2", queue, "node2"),
            ("0x0000abc3", segment, "node2"),
        ] {
            let row = list.lines().find(|line| line.contains(key));
            let row = row.unwrap_or_else(|| panic!("no {key} in\n{list}"));
            assert!(row.contains(&id.to_string()) && row.contains(home), "{row}");
        }
    }
    let removed = up.dipc(&[
        "rm",
        "-S",
        "0xabc1",
        "-q",
        &queue.to_string(),
        "-M",
        "0xabc3",
    ]);
    assert!(removed.status.success(), "{}", text(&removed));
    assert_eq!(one.ask(format!("semop {set} 0:1")), "! EINVAL");
    assert_eq!(two.ask(format!("msgsnd {queue} 1 0 x")), "! EINVAL");
    assert_eq!(one.ask("shmget 0xabc3 0 010000"), "! ENOENT");
    let again = up.dipc(&["rm", "-S", "0xabc1"]);
    assert!(
        !again.status.success() && text(&again).contains("0x0000abc1"),
        "{}",
        text(&again)
    );
}

#[test]
fn status_names_every_process_with_its_pid() {
    let up = Up::nodes(2);
    let (mut one, mut two) = (up.program(1), up.program(2));
    let set = one.must(format!("semget 0 1 {CREATE}"));
    two.must(format!("getval {set} 0"));
    let pids = up.pids();
    for pid in [one.pid(), two.pid()] {
        assert!(pids.contains(&pid), "{pid} is not among {pids:?}");
    }
    let people = text(&up.dipc(&["status"]));
    for part in ["node1", "node2", "dipcd", &one.pid().to_string()] {
        assert!(people.contains(part), "no {part} in\n{people}");
    }
}

#[test]
fn commands_without_a_cluster_say_what_to_do() {
    let scratch = Scratch::new();
    let dir = scratch.join("nothing");
    for words in [
        &["status"][..],
        &["ls"],
        &["down"],
        &["exec", "-n", "1", "--", "true"],
    ] {
        let mut command = Command::new(artifacts::built("dipc"));
        command
            .arg(words[0])
            .arg("--dir")
            .arg(&dir)
            .args(&words[1..]);
        let output = command.output().unwrap();
        assert!(!output.status.success(), "{words:?}");
        assert!(
            text(&output).contains("dipc up"),
            "{words:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn run_serves_a_program_by_the_daemon_that_dipc_socket_names() {
    let up = Up::nodes(1);
    let run = |socket: &Path| {
        Command::new(artifacts::built("dipc"))
            .args(["run", "--", "sh", "-c", "echo through"])
            .env("DIPC_SOCKET", socket)
            .output()
            .unwrap()
    };
    let socket = up.dir.join("node1.sock");
    assert_eq!(text(&run(&socket)), "through\n");
    let output = run(Path::new("/no/such/socket"));
    assert_eq!(output.status.code(), Some(125), "{}", text(&output));
    assert!(
        text(&output).contains("/no/such/socket"),
        "{}",
        text(&output)
    );
}

#[test]
fn limits_are_given_to_dipc_up_and_shown_by_dipc_status() {
    let scratch = Scratch::new();
    let file = scratch.join("limits");
    std::fs::write(&file, "shmmni = 3 # segments\nsemmni = 1\n").expect("a file can be written");
    let file = file.to_str().expect("its path is text");
    let up = Up::with(2, &["--limits", file, "--limit", "semmni=2"]);
    let [mut one, mut two] = [1, 2].map(|n| up.program(n));
    one.must(format!("semget 0 1 {CREATE}"));
    two.must(format!("semget 0 1 {CREATE}"));
    assert_eq!(one.ask(format!("semget 0 1 {CREATE}")), "! ENOSPC");
    let said = text(&up.dipc(&["status"]));
    assert!(
        said.contains("Limits other than the kernel's: shmmni=3 semmni=2"),
        "{said}"
    );
    let output = up.dipc(&["status", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["limits"]["semmni"], 2);
    assert_eq!(json["limits"]["msgmax"], 8192);
}

#[test]
fn root_of_other_nodes_is_squashed_where_dipc_up_says_so() {
    if !skip::unless_root("dipc up --root") {
        return;
    }
    for (rule, expected) in [("squash", "! EACCES"), ("keep", "= 0")] {
        let up = Up::with(2, &["--root", rule]);
        let [mut one, mut two] = [1, 2].map(|n| up.program(n));
        let id = one.must(format!("semget 0 1 {CREATE}"));
        assert_eq!(two.ask(format!("getval {id} 0")), expected, "{rule}");
        assert_eq!(one.ask(format!("getval {id} 0")), "= 0", "its own");
    }
}

#[test]
fn an_unknown_rule_for_root_starts_nothing_and_names_the_known_ones() {
    let scratch = Scratch::new();
    let dir = scratch.join("c");
    let output = Command::new(artifacts::built("dipc"))
        .args(["up", "--root", "kep", "--dir"])
        .arg(&dir)
        .output()
        .expect("dipc can be run");
    assert!(!output.status.success());
    let said = text(&output);
    assert!(said.contains("keep") && said.contains("squash"), "{said}");
    assert!(!dir.exists());
}

/// Names of this machine's own network devices, and what there is of named namespaces.
fn network_of_the_host() -> (Vec<String>, Vec<String>) {
    let names = |folder: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    (names("/sys/class/net"), names("/run/netns"))
}

#[test]
fn with_netns_each_node_has_an_address_of_its_own_and_nothing_of_the_hosts_network_changes() {
    if !network::can_be_made("dipc up --netns") {
        return;
    }
    let before = network_of_the_host();
    let up = Up::with(2, &["--netns"]);
    for (node, address) in [("1", "10.0.0.1/16"), ("2", "10.0.0.2/16")] {
        let list = up.dipc(&["exec", "-n", node, "--", "ip", "-o", "-4", "addr"]);
        assert!(text(&list).contains(address), "{}", text(&list));
    }
    let [mut one, mut two] = [1, 2].map(|node| up.program(node));
    let set = one.must(format!("semget 0x4e7 1 {CREATE}"));
    two.must(format!("semop {set} 0:1"));
    assert_eq!(one.must(format!("getval {set} 0")), 1);
    assert!(text(&up.dipc(&["status"])).contains("10.0.0.2:"));
    assert_eq!(network_of_the_host(), before);
    let output = up.dipc(&["down"]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(
        text(&output).matches("killed").count(),
        0,
        "{}",
        text(&output)
    );
    assert!(!up.dir.exists());
    assert_eq!(network_of_the_host(), before);
}

#[test]
fn without_root_netns_is_refused_with_a_word_why() {
    let scratch = Scratch::new();
    let mut command = Command::new(artifacts::built("dipc"));
    command.args(["up", "--netns", "--dir"]);
    command.arg(scratch.join("c"));
    if geteuid().is_root() {
        // A folder that he may make, by a program that he may run, if there are such.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(scratch.path(), open).expect("our own folder");
        std::os::unix::process::CommandExt::uid(&mut command, 1000);
        if command.output().is_err() {
            return skip::because("dipc up --netns as uid 1000", "it cannot run dipc");
        }
    }
    let output = command.output().expect("dipc can be run");
    assert!(!output.status.success());
    assert!(text(&output).contains("not root"), "{}", text(&output));
}
