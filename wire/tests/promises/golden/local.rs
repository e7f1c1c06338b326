//! Program ↔ `dipcd`.

use dipc_wire::call::{Call, Reply};
use dipc_wire::local::{Hello, HelloReply, Inherited, MAGIC, Request, Response};
use dipc_wire::sharing::{Granule, Wish};
use dipc_wire::{Errno, Kind};

use super::census::SETS;
use super::{ID, LIMITS, golden_enum, golden_values, node};

golden_values! { HELLO, a_hello_keeps_its_bytes: Hello {
    "e3e0a5a306 01" => Hello { magic: MAGIC, version: 1 },
    "e3e0a5a306 ac02" => Hello { magic: MAGIC, version: 300 },
}}

golden_values! { HELLO_REPLY, a_hello_reply_keeps_its_bytes: HelloReply {
    "01 01 07" => HelloReply { version: 1, accepted: true, node: node(7) },
}}

golden_enum! { REQUEST, a_request_keeps_its_bytes: Request {
    "00 07 01 8a80808808" Call(Call::Remove { kind: Kind::Msg, id: ID }),
    "01" Withdraw,
    "02 8a80808808 8020 01" Attach { id: ID, flags: 0o10000, need_uffd: true },
    "03 80e0ffffffff1f" Map { addr: 0x7fff_ffff_f000 },
    "04" Abandon,
    "05 80e0ffffffff1f" Detach { addr: 0x7fff_ffff_f000 },
    "06 ac02" Forked { parent: 300 },
    "07" List,
    "08" Status,
    "09 01 01" Census { kind: Kind::Msg, sweep: true },
    "0a 02 ac02 00" Entry { kind: Kind::Shm, place: 300, sweep: false },
    "0b 01 00" Lines { kind: Kind::Msg, sweep: false },
    "0c ac02" Thread { tid: 300 },
    "0d 80e0ffffffff1f 8040" Unmapped { addr: 0x7fff_ffff_f000, len: 8192 },
    "0e 80e0ffffffff1f 8040 00" Changed { addr: 0x7fff_ffff_f000, len: 8192, inherited: None },
    "0e 80e0ffffffff1f 8040 01 01" Changed { addr: 0x7fff_ffff_f000, len: 8192, inherited: Some(true) },
    "0f 80e0ffffffff1f 8040 01" Remap { addr: 0x7fff_ffff_f000, len: 8192, need_uffd: true },
    "10" Limits,
    "11 f448 8040 8007 00 00" GetSegment { key: 0x123a, size: 8192, flags: 0o1600, wish: Wish::default() },
    "11 00 01 00 01 00 808004 01 c09a0c" GetSegment { key: 0, size: 1, flags: 0, wish: Wish { granule: Some(Granule::Bytes(65536)), quantum: Some(200_000) } },
    "11 00 01 00 01 01 00" GetSegment { key: 0, size: 1, flags: 0, wish: Wish { granule: Some(Granule::Segment), quantum: None } },
}}

golden_enum! { RESPONSE, a_response_keeps_its_bytes: Response {
    "00 01 06" Reply(Reply::Failed(Errno::EIDRM)),
    "01 8040 01 00" Attached { len: 8192, device: true, adopt: false },
    "02" Rows,
    "03 05 00 ac02 01 02 03 04 05 06 07 08 09 0a" Census(SETS),
    "04 ac02" Lines { len: 300 },
    "05" OnlyListed,
    "06 01 02 03 04 05 06 07 08 09 0a" Limits(LIMITS),
}}

/// A payload has no serde: its layout is that of `encode` and `decode_all`.
#[test]
fn inherited_attachments_keep_their_bytes_in_a_payload() {
    #[rustfmt::skip]
    let table = [
        ("05008040 00000000 00f0ffffff7f0000 0020000000000000",
            Inherited { id: 0x4080_0005, readonly: false, addr: 0x7fff_ffff_f000, len: 8192 }),
        ("ffffffff 01000000 0807060504030201 1817161514131211",
            Inherited { id: -1, readonly: true, addr: 0x0102_0304_0506_0708, len: 0x1112_1314_1516_1718 }),
    ];
    for (hex, attachment) in table {
        let bytes = super::unhex(hex);
        assert_eq!(attachment.encode()[..], bytes, "{attachment:?}");
        let twice = [&bytes[..], &bytes].concat();
        let decoded = Inherited::decode_all(&twice).unwrap();
        assert!(decoded.eq([attachment, attachment]), "{attachment:?}");
    }
}
