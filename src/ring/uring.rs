//! uring — the [`Ring`] on io_uring.
//!
//! One ring per delivery thread with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): completions are
//! worked off only when this thread asks for them, so nothing interrupts it. Plain descriptors,
//! CONNECT, SENDMSG of up to three pieces with MSG_WAITALL, one multishot RECV per connection from
//! the shared provided buffers. No timers in the kernel: deadlines live in [`Deadlines`].
//!
//! A connection's slot is freed only when the kernel holds no operation of it any more; until then
//! its memory (address, iovecs, parcel) stays where it is. That is the whole argument for safety.
//!
//! How it fails: set-up is refused by sysctl, seccomp or an old kernel ([`RingError::Refused`] says
//! which); later errors of the ring itself are [`RingError::Broken`].

#![expect(unsafe_code, reason = "operations whose memory the kernel reads until they complete")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::event::{EventfdFlags, eventfd};
use socket2::{SockAddr, Socket};

use super::buffers::{Buffers, GROUP};
use super::{Clock, ConnId, Deadlines, Event, Events, IDLE_SLEEP, Parcel, Ring, RingError, socket};
use crate::units::{Tick, Utc};

/// Submission entries; a fuller queue is submitted early, so this bounds a batch, not the work.
const ENTRIES: u32 = 1024;
/// Completion entries: every connection may complete a receive and a send between two waits.
const COMPLETIONS: u32 = 32 << 10;

/// What an operation was, in the low octet of its user data; the slot is above.
const OP_WAKE: u64 = 0;
const OP_CONNECT: u64 = 1;
const OP_SEND: u64 = 2;
const OP_RECEIVE: u64 = 3;
const OP_CANCEL: u64 = 4;

/// Wakes a waiting ring from another thread.
#[derive(Clone)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Makes the ring's wait return soon. A counter that is full wakes it as well, so the error of
    /// a write that would block is no failure.
    pub fn wake(&self) {
        let told = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        debug_assert!(told.is_ok() || told == Err(rustix::io::Errno::AGAIN), "an eventfd write");
    }
}

/// One connection: its socket and the memory that the kernel may be reading.
struct Slot {
    socket: Socket,
    address: SockAddr,
    parcel: Parcel,
    iovecs: [libc::iovec; 3],
    header: libc::msghdr,
    sent: usize,
    sending: bool,
    receiving: bool,
    connecting: bool,
    cancelling: bool,
    /// No event of this connection is told any more.
    silent: bool,
    closed: bool,
}

impl Slot {
    fn in_kernel(&self) -> bool {
        self.sending || self.receiving || self.connecting || self.cancelling
    }
}

/// The io_uring of one delivery thread.
pub struct Uring {
    // The ring is dropped before the memory that its operations point to.
    ring: IoUring,
    buffers: Buffers,
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<u32>,
    deadlines: Deadlines,
    clock: Clock,
    now: Tick,
    utc: Utc,
    wake: Arc<OwnedFd>,
    backlog: VecDeque<squeue::Entry>,
    completed: Vec<cqueue::Entry>,
}

