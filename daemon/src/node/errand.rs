//! A question that the thread of a program asks another home, and waits for: of
//! attachments, of which the program may say nothing before the home has counted.
//!
//! The home may not answer, as one that is stopped, until it is declared dead. A
//! program that is killed meanwhile must not be held by that, nor who waits for its
//! end: so its errand is **called off**. The thread goes on at once, as if the
//! object were lost. What the home says later is for nobody, but that an attachment
//! which it has counted by then is taken back.
//!
//! ```text
//! thread      begin ── ask ──▶ home          end
//!                ▲                            ▲ by the answer, the home's death,
//! its end        └──────── call_off ──────────┘ or this
//! ```

use std::sync::Arc;

use crossbeam::channel::bounded;
use dipc_wire::call::{Call, Reply};
use parking_lot::Mutex;

use super::answer::Asker;
use super::identity::Abroad;
use super::link::Link;

/// Of one connection of a program.
#[derive(Default)]
pub(crate) struct Errand(Mutex<Under>);

#[derive(Default)]
enum Under {
    /// Nothing is asked.
    #[default]
    Nothing,
    /// This is, under this tag of the link.
    Way {
        link: Arc<Link>,
        tag: u64,
        late: Asker,
    },
    /// The program is gone: nothing is waited for any more.
    CalledOff,
}

impl Errand {
    /// Asks, and waits. `None`: the home is dead, or the errand was called off.
    pub(super) fn run(
        &self,
        link: &Arc<Link>,
        caller: &Abroad,
        call: Call,
    ) -> Option<Reply<'static>> {
        let (sender, receiver) = bounded(1);
        let asker = Asker::Thread(sender);
        let tag = link.ask(caller.caller(), call, &[], asker).ok()?;
        self.begin(link, tag, late(link, caller.pid, call));
        // The home's death drops what waits for it, and so does the program's end.
        let answer = receiver.recv().ok();
        self.end();
        answer
    }

    fn begin(&self, link: &Arc<Link>, tag: u64, late: Asker) {
        let mut under = self.0.lock();
        if matches!(*under, Under::CalledOff) {
            return link.redirect(tag, late);
        }
        *under = Under::Way {
            link: link.clone(),
            tag,
            late,
        };
    }

    fn end(&self) {
        let mut under = self.0.lock();
        if matches!(*under, Under::Way { .. }) {
            *under = Under::Nothing;
        }
    }

    /// The program is gone. Whoever waits for an answer goes on, now and later.
    pub(super) fn call_off(&self) {
        let mut under = self.0.lock();
        if let Under::Way { link, tag, late } = std::mem::replace(&mut *under, Under::CalledOff) {
            link.redirect(tag, late);
        }
    }
}

/// Who hears the answer that the thread did not wait for.
fn late(link: &Arc<Link>, pid: u32, call: Call) -> Asker {
    match call {
        Call::Attach { id, .. } | Call::Remap { id } => Asker::Late {
            link: link.clone(),
            pid,
            id,
        },
        _ => Asker::nobody(),
    }
}
