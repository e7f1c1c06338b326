//! The Unix socket's clients are what the kernel says they are.

use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::thread;

use dipc_tests::Cluster;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
use nix::unistd::{Gid, Uid, getegid, geteuid, gettid};

/// An ordinary user, for a test that runs as root.
const USER: libc::uid_t = 1000;

/// Has this thread alone be an ordinary user, if it is root's.
fn become_a_user() {
    if geteuid().is_root() {
        // SAFETY: system calls without pointers; called past libc, which would
        // change all threads of the test.
        let failed = unsafe {
            libc::syscall(libc::SYS_setresgid, USER, USER, USER)
                + libc::syscall(libc::SYS_setresuid, USER, USER, USER)
        };
        assert_eq!(failed, 0);
    }
}

/// What comes of a packet to the daemon that says so of its sender.
fn claim(socket: &socket2::Socket, pid: i32, uid: Uid, gid: Gid) -> Result<usize, Errno> {
    let who = UnixCredentials::from(libc::ucred {
        pid,
        uid: uid.as_raw(),
        gid: gid.as_raw(),
    });
    let said = [ControlMessage::ScmCredentials(&who)];
    let bytes = [IoSlice::new(&[0; 8])];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &bytes,
        &said,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
}

#[test]
fn a_client_cannot_say_that_it_is_somebody_else() {
    let cluster = Cluster::start(1);
    let path = cluster.node(1).socket.clone();
    let lies = thread::spawn(move || {
        become_a_user();
        let socket = || {
            let kind = socket2::Type::SEQPACKET;
            let socket = socket2::Socket::new(socket2::Domain::UNIX, kind, None).unwrap();
            socket
                .connect(&socket2::SockAddr::unix(&path).unwrap())
                .unwrap();
            socket
        };
        let me = std::process::id() as i32;
        let (uid, gid) = (geteuid(), getegid());
        assert!(!uid.is_root() && gettid().as_raw() != me);
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        for (pid, uid, gid) in [(me, root.0, gid), (me, uid, root.1), (1, uid, gid)] {
            assert_eq!(claim(&socket(), pid, uid, gid), Err(Errno::EPERM));
        }
        // The truth is taken.
        assert_eq!(claim(&socket(), me, uid, gid), Ok(8));
    });
    lies.join().unwrap();
    assert!(cluster.node(1).own_status().is_some());
}
