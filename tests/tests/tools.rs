//! The tools that people have, on a cluster: `ipcs`, `lsipc`, `ipcrm`, `cat`,
//! and what they are made of. Node 1 makes the objects, node 2 lists them
//! beside local ones, which lie in a namespace of the test's own.

use std::process::{Command, Stdio};

use dipc_tests::apart::{apart, can_be_apart};
use dipc_tests::{CREATE, Cluster, Node, Program, skip};
use nix::unistd::geteuid;

const IPC_INFO: i32 = 3;
const SEM: Commands = Commands("sem", 19, 18, 20);
const MSG: Commands = Commands("msg", 12, 11, 13);
const SHM: Commands = Commands("shm", 14, 13, 15);

/// A kind, and its `*_INFO`, `*_STAT` and `*_STAT_ANY`.
#[derive(Clone, Copy)]
struct Commands(&'static str, i32, i32, i32);

impl Commands {
    fn info(self) -> String {
        format!("totals {} {} 0", self.0, self.1)
    }

    fn at(self, index: i64) -> String {
        format!("at {} {} {index}", self.0, self.2)
    }

    fn any_at(self, index: i64) -> String {
        format!("at {} {} {index}", self.0, self.3)
    }
}

/// What a script has said.
struct Said {
    out: String,
    err: String,
    success: bool,
}

/// Runs a script on a node, in an IPC namespace of its own.
fn run(node: &Node, script: &str) -> Said {
    let mut command = node.command("sh");
    command.args(["-c", script]).stderr(Stdio::piped());
    let output = apart(&mut command).output().expect("sh can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        out: text(&output.stdout),
        err: text(&output.stderr),
        success: output.status.success(),
    }
}

/// A program on a node, in an IPC namespace of its own.
fn program_apart(node: &Node) -> Program {
    Program::start(|command| {
        node.enter(command);
        apart(command);
    })
}

/// Whether all that a test needs is here.
fn have(what: &str, programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| {
        let mut which = Command::new("sh");
        let found = which.args(["-c", &format!("command -v {program} >/dev/null")]);
        !found.status().is_ok_and(|status| status.success())
    });
    if let Some(program) = missing {
        skip::because(what, &format!("no {program}"));
    }
    missing.is_none() && can_be_apart(what)
}

/// Two nodes, and objects of node 1: a set of three semaphores by key 0x5e1, a
/// queue of one message by key 0x5e2, a segment of 5000 bytes by key 0x5e3.
fn cluster() -> (Cluster, Program, [i64; 3]) {
    let cluster = Cluster::start(2);
    let mut maker = cluster.program(1);
    let set = maker.must(format!("semget 0x5e1 3 {CREATE}"));
    let queue = maker.must(format!("msgget 0x5e2 {CREATE}"));
    let segment = maker.must(format!("shmget 0x5e3 5000 {CREATE}"));
    maker.must(format!("msgsnd {queue} 1 0 word"));
    (cluster, maker, [set, queue, segment])
}

/// The lines that a list has for an object.
fn lines_with<'a>(list: &'a str, word: &str) -> Vec<&'a str> {
    let has = |line: &&str| line.split_whitespace().any(|w| w == word);
    list.lines().filter(has).collect()
}

/// How many objects of a list have id 0: the first local one of each kind.
fn locals(list: &str) -> usize {
    let is_local = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next().is_some_and(|key| key.starts_with("0x")) && words.next() == Some("0")
    };
    list.lines().filter(is_local).count()
}

