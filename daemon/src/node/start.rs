//! Putting a node together, and taking it down.

use std::fs::{self, OpenOptions, Permissions};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::bounded;
use dipc_door::{BadDoor, Door, Refusal};
use dipc_wire::referee::Membership;
use dipc_wire::sharing::Sharing;
use dipc_wire::{Incarnation, NodeId};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{setsockopt, sockopt};
use parking_lot::Mutex;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::attach::{Bequests, FaultService};
use super::counters::Counters;
use super::descriptors::{self, Descriptors};
use super::heartbeat::Promise;
use super::home::Home;
use super::names::{JoinError, Joined, Names, Referee, join};
use super::peers::Peers;
use super::process::Processes;
use super::reserve::Reserve;
use super::segments::{Late, Segments};
use super::threshold::Refused;
use super::timer::Timer;
use super::users::Users;
use super::{Node, Task, admin, client, longest_quantum};
use crate::clock::Clock;
use crate::config::{Config, LimitsError};
use crate::keeper::Keeper;
use crate::memory::Spaces;
use crate::memory::uffd::Uffd;

/// Why a node does not start. Each says what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another daemon has the socket.
    #[error(
        "a dipcd (pid {pid}) serves {socket} already: end it first, or give this one another --socket"
    )]
    Taken {
        /// The path.
        socket: String,
        /// The other one.
        pid: i32,
    },
    /// The socket cannot be made.
    #[error(
        "cannot serve programs at {socket}: {error}. Choose a path that this user may create with --socket"
    )]
    Socket {
        /// The path.
        socket: String,
        /// Why.
        error: std::io::Error,
    },
    /// The peers' port cannot be had.
    #[error(
        "cannot listen for other nodes at {address}: {error}. Choose another --listen ADDRESS:PORT"
    )]
    Listen {
        /// What was asked for.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// Peers cannot connect to "any address".
    #[error(
        "--listen {0} names no address that other nodes could connect to: give this host's own, \
         or say with --advertise ADDRESS:PORT how they reach it"
    )]
    Unspecified(SocketAddr),
    /// The referee does not take this node.
    #[error("cannot join the cluster of the referee at {address}: {error}{hint}")]
    Join {
        /// Whose.
        address: String,
        /// Why.
        error: String,
        /// What to do, where the referee has not said it.
        hint: &'static str,
    },
    /// The key or the allow file is no good.
    #[error(transparent)]
    Door(#[from] BadDoor),
    /// Other hosts could connect, and there is no key.
    #[error("--listen: {0}")]
    Exposed(Refusal),
    /// A present member cannot be reached.
    #[error("{0}")]
    Member(String),
    /// No name was given and the host has none.
    #[error("this host has no usable name: give the node one with --name")]
    Name,
    /// A limit is wrong, or set in the wrong place.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The kernel says no.
    #[error("{what}: {error}")]
    System {
        /// To what.
        what: &'static str,
        /// How.
        error: std::io::Error,
    },
}

/// Programs that may wait to be accepted.
const BACKLOG: i32 = 1024;

