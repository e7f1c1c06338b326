//! `dipcd` ↔ `dipc-referee`.

use dipc_wire::Kind;
use dipc_wire::referee::{Answer, Join, MAGIC, Membership, ToNode, ToReferee};

use super::{ID, LIFE, LIMITS, golden_enum, golden_values, node};

golden_values! { MEMBERSHIP, a_membership_keeps_its_bytes: Membership {
    "8001 02 09" => MEMBER,
}}

golden_values! { JOIN, a_join_keeps_its_bytes: Join {
    "e5cc959307 01 03 026e32 05613a393032 00" => Join { magic: MAGIC, versions: (1, 3), name: "n2", address: "a:902", member: None },
    "e5cc959307 01 03 026e32 05613a393032 01 8001 02 09" => Join { magic: MAGIC, versions: (1, 3), name: "n2", address: "a:902", member: Some(MEMBER) },
}}

golden_enum! { ANSWER, an_answer_keeps_its_bytes: Answer {
    "00 02 8001 02 09 8827 01 02 03 04 05 06 07 08 09 0a" Welcome { version: 2, member: MEMBER, timeout_ms: 5000, limits: LIMITS },
    "01 0466756c6c 01" Refused { reason: "full", retry: true },
}}

golden_enum! { TO_REFEREE, a_message_to_the_referee_keeps_its_bytes: ToReferee {
    "00 01 8f01 8a80808808" Owns { kind: Kind::Msg, key: -72, id: ID },
    "01 07 09" Knows { node: node(7), incarnation: LIFE },
    "02" Settled,
    "03 8001 02 8f01 01 8001 00" Resolve { tag: 128, kind: Kind::Shm, key: -72, create: Some(128), not: None },
    "03 8001 02 8f01 00 01 8a80808808" Resolve { tag: 128, kind: Kind::Shm, key: -72, create: None, not: Some(ID) },
    "04 8001 8a80808808" Created { tag: 128, id: ID },
    "05 8001" Abandoned { tag: 128 },
    "06 01 8f01 8a80808808" Released { kind: Kind::Msg, key: -72, id: ID },
    "07 07 09" PeerLost { node: node(7), incarnation: LIFE },
    "08" Leave,
    "09" Ping,
    "0a 02 8a80808808 8001" Holds { kind: Kind::Shm, id: ID, weight: 128 },
    "0b 01 8a80808808" Freed { kind: Kind::Msg, id: ID },
    "0c 8001" Flushed { round: 128 },
}}

golden_enum! { TO_NODE, a_message_to_a_node_keeps_its_bytes: ToNode {
    "00 07 09 026e37 05613a393037 01" Member { node: node(7), incarnation: LIFE, name: "n7", address: "a:907", you_connect: true },
    "01 07 09" Gone { node: node(7), incarnation: LIFE },
    "02 8001 8a80808808" Found { tag: 128, id: ID },
    "03 8001" Absent { tag: 128 },
    "04 8001" Create { tag: 128 },
    "05" Fenced,
    "06" Ping,
    "07" Complete,
    "08 8001" Full { tag: 128 },
    "09 8001" Flush { round: 128 },
}}

const MEMBER: Membership = Membership {
    cluster: 128,
    node: node(2),
    incarnation: LIFE,
};
