//! No daemon, one that does not fit, and one that goes away.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use dipc_wire::call::Reply;
use dipc_wire::local::HelloReply;
use dipc_wire::{Errno, NodeId};

use crate::calls::id;
use crate::fake::{Fake, directory, nobody};
use crate::probe::{Probe, isolated};

#[test]
fn without_a_daemon_everything_is_local() {
    if !isolated() {
        return;
    }
    let dir = directory("local");
    let output = Probe::start("bypassed", &dir, &nobody(&dir), &["10000"], &[]).finish();
    assert_eq!(output.stdout.lines().last(), Some("IPC_RMID 0"));
    assert_eq!(output.stderr, "");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_daemon_that_is_required_and_missing_is_enosys_and_told_once() {
    let dir = directory("required");
    let start = |quiet| {
        let variables = [("DIPC_REQUIRE", "1"), ("DIPC_QUIET", quiet)];
        Probe::start("getting", &dir, &nobody(&dir), &[], &variables).finish()
    };
    let output = start("0");
    assert_eq!(
        output.stdout,
        "semget ENOSYS\nshmget ENOSYS\nby id EINVAL\n"
    );
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    for part in ["libdipc.so: ", "nobody", "DIPC_REQUIRE=1", "start dipcd"] {
        assert!(
            output.stderr.contains(part),
            "{:?} lacks {part}",
            output.stderr
        );
    }
    assert_eq!(start("1").stderr, "");
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_daemon_of_another_version_is_enosys_and_told_once() {
    let fake = Fake::new("version");
    let probe = Probe::start("getting", &fake.dir, &fake.socket(), &[], &[]);
    for _ in 0..3 {
        fake.greet(HelloReply {
            version: 41,
            accepted: false,
            node: NodeId::SOLO,
        });
    }
    let output = probe.finish();
    assert_eq!(
        output.stdout,
        "semget ENOSYS\nshmget ENOSYS\nby id ENOSYS\n"
    );
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("version 41"), "{}", output.stderr);
}

#[test]
fn something_else_than_a_dipcd_at_the_socket_is_enosys_and_told_once() {
    let dir = directory("stranger");
    let path = dir.join("socket");
    let _stranger = UnixListener::bind(&path).unwrap();
    let output = Probe::start("getting", &dir, &path, &[], &[]).finish();
    assert_eq!(
        output.stdout,
        "semget ENOSYS\nshmget ENOSYS\nby id ENOSYS\n"
    );
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains("DIPC_SOCKET"), "{}", output.stderr);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_socket_that_may_not_be_used_is_eacces_and_no_local_object() {
    if !nix::unistd::geteuid().is_root() {
        println!("left out: needs a second user");
        return;
    }
    let fake = Fake::new("denied");
    std::fs::set_permissions(fake.socket(), PermissionsExt::from_mode(0o600)).unwrap();
    let output = Probe::start_as_nobody("getting", &fake.dir, &fake.socket()).finish();
    assert_eq!(
        output.stdout,
        "semget EACCES\nshmget EACCES\nby id EACCES\n"
    );
    assert!(output.stderr.contains("permission"), "{}", output.stderr);
    assert!(fake.is_unvisited());
}

#[test]
fn a_mistake_in_dipc_keys_is_told() {
    if !isolated() {
        return;
    }
    let dir = directory("mistake");
    let variables = [("DIPC_KEYS", "0x12,1234h")];
    let output = Probe::start("bypassed", &dir, &nobody(&dir), &["0"], &variables).finish();
    assert!(output.stderr.contains("\"1234h\""), "{}", output.stderr);
    std::fs::remove_dir_all(dir).unwrap();
}

/// The daemon vanishes with `call` under way.
fn lose(call: &str, expected: &str) {
    let fake = Fake::new(&format!("losing-{call}"));
    let probe = Probe::start("losing", &fake.dir, &fake.socket(), &[call], &[]);
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Id(id()));
    connection.request();
    std::fs::remove_file(fake.socket()).unwrap();
    drop(connection);
    probe.prints(&[
        &format!("{call} {expected}"),
        "later semop EINVAL",
        "later semget ETIMEDOUT",
    ]);
}

#[test]
fn a_daemon_that_is_lost_makes_blocked_calls_eidrm_and_the_others_etimedout() {
    lose("semop", "EIDRM");
    lose("msgrcv", "EIDRM");
    lose("shmat", "EIDRM");
    lose("semctl", "ETIMEDOUT");
    lose("semget", "ETIMEDOUT");
}

#[test]
fn a_daemon_that_was_started_again_is_found_by_the_next_call() {
    let fake = Fake::new("restarted");
    let probe = Probe::start("losing", &fake.dir, &fake.socket(), &["none"], &[]);
    let mut connection = fake.accept();
    connection.call();
    probe.stop();
    connection.reply(Reply::Id(id()));
    drop(connection);
    probe.go_on();
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Failed(Errno::EINVAL));
    connection.call();
    connection.reply(Reply::Failed(Errno::ENOENT));
    probe.prints(&["later semop EINVAL", "later semget ENOENT"]);
}

#[test]
fn an_answer_that_makes_no_sense_ends_the_connection_and_the_call() {
    let fake = Fake::new("nonsense");
    let probe = Probe::start("losing", &fake.dir, &fake.socket(), &["semctl"], &[]);
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Id(id()));
    connection.call();
    connection.say(&[0xffu8; 32]);
    assert!(connection.is_over());
    let mut connection = fake.accept();
    connection.call();
    connection.reply(Reply::Done);
    connection.call();
    connection.reply(Reply::Failed(Errno::ENOENT));
    probe.prints(&["semctl ETIMEDOUT", "later semop 0", "later semget ENOENT"]);
}