fn system(what: &'static str) -> impl Fn(std::io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// Serves until SIGTERM or SIGINT. `ready` is called once, with the socket's
/// path, when programs can connect and all present members are connected.
pub fn run(config: &Config, ready: impl FnOnce(&str)) -> Result<(), StartError> {
    // Before there are threads, which inherit it: only `wait` takes them.
    let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    ends.thread_block()
        .map_err(|e| system("cannot block signals")(e.into()))?;
    descriptors::raise_limit();
    config.limits()?;
    let door = config.door()?;
    let programs = socket(&config.socket)?;
    let served = serve(config, door, programs, ready, &ends);
    let _ = fs::remove_file(&config.socket);
    served
}

fn serve(
    config: &Config,
    door: Door,
    programs: Socket,
    ready: impl FnOnce(&str),
    ends: &SigSet,
) -> Result<(), StartError> {
    let (keeper, child) = Keeper::spawn().map_err(system("cannot start the keeper process"))?;
    let peers = listen(config, &door)?;
    let name = node_name(config)?;
    let listens = peers.as_ref().map(|(_, address)| address.to_string());
    let address = config.advertise.clone().or(listens).unwrap_or_default();
    let joined = match &config.referee {
        Some(referee) => Some(enter_cluster(config, &door, referee, &name, &address)?),
        None => None,
    };
    let node = assemble(config, keeper, name, address, joined.as_ref(), door)?;
    let threads = system("cannot start a thread");
    // Before it has anything from anybody.
    node.hand_over();
    node.guard_keeper(child).map_err(&threads)?;
    let at = node.clone();
    node.timer
        .run(move |task| at.happens(task))
        .map_err(&threads)?;
    node.watch_late().map_err(&threads)?;
    node.reserve.run().map_err(&threads)?;
    let at = node.clone();
    node.processes
        .watch(move |process| at.process_ended(process))
        .map_err(&threads)?;
    if let (Some((listener, _)), Some(joined), Names::Referee(referee)) =
        (peers, joined, &node.names)
    {
        node.admit(listener).map_err(&threads)?;
        let (sender, receiver) = bounded(1);
        node.follow(referee.clone(), joined, sender)
            .map_err(&threads)?;
        node.begin_heartbeat().map_err(&threads)?;
        let connected = match receiver.recv_timeout(node.timeout * 2) {
            Ok(connected) => connected.map_err(StartError::Member),
            Err(_) => Err(silent_referee(&referee.address)),
        };
        // Else it counts as a member for a time-out, whom no newcomer can reach.
        connected.inspect_err(|_| node.names.leave())?;
    }
    client::listen(&node, programs).map_err(&threads)?;
    tracing::info!(
        node = %node.me.node, incarnation = %node.me.incarnation, name = node.name,
        socket = node.socket, address = node.address, "serving"
    );
    ready(&node.socket);
    let ended = ends
        .wait()
        .map_err(|e| system("cannot wait for signals")(e.into()))?;
    tracing::info!(signal = ended.as_str(), "ending");
    node.names.leave();
    Ok(())
}

impl Node {
    fn happens(&self, task: Task) {
        match task {
            Task::TimeOut(ticket) => self.home.withdraw(ticket, dipc_wire::Errno::EAGAIN),
            Task::Expire { segment, granule } => self.expire(segment, granule),
            Task::Reap { pid, wait } => self.look_again(pid, wait),
            Task::Over { node, incarnation } => self.over(node, incarnation),
        }
    }
}

pub(super) fn assemble(
    config: &Config,
    keeper: Keeper,
    name: String,
    address: String,
    joined: Option<&Joined>,
    door: Door,
) -> Result<Arc<Node>, StartError> {
    let me = joined.map_or_else(solo, |joined| joined.me);
    let timeout = joined.map_or(config.timeout, |joined| joined.timeout);
    let limits = joined.map_or_else(|| config.limits(), |joined| Ok(joined.limits));
    let names = match &config.referee {
        Some(referee) => Names::Referee(Referee::new(referee.clone(), timeout)),
        None => Names::Solo,
    };
    let longest = longest_quantum(timeout);
    if config.quantum > longest {
        tracing::warn!(
            "--quantum is more than a quarter of the cluster's time-out: {longest}ns hold instead"
        );
    }
    let sharing = Sharing {
        granule: config.granule,
        quantum: config.quantum.min(longest),
    };
    let timer = Timer::new();
    let descriptors = Descriptors::new();
    Ok(Arc::new(Node {
        me,
        name,
        address,
        socket: config.socket.display().to_string(),
        timeout,
        began: Instant::now(),
        home: Home::new(me, limits?, sharing, timer.clone(), Users::new(config.root)),
        peers: Peers::default(),
        door,
        refused: Refused::new(),
        ending: Mutex::default(),
        clock: clock(config),
        promise: Promise::new().map_err(system("no memory to share with the keeper"))?,
        names,
        processes: Arc::new(Processes::new().map_err(system("cannot watch processes"))?),
        spaces: Spaces::default(),
        segments: Segments::default(),
        timer,
        counters: Arc::new(Counters::default()),
        keeper,
        seats: client::Seats::new(descriptors.limit(), nix::unistd::geteuid().as_raw()),
        crowded: AtomicBool::new(false),
        descriptors,
        reserve: Arc::new(Reserve::new().map_err(system("cannot wait for events"))?),
        late: Late::new(),
        faults: fault_service(),
        bequests: Bequests::default(),
        reaping: Mutex::default(),
    }))
}

/// By which leases run. Peers of a node that listens on the loopback device are on
/// this machine, and are suspended with it.
fn clock(config: &Config) -> Clock {
    if config.listen.ip().is_loopback() && config.advertise.is_none() {
        Clock::Running
    } else {
        Clock::Suspended
    }
}

/// Who a node is that has no referee. Its lives differ by the time they began.
fn solo() -> Membership {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    Membership {
        cluster: micros,
        node: NodeId::SOLO,
        incarnation: Incarnation(micros),
    }
}

fn node_name(config: &Config) -> Result<String, StartError> {
    if let Some(name) = &config.name {
        return Ok(name.clone());
    }
    let host = nix::unistd::gethostname().map_err(|_| StartError::Name)?;
    host.into_string().map_err(|_| StartError::Name)
}

/// The socket for programs. A file that a killed daemon left is replaced.
fn socket(path: &Path) -> Result<Socket, StartError> {
    let name = || path.display().to_string();
    let failed = |error| StartError::Socket {
        socket: name(),
        error,
    };
    let new = || Socket::new(Domain::UNIX, Type::SEQPACKET, None).map_err(failed);
    let address = SockAddr::unix(path).map_err(failed)?;
    let other = new()?;
    if other.connect(&address).is_ok() {
        let pid = admin::peer_pid(&other).unwrap_or(0);
        return Err(StartError::Taken {
            socket: name(),
            pid,
        });
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = new()?;
    listener.bind(&address).map_err(failed)?;
    // Who may do what is decided by each object's permissions, as with the
    // kernel's own; who may connect at all, by those of the directory.
    fs::set_permissions(path, Permissions::from_mode(0o666)).map_err(failed)?;
    // Accepted sockets inherit it, and nothing that is sent before is without.
    setsockopt(&listener, sockopt::PassCred, &true).map_err(|error| failed(error.into()))?;
    listener.listen(BACKLOG).map_err(failed)?;
    Ok(listener)
}

fn listen(config: &Config, door: &Door) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    if config.referee.is_none() {
        return Ok(None);
    }
    let address = config.listen;
    if address.ip().is_unspecified() && config.advertise.is_none() {
        return Err(StartError::Unspecified(address));
    }
    door.may_use(address.ip()).map_err(StartError::Exposed)?;
    let listener = TcpListener::bind(address).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((listener, address))
    });
    listener
        .map(Some)
        .map_err(|error| StartError::Listen { address, error })
}

