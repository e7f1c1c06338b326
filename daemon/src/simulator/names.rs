//! Finding and making objects by key: `node/names.rs`, and `get` of
//! `node/calls.rs`.
//!
//! | rule | stands for |
//! |---|---|
//! | what we own, hold and know is told to each referee; then open questions again | `Referee::introduce` |
//! | a question has an answer within 2 T, or none | `Referee::resolve`, `give_up` |
//! | a right that nobody uses is given back | `conclude` |
//! | a right ends with the connection over which it came | `fulfil` |
//! | who finds an object gone asks for another | `get`, `get_from` |

use std::collections::{BTreeMap, VecDeque};

use dipc_wire::call::{Call, PRIVATE, Reply, flags};
use dipc_wire::limits::weight;
use dipc_wire::referee::{Membership, ToNode, ToReferee};
use dipc_wire::{Errno, Kind, ObjectId};

use super::desk::{Desk, Task};
use super::letters::{Letter, LifeId, Payload};
use super::network::{End, T};
use super::node::{Life, Pending};
use super::variants::Variant;

/// What a process looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    pub(super) key: i32,
    pub(super) size: u64,
    pub(super) create: bool,
    /// Found before, and gone.
    pub(super) not: Option<ObjectId>,
}

impl Wanted {
    fn flags(&self) -> u32 {
        if self.create { flags::CREAT | 0o600 } else { 0 }
    }
}

/// The referee's client.
pub(super) struct Names {
    /// The connection, once the referee has welcomed us on it.
    pub(super) end: Option<End>,
    joining: Option<End>,
    /// How many connections there have been.
    epoch: u64,
    questions: BTreeMap<u64, (ToReferee, u32)>,
    tags: u64,
    /// What the referee has said, and is not worked off.
    pub(super) inbox: VecDeque<Letter>,
}

impl Names {
    pub(super) fn new(referee: End) -> Self {
        Names {
            end: Some(referee),
            joining: None,
            epoch: 0,
            questions: BTreeMap::new(),
            tags: 0,
            inbox: VecDeque::new(),
        }
    }

    pub(super) fn say(&self, message: ToReferee, desk: &mut Desk<'_>) {
        if let Some(end) = self.end {
            desk.send(end, Letter::ToReferee(message));
        }
    }

    pub(super) fn is_joining(&self, end: End) -> bool {
        self.joining == Some(end)
    }

    /// Whether that was the connection to the referee.
    pub(super) fn lost(&mut self, end: End) -> bool {
        let (up, joining) = (self.end == Some(end), self.joining == Some(end));
        if up {
            self.end = None;
        }
        if joining {
            self.joining = None;
        }
        up || joining
    }

    /// How many processes wait for an answer.
    pub(super) fn open_questions(&self) -> usize {
        self.questions.len()
    }
}

impl Life {
    pub(super) fn later_rejoin(&mut self, desk: &mut Desk<'_>) {
        desk.later(T / 50, Task::Rejoin);
    }

    pub(super) fn rejoin(&mut self, desk: &mut Desk<'_>) {
        if self.names.end.is_some() || self.names.joining.is_some() {
            return;
        }
        let link = desk.shared.network.open(desk.host, super::cluster::REFEREE);
        let end = End { link, side: 0 };
        self.names.joining = Some(end);
        desk.send(end, Letter::Join(Some(self.me)));
        desk.later(2 * T, Task::Patience(end));
    }

    pub(super) fn back_at_referee(&mut self, end: End, me: Membership, desk: &mut Desk<'_>) {
        if !self.names.is_joining(end) {
            return;
        }
        self.names.joining = None;
        self.names.end = Some(end);
        if me != self.me {
            desk.fail("the referee takes it for another node");
        }
        self.introduce(desk);
    }

    pub(super) fn refused(&mut self, end: End, retry: bool, desk: &mut Desk<'_>) {
        if self.names.lost(end) {
            match retry {
                true => self.later_rejoin(desk),
                false => self.die("the referee refuses it", desk),
            }
        }
    }

    /// Tells a referee all that it must know.
    pub(super) fn introduce(&mut self, desk: &mut Desk<'_>) {
        self.names.epoch += 1;
        for known in self.home.known() {
            self.names.say(known, desk);
        }
        for (&node, &incarnation) in &self.members {
            self.names.say(ToReferee::Knows { node, incarnation }, desk);
        }
        if !desk.is(Variant::LossNotReported) {
            for (&node, &incarnation) in self.ended.iter().chain(self.handshakes.fenced.iter()) {
                self.names
                    .say(ToReferee::PeerLost { node, incarnation }, desk);
            }
        }
        self.names.say(ToReferee::Settled, desk);
        for (question, _) in self.names.questions.values() {
            self.names.say(question.clone(), desk);
        }
    }

