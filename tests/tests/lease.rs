//! A node that is cut off, or whose daemon is stopped, gives up what others have
//! lent it before they go on without it: no program reads an old value once a new
//! one was written anywhere.

use std::time::{Duration, Instant};

use dipc_tests::cluster::Options;
use dipc_tests::observe::{exists, waits_for_page};
use dipc_tests::{CREATE, Cluster, Direction, FIND, Program, Relay, UNDO, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The time-out of clusters in which it is waited for: a quarter of it is the
/// margin, which a keeper needs for its turn on a busy machine.
const SHORT: &str = "3s";
const SHORT_IS: Duration = Duration::from_secs(3);

fn impatient(nodes: usize) -> Cluster {
    Cluster::with(Options {
        timeout: SHORT,
        ..Options::nodes(nodes)
    })
}

/// Two nodes with a relay between them.
fn apart(timeout: &'static str) -> (Cluster, Relay) {
    let relay = Relay::start();
    let mut cluster = Cluster::with(Options {
        timeout,
        ..Options::nodes(0)
    });
    cluster.add_node_behind(&relay);
    cluster.add_node();
    (cluster, relay)
}

/// A segment of one page whose home is the owner's node, attached by both. Its
/// first word is 5, and both have a copy.
fn lend(owner: &mut Program, borrower: &mut Program) -> (i64, i64) {
    let id = owner.must(format!("shmget 0 4096 {CREATE}"));
    let slots = (
        owner.must(format!("shmat {id} 0")),
        borrower.must(format!("shmat {id} 0")),
    );
    owner.must(format!("poke {} 0 5", slots.0));
    assert_eq!(borrower.must(format!("peek {} 0", slots.1)), 5);
    slots
}

fn lives(cluster: &Cluster) -> Vec<u64> {
    let life = |node: &dipc_tests::Node| node.own_status().map(|status| status.incarnation);
    cluster.nodes().iter().filter_map(life).collect()
}

fn until_faulting(program: &Program) {
    wait::until("a program waits for a page", || {
        waits_for_page(program.pid())
    });
    assert!(program.is_silent());
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid as i32), signal).expect("the process is there");
}