impl Uring {
    /// A ring that tells the time by `clock`.
    ///
    /// # Errors
    /// [`RingError::Refused`] with the cause when the kernel does not allow it.
    pub fn new(clock: Clock) -> Result<Uring, RingError> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)
            .map_err(|source| RingError::Refused { cause: refusal(&source), source })?;
        let buffers = Buffers::register(&ring.submitter())
            .map_err(|source| RingError::Refused { cause: refusal(&source), source })?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| broken("making its eventfd", errno.into()))?;
        let mut uring = Uring {
            ring,
            buffers,
            slots: Vec::new(),
            free: Vec::new(),
            deadlines: Deadlines::default(),
            clock,
            now: clock.tick(),
            utc: clock.utc(),
            wake: Arc::new(wake),
            backlog: VecDeque::new(),
            completed: Vec::new(),
        };
        uring.arm_wake();
        Ok(uring)
    }

    /// A handle that wakes this ring from another thread.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.wake))
    }

    fn arm_wake(&mut self) {
        let fd = types::Fd(self.wake.as_raw_fd());
        let poll = opcode::PollAdd::new(fd, libc::POLLIN as u32).build().user_data(OP_WAKE);
        self.push(poll);
    }

    /// Queues an operation; it is submitted with the next batch.
    ///
    /// Every entry that is pushed refers only to memory of `self.slots`' boxes, which stay in place
    /// until the operation's completion has been seen.
    fn push(&mut self, entry: squeue::Entry) {
        self.backlog.push_back(entry);
    }

    /// Moves the backlog to the kernel's queue, submitting whenever that is full.
    fn flush_backlog(&mut self) -> Result<(), RingError> {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: see `push`: the memory behind the entry outlives the operation.
            let pushed = unsafe { self.ring.submission().push(entry) };
            match pushed {
                Ok(()) => drop(self.backlog.pop_front()),
                Err(_full) => {
                    self.ring.submit().map_err(|source| broken("submitting", source))?;
                }
            }
        }
        Ok(())
    }

    fn slot(&mut self, conn: ConnId) -> &mut Slot {
        self.slots[conn.0 as usize].as_mut().expect("a connection is used only until its close")
    }

    /// Queues the rest of the slot's parcel.
    fn push_send(&mut self, conn: ConnId) {
        let slot = self.slot(conn);
        let mut skip = slot.sent;
        let body = slot.parcel.body.as_ref().map_or(&[][..], |body| body.octets());
        let mut count = 0;
        for piece in [&slot.parcel.head[..], body, &slot.parcel.tail[..]] {
            let rest = &piece[skip.min(piece.len())..];
            skip -= skip.min(piece.len());
            if !rest.is_empty() {
                let start = rest.as_ptr().cast_mut().cast();
                slot.iovecs[count] = libc::iovec { iov_base: start, iov_len: rest.len() };
                count += 1;
            }
        }
        assert!(count > 0, "a parcel has octets left while it is sent");
        slot.header.msg_iov = slot.iovecs.as_mut_ptr();
        slot.header.msg_iovlen = count;
        slot.sending = true;
        let flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let entry =
            opcode::SendMsg::new(types::Fd(slot.socket.as_raw_fd()), &raw const slot.header)
                .flags(flags as u32)
                .build()
                .user_data(user_data(conn, OP_SEND));
        self.push(entry);
    }

    fn push_receive(&mut self, conn: ConnId) {
        let slot = self.slot(conn);
        slot.receiving = true;
        let entry = opcode::RecvMulti::new(types::Fd(slot.socket.as_raw_fd()), GROUP)
            .build()
            .user_data(user_data(conn, OP_RECEIVE));
        self.push(entry);
    }

    /// Tells that the connection is unusable, once.
    fn break_off(&mut self, conn: ConnId, errno: i32, events: &mut Events) {
        let slot = self.slot(conn);
        if !slot.silent {
            slot.silent = true;
            // What the kernel has taken of a send under way is known only at its completion; until
            // then all of it may have left.
            let sent = if slot.sending { slot.parcel.len() } else { slot.sent };
            self.deadlines.clear(conn);
            events.list.push(Event::Broken { conn, errno, sent });
        }
    }

    /// Frees the slot of a closed connection once the kernel holds nothing of it.
    fn reclaim(&mut self, conn: ConnId) {
        let index = conn.0 as usize;
        if self.slots[index].as_ref().is_some_and(|slot| slot.closed && !slot.in_kernel()) {
            self.slots[index] = None;
            self.free.push(conn.0);
        }
    }

    fn reap(&mut self, events: &mut Events) -> Result<(), RingError> {
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion());
        for entry in completed.drain(..) {
            self.complete(&entry, events);
        }
        self.completed = completed;
        self.buffers.publish();
        while let Some(conn) = self.deadlines.pop(self.now) {
            events.list.push(Event::Deadline { conn });
        }
        // Re-armed receives and continued sends must not wait for the caller's next round.
        self.flush_backlog()
    }

    fn complete(&mut self, entry: &cqueue::Entry, events: &mut Events) {
        let data = entry.user_data();
        let conn = ConnId(u32::try_from(data >> 8).expect("slots are numbered in 32 bits"));
        match data & 0xff {
            OP_WAKE => self.completed_wake(),
            OP_CONNECT => self.completed_connect(conn, entry.result(), events),
            OP_SEND => self.completed_send(conn, entry.result(), events),
            OP_RECEIVE => self.completed_receive(conn, entry, events),
            OP_CANCEL => self.slot(conn).cancelling = false,
            other => unreachable!("operation {other} is never submitted"),
        }
        if data & 0xff != OP_WAKE {
            self.reclaim(conn);
        }
    }

    fn completed_wake(&mut self) {
        let mut count = [0; 8];
        let read = rustix::io::read(&self.wake, &mut count);
        debug_assert!(read.is_ok() || read == Err(rustix::io::Errno::AGAIN), "an eventfd read");
        self.arm_wake();
    }

    fn completed_connect(&mut self, conn: ConnId, result: i32, events: &mut Events) {
        let slot = self.slot(conn);
        slot.connecting = false;
        if slot.silent {
            return;
        }
        if result < 0 {
            self.break_off(conn, -result, events);
            return;
        }
        let source = socket::own_address(&slot.socket);
        events.list.push(Event::Connected { conn, source });
        self.push_receive(conn);
    }

    fn completed_send(&mut self, conn: ConnId, result: i32, events: &mut Events) {
        let slot = self.slot(conn);
        slot.sending = false;
        if result < 0 {
            self.break_off(conn, -result, events);
            return;
        }
        slot.sent += usize::try_from(result).expect("a count is not negative");
        if slot.sent < slot.parcel.len() {
            if !slot.silent {
                self.push_send(conn);
            }
            return;
        }
        slot.parcel = Parcel::default();
        slot.sent = 0;
        if !slot.silent {
            events.list.push(Event::Sent { conn });
        }
    }

    fn completed_receive(&mut self, conn: ConnId, entry: &cqueue::Entry, events: &mut Events) {
        let result = entry.result();
        if let Some(id) = cqueue::buffer_select(entry.flags()) {
            let len = usize::try_from(result).unwrap_or(0);
            let start = events.arena.len();
            if !self.slot(conn).silent && len > 0 {
                events.arena.extend_from_slice(self.buffers.octets(id, len));
                let octets = start..events.arena.len();
                events.list.push(Event::Received { conn, octets });
            }
            self.buffers.give(id);
        }
        if cqueue::more(entry.flags()) {
            return;
        }
        self.slot(conn).receiving = false;
        match result {
            1.. => self.receive_again(conn),
            // All buffers were in use for a moment; they have been given back since.
            error if error == -libc::ENOBUFS => self.receive_again(conn),
            0 => self.break_off(conn, 0, events),
            error => self.break_off(conn, -error, events),
        }
    }

    fn receive_again(&mut self, conn: ConnId) {
        if !self.slot(conn).silent {
            self.push_receive(conn);
        }
    }

    /// Submits and sleeps until something completes or `until` has come.
    fn enter(&mut self, until: Tick) -> Result<(), RingError> {
        let sleep = self.clock.sleep(until.since(self.clock.tick())).min(IDLE_SLEEP);
        let timespec = types::Timespec::from(sleep);
        let args = types::SubmitArgs::new().timespec(&timespec);
        match self.ring.submitter().submit_with_args(1, &args) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal came; or the completion queue wants to be emptied first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(broken("waiting for completions", error)),
            },
        }
    }
}

