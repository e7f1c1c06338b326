//! Where keys have their home: the referee's word, or our own where there is none.

use std::collections::HashMap;
use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use dipc_door::door::{Door, speaks_tls};
use dipc_door::{Channel, Refusal};
use dipc_wire::frame::{Encoded, FrameBuffer, FrameError};
use dipc_wire::peer::common_version;
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, ToReferee, VERSIONS};
use dipc_wire::{Errno, Incarnation, Kind, Limits, NodeId, ObjectId};
use parking_lot::Mutex;
use thiserror::Error;

use super::link::tune;
use super::outgoing::Outgoing;

/// What is known of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// It has this object.
    Found(ObjectId),
    /// It has none.
    Absent,
    /// It has none, and nobody else makes one until we say what became of ours.
    /// There is room for it.
    Create(Claim),
    /// It has none, and the cluster has no room for another object.
    Full,
}

/// The right to create an object for a key; ends with [`Names::fulfil`].
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
    /// Finds a key's object; with `create`, asks for the right to make it, and
    /// for room for something of this [weight](dipc_wire::limits::weight). A
    /// private one has only room to ask for. `not` is an object that was found before, and that is gone.
    pub(crate) fn resolve(
        &self,
        kind: Kind,
        key: i32,
        create: Option<u64>,
        not: Option<ObjectId>,
    ) -> Result<Resolution, Unreachable> {
        match self {
            Names::Solo if create.is_some() => Ok(Resolution::Create(Claim { tag: 0, epoch: 0 })),
            Names::Solo => Ok(Resolution::Absent),
            Names::Referee(referee) => referee.resolve(kind, key, create, not),
        }
    }

    fn tell(&self, message: ToReferee) {
        if let Names::Referee(referee) = self {
            referee.tell(&message);
        }
    }

    /// Makes the object that the claim is for, and says what became of it.
    /// `None`: the claim has ended with the connection over which it came, and
    /// nothing was made.
    pub(crate) fn fulfil(
        &self,
        claim: Claim,
        make: impl FnOnce() -> Result<ObjectId, Errno>,
    ) -> Option<Result<ObjectId, Errno>> {
        match self {
            Names::Solo => Some(make()),
            Names::Referee(referee) => referee.fulfil(claim, make),
        }
    }

    /// The object has its key no more.
    pub(crate) fn released(&self, kind: Kind, key: i32, id: ObjectId) {
        self.tell(ToReferee::Released { kind, key, id });
    }

    /// The object is gone, and makes room for another.
    pub(crate) fn freed(&self, kind: Kind, id: ObjectId) {
        self.tell(ToReferee::Freed { kind, id });
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
    #[error(transparent)]
    Door(#[from] Refusal),
}

impl JoinError {
    /// Whether asking again is of no use until somebody has changed something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            JoinError::Door(refusal) => refusal.is_final(),
            other => other.is_the_referees(),
        }
    }

    /// Whether the referee itself said no. Whoever else has come to its address
    /// ends nobody.
    pub(crate) fn is_the_referees(&self) -> bool {
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
    /// All objects whose home is here, and what each weighs.
    pub(crate) weights: Vec<(Kind, ObjectId, u64)>,
    /// The other members.
    pub(crate) members: Vec<(NodeId, Incarnation)>,
    /// Those that are no more, of each node the last: a referee that was away when
    /// a link broke must hear of it, or the two would stay members and never talk.
    pub(crate) lost: Vec<(NodeId, Incarnation)>,
}

/// A joined connection, not yet read from.
pub(crate) struct Joined {
    channel: Channel,
    buffer: FrameBuffer,
    /// Who we are now.
    pub(crate) me: Membership,
    /// The cluster's time-out.
    pub(crate) timeout: Duration,
    /// The cluster's limits.
    pub(crate) limits: Limits,
}

