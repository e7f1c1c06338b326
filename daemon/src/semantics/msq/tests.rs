//! One test a behaviour.

use dipc_wire::call::{MsgStat, flags};
use dipc_wire::peer::Capabilities;
use dipc_wire::{Errno, Pid};

use super::super::testing::{NOW, able, caller, node, permissions, pid, pid_on, root, user, woken};
use super::super::{Credentials, Granted, Limits, Outcome, Setting, Ticket, Wake};
use super::{Queue, Received};

const NOWAIT: u32 = flags::NOWAIT;
const COPY: u32 = flags::COPY | flags::NOWAIT;
const SENT: Result<Outcome<()>, Errno> = Ok(Outcome::Done(()));
const DONE: Result<Granted, Errno> = Ok(Granted::Done);

fn message(mtype: i64, text: &str) -> Received {
    Received {
        mtype,
        text: text.into(),
    }
}

fn got(mtype: i64, text: &str) -> Result<Outcome<Received>, Errno> {
    Ok(Outcome::Done(message(mtype, text)))
}

fn granted(mtype: i64, text: &str) -> Result<Granted, Errno> {
    Ok(Granted::Message(message(mtype, text)))
}

/// A queue, its owner, and what it has pushed. The ticket of a call is its pid.
struct Table {
    queue: Queue,
    owner: Credentials,
    wakes: Vec<Wake>,
    now: i64,
}

impl Table {
    /// A queue that holds so many bytes.
    fn new(qbytes: u64) -> Self {
        let limits = Limits {
            msgmnb: qbytes,
            ..Limits::LINUX
        };
        let queue = Queue::new(permissions(0o600), &limits, NOW);
        Table {
            queue,
            owner: user(1000),
            wakes: Vec::new(),
            now: NOW,
        }
    }

    fn holding(messages: &[(i64, &str)]) -> Self {
        let mut table = Table::new(1000);
        for (mtype, text) in messages {
            assert_eq!(table.send(9, *mtype, text, 0), SENT);
        }
        table
    }

    fn send(&mut self, who: u32, mtype: i64, text: &str, flags: u32) -> Result<Outcome<()>, Errno> {
        let owner = self.owner.clone();
        self.send_as(&owner, pid(who), mtype, text, flags)
    }

    fn send_as(
        &mut self,
        credentials: &Credentials,
        who: Pid,
        mtype: i64,
        text: &str,
        flags: u32,
    ) -> Result<Outcome<()>, Errno> {
        let (caller, ticket) = (caller(who, credentials), Ticket(who.pid.into()));
        self.queue.send(
            caller,
            mtype,
            text.as_bytes(),
            flags,
            ticket,
            self.now,
            &mut self.wakes,
        )
    }

    fn receive(
        &mut self,
        who: u32,
        mtype: i64,
        size: u64,
        flags: u32,
    ) -> Result<Outcome<Received>, Errno> {
        let owner = self.owner.clone();
        self.receive_as(&owner, pid(who), mtype, size, flags)
    }

    fn receive_as(
        &mut self,
        credentials: &Credentials,
        who: Pid,
        mtype: i64,
        size: u64,
        flags: u32,
    ) -> Result<Outcome<Received>, Errno> {
        let (caller, ticket) = (caller(who, credentials), Ticket(who.pid.into()));
        self.queue.receive(
            caller,
            mtype,
            size,
            flags,
            ticket,
            self.now,
            &mut self.wakes,
        )
    }

    fn set(&mut self, by: &Credentials, mode: u16, qbytes: Option<u64>) -> Result<(), Errno> {
        let setting = Setting {
            uid: 1000,
            gid: 1000,
            mode,
        };
        let (now, limits) = (self.now, Limits::LINUX);
        self.queue.set(
            caller(pid(9), by),
            setting,
            qbytes,
            &limits,
            now,
            &mut self.wakes,
        )
    }

    fn stat(&self) -> MsgStat<'static> {
        self.queue.stat(caller(pid(1), &root()), false).unwrap()
    }

    fn woken(&mut self) -> Vec<(u64, Result<Granted, Errno>)> {
        woken(&mut self.wakes)
    }
}

