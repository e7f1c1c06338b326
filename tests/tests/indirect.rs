//! What reaches the library by libc's `syscall` and by no name of its own.

#![cfg(target_arch = "x86_64")]

use dipc_tests::{CREATE, Cluster, wait};

const PAGE: i64 = 4096;

/// No handler of libc's runs in such a child, and all it does is to touch memory:
/// once a page that its parent has never had, once one that another node has
/// taken since.
#[test]
fn a_child_forked_by_number_reads_what_another_node_wrote() {
    for call in [libc::SYS_fork, libc::SYS_clone] {
        let cluster = Cluster::start(2);
        let [mut one, mut two] = [1, 2].map(|number| cluster.program(number));
        let id = one.must(format!("shmget 0 {} {CREATE}", 2 * PAGE));
        for program in [&mut one, &mut two] {
            program.must(format!("shmat {id} 0"));
        }
        one.must("poke 0 0 1");
        one.must(format!("poke 0 {PAGE} 2"));
        two.must(format!("poke 0 {PAGE} 3"));
        two.must(format!("fork {call}"));
        one.must(format!("poke 0 {PAGE} 4"));
        assert_eq!(two.ask("child 0 peek 0 0"), "= 1");
        assert_eq!(two.ask(format!("child 0 peek 0 {PAGE}")), "= 4");
        two.must("child 0 poke 0 0 5");
        assert_eq!(one.must("peek 0 0"), 5);

        let attached = format!("shmstat {id}");
        wait::until("the child counts", || one.must(&attached) == 3);
        two.must("child 0 shmdt 0");
        assert_eq!(one.must(&attached), 2);
        assert_eq!(two.must("peek 0 0"), 5, "the parent keeps its own");
    }
}
