//! Who a caller is on another node: two nodes whose users have other numbers.
//! What each case means is defined in `docs/identity.md`.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use dipc_tests::scratch::Scratch;
use dipc_tests::{Accounts, CREATE, Cluster, Options, Program, skip};

/// What node 1 knows: the home of all objects here.
const FIRST: Accounts = Accounts {
    users: &[("root", 0), ("ann", 52_001), ("bob", 52_002)],
    groups: &[("staff", 53_000, "ann")],
};
/// Bob has the number that ann has on node 1, and nobody there knows eve.
const SECOND: Accounts = Accounts {
    users: &[
        ("root", 0),
        ("ann", 52_101),
        ("bob", 52_001),
        ("eve", 52_200),
    ],
    groups: &[("staff", 53_100, "")],
};
/// Numbers without a login on node 2; the second is bob's on node 1.
const UNNAMED: u32 = 54_000;
const UNNAMED_HERE: u32 = 52_002;

struct World {
    cluster: Cluster,
    _files: Scratch,
}

impl World {
    fn new(root: &str) -> Self {
        let files = Scratch::new();
        let prepare = |number: usize, command: &mut Command| {
            let folder = files.join(&number.to_string());
            std::fs::create_dir(&folder).expect("our own folder");
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&folder, open).expect("our own folder");
            let accounts = if number == 1 { FIRST } else { SECOND };
            accounts.govern(command, &folder);
            command.args(["--root", root]);
        };
        World {
            cluster: Cluster::prepared(Options::nodes(2), prepare),
            _files: files,
        }
    }

    /// A program on a node that is of this user, with no other group than its own.
    fn program(&self, node: usize, uid: u32) -> Program {
        let mut program = self.cluster.program(node);
        if uid != 0 {
            program.must(format!("setuid {uid}"));
        }
        program
    }

    /// A set that this user has made on node 1.
    fn set_of(&self, uid: u32) -> i64 {
        self.program(1, uid).must(format!("semget 0 1 {CREATE}"))
    }
}

#[test]
fn a_login_is_the_same_user_everywhere_whatever_its_number() {
    if !skip::unless_root("users with several numbers") {
        return;
    }
    let world = World::new("keep");
    let id = world.set_of(52_001);
    let mut ann = world.program(2, 52_101);
    let mut bob = world.program(2, 52_001);
    assert_eq!(ann.must(format!("getval {id} 0")), 0);
    // In the numbers of who asks.
    assert_eq!(
        ann.ask(format!("stat sem {id} uid gid cuid cgid")),
        "= 52101 52101 52101 52101"
    );
    assert_eq!(bob.ask(format!("getval {id} 0")), "! EACCES");
    assert_eq!(bob.ask(format!("semop {id} 0:1")), "! EACCES");
    assert_eq!(bob.ask(format!("semrm {id}")), "! EPERM");
    assert_eq!(ann.must(format!("semop {id} 0:1")), 0);
    // She gives it to bob, whose number she knows as that of node 2.
    ann.must(format!("set sem {id} 52001 53100 0600"));
    let mut local = world.program(1, 52_002);
    assert_eq!(
        local.ask(format!("stat sem {id} uid gid cuid cgid")),
        "= 52002 53000 52001 52001"
    );
    assert_eq!(bob.must(format!("semrm {id}")), 0);
}

#[test]
fn a_process_is_another_user_on_other_nodes_too_when_it_has_become_one() {
    if !skip::unless_root("a change of user, seen from another node") {
        return;
    }
    let world = World::new("keep");
    let (roots, anns) = (world.set_of(0), world.set_of(52_001));
    let mut program = world.program(2, 0);
    let sockets = |program: &mut Program| program.ask("sockets").numbers();
    assert_eq!(program.must(format!("getval {roots} 0")), 0);
    let before = sockets(&mut program);
    program.must("resuid -1 52101 -1");
    assert_eq!(program.ask(format!("semrm {roots}")), "! EPERM");
    assert_eq!(program.must(format!("getval {anns} 0")), 0);
    program.must("resuid -1 0 -1");
    program.must("resuid -1 52001 -1");
    assert_eq!(program.ask(format!("getval {anns} 0")), "! EACCES");
    assert_eq!(sockets(&mut program), before);
}

