//! Where keys have their home: the referee's word, or our own where there is none.

use std::collections::HashMap;
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Sender, bounded};
use dipc_wire::frame::{Encoded, FrameBuffer, FrameError};
use dipc_wire::peer::common_version;
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, ToReferee, VERSIONS};
use dipc_wire::{Incarnation, Kind, NodeId, ObjectId};
use parking_lot::Mutex;
use thiserror::Error;

use super::link::tune;
use super::outbox::{Cut, Outbox, send_blocking};

/// What is known of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// It has this object.
    Found(ObjectId),
    /// It has none.
    Absent,
    /// It has none, and nobody else makes one until we say what became of ours.
    Create(Claim),
}

/// The right to create an object for a key; ends with
/// [`Names::created`] or [`Names::abandoned`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Claim {
    tag: u64,
    /// Of which connection to the referee; see [`State::epoch`].
    epoch: u64,
}

/// The referee does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unreachable;

/// Who names keys.
pub(crate) enum Names {
    /// A cluster of one: a key that this node does not have, nobody has.
    Solo,
    /// The cluster's referee.
    Referee(Arc<Referee>),
}

impl Names {
    /// Finds a key's object; with `create`, asks for the right to make it.
    /// `not` is an object that was found before, and that is gone.
    pub(crate) fn resolve(
        &self,
        kind: Kind,
        key: i32,
        create: bool,
        not: Option<ObjectId>,
    ) -> Result<Resolution, Unreachable> {
        match self {
            Names::Solo if create => Ok(Resolution::Create(Claim { tag: 0, epoch: 0 })),
            Names::Solo => Ok(Resolution::Absent),
            Names::Referee(referee) => referee.resolve(kind, key, create, not),
        }
    }

    fn tell(&self, message: ToReferee) {
        if let Names::Referee(referee) = self {
            referee.tell(&message);
        }
    }

    /// Whether the claim still keeps others away: it ends with the connection
    /// over which it came.
    pub(crate) fn holds(&self, claim: Claim) -> bool {
        match self {
            Names::Solo => true,
            Names::Referee(referee) => referee.state.lock().epoch == claim.epoch,
        }
    }

    /// The claim has led to this object.
    pub(crate) fn created(&self, claim: Claim, kind: Kind, key: i32, id: ObjectId) {
        let Names::Referee(referee) = self else {
            return;
        };
        let state = referee.state.lock();
        // A referee that came meanwhile knows nothing of the claim.
        let message = if claim.epoch == state.epoch {
            ToReferee::Created { tag: claim.tag, id }
        } else {
            ToReferee::Owns { kind, key, id }
        };
        state.say(&message);
    }

    /// The claim has led to nothing.
    pub(crate) fn abandoned(&self, claim: Claim) {
        self.tell(ToReferee::Abandoned { tag: claim.tag });
    }

    /// The object has its key no more.
    pub(crate) fn released(&self, kind: Kind, key: i32, id: ObjectId) {
        self.tell(ToReferee::Released { kind, key, id });
    }

    /// The link to a peer broke.
    pub(crate) fn peer_lost(&self, node: NodeId, incarnation: Incarnation) {
        self.tell(ToReferee::PeerLost { node, incarnation });
    }

    /// A sign of life.
    pub(crate) fn ping(&self) {
        self.tell(ToReferee::Ping);
    }

    /// This node ends.
    pub(crate) fn leave(&self) {
        self.tell(ToReferee::Leave);
    }

    /// The referee's address, and whether it answers.
    pub(crate) fn referee(&self) -> Option<(String, bool)> {
        match self {
            Names::Solo => None,
            Names::Referee(referee) => Some((
                referee.address.clone(),
                referee.state.lock().outbox.is_some(),
            )),
        }
    }
}

