//! `dipc bench-worker`: one measured program. It says `ready`, then does what
//! each line of its input asks, and answers with the nanoseconds that each
//! operation took, on one line. It ends with its input.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::failure::{Doing, Result};
use crate::interrupts::Interrupts;
use crate::sys::ipc::{PAGE, Queue, Segment, Semaphore};
use crate::sys::process::fork;
use crate::sys::uffd;

/// Bytes of a round trip, each way.
const ROUND_TRIP: usize = 64;
/// Message types: question and answer.
const ASK: i64 = 1;
const ANSWER: i64 = 2;

/// Measures one thing for `dipc bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What
    #[arg(value_enum)]
    job: Job,
    /// The key of the distributed object; 0 for a local one
    #[arg(default_value_t = 0)]
    key: i32,
    /// Pages of a segment, operations of a round
    #[arg(default_value_t = 1)]
    count: usize,
}

/// What a worker does.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Job {
    /// +1 and -1 on a semaphore.
    Semop,
    /// Questions to whoever echoes on a queue; with a local queue, to a child of ours.
    Messages,
    /// Answers questions on a queue until that is removed.
    Echo,
    /// Touches each page of a segment: `read` or `write`.
    Pages,
    /// Round trips on a Unix socket to a child of ours.
    Unix,
    /// Round trips on a TCP connection to a child of ours.
    Tcp,
    /// Page faults that a handler process serves with pages from a third one, over TCP.
    BareMiss,
}

/// One line of input: does it, and returns each operation's nanoseconds.
type Step = Box<dyn FnMut(&str) -> io::Result<Vec<u64>>>;
/// Removes what the job made.
type Finish = Box<dyn FnOnce() -> io::Result<()>>;

pub(crate) fn main(args: Args) -> Result<()> {
    // Ctrl-C reaches us too, but only the end of our input may end us: local
    // objects would stay behind.
    let _interrupts = Interrupts::catch()?;
    serve(&args).doing(|| format!("bench-worker {:?}", args.job))
}

fn serve(args: &Args) -> io::Result<()> {
    let (mut step, finish) = prepare(args)?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready")?;
    if args.job == Job::Echo {
        // Blocks until the queue is removed, which is this job's end.
        step("")?;
        return Ok(());
    }
    for line in io::stdin().lock().lines() {
        let samples = step(&line?)?;
        let words: Vec<_> = samples.iter().map(u64::to_string).collect();
        writeln!(out, "{}", words.join(" "))?;
        out.flush()?;
    }
    // Another worker on the same object may have removed it first.
    let _ = finish();
    Ok(())
}

fn prepare(args: &Args) -> io::Result<(Step, Finish)> {
    let count = args.count;
    match args.job {
        Job::Semop => {
            let set = std::rc::Rc::new(Semaphore::get(args.key)?);
            let ours = set.clone();
            let step = move |_: &str| time(count, |i| ours.op(if i % 2 == 0 { 1 } else { -1 }));
            Ok((Box::new(step), Box::new(move || set.remove())))
        }
        Job::Messages => {
            let queue = std::rc::Rc::new(Queue::get(args.key)?);
            if args.key == 0 {
                fork(|| echo(&queue))?;
            }
            let ours = queue.clone();
            let step = move |_: &str| {
                time(count, |_| {
                    ours.send(ASK).and_then(|()| ours.receive(ANSWER))
                })
            };
            Ok((Box::new(step), Box::new(move || queue.remove())))
        }
        Job::Echo => {
            let queue = Queue::get(args.key)?;
            let step = move |_: &str| echo(&queue).map(|()| Vec::new());
            Ok((Box::new(step), Box::new(|| Ok(()))))
        }
        Job::Pages => {
            let segment = std::rc::Rc::new(Segment::attach(args.key, count)?);
            let ours = segment.clone();
            let mut value = 0u8;
            let step = move |verb: &str| {
                value = value.wrapping_add(1);
                time(count, |page| {
                    match verb {
                        "read" => drop(ours.read(page)),
                        _ => ours.write(page, value),
                    }
                    Ok(())
                })
            };
            Ok((Box::new(step), Box::new(move || segment.remove())))
        }
        Job::Unix => {
            let (packets, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
            let (ours, theirs) = socketpair(AddressFamily::Unix, packets, None, flags)?;
            fork(|| echo_bytes(File::from(theirs), ROUND_TRIP))?;
            Ok((round_trips(File::from(ours), count), Box::new(|| Ok(()))))
        }
        Job::Tcp => {
            let stream = connect(ROUND_TRIP)?;
            Ok((round_trips(stream, count), Box::new(|| Ok(()))))
        }
        Job::BareMiss => bare_miss(count),
    }
}

/// Runs an operation `count` times, and takes the time of each.
fn time(count: usize, mut operation: impl FnMut(usize) -> io::Result<()>) -> io::Result<Vec<u64>> {
    let one = |i| {
        let start = Instant::now();
        operation(i)?;
        Ok(start.elapsed().as_nanos() as u64)
    };
    (0..count).map(one).collect()
}

/// Answers questions until the queue is gone.
fn echo(queue: &Queue) -> io::Result<()> {
    while queue.receive(ASK).is_ok() {
        if queue.send(ANSWER).is_err() {
            break;
        }
    }
    Ok(())
}

/// Answers each [`ROUND_TRIP`] bytes by `answer` bytes until the other side is gone.
fn echo_bytes(mut stream: impl Read + Write, answer: usize) -> io::Result<()> {
    let mut question = [0; ROUND_TRIP];
    let answer = vec![0; answer];
    while stream.read_exact(&mut question).is_ok() {
        stream.write_all(&answer)?;
    }
    Ok(())
}

/// A TCP connection to a child that answers with so many bytes.
fn connect(answer: usize) -> io::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let ours = TcpStream::connect(listener.local_addr()?)?;
    ours.set_nodelay(true)?;
    let (theirs, _) = listener.accept()?;
    theirs.set_nodelay(true)?;
    fork(|| echo_bytes(theirs, answer))?;
    Ok(ours)
}

fn round_trips(mut stream: impl Read + Write + 'static, count: usize) -> Step {
    Box::new(move |_: &str| {
        let mut bytes = [0; ROUND_TRIP];
        time(count, |_| {
            stream.write_all(&bytes)?;
            stream.read_exact(&mut bytes)
        })
    })
}

/// What a read miss costs at least, with nothing of dipc in it.
fn bare_miss(pages: usize) -> io::Result<(Step, Finish)> {
    let (memory, mut faults) = uffd::absent(pages)?;
    let mut stream = connect(PAGE)?;
    fork(move || {
        let mut page = [0; PAGE];
        loop {
            let address = faults.next()?;
            stream.write_all(&[0; ROUND_TRIP])?;
            stream.read_exact(&mut page)?;
            faults.fill(address, &page)?;
        }
    })?;
    let step = move |_: &str| {
        memory.punch()?;
        time(pages, |page| {
            memory.read(page);
            Ok(())
        })
    };
    Ok((Box::new(step), Box::new(|| Ok(()))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_timed_and_an_error_ends_the_round() {
        assert_eq!(time(5, |_| Ok(())).unwrap().len(), 5);
        let mut calls = 0;
        let failed = time(5, |i| {
            calls += 1;
            if i == 2 {
                Err(io::Error::other("no"))
            } else {
                Ok(())
            }
        });
        assert!(failed.is_err());
        assert_eq!(calls, 3);
    }
}
