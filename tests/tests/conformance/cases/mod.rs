//! The behaviours, by area. Each is a function that plays it; what several areas
//! need is here. Flags are written as the C interpreter reads them.

pub(crate) mod attach;
pub(crate) mod get;
pub(crate) mod permissions;
pub(crate) mod queues;
pub(crate) mod semctl;
pub(crate) mod semop;
pub(crate) mod shmctl;
pub(crate) mod traps;
pub(crate) mod undo;

use crate::stage::Participant;

/// `IPC_CREAT | 0600`
pub(crate) const CREATE: &str = "01600";
/// `IPC_CREAT | IPC_EXCL | 0600`
pub(crate) const CREATE_NEW: &str = "03600";
/// `IPC_CREAT | 0666`
pub(crate) const PUBLIC: &str = "01666";
/// `IPC_NOWAIT`
pub(crate) const NOWAIT: &str = "04000";
/// `SEM_UNDO`
pub(crate) const UNDO: &str = "0x1000";
/// Commands of semctl, msgctl and shmctl.
pub(crate) const IPC_RMID: u32 = 0;
pub(crate) const IPC_SET: u32 = 1;
pub(crate) const IPC_STAT: u32 = 2;
pub(crate) const IPC_INFO: u32 = 3;
/// Ordinary users that every system has: daemon, bin and sys.
pub(crate) const ALICE: u32 = 1;
pub(crate) const BOB: u32 = 2;
pub(crate) const CAROL: u32 = 3;
/// The three kinds, as commands name them.
pub(crate) const KINDS: [&str; 3] = ["sem", "msg", "shm"];

/// A new set of this participant's, which anybody may use.
pub(crate) fn set(owner: &mut Participant<'_>, nsems: u32) -> i64 {
    owner.must(format!("semget 0 {nsems} {PUBLIC}"))
}

/// A new queue of this participant's, which anybody may use.
pub(crate) fn queue(owner: &mut Participant<'_>) -> i64 {
    owner.must(format!("msgget 0 {PUBLIC}"))
}

/// A new segment of one page, which anybody may use.
pub(crate) fn segment(owner: &mut Participant<'_>) -> i64 {
    owner.must(format!("shmget 0 4096 {PUBLIC}"))
}

/// A new object of a kind with one semaphore or one page.
pub(crate) fn object(owner: &mut Participant<'_>, kind: &str, mode: u32) -> i64 {
    owner.must(get(kind, 0, &format!("0{:o}", 0o1000 | mode)))
}

/// The command that makes or finds an object of one semaphore or one page.
pub(crate) fn get(kind: &str, key: u32, flags: &str) -> String {
    match kind {
        "sem" => format!("semget {key} 1 {flags}"),
        "msg" => format!("msgget {key} {flags}"),
        _ => format!("shmget {key} 4096 {flags}"),
    }
}

/// The command that removes an object.
pub(crate) fn remove(kind: &str, id: i64) -> String {
    format!("control {kind} {id} 0 {IPC_RMID} 0")
}

/// Whether a time of an object is the present, as a clock with seconds has it.
#[track_caller]
pub(crate) fn assert_now(who: &mut Participant<'_>, time: i64) {
    let now = who.must("now");
    assert!((now - 60..=now + 1).contains(&time), "{time} at {now}");
}
