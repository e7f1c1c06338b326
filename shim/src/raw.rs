//! This library's own way into the kernel.
//!
//! Its calls must not go by libc's `syscall`: that name is ours (see
//! [`crate::hooks`]), and another preloaded library may have it too. So
//! `raw::syscall` is the same function under a name that nobody else sees.

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use libc::syscall;

#[cfg(target_arch = "x86_64")]
use libc::{c_int, c_long};

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    /// `syscall(3)`: -1 and `errno`, or what the kernel answers.
    #[link_name = "dipc_raw_syscall"]
    pub(crate) fn syscall(number: c_long, ...) -> c_long;
}

// The number and five arguments come in registers, the sixth on the stack; the
// kernel wants them one register further on, and the fourth elsewhere.
#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".pushsection .text.dipc_raw_syscall, \"ax\", @progbits",
    ".globl dipc_raw_syscall",
    ".hidden dipc_raw_syscall",
    ".type dipc_raw_syscall, @function",
    "dipc_raw_syscall:",
    "mov rax, rdi",
    "mov rdi, rsi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "mov r10, r8",
    "mov r8, r9",
    "mov r9, [rsp + 8]",
    "syscall",
    "cmp rax, -4095",
    "jae 2f",
    "ret",
    "2:",
    "mov rdi, rax",
    "jmp {failed}",
    ".size dipc_raw_syscall, . - dipc_raw_syscall",
    ".popsection",
    failed = sym failed,
);

/// The kernel's negative answer in C's form.
#[cfg(target_arch = "x86_64")]
extern "C" fn failed(result: c_long) -> c_long {
    crate::sys::set_errno(-result as c_int);
    -1
}
