//! Attachments of local programs: `shmat`, `fork`, and the end of a process or its
//! address space.
//!
//! `shmat` has two halves, because only the program can map memory and only the
//! daemon can serve it. Between them the mapping is inaccessible, so nothing is
//! touched before it is registered:
//!
//! ```text
//! program                         dipcd                          home
//!   Attach ──────────────────────▶ ─────────── Attach ─────────▶ nattch + 1
//!   mmap PROT_NONE ◀─ memfd ─────── ◀─────── Attached ───────────
//!   Map, userfaultfd ────────────▶ UFFDIO_REGISTER
//!   mprotect ◀────────── done ──── ─────────── Mapped ─────────▶ times and pid stay
//! ```
//!
//! If it fails between the two, `Abandon` instead takes all back that the home has
//! noted. `Mapped` is not answered: nobody waits for it, and what it settles shows
//! already.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dipc_wire::call::flags;
use dipc_wire::local::{Inherited, Response};
use dipc_wire::peer::Message;
use dipc_wire::{Errno, ObjectId};
use parking_lot::Mutex;

use super::client::{Client, ClientError};
use super::counting::{Granted, count};
use super::process::Process;
use super::{Node, Task};
use crate::kernel::is_shortage;
use crate::memory::spaces::View;
use crate::memory::uffd::{Range, Uffd};
use crate::memory::{Mapping, PAGE, Space};

/// How soon after a process's end its memory is looked for again.
const FIRST_LOOK: Duration = Duration::from_millis(5);
/// How far apart later looks are at most.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// A `shmat` between its halves.
pub(super) struct Attaching {
    pub(super) id: ObjectId,
    pub(super) view: View,
    pub(super) readonly: bool,
    pub(super) len: u64,
    /// Which byte of the segment is the first.
    pub(super) offset: u64,
}

/// How this node serves page faults.
pub(crate) struct FaultService {
    /// `/dev/userfaultfd`: lets ordinary programs fault inside system calls.
    pub(crate) device: Option<OwnedFd>,
    /// The kernel tells of forks; otherwise children report themselves.
    pub(crate) forks: bool,
    /// There was no descriptor for a forked child once: from then on each that
    /// reports is looked at.
    pub(crate) stillbirths: AtomicBool,
}

impl Node {
    /// The first half. Answers the program; an error of its own is the
    /// connection's.
    pub(super) fn attach(
        &self,
        client: &Client,
        id: ObjectId,
        flags: u32,
        need_uffd: bool,
    ) -> Result<Option<Attaching>, ClientError> {
        let (view, len, memfd) = match self.attach_by_rights(client, id, flags) {
            Ok(half) => half,
            Err(errno) => {
                client.done(Err(errno))?;
                return Ok(None);
            }
        };
        let half = Attaching {
            id,
            view,
            readonly: flags & flags::RDONLY != 0,
            len,
            offset: 0,
        };
        self.offer(client, half, &memfd, need_uffd).map(Some)
    }

    /// Has the home count an attachment, and makes memory for it: the one that all
    /// share who may write, or one of its own for who may only read.
    pub(super) fn attach_by_rights(
        &self,
        client: &Client,
        id: ObjectId,
        flags: u32,
    ) -> Result<(View, u64, OwnedFd), Errno> {
        let granted = self.attach_at_home(client, id, flags)?;
        self.prepare(id, &granted).inspect_err(|_| {
            self.abandon_at_home(client, id);
        })
    }

    /// Sends a program what it needs for the second half.
    pub(super) fn offer(
        &self,
        client: &Client,
        half: Attaching,
        memfd: &OwnedFd,
        need_uffd: bool,
    ) -> Result<Attaching, ClientError> {
        let device = self.faults.device.as_ref().filter(|_| need_uffd);
        let descriptors: Vec<i32> = [Some(memfd), device]
            .into_iter()
            .flatten()
            .map(AsRawFd::as_raw_fd)
            .collect();
        let response = Response::Attached {
            len: half.len,
            device: device.is_some(),
            adopt: !self.faults.forks,
        };
        if let Err(error) = client.respond(&response, &[], &descriptors) {
            self.abandon(client, half);
            return Err(error);
        }
        Ok(half)
    }

