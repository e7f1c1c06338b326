//! The Unix socket: connect, send, receive, and how long a wait lasts.
//!
//! It carries packets, and a packet goes whole or not at all: of what the kernel
//! could not read from the caller, nothing was sent.
//!
//! Nothing here allocates, locks or is a cancellation point.

use core::mem::{MaybeUninit, size_of};

use dipc_wire::local::{ONE_PACKET, PACKET};
use libc::{c_int, c_long, c_void, iovec, ucred};

use crate::descriptor::Descriptor;
use crate::raw;
use crate::sys::{self, checked};
use crate::user_memory::UserBytes;

/// The longest path of a Unix socket, in bytes without the final zero.
pub(crate) const LONGEST_PATH: usize = 107;
/// `SO_RCVTIMEO`: ten years, in seconds. Nobody waits so long; but a socket with
/// a time-out is one on which `recv` ends with EINTR after any signal handler,
/// `SA_RESTART` or not, and after SIGCONT: as `semop` does (signal(7)).
const FOR_EVER: libc::time_t = 10 * 365 * 86_400;
/// How many descriptors an answer may bring.
pub(crate) const MAX_DESCRIPTORS: usize = 2;

/// A connected socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Socket(pub(crate) c_int);

/// Why a frame was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SendError {
    /// The caller's bytes cannot be read. When `partly`, the daemon waits for the
    /// rest of the frame, and the connection is of no more use.
    BadPointer {
        /// The first packet of several has gone.
        partly: bool,
    },
    /// The kernel does not let us send as who we said we are. Nothing was sent.
    NotUs,
    /// Our user or group has no number in our user namespace. Nothing was sent.
    Unnamed,
    /// The other side is gone, and has got at most a part of the frame.
    Closed,
}

/// What came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Received {
    /// A whole packet of so many bytes, at least one.
    Packet(usize),
    /// A packet longer than the place for it, which has got its beginning.
    CutOff,
    /// A signal's handler ran, or the process was stopped for a while.
    Interrupted,
    /// The place to receive into cannot be written.
    BadPointer,
    /// The other side is gone.
    Closed,
}

impl Socket {
    /// Connects to `path` and returns the kept socket, or the `errno`.
    pub(crate) fn connect(path: &[u8]) -> sys::Result<Descriptor> {
        // SAFETY: any bytes are a sockaddr_un.
        let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as libc::sa_family_t;
        if path.len() > LONGEST_PATH {
            return Err(libc::ENAMETOOLONG);
        }
        for (to, from) in address.sun_path.iter_mut().zip(path) {
            *to = *from as libc::c_char;
        }
        // SAFETY: no memory is passed.
        let fd = checked(unsafe {
            raw::syscall(
                libc::SYS_socket,
                libc::AF_UNIX,
                libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
                0,
            )
        })?;
        let kept = Descriptor::keep(fd as c_int)?;
        let socket = Socket(kept.get().ok_or(libc::EBADF)?);
        socket
            .connect_to(&address)
            .and_then(|()| socket.never_restart())
            .inspect_err(|_| {
                kept.close();
            })?;
        Ok(kept)
    }