/// Asks to be a member, as `member` if we were one before.
pub(crate) fn join(
    door: &Door,
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
        door.may_use(address.ip())?;
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => {
                tune(&stream, patience)?;
                let channel = door.call(stream, patience)?;
                return greet(channel, name, listen, member);
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

fn greet(
    mut channel: Channel,
    name: &str,
    listen: &str,
    member: Option<Membership>,
) -> Result<Joined, JoinError> {
    let join = Join {
        magic: MAGIC,
        versions: VERSIONS,
        name,
        address: listen,
        member,
    };
    channel.send_blocking([Encoded::new(&join, 0)?.as_ref(), &[]])?;
    let mut buffer = FrameBuffer::new();
    loop {
        let frame = buffer.next_frame().map_err(|error| {
            if speaks_tls(&error) {
                Refusal::Encrypted.into()
            } else {
                JoinError::from(error)
            }
        })?;
        if let Some(frame) = frame {
            match frame.message()? {
                Answer::Welcome {
                    version,
                    member,
                    timeout_ms,
                    limits,
                } => {
                    if common_version((version, version), VERSIONS).is_none() {
                        return Err(FrameError::Malformed.into());
                    }
                    let timeout = Duration::from_millis(timeout_ms.into());
                    tune(channel.stream(), timeout)?;
                    channel.settle(Some(timeout))?;
                    return Ok(Joined {
                        channel,
                        buffer,
                        me: member,
                        timeout,
                        limits,
                    });
                }
                Answer::Refused { reason, retry } => {
                    let reason = reason.to_owned();
                    return Err(JoinError::Refused { reason, retry });
                }
            }
        }
        match channel.read(buffer.space())? {
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
    outbox: Option<Outgoing>,
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
            mut channel,
            mut buffer,
            ..
        } = joined;
        let outgoing = match Outgoing::to_referee(&channel, BACKLOG) {
            Ok(outgoing) => outgoing,
            Err(error) => return error.into(),
        };
        self.introduce(outgoing, known);
        let error = loop {
            match buffer.next_frame() {
                Err(error) => break error.into(),
                Ok(Some(frame)) => match frame.message() {
                    Err(error) => break error.into(),
                    Ok(message) => self.hear(message, &mut about_members),
                },
                Ok(None) => match channel.read(buffer.space()) {
                    Ok(0) => break std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into(),
                    Ok(count) => buffer.filled(count),
                    // This daemon was stopped for a while (signal(7)).
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => break error.into(),
                },
            }
        };
        if let Some(outbox) = self.state.lock().outbox.take() {
            outbox.close();
        }
        error
    }

    fn introduce(&self, outbox: Outgoing, known: impl FnOnce() -> Known) {
        // Under the lock, so that no release or creation of this moment is told
        // before the list that it changes.
        let mut state = self.state.lock();
        let Known {
            keys,
            weights,
            members,
            lost,
        } = known();
        for (kind, key, id) in keys {
            say(&outbox, &ToReferee::Owns { kind, key, id });
        }
        for (kind, id, weight) in weights {
            say(&outbox, &ToReferee::Holds { kind, id, weight });
        }
        for (node, incarnation) in members {
            say(&outbox, &ToReferee::Knows { node, incarnation });
        }
        for (node, incarnation) in lost {
            say(&outbox, &ToReferee::PeerLost { node, incarnation });
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
            ToNode::Full { tag } => self.conclude(tag, Resolution::Full),
            // All that was said before went the same way.
            ToNode::Flush { round } => self.tell(&ToReferee::Flushed { round }),
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
        create: Option<u64>,
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
        receiver
            .recv_timeout(self.timeout * 2)
            .or_else(|_| self.give_up(tag, &receiver))
    }

    /// Takes a question back. If it was answered in this very moment, that
    /// counts: the answer may be a claim, which nobody else would end.
    fn give_up(&self, tag: u64, answer: &Receiver<Resolution>) -> Result<Resolution, Unreachable> {
        if self.state.lock().questions.remove(&tag).is_some() {
            return Err(Unreachable);
        }
        answer.recv().map_err(|_| Unreachable)
    }

    /// Under the lock, so that no other connection can begin in between: its
    /// referee would not know of the object, and let others make it too.
    fn fulfil(
        &self,
        claim: Claim,
        make: impl FnOnce() -> Result<ObjectId, Errno>,
    ) -> Option<Result<ObjectId, Errno>> {
        let state = self.state.lock();
        if state.epoch != claim.epoch {
            return None;
        }
        let made = make();
        let tag = claim.tag;
        state.say(&match made {
            Ok(id) => ToReferee::Created { tag, id },
            Err(_) => ToReferee::Abandoned { tag },
        });
        Some(made)
    }
}

fn say(outbox: &Outgoing, message: &ToReferee) {
    if let Ok(header) = Encoded::new(message, 0) {
        // A broken connection is found by its reader.
        let _ = outbox.send([header.as_ref(), &[]]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::{Cut, Outbox};
    use super::*;

    const ID: ObjectId = ObjectId::new(NodeId::SOLO, 1);

    fn referee() -> Arc<Referee> {
        Referee::new("nowhere".into(), Duration::from_secs(1))
    }

    #[test]
    fn an_answer_in_the_moment_of_giving_up_counts() {
        let referee = referee();
        let (sender, receiver) = bounded(1);
        let question = ToReferee::Ping;
        let asked = (question, sender);
        referee.state.lock().questions.insert(7, asked);
        let claim = Resolution::Create(Claim { tag: 7, epoch: 0 });
        referee.conclude(7, claim);
        assert_eq!(referee.give_up(7, &receiver), Ok(claim));
    }

    #[test]
    fn a_question_that_is_given_up_is_not_asked_again() {
        let referee = referee();
        let (sender, receiver) = bounded(1);
        let asked = (ToReferee::Ping, sender);
        referee.state.lock().questions.insert(7, asked);
        assert_eq!(referee.give_up(7, &receiver), Err(Unreachable));
        assert!(referee.state.lock().questions.is_empty());
    }

    #[test]
    fn a_link_that_broke_without_a_referee_is_reported_to_the_next_one() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let outbox = Outbox::new(ours.into(), Cut::Nowhere, BACKLOG);
        let outbox = Outgoing::plain(outbox);
        let (node, incarnation) = (NodeId::SOLO, Incarnation(7));
        referee().introduce(outbox, || Known {
            keys: Vec::new(),
            weights: Vec::new(),
            members: Vec::new(),
            lost: vec![(node, incarnation)],
        });
        let mut buffer = FrameBuffer::new();
        let mut heard = Vec::new();
        while heard.len() < 2 {
            match buffer.next_frame().unwrap() {
                Some(frame) => heard.push(frame.message::<ToReferee>().unwrap()),
                None => {
                    let count = theirs.read(buffer.space()).unwrap();
                    assert!(count > 0, "{heard:?} and no more");
                    buffer.filled(count);
                }
            }
        }
        let lost = ToReferee::PeerLost { node, incarnation };
        assert_eq!(heard, [lost, ToReferee::Settled]);
    }

    #[test]
    fn a_claim_of_an_earlier_connection_makes_nothing() {
        let names = Names::Referee(referee());
        let Names::Referee(referee) = &names else {
            unreachable!()
        };
        let claim = Claim { tag: 7, epoch: 0 };
        assert_eq!(names.fulfil(claim, || Ok(ID)), Some(Ok(ID)));
        referee.state.lock().epoch += 1;
        assert_eq!(names.fulfil(claim, || panic!("made")), None);
    }
}