    /// Memory for a mapping of the segment.
    fn prepare(&self, id: ObjectId, granted: &Granted) -> Result<(View, u64, OwnedFd), Errno> {
        let no_memory = |error: std::io::Error| {
            if is_shortage(&error) {
                self.descriptors.say_short();
                return Errno::ENOMEM;
            }
            tracing::error!(segment = %id, %error, "no memory for a segment");
            Errno::ENOMEM
        };
        let segment = self
            .segments
            .enter(self.me, id, granted.shape)
            .map_err(no_memory)?;
        if let Some(home) = &granted.home {
            self.learn_deaths(&segment, home);
        }
        let mut state = segment.state.lock();
        let len = state.memory.mapped_len();
        let shared_before = state.memory.memory_of(View::Shared).is_some();
        let (view, memfd) = if granted.may_write {
            (View::Shared, state.memory.shared().map_err(no_memory)?)
        } else {
            state.memory.private().map_err(no_memory)?
        };
        if view != View::Shared || !shared_before {
            self.keeper.memory(id, view, len, memfd);
        }
        // The lock must not be held while the program is sent its copy.
        Ok((view, len, memfd.try_clone_to_owned().map_err(no_memory)?))
    }

    /// The second half: the segment lies at `addr`, inaccessible so far.
    pub(super) fn map(
        self: &Arc<Self>,
        client: &Client,
        half: Attaching,
        addr: u64,
        uffd: Option<OwnedFd>,
    ) -> Result<(), Errno> {
        let range = Range {
            start: addr,
            len: half.len,
        };
        let id = half.id;
        let mapped = self.register(client.process.pid, uffd, |space| {
            let Attaching {
                id: segment,
                view,
                readonly,
                offset,
                ..
            } = half;
            [Mapping {
                space: space.clone(),
                segment,
                view,
                range,
                offset,
                readonly,
                inherited: true,
            }]
            .into()
        });
        match mapped {
            Ok(()) => self.mapped_at_home(client, id),
            Err(_) => self.abandon(client, half),
        }
        mapped
    }

    /// Begins to serve mappings, in a new space if the program has sent its
    /// userfaultfd.
    fn register(
        self: &Arc<Self>,
        pid: u32,
        uffd: Option<OwnedFd>,
        mappings: impl FnOnce(&Arc<Space>) -> Vec<Mapping>,
    ) -> Result<(), Errno> {
        let new = uffd.is_some();
        let space = match uffd {
            Some(fd) if self.descriptors.admit(&fd) => self.enter_space(pid, fd)?,
            Some(_) => return Err(Errno::ENOMEM),
            // One that was sent is lost where there is no descriptor for it.
            None => self.spaces.of_process(pid).ok_or(Errno::ENOMEM)?,
        };
        let served = mappings(&space)
            .into_iter()
            .try_for_each(|mapping| self.serve(mapping))
            .and_then(|()| {
                if new {
                    self.begin_watch(&space)
                } else {
                    Ok(())
                }
            });
        if new && served.is_err() {
            // What it maps counts for nothing: the caller takes it back.
            self.spaces.remove(space.id);
            self.keeper.end_space(space.id);
        }
        served
    }

    fn enter_space(&self, pid: u32, fd: OwnedFd) -> Result<Arc<Space>, Errno> {
        let space = Uffd::begin(fd, self.faults.forks)
            .and_then(|uffd| Ok(self.spaces.add(uffd, pid)?))
            .map_err(|error| {
                if is_shortage(&error) {
                    self.descriptors.say_short();
                    return Errno::ENOMEM;
                }
                tracing::error!(
                    pid, %error,
                    "a program's userfaultfd cannot be used; dipc needs Linux 6.6 or later \
                     with CONFIG_USERFAULTFD"
                );
                Errno::ENOSYS
            })?;
        self.keeper.space(space.id, space.uffd.as_fd());
        Ok(space)
    }

    fn serve(&self, mapping: Mapping) -> Result<(), Errno> {
        let (space, range) = (mapping.space.clone(), mapping.range);
        if !range.start.is_multiple_of(PAGE) {
            return Err(Errno::EINVAL);
        }
        space.uffd.register(range).map_err(|error| {
            tracing::warn!(pid = space.pid(), %error, "a mapping cannot be registered");
            Errno::EINVAL
        })?;
        if !self.spaces.map(mapping) {
            return Err(Errno::EINVAL);
        }
        self.keeper.map(space.id, range);
        Ok(())
    }

    fn begin_watch(self: &Arc<Self>, space: &Arc<Space>) -> Result<(), Errno> {
        self.watch(space.clone()).map_err(|error| {
            tracing::error!(pid = space.pid(), %error, "no thread for a program's page faults");
            Errno::ENOMEM
        })
    }

    /// `shmat` has failed between its halves.
    pub(super) fn abandon(&self, client: &Client, half: Attaching) {
        self.settle_detached(half.id, half.view);
        self.abandon_at_home(client, half.id);
    }

