//! Granules and quanta that the creator of a segment chooses (`DIPC_GRANULE`,
//! `DIPC_QUANTUM`), and granules that are larger than what one frame carries.
//! Memory itself is tested in each mode by `memory`, `mappings` and `failures`.

use std::fs;
use std::process::Command;

use dipc_tests::cluster::Options;
use dipc_tests::{CREATE, Cluster, FIND, Node, Program, artifacts};
use serde_json::Value;

const MIB: i64 = 1 << 20;

/// A program on a node, with these variables in its environment.
fn program_with(node: &Node, variables: &[(&str, &str)]) -> Program {
    Program::start(|command| {
        node.enter(command);
        command.envs(variables.iter().copied());
    })
}

fn dipc_ls(node: &Node, more: &[&str]) -> String {
    let output = Command::new(artifacts::built("dipc"))
        .args(["ls", "--kind", "shm"])
        .args(more)
        .env("DIPC_SOCKET", &node.socket)
        .output()
        .expect("dipc can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it is text")
}

/// Granule and quantum of a segment, as `dipc ls` on this node says.
fn sharing(node: &Node, id: i64) -> (u64, u64) {
    let list: Value = serde_json::from_str(&dipc_ls(node, &["--json"])).expect("it is JSON");
    let all = list["objects"].as_array().expect("it lists objects");
    let found = all.iter().find(|object| object["id"] == id);
    let segment = found.expect("the segment is listed");
    let number = |name: &str| segment[name].as_u64().expect("a number");
    (number("granule"), number("quantum_ns"))
}

fn granules_in(node: &Node) -> u64 {
    node.own_status().expect("it answers").granules_in
}

#[test]
fn a_program_chooses_how_the_segments_it_makes_are_shared_and_every_node_sees_it() {
    let cluster = Cluster::start(2);
    let (home, other) = (cluster.node(1), cluster.node(2));
    for (variables, expected) in [
        (&[][..], (4096, 200_000)),
        (&[("DIPC_GRANULE", "64K")], (65_536, 200_000)),
        (&[("DIPC_QUANTUM", "0")], (4096, 0)),
        (
            &[("DIPC_GRANULE", "segment"), ("DIPC_QUANTUM", "1ms")],
            (24_576, 1_000_000),
        ),
        // As if they were not there.
        (
            &[("DIPC_GRANULE", ""), ("DIPC_QUANTUM", "")],
            (4096, 200_000),
        ),
    ] {
        let mut maker = program_with(home, variables);
        let id = maker.must(format!("shmget 0 {} {CREATE}", 5 * 4096 + 1));
        for node in [home, other] {
            assert_eq!(sharing(node, id), expected, "{variables:?}");
        }
        let mut user = other.program();
        user.must(format!("shmat {id} 0"));
        maker.must(format!("shmat {id} 0"));
        user.must("poke 0 20480 7");
        assert_eq!(maker.must("peek 0 20480"), 7);
        maker.must(format!("shmrm {id}"));
    }
    let mut maker = program_with(home, &[("DIPC_GRANULE", "1M"), ("DIPC_QUANTUM", "5ms")]);
    maker.must(format!("shmget 0x77 {MIB} {CREATE}"));
    let table = dipc_ls(other, &[]);
    let row = table.lines().find(|line| line.contains("0x00000077"));
    assert!(row.expect("its row").ends_with("1M      5ms"), "{table}");
}

#[test]
fn a_segment_that_is_found_stays_as_it_was_made() {
    let cluster = Cluster::start(2);
    let id = cluster
        .program(1)
        .must(format!("shmget 0x5a 65536 {CREATE}"));
    for node in [cluster.node(1), cluster.node(2)] {
        let wish = [("DIPC_GRANULE", "64K"), ("DIPC_QUANTUM", "0")];
        let mut finder = program_with(node, &wish);
        assert_eq!(finder.must(format!("shmget 0x5a 65536 {CREATE}")), id);
        assert_eq!(finder.must(format!("shmget 0x5a 0 {FIND}")), id);
        assert_eq!(finder.ask(format!("shmget 0x5b 1 {FIND}")), "! ENOENT");
        assert_eq!(sharing(node, id), (4096, 200_000));
    }
}

#[test]
fn a_mistake_in_the_environment_is_told_and_the_nodes_default_holds() {
    let cluster = Cluster::with(Options {
        granule: "8K",
        ..Options::nodes(1)
    });
    let node = cluster.node(1);
    for (variable, value) in [
        ("DIPC_GRANULE", "5K"),
        ("DIPC_GRANULE", "128M"),
        ("DIPC_GRANULE", "pages"),
        ("DIPC_QUANTUM", "200"),
        ("DIPC_QUANTUM", "1.1s"),
    ] {
        let mut maker = program_with(node, &[(variable, value)]);
        let id = maker.must(format!("shmget 0 65536 {CREATE}"));
        assert_eq!(sharing(node, id), (8192, 200_000));
    }
    let said = fs::read_to_string(cluster.folder().join("node1.programs.log")).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    for (line, variable) in lines
        .iter()
        .zip(["GRANULE", "GRANULE", "GRANULE", "QUANTUM"])
    {
        assert!(line.starts_with("libdipc.so: DIPC_"), "{line}");
        assert!(
            line.contains(variable) && line.contains("default"),
            "{line}"
        );
    }
}

