//! What can be seen of a node from outside.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use dipc_wire::admin::NodeStatus;
use dipc_wire::frame::{Encoded, FrameBuffer};
use dipc_wire::local::{Hello, HelloReply, Request, Response};

use crate::wait::DEADLINE;

/// What `dipc status` asks, of the daemon at this socket: its whole cluster.
///
/// # Errors
/// If no dipcd of this version answers there.
pub fn status(socket: &Path) -> io::Result<Vec<NodeStatus>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let mut buffer = FrameBuffer::new();
    let hello: HelloReply = exchange(&mut stream, &mut buffer, &Hello::ours(), |header, _| {
        header.message().map_err(io::Error::other)
    })?;
    if !hello.accepted {
        return Err(io::Error::other("refused"));
    }
    exchange(
        &mut stream,
        &mut buffer,
        &Request::Status,
        |frame, payload| match frame.message() {
            Ok(Response::Rows) => postcard::from_bytes(payload).map_err(io::Error::other),
            other => Err(io::Error::other(format!("{other:?}"))),
        },
    )
}

fn exchange<T>(
    stream: &mut UnixStream,
    buffer: &mut FrameBuffer,
    question: &impl serde::Serialize,
    read: impl FnOnce(&dipc_wire::frame::Frame<'_>, &[u8]) -> io::Result<T>,
) -> io::Result<T> {
    let question = Encoded::new(question, 0).map_err(io::Error::other)?;
    stream.write_all(question.as_ref())?;
    loop {
        if let Some(frame) = buffer.next_frame().map_err(io::Error::other)? {
            return read(&frame, frame.payload);
        }
        match stream.read(buffer.space())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => buffer.filled(count),
        }
    }
}

/// Whether every thread of a process sleeps: it does nothing until something
/// comes from outside.
#[must_use]
pub fn all_threads_sleep(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    tasks
        .flatten()
        .all(|task| matches!(state(&task.path().join("stat")), Some('S') | None))
}

/// Whether a process's first thread sleeps outside every system call: it waits
/// for a page.
#[must_use]
pub fn waits_for_page(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall"));
    call.is_ok_and(|call| call.starts_with("-1 "))
        && state(Path::new(&format!("/proc/{pid}/stat"))) == Some('S')
}

/// The state letter of `/proc/PID/stat`, proc(5).
fn state(stat: &Path) -> Option<char> {
    let stat = fs::read_to_string(stat).ok()?;
    // The name may hold anything; the last parenthesis ends it.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Whether there is such a process that has not ended; one that nobody has
/// waited for yet has.
#[must_use]
pub fn exists(pid: u32) -> bool {
    let state = state(Path::new(&format!("/proc/{pid}/stat")));
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
