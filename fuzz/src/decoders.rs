//! Bytes that are taken for messages. What is taken is a value: its own bytes are no
//! longer, and give it again.

use dipc_wire::admin::{NodeStatus, Object};
use dipc_wire::call::{Call, Reply, SemOp};
use dipc_wire::census::{Census, Entry};
use dipc_wire::frame::{self, FrameBuffer};
use dipc_wire::local::{self, HelloReply, Inherited, Request, Response};
use dipc_wire::peer::{self, Caller};
use dipc_wire::referee::{Answer, Join, Membership, ToNode, ToReferee};
use dipc_wire::{Limits, coherence};

use crate::Reached;

macro_rules! decode {
    ($bytes:expr, $reached:expr, $($type:ty),* $(,)?) => {$(
        if let Ok(value) = frame::decode::<$type>($bytes) {
            let own = postcard::to_stdvec(&value).expect("memory has room for it");
            assert!(own.len() <= $bytes.len(), "{value:?}");
            assert_eq!(frame::decode::<$type>(&own).as_ref(), Ok(&value));
            $reached.insert((stringify!($type), own.first().copied().unwrap_or_default()));
        }
    )*};
}

pub(crate) fn local(bytes: &[u8], reached: &mut Reached) {
    decode!(
        bytes,
        reached,
        local::Hello,
        HelloReply,
        Request,
        Response<'_>
    );
    if let Some(all) = Inherited::decode_all(bytes) {
        let again: Vec<u8> = all.flat_map(Inherited::encode).collect();
        assert_eq!(again.len(), bytes.len());
        reached.insert(("Inherited", 0));
    }
}

pub(crate) fn peer(bytes: &[u8], reached: &mut Reached) {
    decode!(bytes, reached, peer::Hello, Caller<'_>, peer::Message<'_>);
    decode!(bytes, reached, coherence::Message, Call, Reply<'_>);
    if let Some(all) = SemOp::decode_all(bytes) {
        let again: Vec<u8> = all.flat_map(SemOp::encode).collect();
        assert_eq!(again, bytes);
        reached.insert(("SemOp", 0));
    }
}

pub(crate) fn referee(bytes: &[u8], reached: &mut Reached) {
    decode!(
        bytes,
        reached,
        Join<'_>,
        Membership,
        Answer<'_>,
        ToReferee,
        ToNode<'_>
    );
}

pub(crate) fn rows(bytes: &[u8], reached: &mut Reached) {
    decode!(
        bytes,
        reached,
        Vec<Object>,
        Vec<NodeStatus>,
        Vec<Entry<'_>>,
        Census
    );
}

pub(crate) fn limits(bytes: &[u8], reached: &mut Reached) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Limits::written(text, []) {
        Ok(limits) => {
            assert!(limits.msgmax <= limits.msgmnb, "{limits:?}");
            reached.insert(("taken", u8::from(limits != Limits::LINUX)));
        }
        Err(error) => {
            // It is for people.
            assert!(!error.to_string().is_empty());
            reached.insert(("refused", error.to_string().len() as u8));
        }
    }
}

/// In pieces, whose lengths the bytes themselves say.
pub(crate) fn frames(bytes: &[u8], reached: &mut Reached) {
    let mut buffer = FrameBuffer::limited(1 << 16);
    let mut rest = bytes;
    while let Some(&first) = rest.first() {
        let space = buffer.space();
        let count = rest.len().min(1 + usize::from(first)).min(space.len());
        space[..count].copy_from_slice(&rest[..count]);
        buffer.filled(count);
        rest = &rest[count..];
        loop {
            match buffer.next_frame() {
                Ok(Some(frame)) => {
                    assert!(frame.payload.len() <= bytes.len());
                    reached.insert(("request", u8::from(frame.message::<Request>().is_ok())));
                    let peer = frame.message::<peer::Message<'_>>();
                    reached.insert(("peer", u8::from(peer.is_ok())));
                }
                Ok(None) => break,
                Err(_) => {
                    reached.insert(("refused", 0));
                    return;
                }
            }
        }
    }
}
