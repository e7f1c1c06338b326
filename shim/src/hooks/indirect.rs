//! `syscall(3)`: System V calls that a program makes by number (behaviour 125).
//!
//! ```text
//!   syscall ──▶ a bit of CLAIMED set? ── no ──▶ libc's syscall, by a jump
//!                     │ yes
//!                     ▼
//!                a clone that leaves a thread, or has a stack of its own?
//!                     │ no                   └─ yes ──▶ libc's syscall, by a jump
//!                     ▼
//!                  dispatch ──▶ the hook of that name
//! ```
//!
//! A jump, and not a call, because the stack must be as the program left it:
//! a `vfork` or `clone` by number returns a second time, into the same frame or
//! with another stack. For the same reason the way there changes no register
//! that holds an argument.

use core::arch::naked_asm;
use core::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_long, c_ulong, key_t, size_t};

use crate::{fork, raw, user_memory};

/// How many numbers [`CLAIMED`] tells of; more than x86-64 has.
const NUMBERS: usize = 512;

/// The calls that [`dispatch`] knows. `SYS_vfork` is not among them: its child
/// shares its parent's memory, and so its connection.
const OURS: [c_long; 19] = [
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_fork,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mremap,
];

/// [`OURS`], a bit each.
static CLAIMED: [u64; NUMBERS / 64] = {
    let mut bits = [0; NUMBERS / 64];
    let mut i = 0;
    while i < OURS.len() {
        bits[OURS[i] as usize / 64] |= 1 << (OURS[i] % 64);
        i += 1;
    }
    bits
};

/// libc's `syscall`, or that of a library preloaded behind this one; null before
/// [`look_up`].
static REAL: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

/// Called at load. Other libraries' constructors may have called `syscall` by
/// then, from within `malloc` too, where nothing can be looked up.
pub(super) fn look_up() {
    // SAFETY: a symbol's name; the next library that has it is libc at the latest.
    let real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) };
    REAL.store(real, Ordering::Relaxed);
}

/// `syscall(3)`. Variadic in C: the number and five arguments come in registers,
/// the sixth on the stack.
#[unsafe(no_mangle)]
#[unsafe(naked)]
unsafe extern "C" fn syscall(number: c_long) -> c_long {
    naked_asm!(
        // The kernel too looks at the lower half of the number only.
        "mov r11d, edi",
        "cmp r11d, {numbers}",
        "jae 2f",
        "shr r11d, 6",
        "lea r10, [rip + {claimed}]",
        "mov r10, [r10 + 8*r11]",
        "bt r10, rdi",
        "jc 3f",
        "2:",
        "mov r11, [rip + {real}]",
        "test r11, r11",
        "jz {before_load}",
        "jmp r11",
        "3:",
        "cmp edi, {clone}",
        "je 4f",
        "cmp edi, {clone3}",
        "jne {dispatch}",
        "4:",
        "push rdi",
        "push rsi",
        "push rdx",
        "push rcx",
        "push r8",
        "push r9",
        // Seven words with the return address: one more aligns the stack.
        "sub rsp, 8",
        "call {copies_memory}",
        "add rsp, 8",
        "pop r9",
        "pop r8",
        "pop rcx",
        "pop rdx",
        "pop rsi",
        "pop rdi",
        "test al, al",
        "jz 2b",
        "jmp {dispatch}",
        numbers = const NUMBERS,
        claimed = sym CLAIMED,
        real = sym REAL,
        before_load = sym raw::syscall,
        clone = const libc::SYS_clone,
        clone3 = const libc::SYS_clone3,
        copies_memory = sym copies_memory,
        dispatch = sym dispatch,
    )
}

/// Whether a `clone` or `clone3` is a `fork`: the child has memory of its own,
/// and goes on with its parent's stack.
extern "C" fn copies_memory(number: c_long, first: usize, second: usize) -> bool {
    let (flags, stack) = if number as c_int as c_long == libc::SYS_clone {
        (first as u64, second as u64)
    } else {
        /// `struct clone_args`, `<linux/sched.h>`: flags are its first word, the
        /// stack its sixth.
        type Arguments = [u64; 6];
        if second < size_of::<Arguments>() {
            return false;
        }
        match user_memory::read(first as *const Arguments) {
            Ok([flags, .., stack]) => (flags, stack),
            // The kernel shall say so.
            Err(_) => return false,
        }
    };
    flags & libc::CLONE_VM as u64 == 0 && stack == 0
}

// SAFETY: integers.
unsafe impl user_memory::Plain for [u64; 6] {}

