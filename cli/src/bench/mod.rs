//! `dipc bench`: what operations on distributed objects cost, each beside the
//! floor that no implementation can pass, measured in the same run.
//!
//! Every measure and every floor is a program of its own ([`worker`]), started
//! once; the bench asks one after the other for some samples, round by round,
//! so that the machine's moods hit all of them alike.

mod report;
pub(crate) mod worker;

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use self::report::Samples;
use self::worker::Job;
use crate::cluster::Cluster;
use crate::exec::environment;
use crate::failure::{Doing, Failure, Result};
use crate::interrupts::Interrupts;
use crate::launch::{Plan, Running};
use crate::output::print;
use crate::process::{Handle, Identity, first_readable};
use crate::scratch::Scratch;
use crate::sys::process::ends_with_us;

/// A worker that has not answered after so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A worker that has not ended so long after its input is killed.
const END: Duration = Duration::from_secs(5);
/// Rounds whose samples do not count: caches, connections and pages get warm.
const WARM_UP: u32 = 1;

/// Measures semaphores, messages and page misses over a cluster of two nodes,
/// each beside its floor of the same run.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Use the cluster in this folder instead of starting one
    #[arg(long, value_name = "DIR", conflicts_with = "one_cpu")]
    dir: Option<PathBuf>,
    /// Put daemons and programs on one processor: no wake-up of an idle one is
    /// in the figures
    #[arg(long)]
    one_cpu: bool,
    /// How many rounds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Operations of each kind a round
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    operations: u32,
    /// Pages of the segment, all of which miss once a round
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pages: u32,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Measure {
    KernelSemop,
    UnixRoundTrip,
    TcpRoundTrip,
    KernelMessage,
    BareMiss,
    LocalSemop,
    RemoteSemop,
    Message,
    ReadMiss,
    WriteMiss,
    Upgrade,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Measure::KernelSemop => "kernel semop",
            Measure::UnixRoundTrip => "Unix round trip",
            Measure::TcpRoundTrip => "TCP round trip",
            Measure::KernelMessage => "kernel messages",
            Measure::BareMiss => "bare remote miss",
            Measure::LocalSemop => "local semop",
            Measure::RemoteSemop => "remote semop",
            Measure::Message => "message round trip",
            Measure::ReadMiss => "read miss",
            Measure::WriteMiss => "write miss",
            Measure::Upgrade => "upgrade to write",
        }
    }
}

pub(crate) fn main(args: Args) -> Result<()> {
    let interrupts = Interrupts::catch()?;
    if args.one_cpu {
        pin_to_one_cpu()?;
    }
    let scratch = Scratch::new()?;
    let own;
    let existing;
    let cluster = match &args.dir {
        Some(dir) => {
            existing = Cluster::expect(dir)?;
            &existing
        }
        None => {
            let plan = Plan {
                nodes: 2,
                ends_with_us: true,
                ..Plan::default()
            };
            own = Running::start(&scratch.path().join("cluster"), &plan, &interrupts)?;
            own.cluster()?
        }
    };
    let samples = Bench::start(cluster, &args, &interrupts)?.run(&args)?;
    let place = if args.one_cpu {
        ", everything on one processor"
    } else {
        ""
    };
    print(&format!(
        "{} rounds{place}; distributed objects of another node live on node 2\n\n{}",
        args.rounds,
        samples.render()
    ))
}

/// We, and whatever we start from now on.
fn pin_to_one_cpu() -> Result<()> {
    let what = || "cannot stay on one processor".to_string();
    let allowed = sched_getaffinity(Pid::from_raw(0)).doing(what)?;
    let first = (0..CpuSet::count()).find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(first.unwrap_or(0)).doing(what)?;
    sched_setaffinity(Pid::from_raw(0), &one).doing(what)
}

/// The workers. Fields are dropped in order: those that make objects come last.
struct Bench<'a> {
    kernel_semop: Worker<'a>,
    unix: Worker<'a>,
    tcp: Worker<'a>,
    kernel_message: Worker<'a>,
    bare_miss: Worker<'a>,
    local_semop: Worker<'a>,
    remote_semop: Worker<'a>,
    messages: Worker<'a>,
    /// Touches pages on node 1, and is measured.
    near: Worker<'a>,
    /// Touches them on node 2, the segment's home, so that node 1 misses them.
    far: Worker<'a>,
    _echo: Worker<'a>,
    _remote_home: Worker<'a>,
}

impl<'a> Bench<'a> {
    fn start(cluster: &Cluster, args: &Args, interrupts: &'a Interrupts) -> Result<Self> {
        // Keys that nobody else uses, even when two of us run on one cluster.
        let key = |n: u32| (0x6400_0000 | (std::process::id() << 2) | n) as i32;
        let (operations, pages) = (args.operations, args.pages);
        let floor = |job, count| Worker::start(None, job, 0, count, interrupts);
        let on = |node, job, key, count| {
            Worker::start(Some((cluster, node)), job, key, count, interrupts)
        };
        // Who comes first creates the object, and its node is the home.
        let remote_home = on(2, Job::Semop, key(0), operations)?;
        let echo = on(2, Job::Echo, key(0), operations)?;
        let far = on(2, Job::Pages, key(0), pages)?;
        Ok(Bench {
            kernel_semop: floor(Job::Semop, operations)?,
            unix: floor(Job::Unix, operations)?,
            tcp: floor(Job::Tcp, operations)?,
            kernel_message: floor(Job::Messages, operations)?,
            bare_miss: floor(Job::BareMiss, pages)?,
            local_semop: on(1, Job::Semop, key(1), operations)?,
            remote_semop: on(1, Job::Semop, key(0), operations)?,
            messages: on(1, Job::Messages, key(0), operations)?,
            near: on(1, Job::Pages, key(0), pages)?,
            far,
            _echo: echo,
            _remote_home: remote_home,
        })
    }

