//! The names of things, and error numbers.

use dipc_wire::{Errno, Incarnation, Kind, NodeId, ObjectId, Pid};

use super::{PID, golden_enum, golden_values, node};

golden_values! { NODE_ID, a_node_id_keeps_its_bytes: NodeId {
    "01" => NodeId::SOLO,
    "ff" => node(255),
}}

golden_values! { INCARNATION, an_incarnation_keeps_its_bytes: Incarnation {
    "00" => Incarnation(0),
    "ac02" => Incarnation(300),
    "ffffffffffffffffff01" => Incarnation(u64::MAX),
}}

golden_values! { PROCESS_ID, a_pid_keeps_its_bytes: Pid {
    "02 ac02" => PID,
    "ff ffffffff0f" => Pid { node: node(255), pid: u32::MAX },
}}

golden_values! { OBJECT_ID, an_object_id_keeps_its_bytes: ObjectId {
    "8080808408" => ObjectId::new(node(1), 0),
    "8a80808808" => ObjectId::new(node(2), 5),
    "feffffff0f" => ObjectId::new(node(255), ObjectId::SERIALS - 1),
}}

golden_enum! { KIND, a_kind_keeps_its_bytes: Kind {
    "00" Sem,
    "01" Msg,
    "02" Shm,
}}

golden_enum! { ERRNO, an_errno_keeps_its_bytes: Errno {
    "00" E2BIG,
    "01" EACCES,
    "02" EAGAIN,
    "03" EEXIST,
    "04" EFAULT,
    "05" EFBIG,
    "06" EIDRM,
    "07" EINTR,
    "08" EINVAL,
    "09" ENOENT,
    "0a" ENOMEM,
    "0b" ENOMSG,
    "0c" ENOSPC,
    "0d" ENOSYS,
    "0e" EPERM,
    "0f" ERANGE,
    "10" ETIMEDOUT,
    "11" EIO,
    "12" EMFILE,
    "13" EPROTO,
}}