#[test]
fn a_new_queue_is_empty_and_was_touched_by_nobody_behaviour_19() {
    let stat = Queue::new(permissions(0o600), &Limits::LINUX, NOW)
        .stat(caller(pid(1), &root()), false)
        .unwrap();
    assert_eq!((stat.qnum, stat.cbytes, stat.qbytes), (0, 0, 16_384));
    assert_eq!((stat.stime, stat.rtime, stat.ctime), (0, 0, NOW));
    assert_eq!((stat.lspid, stat.lrpid), (None, None));
}

#[test]
fn permission_is_looked_at_before_fullness_behaviour_70() {
    let mut table = Table::new(0);
    let stranger = user(2000);
    assert_eq!(
        table.send_as(&stranger, pid(2), 1, "", NOWAIT),
        Err(Errno::EACCES)
    );
    assert_eq!(table.send(2, 1, "", NOWAIT), Err(Errno::EAGAIN));
}

#[test]
fn full_counts_bytes_and_messages_behaviour_71() {
    let mut table = Table::new(3);
    assert_eq!(table.send(1, 1, "abcd", NOWAIT), Err(Errno::EAGAIN));
    assert_eq!(table.send(1, 1, "abc", NOWAIT), SENT);
    assert_eq!(table.send(1, 1, "a", NOWAIT), Err(Errno::EAGAIN));
    assert_eq!(table.send(1, 1, "", NOWAIT), SENT);
    assert_eq!(table.send(1, 1, "", NOWAIT), SENT);
    assert_eq!(table.send(1, 1, "", NOWAIT), Err(Errno::EAGAIN));
}

#[test]
fn receivers_that_may_no_longer_read_get_eacces_behaviour_72() {
    let mut table = Table::new(100);
    let (owner, other) = (user(1000), user(2000));
    table.set(&owner, 0o666, None).unwrap();
    for who in [2, 3] {
        assert_eq!(
            table.receive_as(&other, pid(who), 0, 9, 0),
            Ok(Outcome::Blocked)
        );
    }
    assert_eq!(table.receive(4, 0, 9, 0), Ok(Outcome::Blocked));
    table.set(&owner, 0o600, None).unwrap();
    assert_eq!(
        table.woken(),
        [(2, Err(Errno::EACCES)), (3, Err(Errno::EACCES))]
    );
    assert_eq!(table.send(1, 5, "x", 0), SENT);
    assert_eq!(table.woken(), [(4, granted(5, "x"))]);
}

#[test]
fn senders_that_may_no_longer_write_get_eacces_when_there_is_room() {
    let mut table = Table::new(1);
    let (owner, other) = (user(1000), user(2000));
    table.set(&owner, 0o666, None).unwrap();
    assert_eq!(table.send(1, 1, "a", 0), SENT);
    assert_eq!(
        table.send_as(&other, pid(2), 1, "b", 0),
        Ok(Outcome::Blocked)
    );
    assert_eq!(table.send(3, 1, "c", 0), Ok(Outcome::Blocked));
    table.set(&owner, 0o600, None).unwrap();
    assert_eq!(table.woken(), []);
    assert_eq!(table.receive(1, 0, 9, 0), got(1, "a"));
    assert_eq!(table.woken(), [(2, Err(Errno::EACCES)), (3, DONE)]);
}

#[test]
fn raising_qbytes_lets_senders_in_and_lowering_below_the_content_is_allowed_behaviour_73() {
    let mut table = Table::new(1);
    let owner = user(1000);
    assert_eq!(table.send(1, 1, "a", 0), SENT);
    assert_eq!(table.send(2, 1, "bb", 0), Ok(Outcome::Blocked));
    assert_eq!(table.send(3, 1, "c", 0), Ok(Outcome::Blocked));
    table.set(&owner, 0o600, Some(3)).unwrap();
    assert_eq!(table.woken(), [(2, DONE)]);
    table.set(&owner, 0o600, Some(1)).unwrap();
    assert_eq!((table.stat().cbytes, table.stat().qbytes), (3, 1));
}

#[test]
fn qbytes_over_msgmnb_needs_cap_sys_resource_behaviour_74() {
    let mut table = Table::new(100);
    assert_eq!(
        table.set(&user(1000), 0o600, Some(16_385)),
        Err(Errno::EPERM)
    );
    assert_eq!(table.set(&user(1000), 0o600, Some(16_384)), Ok(()));
    let almost_all = Capabilities {
        sys_resource: false,
        ..Capabilities::ALL
    };
    let almost_root = able(0, almost_all);
    assert_eq!(
        table.set(&almost_root, 0o600, Some(16_385)),
        Err(Errno::EPERM)
    );
    assert_eq!(table.set(&root(), 0o600, Some(1 << 40)), Ok(()));
    assert_eq!(table.set(&user(2000), 0o600, None), Err(Errno::EPERM));
    assert_eq!(table.stat().qbytes, 1 << 40);
}

