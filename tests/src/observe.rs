//! What can be seen of nodes and processes from outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::artifacts;

/// A node, as it describes itself in `dipc status --json`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub node: u64,
    /// Its life.
    pub incarnation: u64,
    /// Its daemon's process id.
    pub pid: u32,
    /// Its keeper's.
    pub keeper: u32,
    /// Where its peers reach it.
    pub address: String,
    /// Connections that it refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// To how many peers it is connected.
    pub peers: usize,
    /// Calls that its programs made.
    pub calls: u64,
    /// Page faults that asked to write.
    pub write_faults: u64,
    /// Pages that came from other nodes.
    pub granules_in: u64,
    /// Its programs: process id, and how many calls of it wait.
    pub programs: Vec<(u32, u64)>,
}

/// The nodes that the daemon at this socket knows to live; `None` if it does
/// not answer.
#[must_use]
pub fn status(socket: &Path) -> Option<Vec<NodeStatus>> {
    let output = Command::new(artifacts::built("dipc"))
        .args(["status", "--json"])
        .env("DIPC_SOCKET", socket)
        .output()
        .expect("dipc can be run");
    if !output.status.success() {
        return None;
    }
    let all: Value = serde_json::from_slice(&output.stdout).expect("dipc status --json is JSON");
    let nodes = all["nodes"].as_array().expect("it lists nodes");
    Some(nodes.iter().map(|node| read(node, &all)).collect())
}

fn read(node: &Value, all: &Value) -> NodeStatus {
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("a number in {node}"))
    };
    let pid = |value: &Value| number(value) as u32;
    let processes = all["processes"].as_array().expect("it lists processes");
    let programs = processes
        .iter()
        .filter(|row| row["node"] == node["name"] && row["role"] == "program");
    NodeStatus {
        name: node["name"].as_str().expect("a node has a name").into(),
        node: number(&node["node"]),
        incarnation: number(&node["incarnation"]),
        pid: pid(&node["pid"]),
        keeper: pid(&node["keeper"]),
        address: node["address"].as_str().unwrap_or_default().into(),
        refused: node["refused"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(reason, count)| (reason.clone(), number(count)))
            .collect(),
        peers: node["peers"].as_array().map_or(0, Vec::len),
        calls: number(&node["counters"]["calls"]),
        write_faults: number(&node["counters"]["write_faults"]),
        granules_in: number(&node["counters"]["granules_in"]),
        programs: programs
            .map(|row| (pid(&row["pid"]), number(&row["waiting"])))
            .collect(),
    }
}

/// Whether every thread of a process sleeps: it does nothing until something
/// comes from outside.
#[must_use]
pub fn all_threads_sleep(pid: u32) -> bool {
    all_threads_are(pid, 'S')
}

/// Whether nothing happens in these processes until something comes from outside:
/// all their threads sleep, and none was awake between two looks at all of them.
#[must_use]
pub fn are_at_rest(pids: &[u32]) -> bool {
    let look = || -> Vec<_> { pids.iter().map(|&pid| switches(pid)).collect() };
    // One that has ended and was not waited for does nothing either.
    let sleeps = |pid| all_threads_are(pid, 'S') || all_threads_are(pid, 'Z');
    let all_sleep = || pids.iter().copied().all(sleeps);
    let before = look();
    all_sleep() && look() == before && all_sleep()
}

/// How often each thread of a process was put to sleep or had to make room.
fn switches(pid: u32) -> Vec<(PathBuf, String)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let switches = |task: PathBuf| {
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        (task, lines.collect())
    };
    tasks.flatten().map(|task| switches(task.path())).collect()
}

/// A process's children, theirs, and so on, from `/proc` (proc(5)).
#[must_use]
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let tasks = fs::read_dir(format!("/proc/{pid}/task"));
        let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children"));
        for list in tasks.into_iter().flatten().flatten().flat_map(children) {
            found.extend(
                list.split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    found.split_off(1)
}

/// Whether every thread of a process is stopped, as it is some time after
/// SIGSTOP.
#[must_use]
pub fn all_threads_are_stopped(pid: u32) -> bool {
    all_threads_are(pid, 'T')
}

fn all_threads_are(pid: u32, wanted: char) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    // One that ends while we look has no state.
    let mut states = tasks.flatten().map(|task| state(&task.path().join("stat")));
    states.all(|state| state.is_none_or(|state| state == wanted))
}

/// Whether a process's first thread sleeps outside every system call: it waits
/// for a page.
#[must_use]
pub fn waits_for_page(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
    call.is_ok_and(|call| call.starts_with("-1 "))
        && state(Path::new(&format!("/proc/{pid}/stat"))) == Some('S')
}

/// Whether a thread of a process sleeps in one of the kernel's own System V
/// calls that may wait: semop, semtimedop, msgsnd and msgrcv.
#[must_use]
pub fn waits_in_kernel(pid: u32) -> bool {
    const CALLS: [i64; 4] = [
        libc::SYS_semop,
        libc::SYS_semtimedop,
        libc::SYS_msgsnd,
        libc::SYS_msgrcv,
    ];
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut paths = tasks.flatten().map(|task| task.path());
    paths.any(|task| {
        let call = fs::read_to_string(task.join("syscall")).unwrap_or_default();
        let number = call.split(' ').next().and_then(|word| word.parse().ok());
        number.is_some_and(|number: i64| CALLS.contains(&number))
            && state(&task.join("stat")) == Some('S')
    })
}

/// The state letter of `/proc/PID/stat`, proc(5).
fn state(stat: &Path) -> Option<char> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name may hold anything; the last parenthesis ends it.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether there is such a process that has not ended; one that nobody has
/// waited for yet has.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let state = state(Path::new(&format!("/proc/{pid}/stat")));
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
