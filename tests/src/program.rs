//! A process that makes System V calls as a test tells it, line by line; see
//! `programs/ipc/ipc.h` for the commands.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::artifacts;
use crate::process::Process;
use crate::wait::DEADLINE;

/// What a command came to, e.g. `= 0` or `! EAGAIN`.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer(String);

/// A driven process.
#[derive(Debug)]
pub struct Program {
    process: Process,
    lines: Receiver<String>,
    asked: String,
}

impl Program {
    /// Starts one; `enter` makes the environment it runs in.
    #[must_use]
    pub fn start(enter: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(artifacts::ipc());
        enter(&mut command);
        Self::drive(command)
    }

    /// Starts one by a command that runs the program named by its last argument.
    #[must_use]
    pub fn run(mut command: Command) -> Self {
        command.arg(artifacts::ipc());
        Self::drive(command)
    }

    /// Starts any other program that first says `= PID`, and then answers a line
    /// by a line.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn drive(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = command.get_program().to_string_lossy().into_owned();
        let mut process = Process::start(&name, &mut command);
        let output = process.child().stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let program = Program {
            process,
            lines,
            asked: "to start".into(),
        };
        assert_eq!(program.answer().number(), i64::from(program.pid()));
        program
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Gives a command without waiting for its answer.
    pub fn begin(&mut self, command: impl fmt::Display) {
        self.asked = command.to_string();
        let input = self.process.child().stdin.as_mut().expect("it is piped");
        // One that was killed does not listen; its answer will be missed.
        let _ = writeln!(input, "{command}");
    }

    /// The answer to what was begun.
    ///
    /// # Panics
    /// If none comes in time, or the process ends.
    #[track_caller]
    pub fn answer(&self) -> Answer {
        self.answer_within(DEADLINE)
    }

    /// The answer to what takes longer than a step of a test.
    ///
    /// # Panics
    /// If none comes in time, or the process ends.
    #[track_caller]
    pub fn answer_within(&self, deadline: Duration) -> Answer {
        match self.lines.recv_timeout(deadline) {
            Ok(line) => Answer(line),
            Err(error) => panic!(
                "process {}: no answer to {:?}: {error}",
                self.pid(),
                self.asked
            ),
        }
    }

    /// Whether there is no answer yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        match self.lines.try_recv() {
            Err(_) => true,
            Ok(line) => panic!("{:?} was answered by {line:?} already", self.asked),
        }
    }

    /// Gives a command and waits for its answer.
    #[track_caller]
    pub fn ask(&mut self, command: impl fmt::Display) -> Answer {
        self.begin(command);
        self.answer()
    }

    /// Gives a command that must succeed; the first number of its answer.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn must(&mut self, command: impl fmt::Display) -> i64 {
        let command = command.to_string();
        let answer = self.ask(&command);
        assert!(answer.succeeded(), "{command}: {answer:?}");
        answer.number()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Kills it by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it by SIGKILL without waiting.
    pub fn begin_kill(&self) {
        self.process.signal(Signal::SIGKILL);
    }

    /// Has it exit, and waits for that.
    pub fn exit(&mut self) {
        self.begin("exit");
        assert!(self.process.ended().success());
    }
}

impl Answer {
    /// Whether the command succeeded.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.0.starts_with('=')
    }

    /// The first number of a success.
    ///
    /// # Panics
    /// If it is no success.
    #[must_use]
    #[track_caller]
    pub fn number(&self) -> i64 {
        self.numbers()
            .first()
            .copied()
            .unwrap_or_else(|| panic!("{self:?} is no number"))
    }

    /// The numbers of a success.
    ///
    /// # Panics
    /// If it is no success.
    #[must_use]
    #[track_caller]
    pub fn numbers(&self) -> Vec<i64> {
        assert!(self.succeeded(), "{self:?}");
        let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{self:?}"));
        self.0[1..].split_whitespace().map(number).collect()
    }
}

impl PartialEq<&str> for Answer {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
