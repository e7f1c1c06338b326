//! PostgreSQL with its shared memory and its dynamic shared memory as System V
//! segments, all of them distributed: made, loaded, queried in parallel, crashed,
//! recovered, restarted.
//!
//! It reads files straight into its shared memory, which needs a userfaultfd that
//! not everybody may have (README, limits). It refuses to run as root: root's
//! dipcd serves it as an ordinary user.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use dipc_tests::artifacts::built;
use dipc_tests::process::{Process, into_file};
use dipc_tests::wait::until;
use dipc_tests::{Cluster, Node, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

use crate::{distributed, objects, until_no_objects};

const WHAT: &str = "PostgreSQL with every key distributed";
const SETTINGS: &str = "
shared_memory_type = sysv
dynamic_shared_memory_type = sysv
min_dynamic_shared_memory = 1MB
shared_buffers = 8MB
listen_addresses = ''
fsync = off
";

/// Where its programs lie: Debian keeps them out of PATH.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let folders = versions.map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("initdb").exists()).max()
}

/// Whom the server runs as.
fn whom_to_run_as() -> User {
    let user = if geteuid().is_root() {
        User::from_name("nobody")
    } else {
        User::from_uid(geteuid())
    };
    user.unwrap().expect("PostgreSQL wants a user with a name")
}

/// Whether dipcd can serve faults inside system calls; if not, says so.
fn kernel_can_be_served() -> bool {
    let device = File::options()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd");
    let setting = fs::read_to_string("/proc/sys/vm/unprivileged_userfaultfd");
    let can = device.is_ok() || setting.is_ok_and(|setting| setting.trim() == "1");
    if !can {
        skip::because(WHAT, "/dev/userfaultfd cannot be opened");
    }
    can
}

/// A database server on a node.
struct Server<'c> {
    node: &'c Node,
    bin: PathBuf,
    user: User,
    /// Its data, socket and log.
    folder: PathBuf,
    process: Option<Process>,
}

impl<'c> Server<'c> {
    /// A new database.
    fn create(cluster: &'c Cluster, bin: PathBuf) -> Self {
        let folder = cluster.file("postgres");
        fs::create_dir(&folder).unwrap();
        let server = Server {
            node: cluster.node(1),
            bin,
            user: whom_to_run_as(),
            folder,
            process: None,
        };
        server.share();
        // What was built may lie where this user cannot read.
        fs::copy(built("libdipc.so"), server.library()).unwrap();
        let (uid, gid) = (server.user.uid.as_raw(), server.user.gid.as_raw());
        chown(&server.folder, Some(uid), Some(gid)).unwrap();
        let [data, share] = ["data", "share"].map(|name| server.folder.join(name));
        let mut initdb = server.command("initdb");
        initdb.args(["--auth=trust", "--no-sync", "--locale=C", "--username=me"]);
        server.run(initdb.arg("-D").arg(data).arg("-L").arg(share));
        server
    }

    fn library(&self) -> PathBuf {
        self.folder.join("libdipc.so")
    }

