//! Processes that end with the test that started them.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// How long a process that was asked to end may take.
const GRACE: Duration = Duration::from_secs(10);

/// A child of ours: killed when dropped, and by the kernel when the thread that
/// started it ends.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it.
    ///
    /// # Panics
    /// If there is no such program.
    #[must_use]
    pub fn start(name: &str, command: &mut Command) -> Self {
        // SAFETY: prctl is async-signal-safe and takes no pointers here.
        unsafe {
            command.pre_exec(
                || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                },
            );
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Process {
            child,
            name: name.to_owned(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal; to one that has ended, none.
    pub fn signal(&self, signal: Signal) {
        // Not waited for yet, so the number is still its own.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If it is no child of ours any more.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn ended(&mut self) -> ExitStatus {
        let name = self.name.clone();
        wait::until_some(&format!("the end of {name}"), || {
            self.child.try_wait().expect("a child of ours")
        })
    }

    /// How it has ended, if it has.
    ///
    /// # Panics
    /// If it is no child of ours.
    pub fn end_so_far(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Asks it to end, and kills it if it does not.
    pub fn end(&mut self) {
        self.signal(Signal::SIGCONT);
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file that takes all a process says on one stream.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn into_file(path: &Path) -> Stdio {
    let file = File::options().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .into()
}