#[test]
fn ipcs_and_lsipc_list_what_another_node_made_beside_local_objects() {
    let what = "ipcs and lsipc";
    if !have(what, &["ipcs", "lsipc", "ipcmk"]) {
        return;
    }
    let (cluster, _maker, ids) = cluster();
    let make = "ipcmk -S 2 >/dev/null; ipcmk -Q >/dev/null; ipcmk -M 100 >/dev/null;";
    for list in ["ipcs", "lsipc -s; lsipc -q; lsipc -m"] {
        let said = run(cluster.node(2), &format!("{make} {list}"));
        for (id, key) in ids.iter().zip(["0x000005e1", "0x000005e2", "0x000005e3"]) {
            let lines = lines_with(&said.out, key);
            assert_eq!(lines.len(), 1, "{}", said.out);
            assert_eq!(lines_with(lines[0], &id.to_string()).len(), 1, "{lines:?}");
        }
        assert_eq!(locals(&said.out), 3, "{}", said.out);
        assert_eq!(said.err, "");
    }
}

#[test]
fn every_question_of_ipcs_and_lsipc_about_distributed_objects_is_answered() {
    if !have("details of ipcs and lsipc", &["ipcs", "lsipc"]) {
        return;
    }
    let (cluster, _maker, [set, queue, segment]) = cluster();
    for (question, answer) in [
        (format!("ipcs -s -i {set}"), "nsems = 3"),
        (format!("ipcs -q -i {queue}"), "qnum=1"),
        (format!("ipcs -m -i {segment}"), "bytes=5000"),
        (format!("lsipc -s -i {set}"), "0x000005e1"),
        (format!("lsipc -q -i {queue}"), "0x000005e2"),
        (format!("lsipc -m -i {segment}"), "0x000005e3"),
        ("ipcs -u".into(), "allocated semaphores = 3"),
        ("ipcs -u".into(), "used headers = 1"),
        ("ipcs -u".into(), "pages allocated 2"),
        ("ipcs -l".into(), "max queues system wide"),
        ("ipcs -p".into(), &*queue.to_string()),
        ("ipcs -t".into(), &*set.to_string()),
        ("ipcs -c".into(), &*segment.to_string()),
        ("lsipc -g".into(), "SHMMNI"),
    ] {
        let said = run(cluster.node(2), &question);
        assert!(said.success, "{question}: {}", said.err);
        assert!(said.out.contains(answer), "{question}: {}", said.out);
    }
}

#[test]
fn ipcrm_removes_by_key_and_by_id_what_another_node_made() {
    if !have("ipcrm", &["ipcrm", "ipcs"]) {
        return;
    }
    let (cluster, mut maker, [set, queue, segment]) = cluster();
    let script = format!("ipcrm -S 0x5e1 && ipcrm -q {queue} && ipcrm -M 0x5e3 && ipcs");
    let said = run(cluster.node(2), &script);
    assert!(said.success, "{}", said.err);
    assert!(!said.out.contains("0x000005e"), "{}", said.out);
    assert_eq!(maker.ask(format!("semstat {set}")), "! EINVAL");
    assert_eq!(maker.ask(format!("msgstat {queue}")), "! EINVAL");
    assert_eq!(maker.ask(format!("shmstat {segment}")), "! EINVAL");
    let again = run(cluster.node(2), "ipcrm -S 0x5e1");
    assert!(!again.success && again.err.contains("key"), "{}", again.err);
}

#[test]
fn a_key_that_both_have_is_the_kernels_for_ipcrm() {
    let what = "ipcrm in a program's namespace";
    if !skip::unless_root(what) || !have(what, &["ipcrm", "nsenter"]) {
        return;
    }
    let (cluster, mut maker, [set, ..]) = cluster();
    let mut local = program_apart(cluster.node(2));
    let id = local.must("semget 0x5e1 1 01600");
    let namespace = format!("/proc/{}/ns/ipc", local.pid());
    let mut ipcrm = cluster.node(2).command("nsenter");
    ipcrm.args([&format!("--ipc={namespace}"), "ipcrm", "-S", "0x5e1"]);
    assert!(ipcrm.status().expect("nsenter can be run").success());
    assert_eq!(local.ask(format!("semstat {id}")), "! EINVAL");
    assert!(maker.ask(format!("semstat {set}")).succeeded());
}