#[test]
fn nowait_is_eagain_for_senders_and_enomsg_for_receivers_behaviour_75() {
    let mut table = Table::new(1);
    assert_eq!(table.receive(1, 0, 9, NOWAIT), Err(Errno::ENOMSG));
    assert_eq!(table.send(1, 1, "ab", NOWAIT), Err(Errno::EAGAIN));
}

#[test]
fn a_small_message_may_pass_a_blocked_big_one_behaviour_76() {
    let mut table = Table::new(3);
    assert_eq!(table.send(1, 1, "a", 0), SENT);
    assert_eq!(table.send(1, 1, "b", 0), SENT);
    assert_eq!(table.send(2, 1, "ccc", 0), Ok(Outcome::Blocked));
    assert_eq!(table.send(3, 1, "d", 0), SENT);
    assert_eq!(table.send(4, 1, "e", 0), Ok(Outcome::Blocked));
    assert_eq!(table.receive(1, 0, 9, 0), got(1, "a"));
    assert_eq!(table.woken(), [(4, DONE)]);
}

#[test]
fn a_message_that_is_too_long_stays_and_no_other_is_sought_behaviour_77() {
    let mut table = Table::holding(&[(1, "long"), (1, "s")]);
    assert_eq!(table.receive(2, 0, 3, 0), Err(Errno::E2BIG));
    assert_eq!(table.stat().qnum, 2);
    assert_eq!(table.receive(2, 0, 3, flags::NOERROR), got(1, "lon"));
    assert_eq!((table.stat().qnum, table.stat().cbytes), (1, 1));
}

#[test]
fn a_waiting_receiver_with_too_little_room_gets_e2big_and_the_message_stays_behaviour_78() {
    let mut table = Table::new(100);
    assert_eq!(table.receive(2, 0, 3, 0), Ok(Outcome::Blocked));
    assert_eq!(table.receive(3, 0, 3, flags::NOERROR), Ok(Outcome::Blocked));
    assert_eq!(table.send(1, 1, "long", 0), SENT);
    assert_eq!(
        table.woken(),
        [(2, Err(Errno::E2BIG)), (3, granted(1, "lon"))]
    );
    assert_eq!(table.receive(2, 0, 3, 0), Ok(Outcome::Blocked));
    assert_eq!(table.send(1, 1, "long", 0), SENT);
    assert_eq!(table.woken(), [(2, Err(Errno::E2BIG))]);
    assert_eq!(table.receive(2, 0, 4, 0), got(1, "long"));
}

#[test]
fn the_type_chooses_the_message_behaviours_79_80() {
    let choice = |mtype, flags| {
        let mut table = Table::holding(&[(5, "a"), (3, "b"), (2, "c"), (3, "d"), (2, "e")]);
        match table.receive(1, mtype, 9, flags | NOWAIT) {
            Ok(Outcome::Done(Received { text, .. })) => text[0] as char,
            Err(Errno::ENOMSG) => '-',
            other => panic!("{other:?}"),
        }
    };
    assert_eq!([0, 3, 4].map(|mtype| choice(mtype, 0)), ['a', 'b', '-']);
    assert_eq!(
        [-1, -2, -3, -9, i64::MIN].map(|mtype| choice(mtype, 0)),
        ['-', 'c', 'c', 'c', 'c']
    );
    assert_eq!(
        [5, 3, 0, -5].map(|mtype| choice(mtype, flags::EXCEPT)),
        ['b', 'a', 'a', 'c']
    );
}

#[test]
fn the_highest_type_is_reached_by_long_min_behaviour_79() {
    let mut table = Table::holding(&[(i64::MAX, "a")]);
    assert_eq!(
        table.receive(1, i64::MIN + 2, 9, NOWAIT),
        Err(Errno::ENOMSG)
    );
    assert_eq!(table.receive(1, i64::MIN, 9, NOWAIT), got(i64::MAX, "a"));
}

