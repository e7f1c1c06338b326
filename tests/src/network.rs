//! A network whose links can be cut and slowed: what `dipc up --netns` makes, for
//! the nodes of one test. Needs root.
//!
//! A cut is silent, as a pulled cable or a firewall far away is to TCP: whoever
//! sends is told nothing, and no carrier is lost. The sender gets a wrong hardware
//! address for the receiver, so its packets reach the bridge and nobody takes
//! them; the other direction does not notice. A slow link is a token bucket
//! (tc-tbf(8)) in the switch, with a queue that drops what is too much.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::start;
use crate::observe::{all_threads_are_stopped, exists};
use crate::{artifacts, skip, wait};

/// A hardware address that no member has: locally administered (IEEE 802).
const NOBODY: &str = "02:00:00:00:00:00";

/// A cluster's network; it goes with its holder.
#[derive(Debug)]
pub struct Network {
    holder: crate::process::Process,
    places: Vec<Place>,
}

/// Where one member is.
#[derive(Debug)]
struct Place {
    name: String,
    address: String,
    namespace: File,
}

/// Whether this machine lets us make networks; where not, says what is not tried
/// therefore.
#[must_use]
pub fn can_be_made(what: &str) -> bool {
    skip::unless_root(what)
        && skip::unless_runs(
            what,
            "iproute2, veth and bridge in a namespace of its own",
            &["unshare", "--net", "sh", "-ec", TRIAL],
        )
}

/// All that is used of the kernel; it is gone with the namespace.
const TRIAL: &str = "
    ip link add br0 type bridge
    ip link add veth1 type veth peer name veth2
    tc qdisc add dev veth1 root tbf rate 1mbit burst 16kb latency 100ms";

