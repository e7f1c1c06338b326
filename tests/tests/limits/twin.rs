//! Every limit is reached, step by step: in the kernel, whose sysctls a new IPC
//! namespace has for itself; on a node of its own; on one of a cluster; and with
//! the steps taken in turn by two nodes. All four must agree.

use std::process::Command;

use dipc_tests::apart::{apart, can_be_apart};
use dipc_tests::{CREATE, CREATE_NEW, Cluster, FIND, NOWAIT, Options, Program, skip};

/// Small enough to be reached by hand.
const LIMITS: &[&str] = &[
    "shmmax=8192",
    "shmall=4",
    "shmmni=3",
    "semmsl=8",
    "semmns=12",
    "semopm=4",
    "semmni=3",
    "msgmax=16",
    "msgmnb=20",
    "msgmni=2",
];

/// The same for `/proc/sys/kernel`.
const SYSCTLS: &[(&str, &str)] = &[
    ("shmmax", "8192"),
    ("shmall", "4"),
    ("shmmni", "3"),
    ("sem", "8 12 4 3"),
    ("msgmax", "16"),
    ("msgmnb", "20"),
    ("msgmni", "2"),
];

/// A or B, what it does, and what that must come to; `$n` is the result of step
/// n, counted from 0.
type Step = (char, String, &'static str);

fn segments() -> Vec<Step> {
    vec![
        ('A', format!("shmget 0 8193 {CREATE}"), "! EINVAL"),
        ('A', format!("shmget 0 0 {CREATE}"), "! EINVAL"),
        ('A', format!("shmget 0x1 8192 {CREATE}"), "="),
        ('B', format!("shmget 0x2 4097 {CREATE}"), "="),
        // Four pages are there, of two segments.
        ('A', format!("shmget 0x3 1 {CREATE}"), "! ENOSPC"),
        ('B', format!("shmget 0 1 {CREATE}"), "! ENOSPC"),
        // What is there is found, and what is wrong is said, before it is full.
        ('B', format!("shmget 0x1 1 {CREATE}"), "="),
        ('B', format!("shmget 0x1 1 {CREATE_NEW}"), "! EEXIST"),
        ('B', format!("shmget 0x3 1 {FIND}"), "! ENOENT"),
        ('B', format!("shmget 0x3 8193 {CREATE}"), "! EINVAL"),
        ('B', format!("shmget 0x1 8193 {FIND}"), "! EINVAL"),
        // A removed segment counts as long as somebody has it.
        ('B', "shmat $2 0".into(), "= 0"),
        ('A', "shmrm $2".into(), "="),
        ('A', format!("shmget 0x1 1 {CREATE}"), "! ENOSPC"),
        ('B', "shmdt 0".into(), "="),
        ('A', format!("shmget 0x1 1 {CREATE}"), "="),
        ('B', format!("shmget 0 4096 {CREATE}"), "="),
        ('A', "shmrm $3".into(), "="),
        ('B', format!("shmget 0 1 {CREATE}"), "="),
        // One page is free, but it would be the fourth segment.
        ('A', format!("shmget 0 1 {CREATE}"), "! ENOSPC"),
    ]
}

fn sets() -> Vec<Step> {
    let five = "0:1 0:1 0:1 0:1 0:1";
    vec![
        ('A', format!("semget 0 9 {CREATE}"), "! EINVAL"),
        ('B', format!("semget 0x1 9 {FIND}"), "! EINVAL"),
        ('B', format!("semget 0 0 {CREATE}"), "! EINVAL"),
        ('A', format!("semget 0x1 8 {CREATE}"), "="),
        ('B', format!("semget 0x2 5 {CREATE}"), "! ENOSPC"),
        ('B', format!("semget 0x2 9 {CREATE}"), "! EINVAL"),
        ('B', format!("semget 0x2 0 {CREATE}"), "! EINVAL"),
        ('B', format!("semget 0x2 4 {CREATE}"), "="),
        ('A', format!("semget 0x3 1 {CREATE}"), "! ENOSPC"),
        ('B', format!("semget 0x1 8 {CREATE_NEW}"), "! EEXIST"),
        ('B', format!("semop $3 {}", &five[..15]), "="),
        ('B', format!("semop $3 {five}"), "! E2BIG"),
        ('B', format!("semop $3 0:1 9:1 0:1 {five}"), "! E2BIG"),
        ('B', "semrm $3".into(), "="),
        ('B', format!("semop $3 {five}"), "! E2BIG"),
        ('A', "semop $3 0:1".into(), "! EINVAL"),
        // Eight semaphores are free, and two sets.
        ('A', format!("semget 0 1 {CREATE}"), "="),
        ('B', format!("semget 0 1 {CREATE}"), "="),
        ('A', format!("semget 0 1 {CREATE}"), "! ENOSPC"),
        ('A', "semrm $17".into(), "="),
        ('B', format!("semget 0 7 {CREATE}"), "="),
    ]
}

fn queues() -> Vec<Step> {
    let (fits, long) = ("0123456789abcdef", "0123456789abcdefg");
    vec![
        ('A', format!("msgget 0x1 {CREATE}"), "="),
        ('B', format!("msgget 0x2 {CREATE}"), "="),
        ('A', format!("msgget 0x3 {CREATE}"), "! ENOSPC"),
        ('B', format!("msgget 0 {CREATE}"), "! ENOSPC"),
        ('B', format!("msgget 0x1 {FIND}"), "="),
        ('A', "msgstat $0".into(), "= 0 0 20 0 0"),
        ('B', format!("msgsnd $0 1 0 {long}"), "! EINVAL"),
        ('B', format!("msgsnd $0 1 0 {fits}"), "="),
        ('A', format!("msgsnd $0 1 {NOWAIT} 12345"), "! EAGAIN"),
        ('B', format!("msgsnd $0 1 {NOWAIT} 1234"), "="),
        ('B', "msgrm $0".into(), "="),
        ('A', format!("msgsnd $0 1 0 {long}"), "! EINVAL"),
        ('B', format!("msgget 0 {CREATE}"), "="),
        ('A', format!("msgget 0 {CREATE}"), "! ENOSPC"),
    ]
}

/// The last of several programs takes the steps of those that are missing; what
/// each step came to.
fn play(steps: &[Step], programs: &mut [Program]) -> Vec<String> {
    let mut results: Vec<String> = Vec::new();
    for (who, command, _) in steps {
        let words: Vec<String> = (command.split(' '))
            .map(|word| match word.strip_prefix('$') {
                Some(step) => results[step.parse::<usize>().expect("a number")][2..].to_owned(),
                None => word.to_owned(),
            })
            .collect();
        let program = usize::from(*who == 'B') % programs.len();
        results.push(programs[program].ask(words.join(" ")).to_string());
    }
    results
}

fn check(world: &str, steps: &[Step], programs: &mut [Program]) {
    let results = play(steps, programs);
    for ((who, command, expected), result) in steps.iter().zip(results) {
        let same = match *expected {
            "=" => result.starts_with("= "),
            exactly => result == exactly,
        };
        assert!(same, "{world}: {who} {command}: {result}, not {expected}");
    }
}

/// Runs its arguments in an IPC namespace that has these limits.
fn limited_kernel() -> Command {
    let set: String = SYSCTLS
        .iter()
        .map(|(name, value)| format!("echo {value} > /proc/sys/kernel/{name} || exit 1; "))
        .collect();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{set} exec \"$0\"")]);
    apart(&mut command);
    command
}

