//! What is tested: the daemons, the library and the command as `cargo build`
//! makes them, and the C programs that use them.
//!
//! `cargo test` builds only what cargo knows the tests to need, and a `cdylib`
//! of another package is not among that. So the first test of a process has the
//! whole workspace built, in the profile and target folder it was built in
//! itself; usually everything is there already.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nix::fcntl::{Flock, FlockArg};

/// Where the workspace begins.
#[must_use]
pub fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A built file, such as `dipcd` or `libdipc.so`.
///
/// # Panics
/// If the workspace cannot be built.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let folder = FOLDER.get_or_init(build).as_ref();
    let path = folder.expect("the workspace can be built").join(name);
    assert!(path.exists(), "no {} was built", path.display());
    path
}

/// The folder of our own profile: `target/debug` of `target/debug/deps/semaphores-…`.
fn profile_folder() -> PathBuf {
    let exe = env::current_exe().expect("the running test has a path");
    let deps = exe.parent().expect("it lies in a folder");
    deps.parent().expect("deps lies in the profile's").into()
}

/// The folder of what was built; `None` if that failed, which cargo has explained.
fn build() -> Option<PathBuf> {
    let folder = profile_folder();
    let _lock = lock(&folder);
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--workspace", "--manifest-path"]);
    command.arg(workspace().join("Cargo.toml"));
    command
        .arg("--target-dir")
        .arg(folder.parent().unwrap_or(&folder));
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(profile) => drop(command.args(["--profile", profile])),
    }
    let status = command.status().expect("cargo can be run");
    status.success().then_some(folder)
}

/// The `ipc` program of `programs/ipc/`, see [`crate::program`].
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn ipc() -> &'static Path {
    static IPC: OnceLock<PathBuf> = OnceLock::new();
    IPC.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/ipc");
        compile("ipc", &sources(&folder))
    })
}

/// The library of `programs/plugin/`, which programs load at run time.
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn plugin() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/plugin");
    compile_with(&["-shared", "-fPIC"], "plugin.so", &sources(&folder))
}

/// The library of `programs/scarcity/`, which lets a daemon lack something.
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn scarcity() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/scarcity");
    compile_with(&["-shared", "-fPIC"], "scarcity.so", &sources(&folder))
}

/// The `actors` program of `programs/actors/`: processes that make calls by a
/// script.
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn actors() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/actors");
    compile("actors", &sources(&folder))
}

/// The `soak` program of `programs/soak/`: the workers of a soak test.
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn soak() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/soak");
    compile("soak", &sources(&folder))
}

/// A program of `examples/`.
///
/// # Panics
/// If `cc` does not compile it.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    let source = workspace().join("examples").join(name);
    compile(name, &[source.with_extension("c")])
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a folder that can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
        .collect();
    files.sort();
    files
}

/// Compiles C beside our own programs, once for each state of its folder.
fn compile(name: &str, sources: &[PathBuf]) -> PathBuf {
    compile_with(&[], name, sources)
}

fn compile_with(options: &[&str], name: &str, sources: &[PathBuf]) -> PathBuf {
    let folder = profile_folder().join("c-programs");
    fs::create_dir_all(&folder).expect("the target folder is ours");
    let _lock = lock(&folder);
    let program = folder.join(format!("{name}-{:016x}", fingerprint(sources)));
    if !program.exists() {
        let unfinished = program.with_extension("new");
        let status = Command::new("cc")
            .args([
                "-std=gnu11",
                "-D_GNU_SOURCE",
                "-O1",
                "-g",
                "-Wall",
                "-Wextra",
                "-Werror",
            ])
            .args(options)
            .args(["-pthread", "-o"])
            .arg(&unfinished)
            .args(sources)
            .args(["-lm"])
            .status()
            .expect("the tests need a C compiler, cc");
        assert!(status.success(), "cc does not compile {name}");
        fs::rename(&unfinished, &program).expect("both lie in our folder");
    }
    program
}

/// Of the sources and all that lies beside them, headers included.
fn fingerprint(sources: &[PathBuf]) -> u64 {
    let mut hash = DefaultHasher::new();
    let beside = sources.first().and_then(|source| source.parent());
    let mut files: Vec<PathBuf> = beside
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "c" || e == "h"))
        .collect();
    files.sort();
    for file in files {
        fs::read(file).unwrap_or_default().hash(&mut hash);
    }
    hash.finish()
}

/// Tests of several processes must not build at once.
fn lock(folder: &Path) -> Flock<File> {
    let file = File::create(folder.join("dipc-tests.lock")).expect("the target folder is ours");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .expect("a lock")
}
