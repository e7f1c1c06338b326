//! What does not even start, and what it says.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use dipc_tests::cluster::{create, make_key};
use dipc_tests::scratch::Scratch;
use dipc_tests::{Cluster, Options, artifacts, wait};

/// An address of the documentation (RFC 5737): nobody's.
const NETWORK: &str = "192.0.2.1:7461";

/// Starts a program that must end at once, with one line on standard error.
fn refusal(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(artifacts::built(program));
    let output = command.args(arguments).output().unwrap();
    assert!(!output.status.success(), "{program} {arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[test]
fn a_secret_that_others_can_read_is_refused_with_what_to_do() {
    let files = Scratch::new();
    let (key, socket) = (files.join("key"), files.join("socket"));
    make_key(&key);
    let (path, socket) = (key.to_str().unwrap(), socket.to_str().unwrap());
    for mode in [0o640, 0o604, 0o660, 0o666] {
        set_permissions(&key, Permissions::from_mode(mode)).unwrap();
        let daemon = refusal("dipcd", &["--socket", socket, "--key", path]);
        says(&daemon, &["--key", path, "chmod 600"]);
        let referee = refusal("dipc-referee", &["--listen", "127.0.0.1:0", "--key", path]);
        says(&referee, &["--key", path, "chmod 600"]);
    }
    create(&key, b"nonsense");
    set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    says(
        &refusal("dipcd", &["--socket", socket, "--key", path]),
        &["dipc keygen"],
    );
}

#[test]
fn keygen_makes_a_key_of_ones_own_and_never_overwrites() {
    let files = Scratch::new();
    let key = files.join("key");
    make_key(&key);
    let mode = key.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    let text = refusal("dipc", &["keygen", key.to_str().unwrap()]);
    says(&text, &["never overwritten"]);
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn a_bad_allow_file_is_refused_by_its_line() {
    let files = Scratch::new();
    let (list, socket) = (files.join("allow"), files.join("socket"));
    let (path, socket) = (list.to_str().unwrap(), socket.to_str().unwrap());
    create(&list, b"node1 127.0.0.1\nnode2 somewhere\n");
    says(
        &refusal("dipcd", &["--socket", socket, "--allow", path]),
        &["line 2", "somewhere"],
    );
    let referee = ["--listen", "127.0.0.1:0", "--allow", path];
    says(&refusal("dipc-referee", &referee), &["line 2", "somewhere"]);
    create(&list, b"node1 127.0.0.1\n");
    set_permissions(&list, Permissions::from_mode(0o666)).unwrap();
    says(&refusal("dipc-referee", &referee), &["chmod go-w"]);
    create(&list, b"# nobody\n");
    set_permissions(&list, Permissions::from_mode(0o644)).unwrap();
    says(&refusal("dipc-referee", &referee), &["no node"]);
}

#[test]
fn without_a_key_nothing_goes_out_to_a_network() {
    let files = Scratch::new();
    let socket = files.join("socket");
    let socket = socket.to_str().unwrap();
    let listen = [
        "--socket",
        socket,
        "--referee",
        "127.0.0.1:1",
        "--listen",
        NETWORK,
    ];
    says(
        &refusal("dipcd", &listen),
        &["192.0.2.1", "dipc keygen", "--key"],
    );
    let referee = ["--socket", socket, "--referee", NETWORK];
    says(
        &refusal("dipcd", &referee),
        &["192.0.2.1", "dipc keygen", "--key"],
    );
    says(
        &refusal("dipc-referee", &["--listen", NETWORK]),
        &["192.0.2.1", "--key"],
    );
    says(
        &refusal("dipc-referee", &["--listen", "0.0.0.0:0"]),
        &["0.0.0.0", "--key"],
    );
}

#[test]
fn a_key_on_one_side_only_is_said_at_once_by_both() {
    let encrypted = Cluster::with(Options {
        tls: true,
        ..Options::nodes(1)
    });
    let plain = Cluster::start(1);
    let key = encrypted.key();
    let key = ["--key", key.to_str().unwrap(), "--timeout", "20s"];
    let refused = plain.try_node(2, &key).unwrap_err();
    says(&refused.message, &["it does not encrypt", "--key"]);
    let referee = &encrypted.referee_address;
    let refused = plain.try_node(2, &["--referee", referee]).unwrap_err();
    says(&refused.message, &["it encrypts, and this side has no key"]);
    let log = |cluster: &Cluster| std::fs::read_to_string(cluster.file("referee.log")).unwrap();
    says(&log(&plain), &["it encrypts, and this side has no key"]);
    wait::until("the referee has logged whom it told", || {
        log(&encrypted).contains("it does not encrypt")
    });
}