impl Ring for Uring {
    fn now(&self) -> Tick {
        self.now
    }

    fn utc(&self) -> Utc {
        self.utc
    }

    fn connect(&mut self, to: SocketAddr, from: Option<IpAddr>) -> io::Result<ConnId> {
        let socket = socket::outgoing(&to, from)?;
        // SAFETY: a zeroed msghdr is the valid empty one.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let slot = Box::new(Slot {
            socket,
            address: to.into(),
            parcel: Parcel::default(),
            iovecs: [empty; 3],
            header,
            sent: 0,
            sending: false,
            receiving: false,
            connecting: true,
            cancelling: false,
            silent: false,
            closed: false,
        });
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1).expect("connections are counted in 32 bits")
        });
        let conn = ConnId(index);
        let entry = opcode::Connect::new(
            types::Fd(slot.socket.as_raw_fd()),
            slot.address.as_ptr().cast(),
            slot.address.len(),
        )
        .build()
        .user_data(user_data(conn, OP_CONNECT));
        self.slots[index as usize] = Some(slot);
        self.push(entry);
        Ok(conn)
    }

    fn send(&mut self, conn: ConnId, parcel: Parcel) {
        assert!(!parcel.is_empty(), "a parcel has octets");
        let slot = self.slot(conn);
        assert!(!slot.sending && !slot.closed, "one parcel at a time, on an open connection");
        if slot.silent {
            return; // already broken; the caller is about to learn it
        }
        slot.parcel = parcel;
        slot.sent = 0;
        self.push_send(conn);
    }

    fn deadline(&mut self, conn: ConnId, at: Tick) {
        // Receivers do not answer faster because our time runs faster.
        let left = at.since(self.now).saturating_mul(self.clock.speed());
        self.deadlines.set(conn, self.now.after(left));
    }

    fn close(&mut self, conn: ConnId) {
        self.deadlines.clear(conn);
        let slot = self.slot(conn);
        slot.silent = true;
        slot.closed = true;
        if slot.in_kernel() {
            slot.cancelling = true;
            let fd = types::Fd(slot.socket.as_raw_fd());
            let entry = opcode::AsyncCancel2::new(types::CancelBuilder::fd(fd).all())
                .build()
                .user_data(user_data(conn, OP_CANCEL));
            self.push(entry);
        }
        self.reclaim(conn);
    }

    fn wait(&mut self, until: Tick, events: &mut Events) -> Result<(), RingError> {
        events.clear();
        self.flush_backlog()?;
        let until = self.deadlines.next().map_or(until, |next| next.min(until));
        self.enter(until)?;
        self.now = self.clock.tick();
        self.utc = self.clock.utc();
        self.reap(events)
    }
}