#[test]
fn programs_of_a_stopped_daemon_read_no_old_value_once_a_new_one_is_written() {
    let mut cluster = impatient(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    cluster.node(2).stop();
    assert_eq!(
        two.must(format!("peek {theirs} 0")),
        5,
        "its lease still runs"
    );
    one.must(format!("poke {ours} 0 6"));
    assert_eq!(two.ask(format!("peek {theirs} 0")), "! SIGBUS");
    cluster.node(2).signal(Signal::SIGCONT);
    assert!(!cluster.node_ended(2).success());
    let log = cluster.node(2).log();
    assert!(log.contains("it was stopped, or got no processor"), "{log}");
}

#[test]
fn a_page_that_only_a_stopped_node_had_is_lost_to_its_own_programs_too() {
    let cluster = impatient(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    two.must(format!("poke {theirs} 0 7"));
    cluster.node(2).stop();
    assert_eq!(one.ask(format!("peek {ours} 0")), "! SIGBUS");
    assert_eq!(two.ask(format!("peek {theirs} 0")), "! SIGBUS");
}

#[test]
fn what_a_stopped_node_holds_is_released_after_its_programs_have_lost_what_it_guards() {
    let cluster = impatient(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (_, theirs) = lend(&mut one, &mut two);
    let lock = one.must(format!("semget 0 1 {CREATE}"));
    one.must(format!("setval {lock} 0 1"));
    two.must(format!("semop {lock} 0:-1:{UNDO}"));
    one.begin(format!("semop {lock} 0:-1"));
    cluster.node(1).until_blocked(&one);
    cluster.node(2).stop();
    assert_eq!(one.answer(), "= 0");
    assert_eq!(two.ask(format!("poke {theirs} 0 8")), "! SIGBUS");
}

/// One of the two goes, and it is the referee who says which. Whichever it is, the
/// other's write succeeds; and whoever's does, nobody sees a value from before. The
/// one that goes may still succeed too: when the other has closed its end, and the
/// referee's word has not come yet.
fn cut_off(directions: &[Direction]) {
    let (mut cluster, relay) = apart(SHORT);
    let mut programs = [1, 2].map(|n| cluster.program(n));
    let [one, two] = &mut programs;
    let of_one = lend(one, two);
    let of_two = lend(two, one);
    for way in directions {
        relay.cut(*way);
    }
    programs[0].begin(format!("poke {} 0 6", of_one.0));
    programs[1].begin(format!("poke {} 0 6", of_two.0));
    let answers = programs.each_ref().map(Program::answer);
    for (program, slot) in programs.iter_mut().zip([of_two.1, of_one.1]) {
        assert_eq!(program.ask(format!("peek {slot} 0")), "! SIGBUS");
    }
    wait::until("one of them ends", || {
        cluster.has_ended(1) || cluster.has_ended(2)
    });
    let stays = usize::from(cluster.has_ended(1));
    assert!(!cluster.has_ended(stays + 1));
    assert_eq!(answers[stays], "= 0", "{answers:?}");
    assert!(answers[1 - stays] == "= 0" || answers[1 - stays] == "! SIGBUS");
    for way in directions {
        relay.heal(*way);
    }
    let again = if stays == 0 { of_one.0 } else { of_two.0 };
    assert_eq!(programs[stays].must(format!("peek {again} 0")), 6);
}

#[test]
fn a_link_that_is_cut_in_both_directions_costs_one_node_and_shows_no_old_value() {
    cut_off(&[Direction::Towards, Direction::Back]);
}

#[test]
fn a_link_that_is_cut_in_the_direction_of_the_node_that_was_first_is_no_different() {
    cut_off(&[Direction::Towards]);
}

#[test]
fn a_link_that_is_cut_in_the_direction_of_the_node_that_was_last_is_no_different() {
    cut_off(&[Direction::Back]);
}

/// Nodes 2 and 3 lose each other; node 1, the home, hears both well, and is told
/// by the referee which of them is dead.
#[test]
fn a_home_goes_on_without_a_node_that_it_still_hears_only_when_that_has_fenced() {
    let relay = Relay::start();
    let mut cluster = impatient(1);
    cluster.add_node_behind(&relay);
    cluster.add_node();
    let mut home = cluster.program(1);
    let id = home.must(format!("shmget 0 4096 {CREATE}"));
    home.must(format!("shmat {id} 0"));
    home.must("poke 0 0 5");
    let mut programs = [2, 3].map(|n| cluster.program(n));
    for program in &mut programs {
        program.must(format!("shmat {id} 0"));
        assert_eq!(program.must("peek 0 0"), 5);
    }
    relay.cut(Direction::Towards);
    relay.cut(Direction::Back);
    cluster.until_peers(1, 1);
    home.must("poke 0 0 6");
    let answers = programs.each_mut().map(|program| program.ask("peek 0 0"));
    let stays = usize::from(answers[0] == "! SIGBUS");
    assert_eq!(answers[stays], "= 6", "{answers:?}");
    assert_eq!(answers[1 - stays], "! SIGBUS", "{answers:?}");
    assert!(!cluster.has_ended(2 + stays));
    assert!(!cluster.node_ended(3 - stays).success());
}

#[test]
fn a_link_that_heals_in_time_has_lost_nothing() {
    let (cluster, relay) = apart("20s");
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    let before = lives(&cluster);
    for ways in [
        &[Direction::Towards][..],
        &[Direction::Back],
        &[Direction::Towards, Direction::Back],
    ] {
        let value = one.must(format!("peek {ours} 0")) + 1;
        ways.iter().for_each(|way| relay.cut(*way));
        one.begin(format!("poke {ours} 0 {value}"));
        until_faulting(&one);
        ways.iter().for_each(|way| relay.heal(*way));
        assert_eq!(one.answer(), "= 0");
        assert_eq!(two.must(format!("peek {theirs} 0")), value);
    }
    assert_eq!(lives(&cluster), before);
}

#[test]
fn a_daemon_that_is_stopped_and_continued_in_time_has_lost_nothing() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    let before = lives(&cluster);
    for value in 6..9 {
        cluster.node(2).stop();
        one.begin(format!("poke {ours} 0 {value}"));
        until_faulting(&one);
        cluster.node(2).signal(Signal::SIGCONT);
        assert_eq!(one.answer(), "= 0");
        assert_eq!(two.must(format!("peek {theirs} 0")), value);
    }
    assert_eq!(lives(&cluster), before);
}

/// The keeper announces the death, and it cannot: so the others wait, and go on as
/// soon as it can.
#[test]
fn nobody_goes_on_without_a_killed_daemon_before_its_keeper_has_fenced() {
    let mut cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    let keeper = cluster.node(2).own_status().expect("it answers").keeper;
    signal(keeper, Signal::SIGSTOP);
    cluster.kill_node(2);
    one.begin(format!("poke {ours} 0 6"));
    until_faulting(&one);
    assert_eq!(two.must(format!("peek {theirs} 0")), 5, "nothing is newer");
    assert!(one.is_silent());
    signal(keeper, Signal::SIGCONT);
    assert_eq!(one.answer(), "= 0");
    assert_eq!(two.ask(format!("peek {theirs} 0")), "! SIGBUS");
}

#[test]
fn when_daemon_and_keeper_are_killed_the_others_wait_for_the_time_out_and_the_next_life_comes() {
    let mut cluster = impatient(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let (ours, _) = lend(&mut one, &mut two);
    let keeper = cluster.node(2).own_status().expect("it answers").keeper;
    cluster.node(2).stop();
    signal(keeper, Signal::SIGKILL);
    cluster.kill_node(2);
    one.begin(format!("poke {ours} 0 6"));
    cluster.restart_node(2);
    assert_eq!(one.answer(), "= 0");
    let mut again = cluster.program(2);
    let (ours, theirs) = lend(&mut one, &mut again);
    one.must(format!("poke {ours} 0 6"));
    assert_eq!(again.must(format!("peek {theirs} 0")), 6);
}

#[test]
fn a_killed_keeper_is_replaced_and_its_successor_guards_everything() {
    let mut cluster = Cluster::start(2);
    let [mut one, mut two, mut reader] = [1, 2, 2].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    let id = two.must(format!("shmget 0 8192 {CREATE}"));
    let own = two.must(format!("shmat {id} 0"));
    two.must(format!("fill {own} 0 4096 1"));
    reader.must(format!("shmat {id} 010000"));
    reader.must("peek 0 0");
    two.must("fork");
    let keeper = || cluster.node(2).own_status().expect("it answers").keeper;
    for _ in 0..2 {
        let before = keeper();
        signal(before, Signal::SIGKILL);
        wait::until("there is another keeper", || keeper() != before);
        assert!(!exists(before));
        // It holds what was there before, and what comes.
        let late = two.must(format!("shmget 0 4096 {CREATE}"));
        let slot = two.must(format!("shmat {late} 0"));
        two.must(format!("poke {slot} 0 3"));
    }
    wait::until("the new keeper is handed everything", || {
        let log = cluster.node(2).log();
        log.matches("the new keeper guards all memory").count() == 2
    });
    let ones = 0x0101_0101_0101_0101_u64;
    two.must(format!("send 0 watch {own} 0 {ones}"));
    reader.begin(format!("watch 0 0 {ones}"));
    cluster.kill_node(2);
    assert_eq!(reader.answer(), "! SIGBUS");
    assert_eq!(two.ask("receive 0"), "! SIGBUS");
    for slot in [own, theirs, own + 1, own + 2] {
        assert_eq!(two.ask(format!("peek {slot} 0")), "! SIGBUS", "{slot}");
    }
    assert_eq!(two.ask(format!("peek {own} 4096")), "! SIGBUS");
    // It held the link too: its end is told when that is done.
    one.must(format!("poke {ours} 0 6"));
}

#[test]
fn a_referee_that_is_away_for_long_fences_nobody() {
    let mut cluster = impatient(3);
    let [mut one, mut two, mut three] = [1, 2, 3].map(|n| cluster.program(n));
    let (ours, theirs) = lend(&mut one, &mut two);
    let set = three.must(format!("semget 0x7 1 {CREATE}"));
    let before = lives(&cluster);
    cluster.kill_referee();
    let since = Instant::now();
    let mut value = 5;
    while since.elapsed() < SHORT_IS * 3 {
        value += 1;
        one.must(format!("poke {ours} 0 {value}"));
        assert_eq!(two.must(format!("peek {theirs} 0")), value);
        two.must(format!("semop {set} 0:1"));
    }
    assert_eq!(lives(&cluster), before);
    cluster.restart_referee();
    wait::until("the nodes are back at the referee", || {
        let answer = one.ask(format!("semget 0x7 1 {FIND}"));
        answer == format!("= {set}").as_str()
    });
    assert_eq!(lives(&cluster), before);
}

/// Both would be members for ever, and never talk.
#[test]
fn two_nodes_that_lost_each_other_while_the_referee_was_away_are_one_when_it_is_back() {
    let (mut cluster, relay) = apart(SHORT);
    cluster.kill_referee();
    relay.cut(Direction::Towards);
    cluster.until_peers(1, 0);
    cluster.until_peers(2, 0);
    cluster.restart_referee();
    wait::until("one of them ends", || {
        cluster.has_ended(1) || cluster.has_ended(2)
    });
    assert!(cluster.has_ended(1) != cluster.has_ended(2));
}