    /// One round of `semget`, `msgget`, `shmget`.
    pub(super) fn look_for(&mut self, pid: u32, desk: &mut Desk<'_>) {
        let Some(wanted) = self.wanted_by(pid) else {
            return;
        };
        let Wanted {
            kind,
            key,
            size,
            create,
            not,
        } = wanted;
        if let Some(found) = self.home.find(kind, key, size, wanted.flags()) {
            return self.found(pid, found, desk);
        }
        self.names.tags += 1;
        let tag = self.names.tags;
        let question = ToReferee::Resolve {
            tag,
            kind,
            key,
            create: create.then(|| weight(kind, size)),
            not,
        };
        self.names.say(question.clone(), desk);
        self.names.questions.insert(tag, (question, pid));
        desk.later(2 * T, Task::GiveUp(tag));
    }

    pub(super) fn give_up(&mut self, tag: u64, desk: &mut Desk<'_>) {
        if let Some((_, pid)) = self.names.questions.remove(&tag) {
            self.found(pid, Err(Errno::ETIMEDOUT), desk);
        }
    }

    /// The referee's word about a key.
    pub(super) fn about_keys(&mut self, message: ToNode<'static>, desk: &mut Desk<'_>) {
        match message {
            ToNode::Found { tag, id } => {
                if let Some((_, pid)) = self.names.questions.remove(&tag) {
                    self.get_from(pid, id, desk);
                }
            }
            ToNode::Absent { tag } | ToNode::Full { tag } => {
                if let Some((_, pid)) = self.names.questions.remove(&tag) {
                    self.found(pid, Err(Errno::ENOENT), desk);
                }
            }
            ToNode::Create { tag } => match self.names.questions.remove(&tag) {
                Some((_, pid)) => {
                    // A busy computer's threads may take their time.
                    let longest = if desk.shared.dice.once_in(6) {
                        T / 2
                    } else {
                        200
                    };
                    let (wait, epoch) = (desk.while_up_to(longest), self.names.epoch);
                    desk.later(wait, Task::Make { pid, tag, epoch });
                }
                // Who asked has given up: let somebody else create it.
                None => self.names.say(ToReferee::Abandoned { tag }, desk),
            },
            ToNode::Flush { round } => self.names.say(ToReferee::Flushed { round }, desk),
            _ => {}
        }
    }

    pub(super) fn make(&mut self, pid: u32, tag: u64, epoch: u64, desk: &mut Desk<'_>) {
        let Some(Wanted {
            kind, key, size, ..
        }) = self.wanted_by(pid)
        else {
            return self.names.say(ToReferee::Abandoned { tag }, desk);
        };
        if epoch != self.names.epoch && !desk.is(Variant::ClaimOutlivesReferee) {
            return self.look_for(pid, desk);
        }
        let caller = self.pid(pid);
        let made = self
            .home
            .create(caller, kind, key, size, self.habits.quantum, desk);
        let told = match made {
            Ok(id) => ToReferee::Created { tag, id },
            Err(_) => ToReferee::Abandoned { tag },
        };
        self.names.say(told, desk);
        match made {
            Err(Errno::EEXIST) => self.look_for(pid, desk),
            made => self.found(pid, made, desk),
        }
    }

    fn get_from(&mut self, pid: u32, id: ObjectId, desk: &mut Desk<'_>) {
        let Some(wanted) = self.wanted_by(pid) else {
            return;
        };
        let Wanted {
            kind, key, size, ..
        } = wanted;
        let call = Call::Get {
            kind,
            key,
            size,
            flags: wanted.flags(),
        };
        self.set_not(pid, id);
        if key == PRIVATE
            || self
                .ask(
                    id.home(),
                    pid,
                    call,
                    Payload::Nothing,
                    Pending::Get(pid),
                    desk,
                )
                .is_none()
        {
            self.look_for(pid, desk);
        }
    }

    /// What the home says that the referee named; nothing when it is dead.
    pub(super) fn got_from(
        &mut self,
        pid: u32,
        reply: Option<Reply<'static>>,
        desk: &mut Desk<'_>,
    ) {
        match reply {
            Some(Reply::Id(id)) => self.found(pid, Ok(id), desk),
            None | Some(Reply::Failed(Errno::EIDRM)) => self.look_for(pid, desk),
            Some(Reply::Failed(errno)) => self.found(pid, Err(errno), desk),
            Some(_) => desk.fail("a look-up was answered by something else"),
        }
    }

    /// Whom this life is to everybody.
    pub(super) fn life(&self) -> LifeId {
        self.id
    }
}