/// A program of the kernel's, if we may set its limits.
fn in_the_kernel() -> Option<Program> {
    let what = "the kernel's own limits";
    if !skip::unless_root(what) || !can_be_apart(what) {
        return None;
    }
    let output = limited_kernel()
        .arg("true")
        .output()
        .expect("sh can be run");
    if !output.status.success() {
        skip::because(what, &String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(Program::run(limited_kernel()))
}

fn agree(steps: &[Step]) {
    if let Some(program) = in_the_kernel() {
        check("kernel", steps, &mut [program]);
    }
    let limits = LIMITS;
    let alone = Options {
        limits,
        ..Options::alone()
    };
    check("alone", steps, &mut [Cluster::with(alone).program(1)]);
    let cluster = Cluster::with(Options {
        limits,
        ..Options::nodes(2)
    });
    check("one node", steps, &mut [cluster.program(1)]);
    let cluster = Cluster::with(Options {
        limits,
        ..Options::nodes(2)
    });
    check("two nodes", steps, &mut [1, 2].map(|n| cluster.program(n)));
}

#[test]
fn limits_of_segments_are_the_kernels() {
    agree(&segments());
}

#[test]
fn limits_of_sets_and_operations_are_the_kernels() {
    agree(&sets());
}

#[test]
fn limits_of_queues_and_messages_are_the_kernels() {
    agree(&queues());
}
