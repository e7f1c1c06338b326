//! The rows of `dipc ls` and `dipc status`: payloads of [`Object`]s and of
//! [`NodeStatus`]es.

use dipc_wire::Kind;
use dipc_wire::admin::{Counters, Detail, NodeStatus, Object, Process};

use super::{ID, LIFE, PID, golden_enum, golden_values, node};

golden_enum! { DETAIL, a_detail_keeps_its_bytes: Detail {
    "00 03 14" Sem { nsems: 3, otime: 10 },
    "01 8040 05 01 02 ac02 00" Msg { bytes: 8192, messages: 5, lspid: Some(PID), lrpid: None },
    "02 8827 07 01 02 ac02 00 8020 c09a0c" Shm { size: 5000, nattch: 7, cpid: Some(PID), lpid: None, granule: 4096, quantum: 200_000 },
}}

golden_values! { COUNTERS, counters_keep_their_bytes: Counters {
    "01 02 03 04 05 06 07 08 ac02" => COUNTED,
}}

golden_values! { PROCESS, a_process_keeps_its_bytes: Process {
    "ac02 03616e6e 027368 02 01" => shell(),
}}

golden_values! { OBJECTS, objects_keep_their_bytes: Vec<Object> {
    "00" => vec![],
    "01 00 8f01 8a80808808 03616e6e b003 026e32 00 03 14" => vec![set()],
}}

golden_values! { NODES, nodes_keep_their_bytes: Vec<NodeStatus> {
    "00" => vec![],
    "01 02 09 026e32 00 022f73 0130 ac02 ad02 00 00 00 01 02 03 04 05 06 07 08 ac02 00" => vec![solo()],
    "01 02 09 026e32 05613a393032 022f73 0130 ac02 ad02 01 05613a393030 01 02 01 07 01 ac02 03616e6e 027368 02 01 01 02 03 04 05 06 07 08 ac02 01 036b6579 ac02"
        => vec![NodeStatus {
            address: "a:902".into(),
            referee: Some(("a:900".into(), true)),
            peers: vec![node(1), node(7)],
            processes: vec![shell()],
            refused: vec![("key".into(), 300)],
            ..solo()
        }],
}}

const COUNTED: Counters = Counters {
    calls: 1,
    remote_calls: 2,
    read_faults: 3,
    write_faults: 4,
    granules_in: 5,
    granules_out: 6,
    messages_out: 7,
    messages_in: 8,
    bytes_out: 300,
};

fn shell() -> Process {
    Process {
        pid: 300,
        login: "ann".into(),
        command: "sh".into(),
        attachments: 2,
        waiting: 1,
    }
}

fn set() -> Object {
    Object {
        kind: Kind::Sem,
        key: -72,
        id: ID,
        owner: "ann".into(),
        mode: 0o660,
        home: "n2".into(),
        detail: Detail::Sem {
            nsems: 3,
            otime: 10,
        },
    }
}

/// The status of a cluster of one that serves nobody.
fn solo() -> NodeStatus {
    NodeStatus {
        node: node(2),
        incarnation: LIFE,
        name: "n2".into(),
        address: String::new(),
        socket: "/s".into(),
        version: "0".into(),
        pid: 300,
        keeper: 301,
        referee: None,
        peers: vec![],
        processes: vec![],
        counters: COUNTED,
        refused: vec![],
    }
}
