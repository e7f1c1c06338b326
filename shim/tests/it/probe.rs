//! Compiles a C program and runs it under libdipc.so.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// A running probe, killed when dropped.
pub(crate) struct Probe {
    child: Option<Child>,
}

/// What it left.
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The library that cargo built for this test: it lies beside the test itself.
fn library() -> PathBuf {
    let library = std::env::current_exe()
        .unwrap()
        .with_file_name("libdipc.so");
    assert!(
        library.exists(),
        "cargo has not built {}",
        library.display()
    );
    library
}

/// Compiles `tests/programs/NAME.c` into `dir`.
fn compile(name: &str, dir: &Path) -> PathBuf {
    let program = dir.join(name);
    compile_with(name, &program, &[]);
    program
}

/// Compiles `tests/programs/NAME.c` to `output`. All programs look for libraries
/// in `plugins/` beside themselves first.
pub(crate) fn compile_with(name: &str, output: &Path, arguments: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name)
        .with_extension("c");
    let compiled = Command::new("cc")
        .args(["-O1", "-Wall", "-Werror", "-pthread", "-o"])
        .arg(output)
        .arg(&source)
        .arg("-Wl,--enable-new-dtags,-rpath,$ORIGIN/plugins")
        .args(arguments)
        .status()
        .expect("cc, the C compiler");
    assert!(compiled.success(), "{} does not compile", source.display());
}

/// Gives the calling process System V objects of its own.
fn isolate() -> io::Result<()> {
    let user = if geteuid().is_root() {
        CloneFlags::empty()
    } else {
        CloneFlags::CLONE_NEWUSER
    };
    unshare(user | CloneFlags::CLONE_NEWIPC).map_err(io::Error::from)
}

/// Whether local calls can be tried without touching this machine's objects. If
/// not, says that the test is left out.
pub(crate) fn isolated() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = *POSSIBLE.get_or_init(|| {
        let mut command = Command::new("true");
        // SAFETY: one system call between fork and exec.
        unsafe { command.pre_exec(isolate) };
        command.status().is_ok_and(|status| status.success())
    });
    if !possible {
        println!("left out: no IPC namespace of its own can be made here");
    }
    possible
}

impl Probe {
    /// Starts a program with `DIPC_SOCKET` and more of an environment.
    pub(crate) fn start(
        name: &str,
        dir: &Path,
        socket: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        Self::spawn(
            Self::command(name, dir, socket)
                .args(arguments)
                .envs(variables.iter().copied()),
        )
    }

    /// Starts a program as a user who may do little.
    pub(crate) fn start_as_nobody(name: &str, dir: &Path, socket: &Path) -> Self {
        const NOBODY: u32 = 65_534;
        // The library may lie where only its builder can read.
        let copy = dir.join("libdipc.so");
        std::fs::copy(library(), &copy).unwrap();
        let mut command = Self::command(name, dir, socket);
        Self::spawn(command.env("LD_PRELOAD", copy).uid(NOBODY).gid(NOBODY))
    }

    fn command(name: &str, dir: &Path, socket: &Path) -> Command {
        let mut command = Command::new(compile(name, dir));
        command
            .env("LD_PRELOAD", library())
            .env("DIPC_SOCKET", socket)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn spawn(command: &mut Command) -> Self {
        if isolated() {
            // SAFETY: one system call between fork and exec.
            unsafe { command.pre_exec(isolate) };
        }
        Probe {
            child: Some(command.spawn().unwrap()),
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.as_ref().unwrap().id() as i32)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Stops it, and waits until it stands.
    pub(crate) fn stop(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        self.signal(Signal::SIGSTOP);
        let status = waitpid(self.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Stops it for a while.
    pub(crate) fn stop_and_continue(&self) {
        self.stop();
        self.go_on();
    }

    /// Waits for its end, which must be orderly.
    pub(crate) fn finish(mut self) -> Output {
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert!(
            output.status.success(),
            "{}\n{stdout}\n{stderr}",
            output.status
        );
        Output { stdout, stderr }
    }

    /// Waits for its end and compares what it printed; nothing is on stderr.
    #[track_caller]
    pub(crate) fn prints(self, expected: &[&str]) {
        let output = self.finish();
        assert_eq!(output.stdout.lines().collect::<Vec<_>>(), expected);
        assert_eq!(output.stderr, "");
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
