//! Questions to the kernel that no crate asks.

use std::os::fd::{AsFd, AsRawFd};

use dipc_wire::Kind;

/// How many bytes sent to this socket its receiver has not read; 0 when the
/// kernel does not say.
pub(crate) fn unread_bytes(socket: impl AsFd) -> i32 {
    let mut count = 0;
    // SAFETY: SIOCOUTQ writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &mut count) };
    if result == 0 { count } else { 0 }
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

/// Whether there was no descriptor to be had, here or on the whole machine.
pub(crate) fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
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
