//! The environment that makes a program's System V calls distributed.

use std::env;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::execvpe;

use crate::artifacts;
use crate::failure::{Failure, Result};
use crate::sys::process::restore_sigpipe;

/// Our own failure, told from the program's as `env` and `timeout` do.
pub(crate) const OUR_FAILURE: u8 = 125;

/// What a program needs besides its own environment.
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// For a program that `socket`'s daemon serves; `node` is its number, if
    /// somebody numbers nodes here.
    pub(crate) fn new(socket: &Path, node: Option<u8>) -> Result<Self> {
        let preload = artifacts::preload(&artifacts::library()?, env::var_os("LD_PRELOAD"))?;
        let mut variables = vec![
            ("LD_PRELOAD".into(), preload),
            ("DIPC_SOCKET".into(), socket.as_os_str().to_owned()),
        ];
        variables.extend(node.map(|node| ("DIPC_NODE".into(), node.to_string().into())));
        Ok(Environment(variables))
    }

    /// For a child of ours.
    pub(crate) fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.envs(self.0.iter().map(|(name, value)| (name, value)))
    }

    /// Becomes `words`: same process, folder, descriptors, signals. Returns only
    /// if that fails.
    pub(crate) fn exec(self, words: Vec<OsString>) -> Failure {
        let kept = env::vars_os().filter(|(name, _)| self.0.iter().all(|(ours, _)| ours != name));
        let variables: Vec<_> = kept
            .chain(self.0.iter().cloned())
            .map(|(mut name, value)| {
                name.push("=");
                name.push(value);
                c_string(name)
            })
            .collect();
        let program = words.first().cloned().unwrap_or_default();
        let words: Vec<_> = words.into_iter().map(c_string).collect();
        let Some(file) = words.first() else {
            return Failure::new("nothing to run", "no command was given").code(OUR_FAILURE);
        };
        restore_sigpipe();
        let Err(error) = execvpe(file, &words, &variables);
        Failure::new(format!("cannot run {}", program.display()), error.desc())
            .code(if error == Errno::ENOENT { 127 } else { 126 })
    }
}

/// Neither arguments nor the environment can hold a zero byte: they came from C.
fn c_string(text: OsString) -> CString {
    CString::new(text.into_vec()).unwrap_or_default()
}