    /// A folder of initdb's input with our settings in it, so that they hold for
    /// the bootstrap too.
    fn share(&self) {
        let output = Command::new(self.bin.join("pg_config"))
            .arg("--sharedir")
            .output();
        let original = String::from_utf8(output.unwrap().stdout).unwrap();
        let share = self.folder.join("share");
        fs::create_dir(&share).unwrap();
        for entry in fs::read_dir(original.trim()).unwrap() {
            let path = entry.unwrap().path();
            symlink(&path, share.join(path.file_name().unwrap())).unwrap();
        }
        let sample = share.join("postgresql.conf.sample");
        let text = fs::read_to_string(&sample).unwrap();
        fs::remove_file(&sample).unwrap();
        let socket = format!("unix_socket_directories = '{}'\n", self.folder.display());
        fs::write(&sample, text + SETTINGS + &socket).unwrap();
        fs::set_permissions(&sample, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// One of its programs, as the ordinary user.
    fn command(&self, program: &str) -> Command {
        let mut command = distributed(self.node, self.bin.join(program).to_str().unwrap());
        command
            .uid(self.user.uid.as_raw())
            .gid(self.user.gid.as_raw())
            .current_dir(&self.folder)
            .env("LD_PRELOAD", self.library())
            .env("PGHOST", &self.folder)
            .env("PGUSER", "me")
            .env("PGDATABASE", "postgres")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{command:?}: {}\n{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&mut self) {
        let log = into_file(&self.folder.join("log"));
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.folder.join("data")).stderr(log);
        self.process = Some(Process::start("postgres", &mut command));
        self.until_it_answers();
    }

    fn until_it_answers(&self) {
        until("PostgreSQL answers", || {
            let status = self.command("pg_isready").stdout(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        });
    }

    /// Shuts it down in order.
    fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::SIGINT);
        assert!(process.ended().success(), "{}", self.log());
    }

    fn query(&self, sql: &str) -> String {
        self.run(self.command("psql").args(["-qAtc", sql]))
            .trim()
            .to_owned()
    }

    /// Bank transfers by four clients, which must leave the books balanced.
    fn bench(&self, transactions: usize) {
        let each = (transactions / 4).to_string();
        let arguments = ["--client=4", "--no-vacuum", "--transactions", &each];
        let said = self.run(self.command("pgbench").args(arguments));
        let all = format!("{transactions}/{transactions}");
        assert!(said.contains(&all), "{said}");
        self.balances();
    }

    fn balances(&self) {
        let sums = "select (select sum(abalance) from pgbench_accounts),
                           (select sum(bbalance) from pgbench_branches),
                           (select sum(tbalance) from pgbench_tellers),
                           (select coalesce(sum(delta), 0) from pgbench_history)";
        let sums = self.query(sums);
        let sums: Vec<_> = sums.split('|').collect();
        assert!(sums.iter().all(|sum| sum == &sums[0]), "{sums:?}");
    }

    /// A query whose workers talk through dynamic shared memory.
    fn query_in_parallel(&self) {
        let plan = self.query(
            "set parallel_setup_cost = 0; set parallel_tuple_cost = 0;
             set min_parallel_table_scan_size = 0; set max_parallel_workers_per_gather = 2;
             explain (analyze, costs off, timing off)
             select count(*) from pgbench_accounts a join pgbench_accounts b using (aid)",
        );
        assert!(plan.contains("Workers Launched: 2"), "{plan}");
        assert!(plan.contains("rows=1 loops=1"), "{plan}");
    }

    /// Kills the one process that answers to `which`; the server ends all others
    /// and recovers in new shared memory.
    fn crash(&self, which: &str) {
        let started = "select pg_postmaster_start_time()";
        let (birth, recoveries) = (self.query(started), self.recoveries());
        let pid = self.query(&format!("select pid from pg_stat_activity where {which}"));
        kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
        until("PostgreSQL has recovered", || {
            self.recoveries() == recoveries + 1
        });
        self.until_it_answers();
        assert_eq!(self.query(started), birth, "the postmaster lives on");
    }

    fn recoveries(&self) -> usize {
        self.log()
            .matches("all server processes terminated; reinitializing")
            .count()
    }

    /// Kills a backend in the middle of a transaction.
    fn crash_in_transaction(&self) {
        let sql = "begin; delete from pgbench_accounts; select pg_sleep(60)";
        let mut sleeper = self.command("psql");
        sleeper.args(["-qAtc", sql]).stderr(Stdio::null());
        let _sleeper = Process::start("psql", sleeper.stdout(Stdio::null()));
        let sleeps = "wait_event = 'PgSleep'";
        until("the transaction is under way", || {
            self.query(&format!(
                "select count(*) from pg_stat_activity where {sleeps}"
            )) == "1"
        });
        self.crash(sleeps);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

#[test]
fn a_database_works_crashes_recovers_and_leaves_nothing_behind() {
    let Some(bin) = programs() else {
        return skip::because(WHAT, "no PostgreSQL");
    };
    if !kernel_can_be_served() {
        return;
    }
    let cluster = Cluster::start(1);
    let mut server = Server::create(&cluster, bin);
    until_no_objects(cluster.node(1));
    server.start();
    assert!(objects(cluster.node(1)).len() > 2, "none is local");
    server.run(server.command("pgbench").args(["-i", "-q", "-s", "1"]));
    server.bench(400);
    server.query_in_parallel();

    server.crash("backend_type = 'background writer'");
    server.bench(400);
    server.crash_in_transaction();
    assert_eq!(
        server.query("select count(*) from pgbench_accounts"),
        "100000"
    );
    server.bench(100);

    server.stop();
    until_no_objects(cluster.node(1));
    server.start();
    server.balances();
    server.query_in_parallel();
    server.stop();
    until_no_objects(cluster.node(1));
    let log = server.log();
    assert!(!log.contains("PANIC"), "{log}");
}
