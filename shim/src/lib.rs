//! libdipc.so: preloaded into a program, it takes the System V calls on
//! distributed objects to the node's dipcd. Everything else goes to libc as
//! before.
//!
//! # One `semop`, from the program to the wire and back
//!
//! 1. The program calls `semop`. The dynamic linker binds it to [`hooks`], which
//!    runs a *detour* and keeps the real function at hand.
//! 2. [`sem`] asks [`choose`] about the id. Without bit 30 it is the kernel's:
//!    *bypass*, and the real function runs.
//! 3. [`exchange`] opens a [`session`]: the thread's own connection, looked at
//!    by one `fstat`, or a new one that says hello first.
//! 4. The request is encoded on the stack by [`dipc_wire::frame`]. One `sendmsg`
//!    ([`socket`]) takes it and, in the same packet, the caller's array of
//!    operations from where it lies. With it goes who the thread is now
//!    ([`sender`]).
//! 5. One `recvfrom` waits for the answer. If a signal ends the wait, `Withdraw` is
//!    sent and the same answer awaited, which success wins.
//! 6. The reply becomes a value or an [`outcome::Escape`]; the one match in
//!    [`hooks`] turns that into a return value and `errno`.
//!
//! So a call costs three system calls: `fstat`, `sendmsg`, `recvfrom`; and two
//! that are nearly free, `geteuid` and `getegid`. Calls that
//! read or write small structures of the caller's take one more
//! ([`user_memory`]), and `msgsnd` and `msgrcv` one more when they may block.
//!
//! # Rules for code that lives in somebody else's process
//!
//! - No thread, and no lock or allocation between the hook and the socket.
//! - Nothing unwinds into the program; nothing here is a cancellation point
//!   ([`sys`]): `pthread_cancel` takes effect after the call.
//! - A signal handler may call any hooked function in the middle of another
//!   ([`session`]).
//! - The program may fork ([`generation`], [`fork`]), and close every descriptor
//!   it finds ([`descriptor`]).
//! - A bad pointer is EFAULT, as from the kernel ([`user_memory`]).
//! - A person is told what to mend in one line, once ([`notice`]).

// Nothing is public: who reads these docs reads the private ones.
#![allow(rustdoc::private_intra_doc_links)]

mod abi;
mod attachments;
mod changes;
mod choose;
mod control;
mod descriptor;
mod exchange;
mod exclusive;
mod faults;
mod fork;
mod generation;
mod hooks;
mod index;
mod info;
mod kernel;
mod limits;
mod mapping;
mod msg;
mod notice;
mod outcome;
mod raw;
mod relocate;
mod sem;
mod sender;
mod session;
mod settings;
mod shm;
mod socket;
mod span;
mod sys;
mod sysvipc;
mod user_memory;

/// Runs when the library is loaded, before the program's `main`.
extern "C" fn load() {
    generation::prepare();
    session::prepare();
    fork::prepare();
    hooks::look_up_all();
    settings::load();
}

// SAFETY: `.init_array` holds pointers to functions that the dynamic linker calls
// with arguments that a function without parameters may ignore.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;