#[test]
fn ipcrm_all_removes_local_objects_and_leaves_the_clusters() {
    if !have("ipcrm --all", &["ipcrm", "ipcs", "ipcmk"]) {
        return;
    }
    let (cluster, mut maker, [set, queue, segment]) = cluster();
    let make = "ipcmk -S 2 >/dev/null; ipcmk -Q >/dev/null; ipcmk -M 100 >/dev/null;";
    let ids = [set, queue, segment];
    for (all, kinds) in [("ipcrm -a", 3), ("ipcrm --all=shm", 1)] {
        let said = run(
            cluster.node(2),
            &format!("{make} {all}; s=$?; ipcs; exit $s"),
        );
        assert!(!said.success, "it has not removed all");
        assert_eq!(locals(&said.out), 3 - kinds, "{}", said.out);
        let refused = |id: &&i64| said.err.contains(&format!("({id})"));
        assert!(refused(&&segment), "{}", said.err);
        assert!(
            kinds == 1 || ids.iter().all(|id| refused(&id)),
            "{}",
            said.err
        );
        assert_eq!(said.err.matches("DIPC_SWEEP=1").count(), 1, "{}", said.err);
    }
    assert!(maker.ask(format!("semstat {set}")).succeeded());
    maker.must(format!("msgstat {queue}"));
    maker.must(format!("shmstat {segment}"));
    let said = run(cluster.node(2), "DIPC_SWEEP=1 ipcrm -a");
    assert!(said.success, "{}", said.err);
    assert_eq!(maker.ask(format!("semstat {set}")), "! EINVAL");
}

#[test]
fn a_program_may_remove_what_it_made_or_found_by_key_after_listing() {
    if !can_be_apart("removal after a list") {
        return;
    }
    let (cluster, _maker, [set, queue, segment]) = cluster();
    let mut program = program_apart(cluster.node(2));
    let own = program.must(format!("semget 0 1 {CREATE}"));
    let early = program.must(format!("semget 0 1 {CREATE}"));
    for kind in [SEM, MSG, SHM] {
        program.must(kind.info());
    }
    program.must(format!("semrm {own}"));
    assert_eq!(program.ask(format!("semrm {own}")), "! EINVAL");
    assert_eq!(program.ask(format!("semrm {set}")), "! EPERM");
    assert_eq!(program.ask(format!("msgrm {queue}")), "! EPERM");
    assert_eq!(
        program.must(format!("msgget 0x5e2 {}", dipc_tests::FIND)),
        queue
    );
    program.must(format!("msgrm {queue}"));
    // A child goes by what its parent has made.
    program.must("fork");
    assert!(program.ask(format!("child 0 {}", SEM.info())).succeeded());
    assert_eq!(program.ask(format!("child 0 semrm {set}")), "! EPERM");
    assert_eq!(program.ask(format!("child 0 semrm {early}")), "= 0");
    // Who has listed nothing may remove by id.
    cluster.program(2).must(format!("shmrm {segment}"));
}

#[test]
fn reading_the_file_is_listing_too() {
    if !can_be_apart("removal after reading the list") {
        return;
    }
    let (cluster, _maker, [set, ..]) = cluster();
    let mut program = program_apart(cluster.node(2));
    assert!(program.ask("look fopen /proc/sysvipc/sem").succeeded());
    assert_eq!(program.ask(format!("semrm {set}")), "! EPERM");
}

/// The highest index, and fields of what `*_INFO` tells, by their place.
fn picked<const N: usize>(program: &mut Program, kind: Commands, places: [usize; N]) -> [i64; N] {
    let numbers = program.ask(kind.info()).numbers();
    places.map(|place| numbers[place])
}

