//! Blocked calls and signals.

use std::time::Duration;

use dipc_wire::Errno;
use dipc_wire::call::{Call, Reply};
use dipc_wire::local::Request;
use nix::sys::signal::Signal;

use crate::calls::id;
use crate::fake::{Connection, Fake};
use crate::probe::Probe;

/// Signals until the program has something to say. One signal may come before
/// the program waits; its handler then runs and nothing is interrupted, just as
/// with the kernel's calls.
fn signal_until_heard(probe: &Probe, connection: &Connection, mut send: impl FnMut(&Probe)) {
    for _ in 0..100 {
        send(probe);
        if connection.speaks_within(Duration::from_millis(100)) {
            return;
        }
    }
    panic!("the blocked call goes on");
}

fn usr1(probe: &Probe) {
    probe.signal(Signal::SIGUSR1);
}

fn start(test: &str, arguments: &[&str]) -> (Fake, Probe, Connection) {
    let fake = Fake::new(test);
    let probe = Probe::start("interrupted", &fake.dir, &fake.socket(), arguments, &[]);
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Id(id()));
    (fake, probe, connection)
}

/// The call is interrupted twice: once it ends with EINTR, once it was granted
/// before the withdrawal arrived.
fn interrupt_twice(call: &str, granted: Reply<'_>) {
    let (_fake, probe, mut connection) = start(&format!("eintr-{call}"), &[call, "handler"]);
    for outcome in [Reply::Failed(Errno::EINTR), granted] {
        connection.call();
        signal_until_heard(&probe, &connection, usr1);
        assert_eq!(connection.request().0, Request::Withdraw);
        connection.reply(outcome);
    }
    connection.call();
    connection.reply(Reply::Value(6));
    probe.prints(&[&format!("{call} EINTR"), &format!("{call} 0"), "last 6"]);
}

#[test]
fn semop_ends_with_eintr_after_a_handler_with_sa_restart_unless_it_was_granted() {
    interrupt_twice("semop", Reply::Done);
}

#[test]
fn msgsnd_ends_with_eintr_after_a_handler_with_sa_restart_unless_it_was_granted() {
    interrupt_twice("msgsnd", Reply::Done);
}

#[test]
fn msgrcv_ends_with_eintr_after_a_handler_with_sa_restart_unless_it_was_granted() {
    interrupt_twice("msgrcv", Reply::Message { mtype: 1 });
}

#[test]
fn semop_ends_with_eintr_when_the_process_was_stopped_for_a_while() {
    let (_fake, probe, mut connection) = start("stopped-semop", &["semop"]);
    connection.call();
    signal_until_heard(&probe, &connection, Probe::stop_and_continue);
    assert_eq!(connection.request().0, Request::Withdraw);
    connection.reply(Reply::Failed(Errno::EINTR));
    for reply in [Reply::Done, Reply::Value(6)] {
        connection.call();
        connection.reply(reply);
    }
    probe.prints(&["semop EINTR", "semop 0", "last 6"]);
}

#[test]
fn msgrcv_goes_on_waiting_when_the_process_was_stopped_for_a_while() {
    let (_fake, probe, mut connection) = start("stopped-msgrcv", &["msgrcv"]);
    for _ in 0..2 {
        connection.call();
        probe.stop_and_continue();
        assert!(
            !connection.speaks_within(Duration::from_millis(200)),
            "it was withdrawn"
        );
        connection.reply_with(Reply::Message { mtype: 1 }, b"x");
    }
    assert!(matches!(connection.call().0, Call::Sem { .. }));
    connection.reply(Reply::Value(6));
    probe.prints(&["msgrcv 1", "msgrcv 1", "last 6"]);
}

/// The handler runs on the thread's stack, or on one of its own.
fn call_from_a_handler(stack: &str) {
    let fake = Fake::new(&format!("nested-{stack}"));
    let probe = Probe::start("nested", &fake.dir, &fake.socket(), &[stack], &[]);
    let mut outer = fake.accept();
    outer.call();
    outer.reply(Reply::Id(id()));
    outer.call();
    usr1(&probe);
    for value in [5, 6] {
        let mut inner = fake.accept();
        inner.call();
        inner.reply(Reply::Value(value));
        assert!(
            inner.is_over(),
            "each call of the handler has a connection of its own"
        );
    }
    signal_until_heard(&probe, &outer, usr1);
    assert_eq!(outer.request().0, Request::Withdraw);
    outer.reply(Reply::Failed(Errno::EINTR));
    outer.call();
    outer.reply(Reply::Value(9));
    probe.prints(&["semop EINTR", "in handler 56", "GETVAL 9"]);
}

#[test]
fn a_handler_may_call_in_the_middle_of_a_blocked_call() {
    call_from_a_handler("same-stack");
}

#[test]
fn a_handler_with_a_stack_of_its_own_may_call_too_and_leaves_the_blocked_call_alone() {
    call_from_a_handler("other-stack");
}

#[test]
fn a_call_that_was_left_by_siglongjmp_is_given_up_by_the_next_one() {
    let fake = Fake::new("jumping");
    let probe = Probe::start("jumping", &fake.dir, &fake.socket(), &[], &[]);
    let mut left = fake.accept();
    left.call();
    left.reply(Reply::Id(id()));
    left.call();
    usr1(&probe);
    let mut next = fake.accept();
    assert!(
        left.is_over(),
        "the pending call is withdrawn by the end of its connection"
    );
    for _ in 0..2 {
        next.call();
        next.reply(Reply::Done);
    }
    assert!(next.is_over());
    probe.prints(&["semop 0", "semop 0", "jumps 1"]);
}

#[test]
fn a_child_that_a_handler_forked_off_ends_the_call_without_its_parents_connection() {
    let fake = Fake::new("forking-handler");
    let probe = Probe::start("forking_handler", &fake.dir, &fake.socket(), &[], &[]);
    let mut parent = fake.accept();
    parent.call();
    parent.reply(Reply::Id(id()));
    parent.call();
    signal_until_heard(&probe, &parent, usr1);
    assert_eq!(parent.request().0, Request::Withdraw);
    parent.reply(Reply::Failed(Errno::EINTR));
    parent.call();
    parent.reply(Reply::Value(2));
    assert!(parent.is_over());
    probe.prints(&["child -1 EINTR", "parent -1 EINTR", "GETVAL 2"]);
}
