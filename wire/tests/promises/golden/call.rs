//! The System V calls and their replies.

use dipc_wire::call::{Call, MsgStat, Perm, Reply, SemCommand, SemOp, SemStat, ShmStat};
use dipc_wire::{Errno, Kind};

use super::{ID, PID, golden_enum};

golden_enum! { CALL, a_call_keeps_its_bytes: Call {
    "00 01 8f01 8001 b60c" Get { kind: Kind::Msg, key: -72, size: 128, flags: 0o3066 },
    "01 8a80808808 00" SemOp { id: ID, timeout: None },
    "01 8a80808808 01 80e59a77" SemOp { id: ID, timeout: Some(250_000_000) },
    "02 8a80808808 00 06" Sem { id: ID, command: SemCommand::GetValue(3) },
    "03 8a80808808 0e 8010" MsgSnd { id: ID, mtype: 7, flags: 0o4000 },
    "04 8a80808808 0d 8040 8020" MsgRcv { id: ID, mtype: -7, size: 8192, flags: 0o10000 },
    "05 02 8a80808808 01" Stat { kind: Kind::Shm, id: ID, any: true },
    "06 00 8a80808808 e807 64 b003 00" Set { kind: Kind::Sem, id: ID, uid: 1000, gid: 100, mode: 0o660, qbytes: None },
    "06 01 8a80808808 e807 64 b003 01 8040" Set { kind: Kind::Msg, id: ID, uid: 1000, gid: 100, mode: 0o660, qbytes: Some(8192) },
    "07 01 8a80808808" Remove { kind: Kind::Msg, id: ID },
    "08 8a80808808 01" Lock { id: ID, lock: true },
    "09 8a80808808 8020" Attach { id: ID, flags: 0o10000 },
    "0a 8a80808808 03" Detach { id: ID, count: 3 },
    "0b 8a80808808 03" Inherit { id: ID, count: 3 },
    "0c 8a80808808" Remap { id: ID },
    "0d 8a80808808" Abandon { id: ID },
}}

golden_enum! { SEM_COMMAND, a_sem_command_keeps_its_bytes: SemCommand {
    "00 06" GetValue(3),
    "01 06" GetPid(3),
    "02 06" GetNcnt(3),
    "03 01" GetZcnt(-1),
    "04" GetAll,
    "05 06 d804" SetValue(3, 300),
    "06" SetAll,
}}

golden_enum! { REPLY, a_reply_keeps_its_bytes: Reply {
    "00" Done,
    "01 06" Failed(Errno::EIDRM),
    "02 8a80808808" Id(ID),
    "03 d804" Value(300),
    "04 00" Process(None),
    "04 01 02 ac02" Process(Some(PID)),
    "05" Values,
    "06 0e" Message { mtype: 7 },
    "07 8f01 e807 64 00 01 b003 05 03616e6e 057573657273 04726f6f74 05776865656c 14 01 03"
        Sem(SemStat { perm: PERM, otime: 10, ctime: -1, nsems: 3 }),
    "08 8f01 e807 64 00 01 b003 05 03616e6e 057573657273 04726f6f74 05776865656c 02 04 06 04 05 8040 01 02 ac02 00"
        Msg(MsgStat { perm: PERM, stime: 1, rtime: 2, ctime: 3, cbytes: 4, qnum: 5, qbytes: 8192, lspid: Some(PID), lrpid: None }),
    "09 8f01 e807 64 00 01 b003 05 03616e6e 057573657273 04726f6f74 05776865656c 8040 02 04 06 01 02 ac02 00 07 8020 c09a0c"
        Shm(ShmStat { perm: PERM, size: 8192, atime: 1, dtime: 2, ctime: 3, cpid: Some(PID), lpid: None, nattch: 7, granule: 4096, quantum: 200_000 }),
    "0a 8827 8020 c09a0c 01" Attached { size: 5000, granule: 4096, quantum: 200_000, may_write: true },
}}

/// `8f01 e807 64 00 01 b003 05`, then the four names behind their lengths.
const PERM: Perm = Perm {
    key: -72,
    uid: 1000,
    gid: 100,
    cuid: 0,
    cgid: 1,
    mode: 0o660,
    seq: 5,
    owner: "ann",
    group: "users",
    creator: "root",
    creator_group: "wheel",
};

/// A payload has no serde: its layout is that of `encode` and `decode_all`.
#[test]
fn semaphore_operations_keep_their_bytes_in_a_payload() {
    let table = [
        ("0000 0000 0000", 0, 0, 0),
        ("0201 ffff 0010", 0x102, -1, 0x1000),
        ("ffff 0080 ffff", u16::MAX, i16::MIN, u16::MAX),
    ];
    for (hex, num, op, flags) in table {
        let operation = SemOp { num, op, flags };
        let bytes = super::unhex(hex);
        assert_eq!(operation.encode()[..], bytes, "{operation:?}");
        let twice = [&bytes[..], &bytes].concat();
        let decoded = SemOp::decode_all(&twice).unwrap();
        assert!(decoded.eq([operation, operation]), "{operation:?}");
    }
}
