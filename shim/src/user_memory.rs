//! The caller's memory, touched so that a bad pointer is EFAULT and no crash.
//!
//! The kernel does it for us: `process_vm_readv` and `process_vm_writev` on the
//! own process. They cost half a microsecond, beside ten for the daemon's
//! answer. Bulk bytes do not come here: they go between the caller's memory and
//! the socket without a stop, which is as safe.

use core::ffi::c_void;

use libc::{c_int, c_long, iovec};

use crate::{generation, raw};

/// Bytes of the caller's, at an address that may be bad.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserBytes {
    pub(crate) start: *const c_void,
    pub(crate) len: usize,
}

impl UserBytes {
    pub(crate) const NONE: UserBytes = UserBytes {
        start: core::ptr::null(),
        len: 0,
    };

    pub(crate) fn of<T>(values: &[T]) -> Self {
        UserBytes {
            start: values.as_ptr().cast(),
            len: size_of_val(values),
        }
    }

    /// The same bytes, `len` at a time.
    pub(crate) fn chunks(self, len: usize) -> impl Iterator<Item = UserBytes> {
        (0..self.len).step_by(len).map(move |at| UserBytes {
            start: self.start.wrapping_byte_add(at),
            len: len.min(self.len - at),
        })
    }

    /// A buffer of ours, to be written by the kernel.
    pub(crate) fn room(bytes: &mut [u8]) -> Self {
        UserBytes {
            start: bytes.as_mut_ptr().cast(),
            len: bytes.len(),
        }
    }
}

/// Types that every pattern of bytes is a value of.
///
/// # Safety
/// No padding that matters, no invalid values, no pointers that Rust follows.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: integers.
unsafe impl Plain for i64 {}
// SAFETY: two integers.
unsafe impl Plain for libc::timespec {}

/// Reads one value.
pub(crate) fn read<T: Plain>(from: *const T) -> Result<T, c_int> {
    let mut value = core::mem::MaybeUninit::<T>::uninit();
    let local = iovec {
        iov_base: value.as_mut_ptr().cast(),
        iov_len: size_of::<T>(),
    };
    match transfer(libc::SYS_process_vm_readv, &[local], from.cast()) {
        // SAFETY: the kernel filled all of it, and any bytes are a `T`.
        Transfer::Done => Ok(unsafe { value.assume_init() }),
        Transfer::Fault => Err(libc::EFAULT),
        // SAFETY: the caller of the hooked function vouches for the pointer, as
        // with any C function; only the EFAULT for a bad one is lost.
        Transfer::Unavailable => Ok(unsafe { from.read_unaligned() }),
    }
}

/// Writes `parts` one behind the other to `to`: at most two of them.
pub(crate) fn write(to: *mut c_void, parts: [&[u8]; 2]) -> Result<(), c_int> {
    let local = parts.map(|p| iovec {
        iov_base: p.as_ptr().cast_mut().cast(),
        iov_len: p.len(),
    });
    match transfer(libc::SYS_process_vm_writev, &local, to) {
        Transfer::Done => Ok(()),
        Transfer::Fault => Err(libc::EFAULT),
        Transfer::Unavailable => {
            let mut to = to.cast::<u8>();
            for part in parts {
                // SAFETY: as in `read`, for as many bytes as the call defines.
                unsafe {
                    core::ptr::copy(part.as_ptr(), to, part.len());
                    to = to.add(part.len());
                }
            }
            Ok(())
        }
    }
}

/// Writes one value.
pub(crate) fn write_value<T: Plain>(to: *mut T, value: &T) -> Result<(), c_int> {
    // SAFETY: a `Plain` value is its bytes, and lives through the call.
    let bytes =
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(value).cast(), size_of::<T>()) };
    write(to.cast(), [bytes, &[]])
}

enum Transfer {
    Done,
    Fault,
    /// A sandbox forbids the call, or this is a `vfork` child of a restricted parent.
    Unavailable,
}

fn transfer(call: c_long, local: &[iovec], remote: *const c_void) -> Transfer {
    let len: usize = local.iter().map(|v| v.iov_len).sum();
    let remote = iovec {
        iov_base: remote.cast_mut(),
        iov_len: len,
    };
    // SAFETY: the local vectors are buffers of ours, of the lengths given; the
    // remote address is checked by the kernel.
    let done = unsafe {
        raw::syscall(
            call,
            c_long::from(generation::pid()),
            local.as_ptr(),
            local.len(),
            &raw const remote,
            1usize,
            0usize,
        )
    };
    match done {
        -1 if crate::sys::errno() == libc::EFAULT => Transfer::Fault,
        -1 => Transfer::Unavailable,
        n if n as usize == len => Transfer::Done,
        _ => Transfer::Fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_pointer_is_efault_for_reading_and_for_writing() {
        for bad in [0usize, 8, usize::MAX - 7] {
            assert_eq!(read(bad as *const i64), Err(libc::EFAULT));
            assert_eq!(write(bad as *mut c_void, [b"text", b""]), Err(libc::EFAULT));
        }
    }

    #[test]
    fn chunks_cover_the_bytes_once_and_in_order() {
        let bytes = UserBytes {
            start: 100 as *const c_void,
            len: 7,
        };
        let chunks: Vec<_> = bytes.chunks(3).map(|c| (c.start.addr(), c.len)).collect();
        assert_eq!(chunks, [(100, 3), (103, 3), (106, 1)]);
        assert_eq!(UserBytes::NONE.chunks(3).count(), 0);
    }

    #[test]
    fn what_is_written_in_two_parts_is_read_as_one() {
        let mut place = 0i64;
        write((&raw mut place).cast(), [&[1, 0, 0, 0], &[2, 0, 0, 0]]).unwrap();
        assert_eq!(read(&raw const place), Ok((2 << 32) | 1));
    }
}
