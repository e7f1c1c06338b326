//! What happened, as lines of the log.

use std::net::SocketAddr;

use tracing::{debug, info, warn};

use crate::output::{Cause, Event};

/// Writes one line. `peer` is the other end of the link, where there is one.
pub(crate) fn record(event: &Event<'_>, peer: Option<SocketAddr>) {
    match *event {
        Event::Joined {
            node,
            incarnation,
            name,
            address,
        } => {
            info!(%node, %incarnation, name, address, "joined");
        }
        Event::Rejoined {
            node,
            incarnation,
            name,
        } => {
            info!(%node, %incarnation, name, "came back");
        }
        Event::Held { name } => {
            info!(
                name,
                "joins when the members of before are back or given up"
            );
        }
        Event::Refused { name, refusal, .. } => {
            warn!(name = ?name, ?peer, reason = %refusal, "refused");
        }
        Event::LinkLost { node, incarnation } => {
            info!(%node, %incarnation, "link lost; it may come back within the time-out");
        }
        Event::Gone {
            node,
            incarnation,
            cause: Cause::Left,
            ..
        } => {
            info!(%node, %incarnation, "left");
        }
        Event::Gone {
            node,
            incarnation,
            cause,
            fenced: true,
        } => {
            warn!(%node, %incarnation, %cause, "fenced: declared dead and told so");
        }
        Event::Gone {
            node,
            incarnation,
            cause,
            fenced: false,
        } => {
            warn!(%node, %incarnation, %cause, "dead");
        }
        Event::Ignored { node, what } => debug!(%node, what, "ignored"),
        Event::Recovered { cluster, members } => {
            info!(
                cluster = format_args!("{cluster:016x}"),
                members, "recovered"
            );
        }
    }
}