#[test]
fn copy_takes_an_ordinal_and_changes_nothing_behaviour_81() {
    let mut table = Table::holding(&[(5, "a"), (3, "bb")]);
    let before = table.stat();
    assert_eq!(table.receive(2, 1, 2, COPY), got(3, "bb"));
    assert_eq!(table.receive(2, 0, 2, COPY), got(5, "a"));
    for past in [2, -1, i64::MAX, i64::MIN] {
        assert_eq!(
            table.receive(2, past, 2, COPY),
            Err(Errno::ENOMSG),
            "{past}"
        );
    }
    assert_eq!(table.receive(2, 1, 1, COPY), Err(Errno::E2BIG));
    assert_eq!(
        table.receive(2, 1, 1, COPY | flags::NOERROR),
        Err(Errno::EINVAL)
    );
    assert_eq!(table.receive(2, 0, 2, flags::COPY), Err(Errno::EINVAL));
    assert_eq!(
        table.receive(2, 0, 2, COPY | flags::EXCEPT),
        Err(Errno::EINVAL)
    );
    assert_eq!(table.stat(), before);
}

#[test]
fn a_message_may_be_empty_behaviour_82() {
    assert_eq!(Table::holding(&[(1, "")]).receive(1, 0, 0, 0), got(1, ""));
}

#[test]
fn a_negative_size_is_einval_before_permission_behaviour_83() {
    let mut table = Table::holding(&[(1, "")]);
    let stranger = user(2000);
    assert_eq!(
        table.receive_as(&stranger, pid(1), 0, -1i64 as u64, 0),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        table.receive_as(&stranger, pid(1), 0, 1, 0),
        Err(Errno::EACCES)
    );
}

#[test]
fn removal_wakes_senders_and_receivers_with_eidrm_behaviour_85() {
    let mut table = Table::new(1);
    assert_eq!(table.receive(2, 7, 9, 0), Ok(Outcome::Blocked));
    assert_eq!(table.send(1, 1, "a", 0), SENT);
    assert_eq!(table.send(3, 1, "b", 0), Ok(Outcome::Blocked));
    let (owner, stranger) = (user(1000), user(2000));
    assert_eq!(
        table
            .queue
            .remove(caller(pid(9), &stranger), &mut table.wakes),
        Err(Errno::EPERM)
    );
    assert_eq!(
        table.queue.remove(caller(pid(9), &owner), &mut table.wakes),
        Ok(())
    );
    assert_eq!(
        table.woken(),
        [(2, Err(Errno::EIDRM)), (3, Err(Errno::EIDRM))]
    );
}

#[test]
fn a_message_goes_straight_to_a_waiting_receiver_behaviours_86_88() {
    let mut table = Table::new(100);
    assert_eq!(table.receive(2, 0, 9, 0), Ok(Outcome::Blocked));
    table.now += 4;
    assert_eq!(table.send(1, 3, "a", 0), SENT);
    assert_eq!(table.woken(), [(2, granted(3, "a"))]);
    let stat = table.stat();
    assert_eq!((stat.qnum, stat.cbytes), (0, 0));
    assert_eq!((stat.lspid, stat.lrpid), (Some(pid(1)), Some(pid(2))));
    assert_eq!(
        (stat.stime, stat.rtime, stat.ctime),
        (NOW + 4, NOW + 4, NOW)
    );
}

#[test]
fn receivers_are_served_in_the_order_they_blocked_each_with_what_it_wants_behaviour_87() {
    let mut table = Table::new(100);
    for (who, mtype) in [(2, 7), (3, 0), (4, 7), (5, -3)] {
        assert_eq!(table.receive(who, mtype, 9, 0), Ok(Outcome::Blocked));
    }
    for mtype in [7, 7, 7, 3] {
        assert_eq!(table.send(1, mtype, "m", 0), SENT);
    }
    let order: Vec<u64> = table
        .woken()
        .into_iter()
        .map(|(ticket, _)| ticket)
        .collect();
    assert_eq!(order, [2, 3, 4, 5]);
}

