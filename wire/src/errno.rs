//! Error numbers that mean the same on every processor.
//!
//! The C numbers differ between architectures (`EIDRM` is 43 on x86 and 36 on
//! MIPS), so none of them goes over the wire.

use serde::{Deserialize, Serialize};

/// Why a System V call failed, as the program will find it in `errno`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)] // each is the C constant of its name
#[allow(clippy::upper_case_acronyms)]
pub enum Errno {
    E2BIG,
    EACCES,
    EAGAIN,
    EEXIST,
    EFAULT,
    EFBIG,
    EIDRM,
    EINTR,
    EINVAL,
    ENOENT,
    ENOMEM,
    ENOMSG,
    ENOSPC,
    ENOSYS,
    EPERM,
    ERANGE,
    ETIMEDOUT,
    EIO,
    EMFILE,
    EPROTO,
}

impl Errno {
    /// The number on this processor.
    pub const fn raw(self) -> i32 {
        match self {
            Errno::E2BIG => libc::E2BIG,
            Errno::EACCES => libc::EACCES,
            Errno::EAGAIN => libc::EAGAIN,
            Errno::EEXIST => libc::EEXIST,
            Errno::EFAULT => libc::EFAULT,
            Errno::EFBIG => libc::EFBIG,
            Errno::EIDRM => libc::EIDRM,
            Errno::EINTR => libc::EINTR,
            Errno::EINVAL => libc::EINVAL,
            Errno::ENOENT => libc::ENOENT,
            Errno::ENOMEM => libc::ENOMEM,
            Errno::ENOMSG => libc::ENOMSG,
            Errno::ENOSPC => libc::ENOSPC,
            Errno::ENOSYS => libc::ENOSYS,
            Errno::EPERM => libc::EPERM,
            Errno::ERANGE => libc::ERANGE,
            Errno::ETIMEDOUT => libc::ETIMEDOUT,
            Errno::EIO => libc::EIO,
            Errno::EMFILE => libc::EMFILE,
            Errno::EPROTO => libc::EPROTO,
        }
    }
}
