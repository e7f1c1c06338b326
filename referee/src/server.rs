//! Sockets, threads and the clock around [`Naming`].
//!
//! One thread a connection reads, and answers under the one lock; one thread
//! accepts; one sleeps until something is due. Nothing under the lock waits:
//! see `link`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dipc_door::door::speaks_tls;
use dipc_door::tally::Line;
use dipc_door::{Channel, Door, Guest, Lobby, Tally};
use dipc_wire::Limits;
use dipc_wire::frame::{Encoded, Frame, FrameBuffer, FrameError};
use dipc_wire::referee::{Answer, Join, ToNode, ToReferee};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tracing::{debug, error, info, warn};

use crate::journal;
use crate::link::{Fate, Link, STACK};
use crate::naming::{Naming, Settings, refuse};
use crate::output::{Event, LinkId, Output, Refusal};

/// Connections at once: a member for each number, and twice as many whose join
/// is under way. Together they stay below the 1024 descriptors that a process
/// has by default.
const MAX_LINKS: usize = 3 * 255;
/// Of these, connections that have not shown their key yet.
const PLACES: usize = 128;
/// A node and its referee each say something this many times in a time-out.
const PINGS_PER_TIMEOUT: u32 = 4;
/// Shorter ones would find dead what only waits for its turn on a processor.
const MIN_TIMEOUT: Duration = Duration::from_millis(10);

/// What the person who starts a referee decides.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// After how long without a sign of life a node is dead. The whole cluster
    /// follows it.
    pub timeout: Duration,
    /// Nobody was a member before this referee: no recovery.
    pub new_cluster: bool,
    /// What the whole cluster keeps to.
    pub limits: Limits,
}

/// A running referee.
#[derive(Debug)]
pub struct Referee {
    shared: Arc<Shared>,
    address: SocketAddr,
    threads: [JoinHandle<()>; 2],
}

#[derive(Debug)]
struct Shared {
    listener: TcpListener,
    started: Instant,
    timeout: Duration,
    door: Door,
    lobby: Arc<Lobby>,
    refused: Mutex<Tally>,
    state: Mutex<State>,
    /// Told when a link ends, and when the referee stops.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    naming: Naming,
    links: Links,
    stopping: bool,
}

/// The open connections; where the machine's messages become frames.
#[derive(Debug, Default)]
struct Links {
    open: BTreeMap<LinkId, Arc<Link>>,
    last: u64,
}

impl Referee {
    /// Serves whoever comes to `listener`; see [`start_behind`](Self::start_behind).
    ///
    /// # Errors
    /// The same.
    pub fn start(listener: TcpListener, options: Options) -> io::Result<Referee> {
        Self::start_behind(Door::default(), listener, options)
    }

