//! The lines of `/proc/sysvipc/{shm,sem,msg}`, in the kernel's columns
//! (proc(5); `sysvipc_*_proc_show` of the kernel's `ipc/`).
//!
//! Two columns of a segment are this node's view: `rss` is what of it lies in
//! this node's memory, in bytes, and `swap` is 0, since the kernel does not say
//! which pages of a memfd are swapped out.

use std::fmt::Write;

use dipc_wire::call::{Perm, Reply};
use dipc_wire::{NodeId, ObjectId, Pid};

/// Appends the line of one object, as a program on `viewer` sees it; nothing
/// for a reply that describes none.
pub(super) fn line(
    id: ObjectId,
    stat: &Reply<'_>,
    resident: u64,
    viewer: NodeId,
    into: &mut String,
) {
    let pid = |pid: Option<Pid>| pid.map_or(0, |pid| pid.seen_from(viewer));
    let Some(perm) = stat.perm() else { return };
    let head = format_args!("{:10} {:10}  {:4o}", perm.key, id.raw(), perm.mode);
    // Writing to a String cannot fail.
    let _ = match stat {
        Reply::Sem(s) => writeln!(
            into,
            "{head} {:10} {} {:10} {:10}",
            s.nsems,
            Owners(perm),
            s.otime,
            s.ctime
        ),
        Reply::Msg(s) => writeln!(
            into,
            "{head}  {:10} {:10} {:5} {:5} {} {:10} {:10} {:10}",
            s.cbytes,
            s.qnum,
            pid(s.lspid),
            pid(s.lrpid),
            Owners(perm),
            s.stime,
            s.rtime,
            s.ctime
        ),
        Reply::Shm(s) => writeln!(
            into,
            "{head} {:21} {:5} {:5}  {:5} {} {:10} {:10} {:10} {resident:21} {:21}",
            s.size,
            pid(s.cpid),
            pid(s.lpid),
            s.nattch,
            Owners(perm),
            s.atime,
            s.dtime,
            s.ctime,
            0
        ),
        _ => Ok(()),
    };
}

/// The columns `uid gid cuid cgid`.
struct Owners<'a>(&'a Perm<'a>);

impl std::fmt::Display for Owners<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Perm {
            uid,
            gid,
            cuid,
            cgid,
            ..
        } = self.0;
        write!(f, "{uid:5} {gid:5} {cuid:5} {cgid:5}")
    }
}

#[cfg(test)]
mod tests {
    use dipc_wire::call::{MsgStat, SemStat, ShmStat};

    use super::*;

    const PERM: Perm<'static> = Perm {
        key: -3,
        uid: 1,
        gid: 22,
        cuid: 333,
        cgid: 4444,
        mode: 0o600,
        seq: 0,
        owner: "",
        group: "",
        creator: "",
        creator_group: "",
    };
    const ME: Pid = Pid {
        node: NodeId::SOLO,
        pid: 7235,
    };

    fn of(stat: Reply<'_>) -> String {
        let (mut text, id) = (String::new(), ObjectId::new(NodeId::SOLO, 5));
        line(id, &stat, 8192, NodeId::SOLO, &mut text);
        text
    }

    /// The columns are those of lines that Linux 6.18 wrote.
    #[test]
    fn lines_have_the_kernels_columns() {
        let perm = PERM;
        let (ctime, nsems) = (1_795_375_143, 3);
        assert_eq!(
            of(Reply::Sem(SemStat {
                perm,
                otime: 0,
                ctime,
                nsems
            })),
            "        -3 1077936133   600          3     1    22   333  4444          0 1795375143\n"
        );
        let queue = MsgStat {
            perm,
            stime: ctime,
            ctime,
            cbytes: 3,
            qnum: 1,
            lspid: Some(ME),
            ..MsgStat::default()
        };
        assert_eq!(
            of(Reply::Msg(queue)),
            "        -3 1077936133   600           3          1  7235     0     1    22   333  4444 1795375143          0 1795375143\n"
        );
        let segment = ShmStat {
            perm,
            size: 100,
            ctime,
            cpid: Some(ME),
            ..ShmStat::default()
        };
        assert_eq!(
            of(Reply::Shm(segment)),
            "        -3 1077936133   600                   100  7235     0      0     1    22   333  4444          0          0 1795375143                  8192                     0\n"
        );
    }

    #[test]
    fn a_reply_that_describes_no_object_has_no_line() {
        assert_eq!(of(Reply::Done), "");
    }
}