    fn connect_to(self, address: &libc::sockaddr_un) -> sys::Result<()> {
        loop {
            // SAFETY: the kernel reads the address, which lives through the call.
            let result = checked(unsafe {
                raw::syscall(
                    libc::SYS_connect,
                    self.0,
                    core::ptr::from_ref(address),
                    size_of::<libc::sockaddr_un>(),
                )
            });
            match result {
                Err(libc::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }

    fn never_restart(self) -> sys::Result<()> {
        let timeout = libc::timeval {
            tv_sec: FOR_EVER,
            tv_usec: 0,
        };
        // SAFETY: the kernel reads the timeval, which lives through the call.
        let result = unsafe {
            raw::syscall(
                libc::SYS_setsockopt,
                self.0,
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                &raw const timeout,
                size_of::<libc::timeval>(),
            )
        };
        checked(result).map(drop)
    }

    /// Sends a frame: `header` and, behind it, the caller's bytes, cut into
    /// packets as [`dipc_wire::local`] says. The kernel takes both from where they
    /// lie. `descriptor` goes with the first packet, `sender` with all of them;
    /// without one the kernel says who sends, with the real user and group.
    pub(crate) fn send(
        self,
        header: &[u8],
        payload: UserBytes,
        descriptor: Option<c_int>,
        sender: Option<ucred>,
    ) -> Result<(), SendError> {
        let bad = |partly| SendError::BadPointer { partly };
        let mut control = Control::default();
        control.put(sender, descriptor);
        if header.len() + payload.len <= ONE_PACKET {
            let mut parts = [vector(header), user_vector(payload)];
            return self.send_packet(&mut parts, &mut control, bad(false));
        }
        self.send_packet(&mut [vector(header)], &mut control, bad(false))?;
        control = Control::default();
        control.put(sender, None);
        payload.chunks(PACKET).try_for_each(|chunk| {
            self.send_packet(&mut [user_vector(chunk)], &mut control, bad(true))
        })
    }

    /// Sends one packet; `bad` is the error when it cannot be read.
    fn send_packet(
        self,
        parts: &mut [iovec],
        control: &mut Control,
        bad: SendError,
    ) -> Result<(), SendError> {
        // SAFETY: any bytes are a msghdr.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len();
        if control.used > 0 {
            message.msg_control = control.bytes.as_mut_ptr().cast();
            message.msg_controllen = control.used;
        }
        loop {
            // SAFETY: control is ours and lives through the call; the parts are
            // checked by the kernel.
            let result = checked(unsafe {
                raw::syscall(
                    libc::SYS_sendmsg,
                    self.0,
                    &raw const message,
                    libc::MSG_NOSIGNAL,
                )
            });
            match result {
                Ok(_) => return Ok(()),
                Err(libc::EINTR) => {}
                Err(libc::EFAULT) => return Err(bad),
                Err(libc::EPERM) => return Err(SendError::NotUs),
                Err(libc::EINVAL) => return Err(SendError::Unnamed),
                Err(_) => return Err(SendError::Closed),
            }
        }
    }

    /// Waits for a packet and receives it.
    pub(crate) fn receive(self, room: UserBytes) -> Received {
        // SAFETY: the kernel checks the address; what it writes there is a buffer
        // of ours or the caller's own, of that length.
        let result = checked(unsafe {
            let null = core::ptr::null::<c_void>();
            raw::syscall(
                libc::SYS_recvfrom,
                self.0,
                room.start,
                room.len,
                c_long::from(libc::MSG_TRUNC),
                null,
                null,
            )
        });
        received(result, room.len)
    }

    /// The same into `room`, with descriptors, which go to `descriptors`.
    pub(crate) fn receive_with(
        self,
        room: &mut [u8],
        descriptors: &mut [Option<c_int>; MAX_DESCRIPTORS],
    ) -> Received {
        let mut control = Control::default();
        let mut part = vector(room);
        // SAFETY: any bytes are a msghdr.
        let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        control.offer(&mut message);
        // SAFETY: all buffers are ours and live through the call.
        let result = checked(unsafe {
            raw::syscall(
                libc::SYS_recvmsg,
                self.0,
                &raw mut message,
                libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC,
            )
        });
        if result.is_ok() {
            control.take(&message, descriptors);
        }
        received(result, part.iov_len)
    }

    /// Waits until there is something to receive. Ends with `Interrupted` after
    /// a handler, but not after SIGCONT: as `msgrcv` does (signal(7)).
    pub(crate) fn wait(self) -> Result<(), Received> {
        let mut poll = libc::pollfd {
            fd: self.0,
            events: libc::POLLIN,
            revents: 0,
        };
        let null = core::ptr::null::<c_void>();
        // SAFETY: one pollfd, which lives through the call; no time-out, no mask.
        match checked(unsafe {
            raw::syscall(libc::SYS_ppoll, &raw mut poll, 1usize, null, null, 0usize)
        }) {
            Ok(_) => Ok(()),
            Err(libc::EINTR) => Err(Received::Interrupted),
            Err(_) => Err(Received::Closed),
        }
    }

    /// Ends the connection for everybody who holds a copy of it.
    pub(crate) fn shut_down(self) {
        // SAFETY: no memory is passed.
        unsafe { raw::syscall(libc::SYS_shutdown, self.0, libc::SHUT_RDWR) };
    }
}

/// With `MSG_TRUNC` the kernel tells how long the packet was, not how much of it
/// had a place.
fn received(result: sys::Result<usize>, room: usize) -> Received {
    match result {
        Ok(0) => Received::Closed,
        Ok(count) if count > room => Received::CutOff,
        Ok(count) => Received::Packet(count),
        Err(libc::EINTR | libc::EAGAIN) => Received::Interrupted,
        Err(libc::EFAULT) => Received::BadPointer,
        Err(_) => Received::Closed,
    }
}

fn vector(bytes: &[u8]) -> iovec {
    iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn user_vector(bytes: UserBytes) -> iovec {
    iovec {
        iov_base: bytes.start.cast_mut(),
        iov_len: bytes.len,
    }
}

/// Room for the control messages that carry who sends, and descriptors.
#[repr(C, align(8))]
struct Control {
    bytes: [MaybeUninit<u8>; 64],
    /// How many of them are to be sent.
    used: usize,
}

impl Default for Control {
    fn default() -> Self {
        Control {
            bytes: [MaybeUninit::zeroed(); 64],
            used: 0,
        }
    }
}

impl Control {
    fn offer(&mut self, message: &mut libc::msghdr) {
        message.msg_control = self.bytes.as_mut_ptr().cast();
        message.msg_controllen = self.bytes.len();
    }

    fn put(&mut self, sender: Option<ucred>, descriptor: Option<c_int>) {
        if let Some(sender) = sender {
            self.append(libc::SCM_CREDENTIALS, sender);
        }
        if let Some(fd) = descriptor {
            self.append(libc::SCM_RIGHTS, fd);
        }
    }

    /// One more message to send: a `ucred` and a descriptor have room.
    fn append<T>(&mut self, kind: c_int, content: T) {
        let len = size_of::<T>() as u32;
        // SAFETY: plain arithmetic.
        let (space, len) = unsafe { (libc::CMSG_SPACE(len), libc::CMSG_LEN(len)) };
        if self.used + space as usize > self.bytes.len() {
            return;
        }
        // SAFETY: the message begins at a multiple of CMSG_ALIGN in aligned
        // bytes, and `space` of them lie behind: header and content lie within.
        unsafe {
            let header = self
                .bytes
                .as_mut_ptr()
                .add(self.used)
                .cast::<libc::cmsghdr>();
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = len as usize;
            libc::CMSG_DATA(header).cast::<T>().write_unaligned(content);
        }
        self.used += space as usize;
    }

    /// Hands out the descriptors that came; closes those that there is no place for.
    fn take(&self, message: &libc::msghdr, to: &mut [Option<c_int>; MAX_DESCRIPTORS]) {
        // SAFETY: the kernel wrote the control messages into `self.bytes`, and the
        // CMSG functions stay within msg_controllen.
        unsafe {
            let mut header = libc::CMSG_FIRSTHDR(message);
            while let Some(control) = header.as_ref() {
                if (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                    let bytes = control.cmsg_len - libc::CMSG_LEN(0) as usize;
                    let data = libc::CMSG_DATA(header).cast::<c_int>();
                    for i in 0..bytes / size_of::<c_int>() {
                        let fd = data.add(i).read_unaligned();
                        match to.iter_mut().find(|place| place.is_none()) {
                            Some(place) => *place = Some(fd),
                            None => sys::close(fd),
                        }
                    }
                }
                header = libc::CMSG_NXTHDR(message, header);
            }
        }
    }
}
