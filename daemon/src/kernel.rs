//! Questions to the kernel that no crate asks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use dipc_wire::Kind;
use dipc_wire::peer::Capabilities;
use linux_raw_sys::general::{
    __user_cap_data_struct, __user_cap_header_struct, _LINUX_CAPABILITY_VERSION_3, CAP_IPC_LOCK,
    CAP_IPC_OWNER, CAP_SYS_ADMIN, CAP_SYS_RESOURCE,
};

/// How many bytes sent to this socket its receiver has not read; 0 when the
/// kernel does not say.
pub(crate) fn unread_bytes(socket: impl AsFd) -> i32 {
    let mut count = 0;
    // SAFETY: SIOCOUTQ writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    if result == 0 { count } else { 0 }
}

/// `TCP_RTO_MAX_MS` of linux/tcp.h, since Linux 6.15.
const TCP_RTO_MAX_MS: i32 = 44;

/// Has TCP send again what nobody has acknowledged, with pauses no longer than
/// this, but of a second at least. An older kernel doubles its pauses.
///
/// # Errors
/// No TCP socket.
pub(crate) fn send_again_within(socket: impl AsFd, pause: Duration) -> io::Result<()> {
    let pause = pause.clamp(Duration::from_secs(1), Duration::from_secs(120));
    let milliseconds = pause.as_millis() as i32;
    // SAFETY: the kernel reads one int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const milliseconds).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    match io::Error::last_os_error() {
        error if result != 0 && error.raw_os_error() != Some(libc::ENOPROTOOPT) => Err(error),
        _ => Ok(()),
    }
}

/// A pidfd of this process, see pidfd_open(2); `None` when there is none.
pub(crate) fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel just gave us this descriptor.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether the kernel has an object of this kind and id, in the namespace of
/// this daemon.
pub(crate) fn has_object(kind: Kind, id: i32) -> bool {
    // Without a buffer the kernel fails late: EINVAL says that there is no such
    // id, everything else that there is.
    // SAFETY: IPC_STAT into a null pointer writes nothing; the kernel answers EFAULT.
    let result = unsafe {
        match kind {
            Kind::Sem => libc::semctl(
                id,
                0,
                libc::IPC_STAT,
                std::ptr::null_mut::<libc::semid_ds>(),
            ),
            Kind::Msg => libc::msgctl(id, libc::IPC_STAT, std::ptr::null_mut()),
            Kind::Shm => libc::shmctl(id, libc::IPC_STAT, std::ptr::null_mut()),
        }
    };
    result >= 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL)
}

/// The effective capabilities of a thread, in its own user namespace (capget(2));
/// none of one that has ended.
pub(crate) fn capabilities(tid: u32) -> Capabilities {
    let mut header = __user_cap_header_struct {
        version: _LINUX_CAPABILITY_VERSION_3,
        pid: tid as i32,
    };
    let none = __user_cap_data_struct {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let mut data = [none; 2];
    // SAFETY: version 3 has two halves, for which there is room; the kernel reads
    // the header and writes both.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return Capabilities::NONE;
    }
    let has = |number: u32| data[number as usize / 32].effective >> (number % 32) & 1 == 1;
    Capabilities {
        ipc_owner: has(CAP_IPC_OWNER),
        sys_admin: has(CAP_SYS_ADMIN),
        ipc_lock: has(CAP_IPC_LOCK),
        sys_resource: has(CAP_SYS_RESOURCE),
    }
}

/// Names a user namespace, of which there is one of this number at a time.
pub(crate) type UserNamespace = [u8; 32];

/// The user namespace of the process or thread whose folder in `/proc` this is;
/// `None` when it has ended, or is not ours to look into (namespaces(7)).
pub(crate) fn user_namespace(folder: impl AsFd) -> Option<UserNamespace> {
    let mut name = UserNamespace::default();
    // SAFETY: the path ends with a zero, and the kernel writes no more than there
    // is room.
    let len = unsafe {
        libc::readlinkat(
            folder.as_fd().as_raw_fd(),
            c"ns/user".as_ptr(),
            name.as_mut_ptr().cast(),
            name.len(),
        )
    };
    (len > 0).then_some(name)
}

/// Whether this is a userfaultfd, by the name in `/proc/self/fd`: the kernel has it
/// at hand, whatever the descriptor is.
pub(crate) fn is_userfaultfd(fd: impl AsFd) -> bool {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    std::fs::read_link(path).is_ok_and(|name| name.as_os_str() == "anon_inode:[userfaultfd]")
}

/// Whether there was no descriptor to be had, here or on the whole machine.
pub(crate) fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// What a clock shows, see clock_gettime(2). The clocks asked for are always there.
pub(crate) fn clock(id: libc::clockid_t) -> Duration {
    let mut time = timespec(Duration::ZERO);
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A timer by this clock, see timerfd_create(2).
pub(crate) fn timer(id: libc::clockid_t) -> std::io::Result<OwnedFd> {
    // SAFETY: numbers only.
    let fd = unsafe { libc::timerfd_create(id, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets it to this time of its clock, or to none.
pub(crate) fn set_timer(timer: BorrowedFd<'_>, at: Option<Duration>) -> std::io::Result<()> {
    // Zero would be none.
    let at = at.map_or(Duration::ZERO, |at| at.max(Duration::from_nanos(1)));
    let new = libc::itimerspec {
        it_interval: timespec(Duration::ZERO),
        it_value: timespec(at),
    };
    let flags = libc::TFD_TIMER_ABSTIME;
    // SAFETY: the kernel reads `new`, and writes no old value to a null pointer.
    let result = unsafe {
        libc::timerfd_settime(
            timer.as_raw_fd(),
            flags,
            &raw const new,
            std::ptr::null_mut(),
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// Kills the process of a pidfd, see pidfd_send_signal(2).
pub(crate) fn kill(process: BorrowedFd<'_>) -> std::io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    let number = libc::SYS_pidfd_send_signal;
    // SAFETY: numbers, and a null pointer where the kernel expects one.
    let result = unsafe { libc::syscall(number, process.as_raw_fd(), libc::SIGKILL, none, 0) };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

/// Has the calling thread run before others, as far as it may, see setpriority(2):
/// only root may, and for whoever may not it stays as it was.
pub(crate) fn hurry() {
    /// Half of the way to the highest there is.
    const NICE: libc::c_int = -10;
    // SAFETY: numbers only; 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_distributed_range_are_free_in_the_kernel() {
        for kind in Kind::ALL {
            assert!(!has_object(kind, (1 << 30) | (1 << 22) | 12_345));
        }
    }
}