#[test]
fn a_daemon_does_not_start_with_a_granule_or_quantum_that_is_none() {
    let cluster = Cluster::start(1);
    for (option, value, why) in [
        ("--granule", "5K", "multiple of 4K"),
        ("--granule", "1G", "no granule"),
        ("--quantum", "2s", "more than a second"),
        ("--quantum", "fast", "no time"),
    ] {
        let refusal = cluster
            .try_node(2, &[option, value])
            .expect_err("it is refused");
        assert!(refusal.message.contains(why), "{option}: {refusal:?}");
    }
}

#[test]
fn a_quantum_for_which_a_node_could_look_dead_is_refused() {
    let cluster = Cluster::with(Options {
        timeout: "2s",
        ..Options::nodes(1)
    });
    let node = cluster.node(1);
    let mut maker = program_with(node, &[("DIPC_QUANTUM", "501ms")]);
    assert_eq!(maker.ask(format!("shmget 0 4096 {CREATE}")), "! EINVAL");
    assert!(node.log().contains("a quarter of the time-out"));
    let mut maker = program_with(node, &[("DIPC_QUANTUM", "500ms")]);
    let id = maker.must(format!("shmget 0 4096 {CREATE}"));
    assert_eq!(sharing(node, id), (4096, 500_000_000));
}

#[test]
fn a_granule_larger_than_a_frame_comes_whole_by_one_fault() {
    let cluster = Cluster::start(3);
    let wish = [("DIPC_GRANULE", "segment")];
    let mut one = program_with(cluster.node(1), &wish);
    let [mut two, mut three] = [2, 3].map(|node| cluster.program(node));
    let size = 5 * MIB + 4096;
    let id = one.must(format!("shmget 0 {size} {CREATE}"));
    for program in [&mut one, &mut two, &mut three] {
        program.must(format!("shmat {id} 0"));
    }
    two.must(format!("fill 0 0 {size} 5"));
    for (number, reader) in [(1, &mut one), (3, &mut three)] {
        let before = granules_in(cluster.node(number));
        assert_eq!(reader.must(format!("differ 0 0 {size} 5")), 0);
        assert_eq!(granules_in(cluster.node(number)) - before, 1);
    }
    three.must(format!("fill 0 4096 {} 6", 2 * MIB));
    assert_eq!(two.must("differ 0 0 4096 5"), 0);
    assert_eq!(two.must(format!("differ 0 4096 {} 6", 2 * MIB)), 0);
    let rest = 2 * MIB + 4096;
    assert_eq!(two.must(format!("differ 0 {rest} {} 5", size - rest)), 0);
    // What the last process of a node gives back is whole too.
    three.must(format!("poke 0 {} 9", size - 8));
    two.must("shmdt 0");
    three.must("shmdt 0");
    assert_eq!(one.must(format!("peek 0 {}", size - 8)), 9);
    assert_eq!(one.must(format!("differ 0 4096 {} 6", 2 * MIB)), 0);
}

#[test]
fn a_large_sparse_segment_costs_what_is_touched_of_it() {
    const GIB: i64 = 1 << 30;
    let cluster = Cluster::start(2);
    let mut one = program_with(cluster.node(1), &[("DIPC_GRANULE", "segment")]);
    let mut two = cluster.program(2);
    let id = one.must(format!("shmget 0 {GIB} {CREATE}"));
    assert_eq!(sharing(cluster.node(2), id).0, 64 << 20);
    for program in [&mut one, &mut two] {
        program.must(format!("shmat {id} 0"));
    }
    let sent = || -> u64 {
        let output = Command::new(artifacts::built("dipc"))
            .args(["status", "--json"])
            .env("DIPC_SOCKET", &cluster.node(1).socket)
            .output()
            .expect("dipc can be run");
        let all: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let nodes = all["nodes"].as_array().expect("it lists nodes");
        let bytes = |node: &Value| node["counters"]["bytes_out"].as_u64().expect("a number");
        nodes.iter().map(bytes).sum()
    };
    let before = sent();
    for place in 0..20 {
        let word = place * (GIB / 20) / 8 * 8;
        two.must(format!("poke 0 {word} {place}"));
        assert_eq!(one.must(format!("peek 0 {word}")), place);
        one.must(format!("poke 0 {word} {}", -place));
        assert_eq!(two.must(format!("peek 0 {word}")), -place);
    }
    // Each way a few pages and a mark for each of 16 384; not 64 MiB.
    let moved = sent() - before;
    assert!(moved < 80 * 32 * 1024, "{moved} bytes");
}

/// The reader has the granule, or learns that it is lost; never a part of it.
#[test]
fn a_node_that_is_killed_while_it_sends_a_large_granule_sends_all_or_nothing() {
    for round in 1..4 {
        let mut cluster = Cluster::start(2);
        let mut one = program_with(cluster.node(1), &[("DIPC_GRANULE", "segment")]);
        let mut two = cluster.program(2);
        let size = 6 * MIB;
        let id = one.must(format!("shmget 0 {size} {CREATE}"));
        for program in [&mut one, &mut two] {
            program.must(format!("shmat {id} 0"));
        }
        two.must(format!("fill 0 0 {size} {round}"));
        one.begin(format!("differ 0 0 {size} {round}"));
        cluster.kill_node(2);
        let answer = one.answer();
        let whole = answer == "= 0" || answer == "! SIGBUS";
        assert!(whole, "round {round}: {answer:?}");
    }
}