#[test]
fn send_and_receive_tell_who_and_when_behaviour_88() {
    let mut table = Table::new(100);
    table.now += 1;
    assert_eq!(table.send(1, 1, "abc", 0), SENT);
    let stat = table.stat();
    assert_eq!(
        (stat.lspid, stat.stime, stat.qnum, stat.cbytes),
        (Some(pid(1)), NOW + 1, 1, 3)
    );
    table.now += 1;
    assert_eq!(table.receive(2, 0, 9, 0), got(1, "abc"));
    let stat = table.stat();
    assert_eq!(
        (stat.lrpid, stat.rtime, stat.qnum, stat.cbytes),
        (Some(pid(2)), NOW + 2, 0, 0)
    );
    assert_eq!((stat.stime, stat.ctime), (NOW + 1, NOW));
}

#[test]
fn a_write_only_queue_takes_messages_and_shows_nothing_behaviour_90() {
    let mut table = Table::new(100);
    let (owner, other) = (user(1000), user(2000));
    table.set(&owner, 0o602, None).unwrap();
    assert_eq!(table.send_as(&other, pid(2), 1, "a", 0), SENT);
    assert_eq!(
        table.receive_as(&other, pid(2), 0, 9, NOWAIT),
        Err(Errno::EACCES)
    );
    assert_eq!(
        table.queue.stat(caller(pid(2), &other), false),
        Err(Errno::EACCES)
    );
    assert!(table.queue.stat(caller(pid(2), &other), true).is_ok());
}

#[test]
fn a_withdrawn_waiter_is_gone_and_a_granted_one_cannot_be_withdrawn_behaviour_128() {
    let mut table = Table::new(1);
    assert_eq!(table.receive(2, 7, 9, 0), Ok(Outcome::Blocked));
    assert_eq!(table.send(1, 1, "a", 0), SENT);
    assert_eq!(table.send(3, 1, "b", 0), Ok(Outcome::Blocked));
    assert!(table.queue.withdraw(Ticket(3)) && !table.queue.withdraw(Ticket(3)));
    assert_eq!(table.receive(1, 1, 9, 0), got(1, "a"));
    assert_eq!(table.send(1, 7, "c", 0), SENT);
    assert!(!table.queue.withdraw(Ticket(2)));
    assert_eq!(table.woken(), [(2, granted(7, "c"))]);
}

#[test]
fn a_message_that_nobody_learned_of_is_the_first_again_even_in_a_full_queue() {
    let mut table = Table::new(1);
    assert_eq!(table.send(1, 4, "a", 0), SENT);
    assert_eq!(table.receive(2, 0, 9, 0), got(4, "a"));
    assert_eq!(table.send(1, 5, "b", 0), SENT);
    table.queue.put_back(4, b"a".into(), NOW, &mut table.wakes);
    assert_eq!((table.stat().qnum, table.stat().cbytes), (2, 2));
    assert_eq!(table.receive(3, 0, 9, 0), got(4, "a"));
    assert_eq!(table.receive(3, 0, 9, 0), got(5, "b"));
}

#[test]
fn a_message_that_nobody_learned_of_goes_to_a_receiver_that_waits() {
    let mut table = Table::new(10);
    assert_eq!(table.receive(3, 4, 9, 0), Ok(Outcome::Blocked));
    table.queue.put_back(5, b"no".into(), NOW, &mut table.wakes);
    table
        .queue
        .put_back(4, b"yes".into(), NOW, &mut table.wakes);
    assert_eq!(table.woken(), [(3, granted(4, "yes"))]);
    assert_eq!((table.stat().qnum, table.stat().lrpid), (1, Some(pid(3))));
}

#[test]
fn a_dead_nodes_waiters_are_dropped_and_its_messages_stay_behaviour_59() {
    let mut table = Table::new(1);
    let owner = user(1000);
    assert_eq!(
        table.receive_as(&owner, pid_on(2, 5), 9, 9, 0),
        Ok(Outcome::Blocked)
    );
    assert_eq!(table.send_as(&owner, pid_on(2, 6), 1, "a", 0), SENT);
    assert_eq!(
        table.send_as(&owner, pid_on(2, 7), 1, "b", 0),
        Ok(Outcome::Blocked)
    );
    assert_eq!(
        table.send_as(&owner, pid_on(3, 8), 9, "c", 0),
        Ok(Outcome::Blocked)
    );
    table.queue.forget_node(node(2));
    assert_eq!(table.receive(1, 0, 9, 0), got(1, "a"));
    assert_eq!(table.woken(), [(8, DONE)]);
    assert_eq!(table.receive(1, 0, 9, 0), got(9, "c"));
}
