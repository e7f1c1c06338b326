//! Keys and ids in the whole cluster.

use std::collections::HashSet;

use dipc_tests::{CREATE, CREATE_NEW, Cluster, FIND, Program};

const KINDS: [&str; 3] = ["sem", "msg", "shm"];
const KEYS: usize = 1000;

/// `semget`, `msgget` or `shmget` of one key.
fn get(kind: &str, key: i64, flags: u32) -> String {
    match kind {
        "msg" => format!("msgget {key} {flags}"),
        kind => format!("{kind}get {key} 1 {flags}"),
    }
}

#[test]
fn of_three_nodes_that_create_1000_keys_of_each_kind_at_once_one_wins_each() {
    let cluster = Cluster::start(3);
    let mut programs: Vec<Program> = (1..=3).map(|node| cluster.program(node)).collect();
    for kind in KINDS {
        for program in &mut programs {
            program.begin(format!("getmany {kind} 0x1000 {KEYS} {CREATE_NEW}"));
        }
        let answers: Vec<Vec<i64>> = programs.iter().map(|p| p.answer().numbers()).collect();
        let winners: Vec<i64> = (0..KEYS)
            .map(|key| {
                let mut won = answers.iter().map(|ids| ids[key]).filter(|id| *id != -1);
                let winner = won
                    .next()
                    .unwrap_or_else(|| panic!("nobody made {kind} {key}"));
                assert_eq!(won.next(), None, "two made {kind} {key}");
                winner
            })
            .collect();
        assert_eq!(
            winners.iter().collect::<HashSet<_>>().len(),
            KEYS,
            "ids differ"
        );
        for program in &mut programs {
            let found = program.ask(format!("getmany {kind} 0x1000 {KEYS} {FIND}"));
            assert_eq!(found.numbers(), winners);
        }
    }
}

#[test]
fn of_nodes_that_create_a_key_at_once_without_excl_all_get_one_object() {
    let cluster = Cluster::start(3);
    let mut programs: Vec<Program> = (1..=3).map(|node| cluster.program(node)).collect();
    for kind in KINDS {
        for program in &mut programs {
            program.begin(format!("getmany {kind} 7000 300 {CREATE}"));
        }
        let answers: Vec<Vec<i64>> = programs.iter().map(|p| p.answer().numbers()).collect();
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[0], answers[2]);
    }
}

#[test]
fn a_key_is_absent_until_it_is_created_and_then_exists_everywhere() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    for kind in KINDS {
        assert_eq!(one.ask(get(kind, 77, FIND)), "! ENOENT");
        assert_eq!(two.ask(get(kind, 77, FIND | 0o2000)), "! ENOENT");
        let id = two.must(get(kind, 77, CREATE));
        assert_eq!(one.must(get(kind, 77, FIND)), id);
        assert_eq!(one.must(get(kind, 77, CREATE)), id);
        assert_eq!(one.ask(get(kind, 77, CREATE_NEW)), "! EEXIST");
        assert_eq!(two.ask(get(kind, 77, CREATE_NEW)), "! EEXIST");
    }
    assert_eq!(one.ask(format!("semget 77 2 {FIND}")), "! EINVAL");
    assert_eq!(one.ask(format!("shmget 77 2 {FIND}")), "! EINVAL");
    assert_eq!(one.ask(format!("semget 78 0 {CREATE}")), "! EINVAL");
    assert_eq!(one.ask(format!("shmget 78 0 {CREATE}")), "! EINVAL");
}

#[test]
fn ipc_private_always_makes_a_new_object() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    for kind in KINDS {
        let ids: HashSet<i64> = [CREATE, FIND, CREATE_NEW]
            .into_iter()
            .flat_map(|flags| [one.must(get(kind, 0, flags)), two.must(get(kind, 0, flags))])
            .collect();
        assert_eq!(ids.len(), 6, "{kind}");
    }
}

#[test]
fn a_removed_key_can_be_created_again_by_any_node_with_a_new_id() {
    let cluster = Cluster::start(3);
    let mut programs: Vec<Program> = (1..=3).map(|node| cluster.program(node)).collect();
    for kind in KINDS {
        let mut seen = HashSet::new();
        for round in 0..60 {
            let (maker, user, remover) = (round % 3, (round + 1) % 3, (round + 2) % 3);
            let id = programs[maker].must(get(kind, 0x4e4, CREATE_NEW));
            assert!(seen.insert(id), "{id} was given twice");
            assert_eq!(programs[user].must(get(kind, 0x4e4, CREATE)), id);
            programs[remover].must(format!("{kind}rm {id}"));
            assert_eq!(programs[user].ask(format!("{kind}stat {id}")), "! EINVAL");
            assert_eq!(programs[remover].ask(get(kind, 0x4e4, FIND)), "! ENOENT");
        }
    }
}

#[test]
fn objects_without_the_flag_are_the_kernels_own() {
    let cluster = Cluster::start(1);
    let mut one = cluster.program(1);
    let id = one.must("semget 0 1 0600");
    assert!(id < 1 << 30, "{id} is a kernel's id");
    one.must(format!("semop {id} 0:4"));
    assert_eq!(one.must(format!("getval {id} 0")), 4);
    one.must(format!("semrm {id}"));
}

#[test]
fn an_id_that_was_never_given_is_einval_everywhere() {
    let cluster = Cluster::start(2);
    let [mut one, mut two] = [1, 2].map(|n| cluster.program(n));
    let id = one.must(format!("semget 0 1 {CREATE}")) + 999;
    for program in [&mut one, &mut two] {
        assert_eq!(program.ask(format!("semop {id} 0:1")), "! EINVAL");
        assert_eq!(program.ask(format!("msgsnd {id} 1 0 x")), "! EINVAL");
        assert_eq!(program.ask(format!("shmat {id} 0")), "! EINVAL");
    }
}