impl Drop for Uring {
    /// Ends every operation before the memory they point to goes: the kernel's references to our
    /// mappings and boxes end when the ring's descriptor is closed and its requests are cancelled,
    /// which happens asynchronously, so they are cancelled and awaited here.
    fn drop(&mut self) {
        let open: Vec<ConnId> = (0u32..)
            .zip(&self.slots)
            .filter(|(_, slot)| slot.as_ref().is_some_and(|slot| !slot.closed))
            .map(|(index, _)| ConnId(index))
            .collect();
        for conn in open {
            self.close(conn);
        }
        let mut events = Events::default();
        while self.slots.iter().any(Option::is_some) {
            if self.wait(self.now, &mut events).is_err() {
                // The ring is beyond use; leaking what the kernel may still read is the safe end.
                self.slots.drain(..).flatten().for_each(std::mem::forget);
                return;
            }
        }
    }
}

fn user_data(conn: ConnId, operation: u64) -> u64 {
    u64::from(conn.0) << 8 | operation
}

fn broken(doing: &'static str, source: io::Error) -> RingError {
    RingError::Broken { doing, source }
}

/// Why the kernel refuses a ring, in the words of the operator who can change it.
fn refusal(error: &io::Error) -> String {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    match (error.raw_os_error(), switch.as_deref().map(str::trim)) {
        (Some(libc::EPERM), Ok("2")) => {
            "the sysctl kernel.io_uring_disabled is 2; set it to 0 to allow io_uring".to_owned()
        }
        (Some(libc::EPERM), Ok("1")) => {
            "the sysctl kernel.io_uring_disabled is 1 and this user is \
             not in the group of kernel.io_uring_group"
                .to_owned()
        }
        (Some(libc::EPERM), _) => "a seccomp profile forbids it, as container runtimes do by \
             default; run with a profile that allows the io_uring system calls"
            .to_owned(),
        (Some(libc::ENOSYS), _) => "this kernel was built without it".to_owned(),
        (Some(libc::EINVAL), _) => "this kernel is older than Linux 6.1".to_owned(),
        (Some(libc::ENOMEM), _) => "the limit of locked memory (ulimit -l) is too low".to_owned(),
        _ => "the kernel gives no reason".to_owned(),
    }
}
