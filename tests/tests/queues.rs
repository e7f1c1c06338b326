//! Message queues across nodes. Who makes the queue is its home.

use dipc_tests::{CREATE, Cluster, FIND, NOWAIT, Node, Program, wait};
use nix::sys::signal::Signal;

const NOERROR: u32 = 0o10000;

fn queue(program: &mut Program) -> i64 {
    program.must(format!("msgget 0 {CREATE}"))
}

/// Begins a call and waits until it waits at the queue's home.
fn block(node: &Node, program: &mut Program, call: String) {
    program.begin(call);
    node.until_blocked(program);
}

#[test]
fn messages_arrive_in_order_with_type_size_and_text() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("msgget 0x71 {CREATE}"));
    assert_eq!(two.must(format!("msgget 0x71 {FIND}")), id);
    two.must(format!("msgsnd {id} 5 0 first"));
    one.must(format!("msgsnd {id} 5 0 second"));
    two.must(format!("msgsnd {id} 9 0 third"));
    assert_eq!(two.ask(format!("msgstat {id}")), "= 3 16 16384 1 0");
    assert_eq!(one.ask(format!("msgrcv {id} 99 0 0")), "= 5 5 first");
    assert_eq!(two.ask(format!("msgrcv {id} 99 0 0")), "= 6 5 second");
    assert_eq!(two.ask(format!("msgrcv {id} 99 0 0")), "= 5 9 third");
    assert_eq!(one.ask(format!("msgstat {id}")), "= 0 0 16384 1 1");
}

#[test]
fn a_receiver_chooses_by_type() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = queue(&mut one);
    for kind in [7, 3, 5, 3] {
        one.must(format!("msgsnd {id} {kind} 0 m{kind}"));
    }
    assert_eq!(two.ask(format!("msgrcv {id} 9 5 0")), "= 2 5 m5");
    assert_eq!(two.ask(format!("msgrcv {id} 9 -6 0")), "= 2 3 m3");
    assert_eq!(two.ask(format!("msgrcv {id} 9 4 {NOWAIT}")), "! ENOMSG");
    assert_eq!(two.ask(format!("msgrcv {id} 9 7 {}", 0o20000)), "= 2 3 m3");
    assert_eq!(two.ask(format!("msgrcv {id} 1 0 {NOWAIT}")), "! E2BIG");
    assert_eq!(
        two.ask(format!("msgrcv {id} 1 0 {}", NOWAIT | NOERROR)),
        "= 1 7 m"
    );
    assert_eq!(two.ask(format!("msgrcv {id} 9 0 {NOWAIT}")), "! ENOMSG");
}

#[test]
fn receivers_of_all_nodes_are_served_in_the_order_they_came() {
    let cluster = Cluster::start(3);
    let mut one = cluster.program(1);
    let id = queue(&mut one);
    let order = [3, 2, 1, 2];
    let mut receivers: Vec<Program> = order.map(|node| cluster.program(node)).into();
    for (receiver, node) in receivers.iter_mut().zip(order) {
        block(cluster.node(node), receiver, format!("msgrcv {id} 99 0 0"));
    }
    for (number, receiver) in receivers.iter().enumerate() {
        one.must(format!("msgsnd {id} 1 0 m{number}"));
        let expected = format!("= 2 1 m{number}");
        assert_eq!(receiver.answer(), expected.as_str());
    }
    assert_eq!(one.must(format!("msgstat {id}")), 0);
}

#[test]
fn a_sender_waits_while_the_queue_is_full() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = queue(&mut one);
    one.must(format!("msgset {id} 8"));
    one.must(format!("msgsnd {id} 1 0 12345678"));
    assert_eq!(two.ask(format!("msgsnd {id} 2 {NOWAIT} x")), "! EAGAIN");
    block(cluster.node(2), &mut two, format!("msgsnd {id} 2 0 later"));
    assert_eq!(one.ask(format!("msgrcv {id} 99 0 0")), "= 8 1 12345678");
    assert_eq!(two.answer(), "= 0");
    assert_eq!(one.ask(format!("msgrcv {id} 99 0 0")), "= 5 2 later");
}

#[test]
fn more_room_wakes_a_sender_of_another_node() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = queue(&mut one);
    one.must(format!("msgset {id} 8"));
    one.must(format!("msgsnd {id} 1 0 12345678"));
    block(cluster.node(2), &mut two, format!("msgsnd {id} 2 0 later"));
    one.must(format!("msgset {id} 100"));
    assert_eq!(two.answer(), "= 0");
}

#[test]
fn removal_wakes_senders_and_receivers_everywhere_with_eidrm() {
    let cluster = Cluster::start(3);
    let mut one = cluster.program(1);
    let (full, empty) = (queue(&mut one), queue(&mut one));
    one.must(format!("msgset {full} 1"));
    one.must(format!("msgsnd {full} 1 0 x"));
    let mut waiters = Vec::new();
    for node in 1..=3 {
        for call in [
            format!("msgsnd {full} 1 0 y"),
            format!("msgrcv {empty} 9 0 0"),
        ] {
            let mut waiter = cluster.program(node);
            block(cluster.node(node), &mut waiter, call);
            waiters.push(waiter);
        }
    }
    let mut remover = cluster.program(2);
    remover.must(format!("msgrm {full}"));
    remover.must(format!("msgrm {empty}"));
    for waiter in &mut waiters {
        assert_eq!(waiter.answer(), "! EIDRM");
        assert_eq!(waiter.ask(format!("msgsnd {full} 1 0 z")), "! EINVAL");
    }
}