#[test]
fn info_counts_the_objects_of_both_worlds_behaviour_118() {
    if !can_be_apart("*_INFO") {
        return;
    }
    let (cluster, _maker, _) = cluster();
    let mut program = program_apart(cluster.node(2));
    // Highest index, objects, and what they hold: semusz and semaem; msgpool,
    // msgmap and msgtql; used_ids and shm_tot.
    let sets = |program: &mut Program| picked(program, SEM, [0, 8, 10]);
    let queues = |program: &mut Program| picked(program, MSG, [0, 1, 2, 7]);
    let segments = |program: &mut Program| picked(program, SHM, [0, 1, 2]);
    // Nothing is local yet.
    assert_eq!(sets(&mut program), [1, 1, 3]);
    assert_eq!(queues(&mut program), [1, 1, 1, 4]);
    assert_eq!(segments(&mut program), [1, 1, 2]);
    for _ in 0..3 {
        program.must("semget 0 5 0600");
        program.must("shmget 0 4097 0600");
    }
    let queue = program.must("msgget 0 0600");
    program.must(format!("msgsnd {queue} 1 0 123"));
    assert_eq!(sets(&mut program), [3, 4, 18]);
    assert_eq!(queues(&mut program), [1, 2, 2, 7]);
    assert_eq!(segments(&mut program), [3, 4, 8]);
    for kind in [SEM, MSG, SHM] {
        let bad = format!("control {} 0 0 {} 8", kind.0, kind.1);
        assert_eq!(program.ask(bad), "! EFAULT");
    }
}

#[test]
fn an_index_leads_to_local_objects_first_and_then_to_the_clusters_behaviour_117() {
    if !can_be_apart("*_STAT") {
        return;
    }
    let (cluster, mut maker, ids) = cluster();
    let mut program = program_apart(cluster.node(2));
    let local = [
        program.must("semget 0 7 0600"),
        program.must("msgget 0 0600"),
        program.must("shmget 0 77 0600"),
    ];
    let sizes = [(7, 3), (0, 1), (77, 5000)];
    for (i, kind) in [SEM, MSG, SHM].into_iter().enumerate() {
        // Also of a program that has not asked for the highest index.
        for known in [false, true] {
            if known {
                assert_eq!(program.ask(kind.info()).numbers()[0], 1);
            }
            let at = |program: &mut Program, index| program.ask(kind.at(index)).numbers();
            assert_eq!(at(&mut program, 0), [local[i], sizes[i].0]);
            assert_eq!(at(&mut program, 1), [ids[i], sizes[i].1]);
            assert_eq!(program.ask(kind.any_at(1)).numbers()[0], ids[i]);
            for unused in [-1, 2, 3, 400] {
                assert_eq!(program.ask(kind.at(unused)), "! EINVAL");
            }
        }
    }
    // One more is found behind, and one that is removed leaves its place empty.
    let new = maker.must(format!("semget 0 1 {CREATE}"));
    assert_eq!(program.ask(SEM.at(2)).numbers(), [new, 1]);
    maker.must(format!("semrm {}", ids[0]));
    assert_eq!(program.ask(SEM.at(1)), "! EINVAL");
    assert_eq!(program.ask(SEM.at(2)).numbers(), [new, 1]);
}

#[test]
fn stat_by_index_needs_read_permission_and_stat_any_none_behaviour_117() {
    if !can_be_apart("permissions of *_STAT") {
        return;
    }
    let cluster = Cluster::start(2);
    let id = cluster.program(1).must("semget 0 4 011000");
    let mut program = program_apart(cluster.node(2));
    if geteuid().is_root() {
        program.must("setuid 1000");
    }
    assert_eq!(program.ask(SEM.info()).numbers()[0], 1);
    assert_eq!(program.ask(SEM.at(1)), "! EACCES");
    assert_eq!(program.ask(SEM.any_at(1)).numbers(), [id, 4]);
    let look = program.ask("look open /proc/sysvipc/sem");
    assert!(format!("{look:?}").contains(&id.to_string()), "{look:?}");
}