/// Why a node is not a member.
#[derive(Debug, Error)]
pub(crate) enum JoinError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("it does not speak the referee's protocol: {0}")]
    Frame(#[from] FrameError),
    #[error("the referee refuses this node: {reason}")]
    Refused {
        /// What is wrong and what to do.
        reason: String,
        /// It may pass with time.
        retry: bool,
    },
    #[error("{0} is no address:port")]
    Address(String),
}

impl JoinError {
    /// Whether the referee itself said no, so that asking again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self,
            JoinError::Refused { retry: false, .. } | JoinError::Address(_)
        )
    }
}

/// What a node knows of the cluster when it comes back to a referee.
pub(crate) struct Known {
    /// The keys whose home is here.
    pub(crate) keys: Vec<(Kind, i32, ObjectId)>,
    /// The other members.
    pub(crate) members: Vec<(NodeId, Incarnation)>,
}

/// A joined connection, not yet read from.
pub(crate) struct Joined {
    stream: TcpStream,
    buffer: FrameBuffer,
    /// Who we are now.
    pub(crate) me: Membership,
    /// The cluster's time-out.
    pub(crate) timeout: Duration,
}

/// Asks to be a member, as `member` if we were one before.
pub(crate) fn join(
    address: &str,
    name: &str,
    listen: &str,
    member: Option<Membership>,
    patience: Duration,
) -> Result<Joined, JoinError> {
    let addresses = address
        .to_socket_addrs()
        .map_err(|_| JoinError::Address(address.into()))?;
    let mut last = JoinError::Address(address.into());
    for address in addresses {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return greet(stream, name, listen, member, patience),
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn greet(
    stream: TcpStream,
    name: &str,
    listen: &str,
    member: Option<Membership>,
    patience: Duration,
) -> Result<Joined, JoinError> {
    tune(&stream, patience)?;
    let join = Join {
        magic: MAGIC,
        versions: VERSIONS,
        name,
        address: listen,
        member,
    };
    send_blocking(&stream, [Encoded::new(&join, 0)?.as_ref(), &[]])?;
    let mut buffer = FrameBuffer::new();
    loop {
        if let Some(frame) = buffer.next_frame()? {
            match frame.message()? {
                Answer::Welcome {
                    version,
                    member,
                    timeout_ms,
                } => {
                    if common_version((version, version), VERSIONS).is_none() {
                        return Err(FrameError::Malformed.into());
                    }
                    let timeout = Duration::from_millis(timeout_ms.into());
                    tune(&stream, timeout)?;
                    return Ok(Joined {
                        stream,
                        buffer,
                        me: member,
                        timeout,
                    });
                }
                Answer::Refused { reason, retry } => {
                    let reason = reason.to_owned();
                    return Err(JoinError::Refused { reason, retry });
                }
            }
        }
        match (&stream).read(buffer.space())? {
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            count => buffer.filled(count),
        }
    }
}

/// The connection to the referee, over its deaths.
pub(crate) struct Referee {
    pub(crate) address: String,
    pub(crate) timeout: Duration,
    state: Mutex<State>,
    tags: AtomicU64,
}

#[derive(Default)]
struct State {
    /// The connection, while there is one.
    outbox: Option<Arc<Outbox>>,
    /// Questions without an answer: they are asked again of the next referee.
    questions: HashMap<u64, (ToReferee, Sender<Resolution>)>,
    /// How many connections there have been.
    epoch: u64,
}

impl State {
    /// Without a connection nothing is lost: the next referee is told all that
    /// we own then.
    fn say(&self, message: &ToReferee) {
        if let Some(outbox) = &self.outbox {
            say(outbox, message);
        }
    }
}

/// More unread bytes than this, and the referee is given up.
const BACKLOG: usize = 64 << 20;

impl Referee {
    pub(crate) fn new(address: String, timeout: Duration) -> Arc<Self> {
        let (state, tags) = (Mutex::new(State::default()), AtomicU64::new(1));
        Arc::new(Referee {
            address,
            timeout,
            state,
            tags,
        })
    }

    /// Talks over a new connection until it breaks: tells what we know, asks
    /// again what was not answered, then passes on what the referee says about
    /// members. Returns why it ended.
    pub(crate) fn serve(
        &self,
        joined: Joined,
        known: impl FnOnce() -> Known,
        mut about_members: impl FnMut(ToNode<'_>),
    ) -> JoinError {
        let Joined {
            mut stream,
            mut buffer,
            ..
        } = joined;
        let socket = match stream.try_clone() {
            Ok(clone) => OwnedFd::from(clone),
            Err(error) => return error.into(),
        };
        self.introduce(Outbox::new(socket, Cut::Nowhere, BACKLOG), known);
        let error = loop {
            match buffer.next_frame() {
                Err(error) => break error.into(),
                Ok(Some(frame)) => match frame.message() {
                    Err(error) => break error.into(),
                    Ok(message) => self.hear(message, &mut about_members),
                },
                Ok(None) => match stream.read(buffer.space()) {
                    Ok(0) => break std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
                    Ok(count) => buffer.filled(count),
                    Err(error) => break error.into(),
                },
            }
        };
        if let Some(outbox) = self.state.lock().outbox.take() {
            outbox.close();
        }
        error
    }

    fn introduce(&self, outbox: Arc<Outbox>, known: impl FnOnce() -> Known) {
        // Under the lock, so that no release or creation of this moment is told
        // before the list that it changes.
        let mut state = self.state.lock();
        let Known { keys, members } = known();
        for (kind, key, id) in keys {
            say(&outbox, &ToReferee::Owns { kind, key, id });
        }
        for (node, incarnation) in members {
            say(&outbox, &ToReferee::Knows { node, incarnation });
        }
        say(&outbox, &ToReferee::Settled);
        state
            .questions
            .values()
            .for_each(|(question, _)| say(&outbox, question));
        state.outbox = Some(outbox);
        state.epoch += 1;
    }

    fn hear(&self, message: ToNode<'_>, about_members: &mut impl FnMut(ToNode<'_>)) {
        match message {
            ToNode::Found { tag, id } => self.conclude(tag, Resolution::Found(id)),
            ToNode::Absent { tag } => self.conclude(tag, Resolution::Absent),
            ToNode::Create { tag } => {
                let epoch = self.state.lock().epoch;
                self.conclude(tag, Resolution::Create(Claim { tag, epoch }));
            }
            ToNode::Ping => {}
            other => about_members(other),
        }
    }

    fn conclude(&self, tag: u64, resolution: Resolution) {
        let question = self.state.lock().questions.remove(&tag);
        let heard = question.is_some_and(|(_, sender)| sender.send(resolution).is_ok());
        if !heard && let Resolution::Create(_) = resolution {
            // Who asked has given up: let somebody else create it.
            self.tell(&ToReferee::Abandoned { tag });
        }
    }

    fn tell(&self, message: &ToReferee) {
        self.state.lock().say(message);
    }

    fn resolve(
        &self,
        kind: Kind,
        key: i32,
        create: bool,
        not: Option<ObjectId>,
    ) -> Result<Resolution, Unreachable> {
        let tag = self.tags.fetch_add(1, Ordering::Relaxed);
        let question = ToReferee::Resolve {
            tag,
            kind,
            key,
            create,
            not,
        };
        let (sender, receiver) = bounded(1);
        {
            let mut state = self.state.lock();
            state.say(&question);
            state.questions.insert(tag, (question, sender));
        }
        // Twice the time-out: a referee that restarted waits up to one of them
        // for its nodes.
        receiver.recv_timeout(self.timeout * 2).map_err(|_| {
            self.state.lock().questions.remove(&tag);
            Unreachable
        })
    }
}

fn say(outbox: &Arc<Outbox>, message: &ToReferee) {
    if let Ok(header) = Encoded::new(message, 0) {
        // A broken connection is found by its reader.
        let _ = outbox.send([header.as_ref(), &[]]);
    }
}