    /// The program has ended between the halves, or closed its connection.
    pub(super) fn leave(&self, client: &Client, half: Attaching) {
        self.settle_detached(half.id, half.view);
        self.abandon_for_dead(client, half.id);
    }

    /// The kernel has told of a child: its attachments count.
    pub(super) fn forked(&self, child: &Space, mappings: &[Mapping]) {
        let parent = child.parent().unwrap_or(0);
        for (id, count) in count(mappings.iter().map(|m| m.segment)) {
            self.inherit(parent, id, count);
        }
    }

    /// A child reports what it has inherited. With fork events the kernel has
    /// told that already; without, its own userfaultfd comes along.
    pub(super) fn child_reports(
        self: &Arc<Self>,
        client: &Client,
        parent: u32,
        payload: &[u8],
        uffd: Option<OwnedFd>,
    ) -> Result<(), Errno> {
        let inherited: Vec<Inherited> = Inherited::decode_all(payload)
            .ok_or(Errno::EINVAL)?
            .collect();
        if self.faults.forks {
            // The event has been read, or the child would not run. It goes on
            // when the keeper guards it too.
            self.spaces.await_births();
            let unsure = self.faults.stillbirths.load(Ordering::Acquire);
            let served = !unsure || is_registered(client.pid(), &inherited);
            if !unsure && parent_of(client.pid()) == Some(parent) {
                self.spaces.introduce(client.pid(), parent);
            }
            return served.then_some(()).ok_or(Errno::ENOMEM);
        }
        let uffd = uffd.ok_or(Errno::EINVAL)?;
        let theirs = self.heritage_from(parent, client);
        let find = |wanted: &Inherited| {
            theirs.iter().find(|m| {
                m.segment.raw() == wanted.id
                    && m.range
                        == Range {
                            start: wanted.addr,
                            len: wanted.len,
                        }
            })
        };
        let found: Option<Vec<&Heritable>> = inherited.iter().map(find).collect();
        let found = found.ok_or(Errno::EPERM)?;
        let counts = count(found.iter().map(|m| m.segment));
        // Before the child can end, which takes them away again.
        for (&id, &count) in &counts {
            self.inherit(parent, id, count);
        }
        let registered = self.register(client.pid(), Some(uffd), |space| {
            found
                .iter()
                .map(|m| Mapping {
                    space: space.clone(),
                    segment: m.segment,
                    view: m.view,
                    range: m.range,
                    offset: m.offset,
                    readonly: m.readonly,
                    inherited: true,
                })
                .collect()
        });
        registered.inspect_err(|_| self.dropped(client.pid(), counts))
    }

    /// What `parent`, by the child's word, had when it forked: what it has and,
    /// since a daemon's parent ends or execs right after the fork, what it had.
    fn heritage_from(&self, parent: u32, child: &Client) -> Vec<Heritable> {
        let uid = child.process.uid;
        let has = heritage(&self.spaces.mappings_of(parent));
        let known = self.processes.get(parent);
        if known.is_none() {
            self.processes.await_end(parent);
        }
        // What was not found above, because it had just been reaped, is left by now.
        drop(self.reaping.lock());
        let mut theirs = self.bequests.claim(parent, uid);
        // Who has lost its parent has so a moment before that has ended.
        let its_own = parent_of(child.pid()) == Some(parent)
            || known.is_some_and(|it| it.uid == uid && it.ends_within(PARTING));
        if its_own {
            theirs.extend(has);
        }
        theirs
    }

    /// Drops the address spaces of a process, and of forked children that no
    /// process is known of, as far as they are gone.
    pub(super) fn reap_spaces(&self, process: &Process) {
        self.reap(process.pid, |mappings| self.bequeath(process, mappings));
    }

    fn bequeath(&self, process: &Process, mappings: &[Mapping]) {
        if !self.faults.forks {
            self.bequests.leave(process, mappings, self.timeout);
        }
    }

    fn reap(&self, pid: u32, bequeath: impl Fn(&[Mapping])) {
        let _one_at_a_time = self.reaping.lock();
        for (space, mappings) in self
            .spaces
            .reap(pid, || !self.processes.another_has_ended())
        {
            bequeath(&mappings);
            self.keeper.end_space(space);
            for mapping in &mappings {
                self.settle_detached(mapping.segment, mapping.view);
            }
            self.dropped(pid, count(mappings.iter().map(|m| m.segment)));
        }
    }

