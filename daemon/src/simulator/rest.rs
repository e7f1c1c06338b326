//! What must be true of a cluster when nothing is under way any more.

use std::collections::{BTreeMap, BTreeSet};

use dipc_wire::call::{Call, SemCommand, flags};
use dipc_wire::coherence::Access;
use dipc_wire::{Kind, ObjectId, Pid};

use super::cluster::Cluster;
use super::home::GRANULES;
use super::letters::{LifeId, Payload};
use super::linearize::{Verdict, judge};
use super::node::Life;
use super::record::{Entry, History, Told, What};
use super::specification::{Queue, Set, Specification};

impl Cluster {
    /// Runs, and checks everything.
    pub(super) fn run_and_check(&mut self) -> Result<(), String> {
        self.run()?;
        self.check_members()?;
        let waiting = self.check_waiting()?;
        self.read_everything()?;
        self.check_memory()?;
        self.check_histories(&waiting)?;
        self.remove_everything()
    }

    fn lives(&self) -> impl Iterator<Item = (usize, &Life)> {
        let hosts = self.hosts.iter().enumerate();
        hosts.filter_map(|(host, it)| Some((host, it.life.as_ref()?)))
    }

    /// Everybody alive is linked with everybody, and with the referee.
    fn check_members(&self) -> Result<(), String> {
        for (_, life) in self.lives() {
            if life.names.end.is_none() || !life.ready {
                return Err(format!("{:?} is no member in the end", life.id));
            }
            for (_, other) in self.lives().filter(|(_, it)| it.id != life.id) {
                let peer = life.peers.get(&other.id.node);
                if peer.is_none_or(|peer| peer.incarnation != other.id.incarnation) {
                    return Err(format!(
                        "{:?} and {:?} both live and do not talk",
                        life.id, other.id
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whoever waits does so for a call on an object, at its home.
    fn check_waiting(&self) -> Result<BTreeSet<Pid>, String> {
        let at_homes: BTreeSet<Pid> = self
            .lives()
            .flat_map(|(_, life)| life.home.waiting())
            .collect();
        let mut waiting = BTreeSet::new();
        for (_, life) in self.lives() {
            if life.names.open_questions() > 0 {
                return Err(format!("{:?} has a question without an answer", life.id));
            }
            for (pid, asked) in life.busy() {
                let pid = life.pid(pid);
                if asked.is_none() || !at_homes.contains(&pid) {
                    return Err(format!("{pid:?} waits for ever, with {asked:?}"));
                }
                waiting.insert(pid);
            }
        }
        match at_homes.difference(&waiting).next() {
            Some(pid) => Err(format!("{pid:?} waits at a home, and not where it runs")),
            None => Ok(waiting),
        }
    }

    fn objects(&self) -> Vec<(Kind, ObjectId)> {
        self.lives()
            .flat_map(|(_, life)| life.home.objects())
            .collect()
    }

    /// A new program on some node.
    fn auditor(&mut self) -> Option<(usize, u32)> {
        let hosts: Vec<usize> = self.lives().map(|(host, _)| host).collect();
        let host = self.shared.dice.pick(&hosts)?;
        let pid = self.new_pid();
        self.at(host, |life, desk| life.spawn(pid, true, desk));
        Some((host, pid))
    }

    fn ask(&mut self, host: usize, pid: u32, call: Call) -> Result<(), String> {
        self.at(host, |life, desk| {
            life.call(pid, call, Payload::Nothing, desk);
            life.flush(desk);
        });
        self.work_off(None)
    }

    /// Somebody looks at all values, takes all messages and reads all memory.
    fn read_everything(&mut self) -> Result<(), String> {
        for (kind, id) in self.objects() {
            let Some((host, pid)) = self.auditor() else {
                return Ok(());
            };
            match kind {
                Kind::Sem => {
                    let command = SemCommand::GetAll;
                    self.ask(host, pid, Call::Sem { id, command })?;
                }
                Kind::Msg => {
                    let receive = Call::MsgRcv {
                        id,
                        mtype: 0,
                        size: 64,
                        flags: flags::NOWAIT,
                    };
                    while !self.was_refused(id) {
                        self.ask(host, pid, receive)?;
                    }
                }
                Kind::Shm => self.read_segment(host, pid, id)?,
            }
        }
        Ok(())
    }

    fn was_refused(&self, id: ObjectId) -> bool {
        let last = self
            .record
            .objects
            .get(&(Kind::Msg, id))
            .and_then(|it| it.entries.iter().rfind(|entry| entry.returned.is_some()));
        last.is_some_and(|entry| {
            matches!(entry.what, What::Receive(0))
                && entry.told == Told::Refused
                && entry.invoked > self.audit_began
        })
    }

    fn read_segment(&mut self, host: usize, pid: u32, id: ObjectId) -> Result<(), String> {
        self.at(host, |life, desk| {
            life.attach(pid, id, desk);
            life.flush(desk);
        });
        self.work_off(None)?;
        for granule in 0..GRANULES {
            self.at(host, |life, desk| {
                life.touch(pid, id, granule, Access::Read, desk);
                life.flush(desk);
            });
            self.work_off(None)?;
        }
        let stuck = self.lives().any(|(_, life)| life.busy().contains_key(&pid));
        if stuck {
            Err(format!("{id:?} cannot be read in the end"))
        } else {
            Ok(())
        }
    }

    /// No transaction is open, and directories know what there is.
    fn check_memory(&self) -> Result<(), String> {
        for (_, life) in self.lives() {
            for id in life.segments.ids() {
                let Some(protocol) = life.segments.protocol(id) else {
                    continue;
                };
                for (granule, entry) in protocol.directory().into_iter().flat_map(|it| it.entries())
                {
                    if entry.transaction().is_some() || entry.queue().next().is_some() {
                        return Err(format!("granule {granule} of {id:?} is never done with"));
                    }
                    let known: BTreeSet<_> = entry.readers().iter().collect();
                    let have: BTreeSet<_> = self
                        .shared
                        .truth
                        .holders(id, granule)
                        .map(|it| it.node)
                        .collect();
                    if known != have {
                        return Err(format!(
                            "{have:?} have granule {granule} of {id:?}, not {known:?}"
                        ));
                    }
                }
                let lines = protocol.cache().lines();
                if lines
                    .into_iter()
                    .any(|(_, line)| line.pending.is_some() || line.order.is_some())
                {
                    return Err(format!("{:?} waits for a granule of {id:?}", life.id));
                }
            }
            for (id, segment) in life.home.shms.iter() {
                let attached: u64 = self.lives().map(|(_, it)| it.attachments(id)).sum();
                if segment.nattch() != attached {
                    return Err(format!(
                        "{id:?} has {attached} attachments, and counts {}",
                        segment.nattch()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Every history is linearizable, and nobody waits for what is there.
    fn check_histories(&self, waiting: &BTreeSet<Pid>) -> Result<(), String> {
        let alive: BTreeSet<LifeId> = self.lives().map(|(_, life)| life.id).collect();
        let began = self.audit_began;
        for (&(kind, id), history) in &self.record.objects {
            let still: Vec<&What> = (history.entries.iter())
                .filter(|entry| {
                    entry.told == Told::Unknown
                        && entry.effect.is_none()
                        && waiting.contains(&entry.pid)
                })
                .map(|entry| &entry.what)
                .collect();
            let judged = match kind {
                Kind::Sem => examine(Set::new(history.nsems), history, &alive, &still, began),
                Kind::Msg => examine(Queue::default(), history, &alive, &still, began),
                Kind::Shm => Ok(()),
            };
            judged.map_err(|what| {
                format!(
                    "{kind} {id:?} of {:?}: {what}{}",
                    history.home,
                    shown(history)
                )
            })?;
        }
        Ok(())
    }

    /// When everything is removed and every program has ended, nothing is left.
    fn remove_everything(&mut self) -> Result<(), String> {
        for (kind, id) in self.objects() {
            if let Some((host, pid)) = self.auditor() {
                self.ask(host, pid, Call::Remove { kind, id })?;
            }
        }
        let busy: BTreeMap<Pid, String> = (self.lives())
            .flat_map(|(_, life)| {
                life.busy()
                    .into_iter()
                    .map(|(pid, asked)| (life.pid(pid), format!("{asked:?}")))
            })
            .collect();
        if let Some((pid, asked)) = busy.first_key_value() {
            return Err(format!("{pid:?} waits at what was removed, with {asked}"));
        }
        for host in 0..self.hosts.len() {
            self.at(host, |life, desk| {
                let pids: Vec<u32> = life.processes.keys().copied().collect();
                pids.into_iter()
                    .for_each(|pid| life.process_ended(pid, desk));
                life.flush(desk);
            });
        }
        self.work_off(None)?;
        for (_, life) in self.lives() {
            if let Some(left) = life.home.objects().first() {
                return Err(format!("{left:?} is left of {:?}", life.id));
            }
            if let Some(id) = life.segments.ids().first() {
                return Err(format!("{:?} keeps memory of {id:?}", life.id));
            }
        }
        Ok(())
    }
}

/// Judges a history. `began`: when the cluster had come to rest.
fn examine<S: Specification>(
    initial: S,
    history: &History,
    alive: &BTreeSet<LifeId>,
    waiting: &[&What],
    began: u64,
) -> Result<(), String> {
    let binding = |entry: &Entry| {
        let whose = entry.what == What::Exit || alive.contains(&entry.life);
        history.lost.is_none() && whose
    };
    let mut entries: Vec<Entry> = (history.entries.iter().cloned())
        .map(|entry| excused(entry, history))
        .collect();
    for entry in &mut entries {
        // What is due must be done before anybody looks at what is left.
        let due = matches!(entry.what, What::Exit | What::TakeBack(_)) && entry.invoked < began;
        if due && binding(entry) {
            entry.returned = Some(began);
        }
    }
    match judge(initial, &entries, &binding) {
        Verdict::Linearizable(last) => match waiting.iter().find(|what| last.could_go_on(what)) {
            Some(what) if history.lost.is_none() => {
                Err(format!("{what:?} waits for what is there"))
            }
            _ => Ok(()),
        },
        Verdict::Impossible => Err("no order of its calls explains their answers".into()),
        Verdict::GivenUp => {
            Err("no order of its calls was found that explains their answers".into())
        }
    }
}

/// Who is told that the object is gone when its home is dead may have heard
/// so of the home's next life.
fn excused(mut entry: Entry, history: &History) -> Entry {
    let over = history
        .lost
        .is_some_and(|lost| entry.returned.is_some_and(|at| at >= lost));
    if entry.told == Told::Gone && over {
        entry.told = Told::Unknown;
        (entry.effect, entry.returned) = (None, None);
    }
    entry
}

fn shown(history: &History) -> String {
    let mut lines = String::new();
    for (at, entry) in history.entries.iter().enumerate() {
        let Entry {
            pid,
            what,
            told,
            invoked,
            effect,
            returned,
            ..
        } = entry;
        let time = |at: Option<u64>| at.map_or("-".into(), |at| at.to_string());
        lines += &format!(
            "\n  {at:>4} {pid:?} {what:?}: {told:?} [{invoked}, {}, {}]",
            time(*effect),
            time(*returned)
        );
    }
    lines
}