    fn run(mut self, args: &Args) -> Result<Samples> {
        let mut samples = Samples::default();
        for round in 0..WARM_UP + args.rounds {
            for (measure, taken) in self.round()? {
                if round >= WARM_UP {
                    samples.add(measure, taken);
                }
            }
        }
        Ok(samples)
    }

    /// Floors and measures in turn.
    fn round(&mut self) -> Result<Vec<(Measure, Vec<u64>)>> {
        let mut taken = vec![
            (Measure::KernelSemop, self.kernel_semop.ask("")?),
            (Measure::LocalSemop, self.local_semop.ask("")?),
            (Measure::UnixRoundTrip, self.unix.ask("")?),
            (Measure::TcpRoundTrip, self.tcp.ask("")?),
            (Measure::RemoteSemop, self.remote_semop.ask("")?),
            (Measure::KernelMessage, self.kernel_message.ask("")?),
            (Measure::Message, self.messages.ask("")?),
            (Measure::BareMiss, self.bare_miss.ask("")?),
        ];
        // The other node owns every page; each of ours is a miss. The time
        // quantum of a page is over when its turn comes: all others were
        // written after it.
        self.far.ask("write")?;
        taken.push((Measure::ReadMiss, self.near.ask("read")?));
        taken.push((Measure::Upgrade, self.near.ask("write")?));
        self.far.ask("write")?;
        taken.push((Measure::WriteMiss, self.near.ask("write")?));
        Ok(taken)
    }
}

/// A running `bench-worker`. When this is dropped its input ends, and so does it.
struct Worker<'a> {
    job: Job,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    interrupts: &'a Interrupts,
}

impl<'a> Worker<'a> {
    /// On a node of a cluster, or without dipc.
    fn start(
        place: Option<(&Cluster, u8)>,
        job: Job,
        key: i32,
        count: u32,
        interrupts: &'a Interrupts,
    ) -> Result<Self> {
        let what = || format!("cannot start a worker for {job:?}");
        let mut command = Command::new(env::current_exe().doing(what)?);
        let name = job
            .to_possible_value()
            .map(|value| value.get_name().to_string());
        command
            .arg("bench-worker")
            .args(name)
            .args([key.to_string(), count.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        match place {
            Some((cluster, node)) => drop(environment(cluster, node)?.apply(&mut command)),
            None => drop(command.env_remove("LD_PRELOAD")),
        }
        ends_with_us(&mut command, libc::SIGKILL);
        let mut child = command.spawn().doing(what)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::new(what(), "no pipes"));
        };
        let output = BufReader::new(output);
        let mut worker = Worker {
            job,
            child,
            input: Some(input),
            output,
            interrupts,
        };
        match worker.line()?.as_str() {
            "ready" => Ok(worker),
            other => Err(Failure::new(what(), format!("it said {other:?}"))),
        }
    }

    /// One round of samples.
    fn ask(&mut self, verb: &str) -> Result<Vec<u64>> {
        let what = || format!("cannot ask the worker for {:?}", self.job);
        if let Some(input) = &mut self.input {
            writeln!(input, "{verb}").doing(what)?;
        }
        let line = self.line()?;
        let number = |word: &str| word.parse().doing(|| format!("bad sample {word:?}"));
        line.split_ascii_whitespace().map(number).collect()
    }

    /// The next line of its output. Nothing is buffered before: it answers once
    /// each time it is asked.
    fn line(&mut self) -> Result<String> {
        let what = || format!("no answer from the worker for {:?}", self.job);
        let deadline = Instant::now() + PATIENCE;
        let fds = [self.interrupts.as_fd(), self.output.get_ref().as_fd()];
        match first_readable(&fds, Some(deadline)) {
            Some(0) => self.interrupts.check()?,
            Some(_) => {}
            None => {
                return Err(Failure::new(
                    what(),
                    format!("it was silent for {} seconds", PATIENCE.as_secs()),
                ));
            }
        }
        let mut line = String::new();
        match self.output.read_line(&mut line).doing(what)? {
            0 => Err(Failure::new(what(), "it has ended")),
            _ => Ok(line.trim_end().to_string()),
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        drop(self.input.take());
        let deadline = Instant::now() + END;
        let handle = Identity::of(self.child.id()).and_then(Identity::open);
        let still_runs =
            |handle: Handle| first_readable(&[handle.as_fd()], Some(deadline)).is_none();
        if handle.is_some_and(still_runs) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