    /// A process has ended, but its memory may not: whoever answers its last fault
    /// or reads its files in /proc holds it for that moment, and a child by
    /// `CLONE_VM` for as long as it lives. No event tells the end of an address
    /// space, so it is looked at again, after twice as long each time.
    pub(super) fn reap_later(&self, pid: u32, wait: Duration) {
        if self.spaces.attachments(pid) > 0 {
            let wait = wait.clamp(FIRST_LOOK, LAST_LOOK);
            self.timer
                .at(Instant::now() + wait, Task::Reap { pid, wait });
        }
    }

    /// Threads of ours that serve the last faults of a process that has ended hold
    /// its memory, and hold the segment's lock while they do: when they are done
    /// there is more to reap.
    fn let_go(&self, process: &Process) {
        let held = self.spaces.mappings_of(process.pid);
        for id in count(held.iter().map(|m| m.segment)).into_keys() {
            if let Some(segment) = self.segments.get(id) {
                drop(segment.state.lock());
            }
        }
        if !held.is_empty() {
            self.reap_spaces(process);
            self.bequeath(process, &self.spaces.mappings_of(process.pid));
        }
    }

    /// The time has come to look again.
    pub(super) fn look_again(&self, pid: u32, waited: Duration) {
        // If the pid is another process's by now, its end will see to both.
        if self.processes.get(pid).is_none() {
            self.reap(pid, |_| {});
            self.reap_later(pid, waited * 2);
        }
    }

    /// A process has ended.
    pub(super) fn process_ended(&self, process: &Process) {
        for client in process.clients() {
            client.process_ended();
        }
        self.reap_spaces(process);
        self.let_go(process);
        self.reap_later(process.pid, FIRST_LOOK);
        for home in process.undo_homes() {
            if home == self.me.node {
                self.home.exit(self.pid(process.pid));
            } else if let Some(link) = self.peers.link(home) {
                let _ = link.send(&Message::Exited { pid: process.pid }, &[]);
            }
        }
    }
}

/// What processes had mapped that have just ended: for their children, which
/// report late. Only where the kernel does not tell of forks.
#[derive(Default)]
pub(crate) struct Bequests {
    by_parent: Mutex<HashMap<u32, Bequest>>,
}

struct Bequest {
    uid: u32,
    until: Instant,
    mappings: Vec<Heritable>,
}

/// What a child inherits of a mapping. It does not hold the space, whose
/// descriptors must not outlive its process.
#[derive(Clone, Copy)]
struct Heritable {
    segment: ObjectId,
    view: View,
    range: Range,
    offset: u64,
    readonly: bool,
}

fn heritage(mappings: &[Mapping]) -> Vec<Heritable> {
    let heritable = |m: &Mapping| Heritable {
        segment: m.segment,
        view: m.view,
        range: m.range,
        offset: m.offset,
        readonly: m.readonly,
    };
    mappings.iter().map(heritable).collect()
}

impl Bequests {
    fn leave(&self, parent: &Process, mappings: &[Mapping], keep: Duration) {
        let now = Instant::now();
        let mut all = self.by_parent.lock();
        all.retain(|_, bequest| bequest.until > now);
        let bequest = all.entry(parent.pid).or_insert_with(|| Bequest {
            uid: parent.uid,
            until: now + keep,
            mappings: Vec::new(),
        });
        bequest.mappings.extend(heritage(mappings));
    }

    /// Nobody can tell any more whose child it is; but it is of the same user,
    /// and knows what lay where.
    fn claim(&self, parent: u32, uid: u32) -> Vec<Heritable> {
        let all = self.by_parent.lock();
        let bequest = all.get(&parent).filter(|bequest| bequest.uid == uid);
        bequest
            .map(|bequest| bequest.mappings.clone())
            .unwrap_or_default()
    }
}

/// A process whose children have another parent by now has ended after so many
/// milliseconds: the kernel does the one right after the other.
const PARTING: u16 = 50;

/// Whether a userfaultfd serves all that a process has inherited, from
/// `/proc/PID/smaps` (proc(5)): the flag `um` of a mapping, which goes when the
/// last copy of the userfaultfd is closed.
fn is_registered(pid: u32, inherited: &[Inherited]) -> bool {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut registered = BTreeSet::new();
    let mut start = None;
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            if flags.split_whitespace().any(|flag| flag == "um") {
                registered.extend(start);
            }
        } else if let Some((first, _)) = line.split_once('-')
            && let Ok(first) = u64::from_str_radix(first, 16)
        {
            start = Some(first);
        }
    }
    inherited.iter().all(|one| registered.contains(&one.addr))
}

/// The parent of a process, from `/proc/PID/stat` (proc(5)).
pub(super) fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses; the last one ends it.
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}