#[test]
fn an_unknown_login_is_one_of_the_others_and_owns_nothing() {
    if !skip::unless_root("unknown logins") {
        return;
    }
    let world = World::new("keep");
    let mut root = world.program(1, 0);
    let mut eve = world.program(2, 52_200);
    let id = world.set_of(52_001);
    assert_eq!(eve.ask(format!("getval {id} 0")), "! EACCES");
    root.must(format!("set sem {id} 52001 52001 0604"));
    assert_eq!(eve.must(format!("getval {id} 0")), 0);
    assert_eq!(eve.ask(format!("semop {id} 0:1")), "! EACCES");
    assert_eq!(eve.ask(format!("semrm {id}")), "! EPERM");
    // Not what somebody else's number is either: that is a user of its own.
    for uid in [65_534, 52_200] {
        root.must(format!("set sem {id} {uid} {uid} 0660"));
        assert_eq!(eve.ask(format!("getval {id} 0")), "! EACCES");
        assert_eq!(eve.ask(format!("semrm {id}")), "! EPERM");
    }
    // What she makes has its home on her own node, where she is known.
    let own = eve.must(format!("semget 0 1 {CREATE}"));
    assert_eq!(eve.must(format!("semrm {own}")), 0);
}

#[test]
fn a_number_without_a_login_on_both_nodes_is_the_same_user() {
    if !skip::unless_root("users without a login") {
        return;
    }
    let world = World::new("keep");
    let id = world.set_of(UNNAMED);
    assert_eq!(world.program(2, UNNAMED).must(format!("getval {id} 0")), 0);
    let bobs = world.set_of(UNNAMED_HERE);
    let mut other = world.program(2, UNNAMED_HERE);
    assert_eq!(other.ask(format!("getval {bobs} 0")), "! EACCES");
}

#[test]
fn groups_are_those_of_the_login_at_the_home() {
    if !skip::unless_root("groups of two nodes") {
        return;
    }
    let world = World::new("keep");
    let id = world.set_of(0);
    world
        .program(1, 0)
        .must(format!("set sem {id} 0 53000 0060"));
    let mut ann = world.program(2, 52_101);
    assert_eq!(ann.must(format!("getval {id} 0")), 0);
    // What a process has on its own node does not travel.
    let mut bob = world.program(2, 0);
    bob.must("groups 53000 53100");
    bob.must("resgid 53100 53100 53100");
    bob.must("resuid 52001 52001 52001");
    assert_eq!(bob.ask(format!("getval {id} 0")), "! EACCES");
}

#[test]
fn root_that_is_kept_may_elsewhere_what_it_may_at_home() {
    if !skip::unless_root("root of another node") {
        return;
    }
    let world = World::new("keep");
    let id = world.set_of(52_001);
    let mut root = world.program(2, 0);
    assert_eq!(root.must(format!("getval {id} 0")), 0);
    root.must(format!("set sem {id} 52101 52101 0600"));
    root.must("capdrop 15");
    assert_eq!(root.ask(format!("getval {id} 0")), "! EACCES");
    root.must("capdrop 21");
    assert_eq!(root.ask(format!("semrm {id}")), "! EPERM");
    // What is root's own needs no capability.
    let own = world.set_of(0);
    assert_eq!(root.must(format!("getval {own} 0")), 0);
    assert_eq!(root.must(format!("semrm {own}")), 0);
}

#[test]
fn root_that_is_squashed_is_nobody_but_on_its_own_node() {
    if !skip::unless_root("squashed root") {
        return;
    }
    let world = World::new("squash");
    let mut root = world.program(2, 0);
    let [anns, roots] = [52_001, 0].map(|uid| world.set_of(uid));
    for id in [anns, roots] {
        assert_eq!(root.ask(format!("getval {id} 0")), "! EACCES");
        assert_eq!(root.ask(format!("semrm {id}")), "! EPERM");
    }
    let mut local = world.program(1, 0);
    assert_eq!(local.must(format!("getval {anns} 0")), 0);
    local.must(format!("set sem {roots} 0 0 0604"));
    assert_eq!(root.must(format!("getval {roots} 0")), 0);
    let own = root.must(format!("semget 0 1 {CREATE}"));
    assert_eq!(root.must(format!("semrm {own}")), 0);
    // Others are who they are.
    assert_eq!(world.program(2, 52_101).must(format!("getval {anns} 0")), 0);
}