#[test]
fn limits_are_the_clusters_where_every_key_is_distributed() {
    if !skip::unless_root("limits of a namespace") || !can_be_apart("limits of a namespace") {
        return;
    }
    let (cluster, ..) = cluster();
    let sysctl = "echo 4000 >/proc/sys/kernel/msgmax; exec \"$0\"";
    let limits = |keys: &str| {
        let mut command = cluster.node(2).command("sh");
        command.args(["-c", sysctl]).env("DIPC_KEYS", keys);
        apart(&mut command);
        let mut program = Program::run(command);
        let limits = program.ask(format!("totals msg {IPC_INFO} 0")).numbers();
        assert_eq!(limits[0], 1, "the highest index");
        // The pool's size is no number of queues here.
        assert_eq!(limits[1], 512_000);
        limits[3]
    };
    assert_eq!(limits("none"), 4000);
    assert_eq!(limits("all"), 8192);
}

#[test]
fn without_distributed_objects_every_answer_is_the_kernels() {
    if !have("a cluster without objects", &["ipcmk", "ipcs"]) {
        return;
    }
    let cluster = Cluster::start(2);
    let script = "ipcmk -S 2 >/dev/null; ipcmk -Q >/dev/null; ipcmk -M 100 >/dev/null
        look() { cat /proc/sysvipc/*; ipcs; ipcs -u; ipcs -l; }
        a=$(look); unset LD_PRELOAD; b=$(look); test \"$a\" = \"$b\"";
    let said = run(cluster.node(1), script);
    assert!(said.success, "{}", said.err);
}

#[test]
fn the_clusters_lines_stand_in_the_kernels_columns() {
    if !can_be_apart("the columns of /proc/sysvipc") {
        return;
    }
    let cluster = Cluster::start(2);
    let mut program = program_apart(cluster.node(2));
    for flags in [0o1640, CREATE | 0o40] {
        program.must(format!("semget 0x5e1 3 {flags}"));
        let queue = program.must(format!("msgget 0x5e2 {flags}"));
        program.must(format!("msgsnd {queue} 1 0 word"));
        program.must(format!("shmget 0x5e3 5000 {flags}"));
    }
    for file in ["sem", "msg", "shm"] {
        let look = format!(
            "{:?}",
            program.ask(format!("look open /proc/sysvipc/{file}"))
        );
        let lines: Vec<&str> = look.split('|').collect();
        let [header, local, distributed, _] = lines[..] else {
            panic!("{look}")
        };
        assert!(
            header.ends_with("ctime") || header.ends_with("swap"),
            "{header}"
        );
        assert_eq!(columns(local), columns(distributed), "{look}");
        assert_eq!(columns(local).len(), header.split_whitespace().count() - 5);
    }
}

/// Where the words of a line end: all of the kernel's columns end there.
fn columns(line: &str) -> Vec<usize> {
    let ends = |at: &usize| !line[..*at].ends_with(' ') && !line[*at..].starts_with(|c| c != ' ');
    (1..=line.len()).filter(ends).collect()
}

#[test]
fn the_file_is_the_same_however_it_is_opened() {
    if !can_be_apart("ways to open /proc/sysvipc") {
        return;
    }
    let (cluster, _maker, ids) = cluster();
    let mut program = program_apart(cluster.node(2));
    program.must("semget 0 7 0600");
    // Close-on-exec as asked; read-only; at its beginning.
    for (how, on_exec) in [("open", 1), ("openat", 0), ("fopen", 1)] {
        let look = format!("{:?}", program.ask(format!("look {how} /proc/sysvipc/sem")));
        let head = format!("\"= {on_exec} 0 0 0        key");
        assert!(look.starts_with(&head), "{how}: {look}");
        assert_eq!(look.matches('|').count(), 3, "{how}: {look}");
        assert!(look.contains(&ids[0].to_string()), "{how}: {look}");
    }
    assert_eq!(program.ask("look open /proc/sysvipc/none"), "! ENOENT");
    assert_eq!(program.ask("look fopen /proc/sysvipc/none"), "! ENOENT");
}

#[test]
fn cat_perl_and_python_read_the_clusters_objects() {
    let what = "cat, perl and python";
    if !have(what, &["cat", "perl", "python3"]) {
        return;
    }
    let (cluster, _maker, [set, ..]) = cluster();
    for reader in [
        "cat /proc/sysvipc/sem",
        "cat </proc/sysvipc/sem",
        "perl -e 'open(F, \"<\", \"/proc/sysvipc/sem\"); print <F>'",
        "python3 -c 'print(open(\"/proc/sysvipc/sem\").read())'",
    ] {
        let said = run(cluster.node(2), reader);
        assert_eq!(lines_with(&said.out, &set.to_string()).len(), 1, "{reader}");
    }
}

#[test]
fn ipc_stat_the_file_and_dipc_ls_agree_behaviour_120() {
    if !can_be_apart("/proc/sysvipc and IPC_STAT") {
        return;
    }
    let (cluster, mut maker, [_, _, segment]) = cluster();
    let mut program = program_apart(cluster.node(2));
    for attached in 0..3 {
        let look = format!("{:?}", program.ask("look open /proc/sysvipc/shm"));
        let line = lines_with(&look.replace('|', "\n"), &segment.to_string()).join("");
        let nattch = line.split_whitespace().nth(6).map(str::to_owned);
        assert_eq!(nattch, Some(attached.to_string()), "{line}");
        assert_eq!(program.must(format!("shmstat {segment}")), attached);
        let mut ls = Command::new(dipc_tests::artifacts::built("dipc"));
        ls.args(["ls", "--json"])
            .env("DIPC_SOCKET", &cluster.node(2).socket);
        let output = ls.output().expect("dipc can be run");
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let objects = listed["objects"].as_array().expect("a list");
        let seen = objects
            .iter()
            .find(|o| o["id"] == segment && o["kind"] == "shm");
        assert_eq!(seen.map(|o| &o["nattch"]), Some(&attached.into()));
        maker.must(format!("shmat {segment} 0"));
    }
}

#[test]
fn the_resident_column_is_what_lies_in_this_nodes_memory() {
    if !can_be_apart("the rss column") {
        return;
    }
    let (cluster, mut maker, [_, _, segment]) = cluster();
    maker.must(format!("shmat {segment} 0"));
    maker.must("poke 0 8 9");
    let mut programs = [1, 2].map(|number| program_apart(cluster.node(number)));
    let resident = programs.each_mut().map(|program| {
        let look = format!("{:?}", program.ask("look open /proc/sysvipc/shm"));
        let line = lines_with(&look.replace('|', "\n"), &segment.to_string()).join("");
        line.split_whitespace().nth(14).map(str::to_owned)
    });
    assert_eq!(resident, [Some("4096".into()), Some("0".into())]);
    let pages = programs.map(|mut program| program.ask(SHM.info()).numbers()[3]);
    assert_eq!(pages, [1, 0]);
}

#[test]
fn a_dead_nodes_objects_are_listed_no_more() {
    if !can_be_apart("a list without a dead node") {
        return;
    }
    let (mut cluster, maker, _) = cluster();
    drop(maker);
    cluster.kill_node(1);
    cluster.until_peers(2, 0);
    let mut program = program_apart(cluster.node(2));
    assert_eq!(picked(&mut program, SEM, [0, 8, 10]), [0, 0, 0]);
    let look = format!("{:?}", program.ask("look open /proc/sysvipc/sem"));
    assert_eq!(look.matches('|').count(), 1, "the header only: {look}");
}

#[test]
fn a_long_list_is_gone_through_once() {
    if !can_be_apart("a long list") {
        return;
    }
    const OBJECTS: i64 = 2000;
    let cluster = Cluster::start(2);
    let mut maker = cluster.program(1);
    maker.must(format!("getmany msg 1 {OBJECTS} {CREATE}"));
    let mut program = program_apart(cluster.node(2));
    let (Commands(kind, info, stat, _), id) = (MSG, program.must("msgget 0 0600"));
    let found = program.must(format!("goround {kind} {info} {stat}"));
    assert_eq!(found, OBJECTS + 1);
    program.must(format!("msgrm {id}"));
    assert_eq!(
        program.must(format!("goround {kind} {info} {stat}")),
        OBJECTS
    );
}