#[test]
fn messages_of_every_size_arrive_whole() {
    let cluster = Cluster::start(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let id = queue(&mut one);
    for size in [0, 1, 7, 8, 63, 511, 512, 4095, 4096, 4097, 8191, 8192] {
        two.must(format!("msgsnd_pattern {id} 1 {size}"));
        assert_eq!(
            three.ask(format!("msgrcv_pattern {id} 1")).numbers(),
            [size, 0]
        );
        three.begin(format!("msgrcv_pattern {id} 2"));
        cluster.node(3).until_blocked(&three);
        two.must(format!("msgsnd_pattern {id} 2 {size}"));
        assert_eq!(three.answer().numbers(), [size, 0]);
    }
    assert_eq!(two.ask(format!("msgsnd_pattern {id} 1 8193")), "! EINVAL");
    assert_eq!(two.ask(format!("msgsnd {id} 0 0 x")), "! EINVAL");
}

#[test]
fn a_receiver_that_is_killed_takes_no_message_with_it() {
    let cluster = Cluster::start(2);
    let mut one = cluster.program(1);
    let id = queue(&mut one);
    let mut receiver = cluster.program(2);
    block(
        cluster.node(2),
        &mut receiver,
        format!("msgrcv {id} 99 0 0"),
    );
    let pid = receiver.pid();
    receiver.kill();
    wait::until("node 2 forgets the killed receiver", || {
        let status = cluster.node(2).own_status().expect("node 2 answers");
        status.programs.iter().all(|program| program.0 != pid)
    });
    one.must(format!("msgsnd {id} 1 0 kept"));
    assert_eq!(one.ask(format!("msgrcv {id} 99 0 {NOWAIT}")), "= 4 1 kept");
}

#[test]
fn a_caught_signal_ends_sending_and_receiving_with_eintr_and_loses_nothing() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = queue(&mut one);
    two.must(format!("handle {} {}", libc::SIGUSR1, libc::SA_RESTART));
    block(cluster.node(2), &mut two, format!("msgrcv {id} 99 0 0"));
    two.signal(Signal::SIGUSR1);
    assert_eq!(two.answer(), "! EINTR");
    one.must(format!("msgset {id} 4"));
    one.must(format!("msgsnd {id} 1 0 full"));
    block(cluster.node(2), &mut two, format!("msgsnd {id} 1 0 more"));
    two.signal(Signal::SIGUSR1);
    assert_eq!(two.answer(), "! EINTR");
    assert_eq!(two.ask(format!("msgrcv {id} 99 0 0")), "= 4 1 full");
    assert_eq!(one.must(format!("msgstat {id}")), 0);
}

/// Signal and message race: EINTR and the message is still there, or it is
/// received.
#[test]
fn a_signal_that_races_a_message_neither_loses_nor_doubles_it() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = queue(&mut one);
    two.must(format!("handle {} 0", libc::SIGUSR1));
    for round in 0..100 {
        block(cluster.node(2), &mut two, format!("msgrcv {id} 99 0 0"));
        one.begin(format!("msgsnd {id} 1 0 {round}"));
        two.signal(Signal::SIGUSR1);
        assert_eq!(one.answer(), "= 0");
        let answer = two.answer();
        let received = if answer == "! EINTR" {
            two.ask(format!("msgrcv {id} 99 0 {NOWAIT}"))
        } else {
            answer
        };
        let expected = format!("= {} 1 {round}", round.to_string().len());
        assert_eq!(received, expected.as_str());
        assert_eq!(two.ask(format!("msgrcv {id} 99 0 {NOWAIT}")), "! ENOMSG");
    }
}

#[test]
fn many_senders_and_receivers_on_three_nodes_lose_and_double_nothing() {
    const SENT: i64 = 200;
    let cluster = Cluster::start(3);
    let mut one = cluster.program(1);
    let id = queue(&mut one);
    let programs = || -> Vec<Program> {
        let nodes = [1, 2, 3, 1, 2, 3];
        nodes.map(|node| cluster.program(node)).into()
    };
    let (mut senders, mut receivers) = (programs(), programs());
    for receiver in &mut receivers {
        receiver.begin(format!("consume {id} 0"));
    }
    for (sender, number) in senders.iter_mut().zip(0..) {
        sender.begin(format!("produce {id} 1 {} {SENT}", number * SENT));
    }
    for sender in &senders {
        assert_eq!(sender.answer(), "= 0");
    }
    for _ in &receivers {
        one.must(format!("msgsnd {id} 1 0 -1"));
    }
    let mut received: Vec<i64> = Vec::new();
    for receiver in &receivers {
        let numbers = receiver.answer().numbers();
        for sender in 0..senders.len() as i64 {
            let of_sender: Vec<_> = numbers.iter().filter(|n| **n / SENT == sender).collect();
            assert!(
                of_sender.is_sorted(),
                "order of sender {sender}: {of_sender:?}"
            );
        }
        received.extend(numbers);
    }
    received.sort_unstable();
    let sent: Vec<i64> = (0..senders.len() as i64 * SENT).collect();
    assert_eq!(received, sent);
}
