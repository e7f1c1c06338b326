//! The referee's machine, and nodes that say anything. A number is answered once on
//! a link: nothing is said on one that is closed.

use std::collections::BTreeSet;
use std::time::Duration;

use dipc_referee::naming::{Naming, Settings};
use dipc_referee::output::{Event, LinkId, Output};
use dipc_wire::Limits;
use dipc_wire::referee::{Answer, Join, ToNode, ToReferee};

use super::Feed;
use crate::Reached;

/// Hears the machine.
struct Ear<'r> {
    open: BTreeSet<LinkId>,
    reached: &'r mut Reached,
}

impl Output for Ear<'_> {
    fn answer(&mut self, link: LinkId, answer: Answer<'_>) {
        assert!(self.open.contains(&link), "an answer on a closed link");
        let welcome = matches!(answer, Answer::Welcome { .. });
        self.reached.insert(("answer", u8::from(welcome)));
    }

    fn send(&mut self, link: LinkId, message: ToNode<'_>) {
        assert!(self.open.contains(&link), "{message:?} on a closed link");
        let first = postcard::to_stdvec(&message)
            .ok()
            .and_then(|m| m.first().copied());
        self.reached.insert(("said", first.unwrap_or_default()));
    }

    fn close(&mut self, link: LinkId) {
        self.open.remove(&link);
    }

    fn note(&mut self, event: Event<'_>) {
        assert!(!format!("{event:?}").is_empty());
    }
}

pub(crate) fn take(bytes: &[u8], reached: &mut Reached) {
    let settings = Settings {
        timeout: Duration::from_secs(5),
        cluster: 7,
        incarnations_above: 100,
        new_cluster: true,
        limits: Limits::LINUX,
    };
    let mut machine = Naming::new(settings, Duration::ZERO);
    let open = BTreeSet::new();
    let (mut ear, mut now, mut last) = (Ear { open, reached }, Duration::ZERO, 0);
    let mut feed = Feed(bytes);
    while !feed.is_empty() {
        match feed.byte() % 5 {
            0 => {
                let Ok((join, rest)) = postcard::take_from_bytes::<Join<'_>>(feed.0) else {
                    return;
                };
                feed.0 = rest;
                last += 1;
                ear.open.insert(LinkId(last));
                machine.join(LinkId(last), join, now, &mut ear);
            }
            1 => {
                let who = usize::from(feed.byte());
                let Ok((message, rest)) = postcard::take_from_bytes::<ToReferee>(feed.0) else {
                    return;
                };
                ear.reached.insert(("heard", feed.byte()));
                feed.0 = rest;
                let link = ear.open.iter().nth(who % 4).copied();
                if let Some(link) = link {
                    machine.message(link, message, now, &mut ear);
                }
            }
            2 => {
                if let Some(link) = ear.open.pop_first() {
                    machine.link_closed(link, now, &mut ear);
                }
            }
            3 => {
                // The machine closes it.
                if let Some(link) = ear.open.first().copied() {
                    machine.silent(link, now, &mut ear);
                }
            }
            _ => {
                now += Duration::from_secs(u64::from(feed.byte()));
                machine.tick(now, &mut ear);
            }
        }
    }
}