fn enter_cluster(
    config: &Config,
    door: &Door,
    referee: &str,
    name: &str,
    address: &str,
) -> Result<Joined, StartError> {
    let deadline = Instant::now() + config.timeout;
    loop {
        // A referee that has just restarted lets newcomers wait.
        match join(door, referee, name, address, None, config.timeout * 2) {
            Ok(joined) => return Ok(joined),
            Err(error) if error.is_final() || Instant::now() >= deadline => {
                let hint = match error {
                    JoinError::Refused { .. } | JoinError::Door(_) => "",
                    _ => ". Check that dipc-referee runs there and that this host reaches it",
                };
                return Err(StartError::Join {
                    address: referee.to_owned(),
                    error: error.to_string(),
                    hint,
                });
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn silent_referee(address: &str) -> StartError {
    StartError::Join {
        address: address.to_owned(),
        error: "it took this node in, but does not say who else is there".into(),
        hint: ". Look at its log",
    }
}

/// How page faults can be served here: with the rights of root, also inside
/// system calls and for every child.
fn fault_service() -> FaultService {
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/userfaultfd")
        .ok();
    let forks = own_userfaultfd()
        .and_then(|fd| Uffd::begin(fd, true))
        .is_ok();
    if device.is_none() {
        tracing::info!(
            "without access to /dev/userfaultfd, read(2) and write(2) into untouched pages of \
             distributed segments fail with EFAULT; run dipcd as root to allow them"
        );
    }
    FaultService {
        device: device.map(OwnedFd::from),
        forks,
        stillbirths: AtomicBool::new(false),
    }
}

/// A userfaultfd of this process, to try what it can.
fn own_userfaultfd() -> std::io::Result<OwnedFd> {
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | 1 /* UFFD_USER_MODE_ONLY */;
    // SAFETY: a plain system call without pointers.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
