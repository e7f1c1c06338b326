//! `dipcd` ↔ `dipcd`.

use dipc_wire::call::{Call, Reply};
use dipc_wire::coherence;
use dipc_wire::peer::{Caller, Capabilities, Hello, MAGIC, Message};
use dipc_wire::{Errno, Incarnation, Kind};

use super::{ID, LIFE, golden_enum, golden_values, node};

golden_values! { HELLO, a_hello_keeps_its_bytes: Hello {
    "f2ca958307 01 03 8001 02 09 07 ac02" => Hello {
        magic: MAGIC,
        versions: (1, 3),
        cluster: 128,
        node: node(2),
        incarnation: LIFE,
        to: node(7),
        to_incarnation: Incarnation(300),
    },
}}

golden_values! { CALLER, a_caller_keeps_its_bytes: Caller {
    "ac02 03 616e6e 00000000" => ANN,
    "00 00 01000100" => Caller {
        pid: 0,
        login: "",
        capabilities: Capabilities { ipc_owner: true, ipc_lock: true, ..Capabilities::NONE },
    },
    "00 00 00010001" => Caller {
        pid: 0,
        login: "",
        capabilities: Capabilities { sys_admin: true, sys_resource: true, ..Capabilities::NONE },
    },
}}

golden_enum! { MESSAGE, a_message_keeps_its_bytes: Message {
    "00 8001 ac02 03616e6e 00000000 07 01 8a80808808" Call { tag: 128, caller: ANN, call: Call::Remove { kind: Kind::Msg, id: ID } },
    "01 8001 01 06" Reply { tag: 128, reply: Reply::Failed(Errno::EIDRM) },
    "02 8001" Withdraw { tag: 128 },
    "03 8a80808808 ac02" UndeliveredOp { id: ID, pid: 300 },
    "04 8a80808808 0e" UndeliveredMessage { id: ID, mtype: 7 },
    "05 ac02" Exited { pid: 300 },
    "06 8a80808808 ac02 03" Dropped { id: ID, pid: 300, count: 3 },
    "07 8a80808808 04 ac02" Coherence { id: ID, message: coherence::Message::Invalidate { granule: 300 } },
    "08 8a80808808" Destroyed { id: ID },
    "09 8001" List { tag: 128 },
    "0a 8001" Status { tag: 128 },
    "0b 8001" Rows { tag: 128 },
    "0c 03 8001" Ping { number: 3, heard: 128 },
    "0d 8001 01" Census { tag: 128, kind: Kind::Msg },
    "0e 8a80808808 ac02" Mapped { id: ID, pid: 300 },
    "0f 8a80808808" Piece { id: ID },
}}

const ANN: Caller = Caller {
    pid: 300,
    login: "ann",
    capabilities: Capabilities::NONE,
};