    /// Serves those whom `door` lets in on `listener`, until [`stop`](Self::stop).
    ///
    /// # Errors
    /// A time-out that is too short, no threads, or a listener without address.
    pub fn start_behind(
        door: Door,
        listener: TcpListener,
        options: Options,
    ) -> io::Result<Referee> {
        if options.timeout < MIN_TIMEOUT {
            let what = format!("a time-out below {MIN_TIMEOUT:?} would declare healthy nodes dead");
            return Err(io::Error::new(ErrorKind::InvalidInput, what));
        }
        let address = listener.local_addr()?;
        let settings = Settings {
            timeout: options.timeout,
            // Seeded by the kernel's random numbers.
            cluster: RandomState::new().hash_one("cluster"),
            incarnations_above: milliseconds_since_1970(),
            new_cluster: options.new_cluster,
            limits: options.limits,
        };
        let state = State {
            naming: Naming::new(settings, Duration::ZERO),
            links: Links::default(),
            stopping: false,
        };
        let shared = Arc::new(Shared {
            listener,
            started: Instant::now(),
            timeout: options.timeout,
            door,
            lobby: Lobby::new(PLACES),
            refused: Mutex::default(),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        info!(
            %address, timeout = ?options.timeout, new_cluster = options.new_cluster,
            encrypted = shared.door.has_key(), "serving"
        );
        let threads = [
            spawn("accept", &shared, Shared::accept)?,
            spawn("timer", &shared, Shared::keep_time)?,
        ];
        Ok(Referee {
            shared,
            address,
            threads,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and threads. To the nodes it is the same as a
    /// crash: they look for the next referee.
    pub fn stop(self) {
        let Shared {
            listener,
            state,
            changed,
            ..
        } = &*self.shared;
        let mut state = state.lock();
        state.stopping = true;
        changed.notify_all();
        // On Linux this ends a waiting accept; an error means it has ended already.
        let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        state.links.open.values().for_each(|link| link.break_off());
        changed.wait_while(&mut state, |state| !state.links.open.is_empty());
        drop(state);
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a thread of the referee panicked");
            }
        }
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn accept(self: &Arc<Self>) {
        let mut said = false;
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    said = false;
                    self.admit(stream, peer);
                }
                // That one has gone again before its turn came.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let mut state = self.state.lock();
                    if state.stopping {
                        return;
                    }
                    if !std::mem::replace(&mut said, true) {
                        warn!(
                            %error,
                            "no connection can be accepted now: nodes that come wait. End \
                             programs, or raise the limit on open files (ulimit -n) and restart"
                        );
                    }
                    // Out of descriptors or memory: until a link gives some back.
                    self.changed.wait_for(&mut state, self.timeout);
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let link = match Link::new(stream, peer, self.timeout) {
            Ok(link) => Arc::new(link),
            Err(error) => return debug!(%peer, %error, "a connection broke at once"),
        };
        // Behind it are those who have shown the key.
        let guest = self.door.has_key().then(|| self.lobby.enter(&link.stream));
        let mut state = self.state.lock();
        if state.stopping {
            return;
        }
        let crowded = state.links.open.len() >= MAX_LINKS;
        let id = state.links.add(Arc::clone(&link));
        debug!(link = %id, %peer, "connected");
        let serve = move |shared: &Arc<Shared>| shared.serve(id, &link, guest);
        if crowded {
            refuse(id, "", &Refusal::Crowded, &mut state.links);
            state.links.open.remove(&id);
        } else if let Err(error) = spawn("link", self, serve) {
            warn!(%peer, %error, "no thread for a connection");
            state.links.open.remove(&id);
        }
    }

    /// Does what is due and pings. What becomes due meanwhile is a whole
    /// time-out away, so the next ping is early enough to see it.
    fn keep_time(self: &Arc<Self>) {
        let period = self.timeout / PINGS_PER_TIMEOUT;
        let mut next_ping = period;
        let mut state = self.state.lock();
        while !state.stopping {
            let now = self.now();
            let State { naming, links, .. } = &mut *state;
            naming.tick(now, links);
            if now >= next_ping {
                naming
                    .links()
                    .for_each(|link| links.send(link, ToNode::Ping));
                next_ping = now + period;
            }
            let due = naming
                .deadline()
                .map_or(next_ping, |deadline| deadline.min(next_ping));
            self.changed.wait_until(&mut state, self.started + due);
        }
    }

    /// A connection's thread: from its first byte to its last.
    fn serve(&self, id: LinkId, link: &Link, guest: Option<Guest>) {
        let end = match self.greet(link, guest) {
            Ok(channel) => self.read_all(id, link, channel),
            Err(refusal) => {
                self.note(link, &refusal);
                End::Closed
            }
        };
        let mut state = self.state.lock();
        let State {
            naming,
            links,
            stopping,
        } = &mut *state;
        if !*stopping {
            debug!(link = %id, peer = %link.peer, ?end, "disconnected");
            let now = self.now();
            match end {
                End::Silent => naming.silent(id, now, links),
                End::Closed => naming.link_closed(id, now, links),
                End::Broken(error) => {
                    warn!(peer = %link.peer, %error, "a connection brought no frames of ours");
                    naming.link_closed(id, now, links);
                }
            }
        }
        // What the machine said last still has to go out before the socket closes.
        let farewell = !state.stopping && link.fate() == Fate::Ended;
        drop(state);
        if farewell {
            self.linger(link);
        }
        self.state.lock().links.open.remove(&id);
        self.changed.notify_all();
    }

    /// Shakes hands, if there is a key.
    fn greet(&self, link: &Link, guest: Option<Guest>) -> Result<Channel, dipc_door::Refusal> {
        let answered = self.door.answer(link.stream.clone(), self.timeout);
        let mut channel = answered.map_err(|refusal| {
            if guest.is_some_and(|guest| guest.was_turned_out()) {
                dipc_door::Refusal::Crowded
            } else {
                refusal
            }
        })?;
        channel.settle(Some(self.timeout))?;
        if let Some(session) = channel.session() {
            link.encrypt(session);
        }
        Ok(channel)
    }

    /// Counts and logs a refusal that the machine does not hear of.
    fn note(&self, link: &Link, refusal: &dipc_door::Refusal) {
        let reason = refusal.reason();
        let line = self.refused.lock().note(reason, self.now());
        if let Some(Line { count, unsaid }) = line {
            warn!(peer = %link.peer, %refusal, reason, count, unsaid, "a connection is refused");
        }
    }

    fn read_all(&self, id: LinkId, link: &Link, mut channel: Channel) -> End {
        let mut buffer = FrameBuffer::limited(0); // no message of the protocol has a payload
        let mut phase = Phase::Stranger;
        let mut heard = Instant::now();
        loop {
            let silent = match channel.read(buffer.space()) {
                Ok(0) if link.fate() == Fate::GivenUp => return End::Silent,
                Ok(0) => return End::Closed,
                Ok(count) => {
                    buffer.filled(count);
                    match self.hear(id, link, &mut buffer, &mut phase) {
                        Ok(true) => heard = Instant::now(),
                        Ok(false) => {}
                        Err(error) if speaks_tls(&error) && phase == Phase::Stranger => {
                            let refusal = Refusal::Door(dipc_door::Refusal::Encrypted.to_string());
                            refuse(id, "", &refusal, &mut self.state.lock().links);
                        }
                        Err(error) => return End::Broken(error),
                    }
                    heard.elapsed() >= self.timeout
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => true,
                Err(error) if error.kind() == ErrorKind::Interrupted => false,
                Err(_) if link.fate() == Fate::GivenUp => return End::Silent,
                Err(_) => return End::Closed,
            };
            match (link.fate(), silent, phase) {
                (Fate::Ended, ..) => return End::Closed,
                (_, false, _) => {}
                (_, true, Phase::Held) => {
                    phase = Phase::after_join(&self.state.lock().naming, id);
                    heard = Instant::now();
                }
                (_, true, Phase::Stranger | Phase::Answered) => return End::Silent,
            }
        }
    }

    /// Takes all frames that have come; returns whether there was one.
    fn hear(
        &self,
        id: LinkId,
        link: &Link,
        buffer: &mut FrameBuffer,
        phase: &mut Phase,
    ) -> Result<bool, FrameError> {
        let mut any = false;
        while let Some(frame) = buffer.next_frame()? {
            any = true;
            if *phase == Phase::Stranger {
                *phase = self.join(id, link, frame);
                continue;
            }
            let message: ToReferee = frame.message()?;
            let mut state = self.state.lock();
            let State { naming, links, .. } = &mut *state;
            naming.message(id, message, self.now(), links);
        }
        Ok(any)
    }

    fn join(&self, id: LinkId, link: &Link, frame: Frame<'_>) -> Phase {
        let mut state = self.state.lock();
        let State { naming, links, .. } = &mut *state;
        match frame.message::<Join<'_>>() {
            Ok(join) => match self.door.admits(join.name, link.peer.ip()) {
                Ok(()) => naming.join(id, join, self.now(), links),
                Err(refusal) => refuse(id, join.name, &Refusal::Door(refusal.to_string()), links),
            },
            Err(_) => refuse(id, "", &Refusal::NotANode, links),
        }
        Phase::after_join(&state.naming, id)
    }

    /// Reads on until the node closes too: closing a socket that has unread
    /// bytes would destroy what the node has not read yet.
    fn linger(&self, link: &Link) {
        let since = Instant::now();
        let mut nothing = [0; 512];
        while since.elapsed() < self.timeout {
            match (&*link.stream).read(&mut nothing) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No join has come.
    Stranger,
    /// One has, and its answer has to wait. Meanwhile the node owes no sign of
    /// life, nor in a time-out that began meanwhile.
    Held,
    /// It is answered.
    Answered,
}

impl Phase {
    fn after_join(naming: &Naming, link: LinkId) -> Phase {
        if naming.holds(link) {
            Phase::Held
        } else {
            Phase::Answered
        }
    }
}

/// Why a connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The node, or the machine, closed it.
    Closed,
    /// No whole frame came for the time-out, or nothing could be sent.
    Silent,
    /// What came is no protocol of ours.
    Broken(FrameError),
}

impl Links {
    fn add(&mut self, link: Arc<Link>) -> LinkId {
        self.last += 1;
        let id = LinkId(self.last);
        self.open.insert(id, link);
        id
    }

    fn write<T: Serialize>(&self, id: LinkId, message: &T) {
        let Some(link) = self.open.get(&id) else {
            return;
        };
        match Encoded::new(message, 0) {
            Ok(frame) => link.send(frame.as_ref()),
            Err(error) => error!(link = %id, %error, "a message of the referee's own is too long"),
        }
    }
}

impl Output for Links {
    fn answer(&mut self, link: LinkId, answer: Answer<'_>) {
        self.write(link, &answer);
    }

    fn send(&mut self, link: LinkId, message: ToNode<'_>) {
        self.write(link, &message);
    }

    fn close(&mut self, link: LinkId) {
        if let Some(link) = self.open.get(&link) {
            link.end();
        }
    }

    fn note(&mut self, event: Event<'_>) {
        let link = if let Event::Refused { link, .. } = &event {
            self.open.get(link)
        } else {
            None
        };
        journal::record(&event, link.map(|link| link.peer));
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    run: impl FnOnce(&Arc<Shared>) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(move || run(&shared))
}

fn milliseconds_since_1970() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}