/// Runs the hook of a claimed number, on arguments as the kernel takes them. The
/// hooks' failures are those of `syscall`: -1 and `errno`.
unsafe extern "C" fn dispatch(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> c_long {
    // SAFETY: each hook with the program's own arguments, in the order and types
    // of the kernel's call, which are those of libc's on this processor.
    unsafe {
        match number as c_int as c_long {
            libc::SYS_semget => super::on_semget(a as key_t, b as c_int, c as c_int).into(),
            libc::SYS_semop => super::on_semop(a as c_int, b as _, c as size_t).into(),
            libc::SYS_semtimedop => {
                super::on_semtimedop(a as c_int, b as _, c as size_t, d as _).into()
            }
            libc::SYS_semctl => {
                super::on_semctl(a as c_int, b as c_int, c as c_int, d as c_ulong).into()
            }
            libc::SYS_msgget => super::on_msgget(a as key_t, b as c_int).into(),
            libc::SYS_msgsnd => {
                super::on_msgsnd(a as c_int, b as _, c as size_t, d as c_int).into()
            }
            libc::SYS_msgrcv => {
                super::on_msgrcv(a as c_int, b as _, c as size_t, d as c_long, e as c_int) as c_long
            }
            libc::SYS_msgctl => super::on_msgctl(a as c_int, b as c_int, c as _).into(),
            libc::SYS_shmget => super::on_shmget(a as key_t, b as size_t, c as c_int).into(),
            libc::SYS_shmat => super::on_shmat(a as c_int, b as _, c as c_int) as c_long,
            libc::SYS_shmdt => super::on_shmdt(a as _).into(),
            libc::SYS_shmctl => super::on_shmctl(a as c_int, b as c_int, c as _).into(),
            libc::SYS_fork | libc::SYS_clone | libc::SYS_clone3 => {
                // A process id, or -1.
                fork::forking(|| real(number, a, b, c, d, e) as libc::pid_t).into()
            }
            libc::SYS_munmap => super::mappings::on_munmap(a as _, b).into(),
            libc::SYS_mprotect => super::mappings::on_mprotect(a as _, b, c as c_int).into(),
            libc::SYS_madvise => super::mappings::on_madvise(a as _, b, c as c_int).into(),
            libc::SYS_mremap => {
                super::mappings::on_mremap(a as _, b, c, d as c_int, e as _) as c_long
            }
            _ => real(number, a, b, c, d, e),
        }
    }
}

/// Makes the call.
///
/// # Safety
/// That of the call.
unsafe fn real(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize) -> c_long {
    type Call = unsafe extern "C" fn(c_long, usize, usize, usize, usize, usize) -> c_long;
    let real = REAL.load(Ordering::Relaxed);
    if real.is_null() {
        // SAFETY: the caller's.
        return unsafe { raw::syscall(number, a, b, c, d, e) };
    }
    // SAFETY: libc's function of this type (variadic, for which registers are the
    // same), with the caller's arguments.
    unsafe { core::mem::transmute::<*mut c_void, Call>(real)(number, a, b, c, d, e) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys;

    fn is_claimed(number: c_long) -> bool {
        CLAIMED[number as usize / 64] >> (number % 64) & 1 == 1
    }

    #[test]
    fn exactly_our_numbers_are_claimed() {
        let claimed: Vec<_> = (0..NUMBERS as c_long).filter(|&n| is_claimed(n)).collect();
        let mut ours = OURS.to_vec();
        ours.sort_unstable();
        assert_eq!(claimed, ours);
    }

    #[test]
    fn only_a_clone_with_memory_of_its_own_and_no_stack_is_a_fork() {
        let vm = libc::CLONE_VM as usize;
        assert!(copies_memory(libc::SYS_clone, libc::SIGCHLD as usize, 0));
        assert!(!copies_memory(libc::SYS_clone, vm, 0));
        assert!(!copies_memory(libc::SYS_clone, 0, 0x1000));
        let by_structure = |flags, stack, size| {
            let arguments = [flags, 0, 0, 0, 0, stack];
            copies_memory(libc::SYS_clone3, arguments.as_ptr().addr(), size)
        };
        assert!(by_structure(0, 0, 88));
        assert!(!by_structure(vm as u64, 0, 88));
        assert!(!by_structure(0, 0x1000, 88));
        assert!(!by_structure(0, 0, 40), "too short to be one");
        assert!(!copies_memory(libc::SYS_clone3, 8, 88), "a bad pointer");
    }

    #[test]
    fn any_other_number_gets_all_six_arguments_and_its_errno() {
        let text = *b"sixth";
        let mut heard = [0u8; 5];
        let (local, remote) = (
            libc::iovec {
                iov_base: heard.as_mut_ptr().cast(),
                iov_len: 5,
            },
            libc::iovec {
                iov_base: text.as_ptr().cast_mut().cast(),
                iov_len: 5,
            },
        );
        let call = |sixth: c_ulong| {
            // SAFETY: both vectors lie in this frame, and so does what they name.
            unsafe {
                libc::syscall(
                    libc::SYS_process_vm_readv,
                    c_long::from(sys::getpid()),
                    &raw const local,
                    1usize,
                    &raw const remote,
                    1usize,
                    sixth,
                )
            }
        };
        for real in [true, false] {
            if real {
                look_up();
            } else {
                REAL.store(core::ptr::null_mut(), Ordering::Relaxed);
            }
            assert_eq!(call(0), 5);
            assert_eq!(&heard, b"sixth");
            assert_eq!(
                (call(1), sys::errno()),
                (-1, libc::EINVAL),
                "flags, unknown"
            );
            heard = [0; 5];
        }
    }
}
