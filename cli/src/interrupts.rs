//! Ctrl-C and its relatives, as something to wait for: whoever started
//! processes must end them before ending itself.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::failure::{Doing, Failure, Result};

/// SIGINT, SIGTERM and SIGHUP no longer end this process but make this readable.
/// Children start with them blocked, and unblock or wait for them themselves.
pub(crate) struct Interrupts(SignalFd);

impl Interrupts {
    /// To be called before anything is started, by the only thread.
    pub(crate) fn catch() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals
            .thread_block()
            .doing(|| "cannot block signals".into())?;
        SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Interrupts)
            .doing(|| "cannot wait for signals".into())
    }

    /// An error, if a signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        match self.0.read_signal() {
            Ok(Some(info)) => {
                let name =
                    Signal::try_from(info.ssi_signo as i32).map_or("a signal", Signal::as_str);
                Err(Failure::new("interrupted", format!("{name} came"))
                    .code(128 + info.ssi_signo as u8))
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Interrupts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