impl Network {
    /// A network for the referee and so many nodes.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        let mut command = Command::new(artifacts::built("dipc"));
        command.args(["hold-network", "--nodes", &nodes.max(1).to_string()]);
        let (holder, said) = start("dipc hold-network", &mut command)
            .unwrap_or_else(|status| panic!("dipc hold-network: {status}"));
        let place = |word: &str| {
            let (name, rest) = word.split_once('=')?;
            let (address, descriptor) = rest.split_once('@')?;
            let path = format!("/proc/{}/fd/{descriptor}", holder.pid());
            Some(Place {
                name: name.into(),
                address: address.into(),
                namespace: File::open(path).ok()?,
            })
        };
        let places = said.split_whitespace().map(|word| {
            place(word).unwrap_or_else(|| panic!("{word:?} of dipc hold-network is no place"))
        });
        Network {
            places: places.collect(),
            holder,
        }
    }

    fn place(&self, name: &str) -> &Place {
        let found = self.places.iter().find(|place| place.name == name);
        found.unwrap_or_else(|| panic!("{name} has no place in {self:?}"))
    }

    /// A member's address, without a port.
    #[must_use]
    pub fn address(&self, name: &str) -> &str {
        &self.place(name).address
    }

    /// Has a command run where a member is.
    ///
    /// # Panics
    /// If there are no descriptors left.
    pub fn enter<'c>(&self, name: &str, command: &'c mut Command) -> &'c mut Command {
        let namespace = self.place(name).namespace.try_clone();
        in_namespace(command, namespace.expect("a descriptor"))
    }

    /// Nothing that `from` sends reaches `to` any more.
    pub fn cut(&self, from: &str, to: &str) {
        let to = self.address(to);
        let neighbour = ["neigh", "replace", to, "lladdr", NOBODY, "dev", "eth0"];
        let for_ever = ["nud", "permanent"];
        let mut ip = Command::new("ip");
        succeeds(self.enter(from, ip.args(neighbour).args(for_ever)));
    }

    /// The same in both directions.
    pub fn cut_both(&self, one: &str, other: &str) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// What `from` sends reaches `to` again.
    pub fn heal(&self, from: &str, to: &str) {
        let mut ip = Command::new("ip");
        ip.args(["neigh", "del", self.address(to), "dev", "eth0"]);
        succeeds(self.enter(from, &mut ip));
    }

    /// The same in both directions.
    pub fn heal_both(&self, one: &str, other: &str) {
        self.heal(one, other);
        self.heal(other, one);
    }

    /// What reaches a member does so at this rate at most, such as `1mbit`.
    ///
    /// # Panics
    /// If the switch does not do that.
    pub fn slow(&self, name: &str, rate: &str) {
        let mut tc = Command::new("tc");
        tc.args(["qdisc", "replace", "dev", name, "root", "tbf"]);
        tc.args(["rate", rate, "burst", "16kb", "latency", "100ms"]);
        let switch = format!("/proc/{}/ns/net", self.holder.pid());
        let switch = File::open(&switch).unwrap_or_else(|error| panic!("{switch}: {error}"));
        succeeds(in_namespace(&mut tc, switch));
    }

    /// How many TCP segments a member has sent again because nobody said that they
    /// had come (RFC 4022, `tcpRetransSegs`).
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn sent_again(&self, name: &str) -> u64 {
        let mut cat = Command::new("cat");
        let output = self.enter(name, cat.arg("/proc/self/net/snmp")).output();
        let text = String::from_utf8(output.expect("cat can be run").stdout).expect("text");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (lines.next(), lines.next());
        let words = |line: Option<&str>| -> Vec<String> {
            let line = line.expect("/proc/net/snmp has TCP");
            line.split(' ').map(str::to_owned).collect()
        };
        let (names, values) = (words(names), words(values));
        let place = names.iter().position(|name| *name == "RetransSegs");
        place
            .and_then(|i| values[i].parse().ok())
            .expect("RetransSegs")
    }

    /// Waits until a cut shows: a member has sent again what did not come through.
    pub fn until_sent_again(&self, name: &str, before: u64) {
        wait::until(&format!("{name} sends again"), || {
            self.sent_again(name) > before
        });
    }

    /// All processes that are where a member is: its daemon, keeper and programs.
    ///
    /// # Panics
    /// If `/proc` cannot be read.
    #[must_use]
    pub fn processes(&self, name: &str) -> Vec<u32> {
        let ours = self.place(name).namespace.metadata().expect("an open file");
        let is_here = |pid: &u32| {
            let theirs = fs::metadata(format!("/proc/{pid}/ns/net"));
            theirs.is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
        };
        let all = fs::read_dir("/proc").expect("/proc").flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(is_here)
            .collect()
    }

    /// Stops all that runs where a member is, as a machine that is suspended; what
    /// a process forks meanwhile is stopped too. Returns who was.
    pub fn freeze(&self, name: &str) -> Vec<u32> {
        let mut frozen = Vec::new();
        loop {
            let mut new = self.processes(name);
            new.retain(|pid| !frozen.contains(pid));
            if new.is_empty() {
                return frozen;
            }
            send_all(&new, Signal::SIGSTOP);
            for &pid in &new {
                wait::until(&format!("process {pid} is stopped"), || {
                    all_threads_are_stopped(pid) || !exists(pid)
                });
            }
            frozen.extend(new);
        }
    }

    /// Lets those go on who were [frozen](Self::freeze).
    pub fn thaw(&self, frozen: &[u32]) {
        send_all(frozen, Signal::SIGCONT);
    }

    /// Kills all that runs where a member is, as a machine that loses its power:
    /// nobody runs any more when the first is killed.
    pub fn kill_all(&self, name: &str) {
        let frozen = self.freeze(name);
        send_all(&frozen, Signal::SIGKILL);
        for pid in frozen {
            wait::until(&format!("the end of process {pid}"), || !exists(pid));
        }
    }
}

fn send_all(pids: &[u32], signal: Signal) {
    for pid in pids {
        // One that has ended meanwhile does not mind.
        let _ = kill(Pid::from_raw(*pid as i32), signal);
    }
}

fn in_namespace(command: &mut Command, namespace: File) -> &mut Command {
    let enter = move || setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from);
    // SAFETY: `enter` makes one system call, allocates nothing and takes no lock.
    unsafe { command.pre_exec(enter) }
}

fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
