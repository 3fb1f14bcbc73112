//! server — the sockets of a sink: one thread, one epoll, one large read buffer for all.
//!
//! A connection owns only what it has not yet understood or sent, so thousands of idle ones cost
//! little. Input is read into the shared buffer and understood there; replies of one read leave in
//! one send. A waiting connection is not read from, which is how a delay blocks nobody else.
//! A connection that fails is closed and counted where it matters. It must not know SMTP.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, Shutdown, SocketFlags};

use crate::clock::now;
use crate::counters::{add, raise};
use crate::receiver::{Peer, Receiver};
use crate::report::Ended;
use crate::session::{Next, Session};

/// Octets of one read. In the self-test's flood on a 2.6 GHz Zen 4 core, 64 KiB took 590,000
/// messages per second of processor time, 256 KiB 670,000, 1 MiB no more than that.
const READ_BYTES: usize = 256 << 10;
/// Reads from one connection before the others get their turn.
const READS_IN_A_ROW: u32 = 4;
/// Connections taken from a listener before the open ones get their turn.
const ACCEPTS_IN_A_ROW: u32 = 256;
/// Events taken at once.
const EVENTS: usize = 1024;
/// How often the end is looked for when nothing happens.
const TICK: Duration = Duration::from_millis(20);
/// How long a client may take to close after the last reply, and the last connections after the
/// last expected message.
const LINGER: Duration = Duration::from_secs(1);
/// Marks the event of a listener; connections have small indices.
const LISTENER: u64 = 1 << 63;

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Octets of the client.
    Reading,
    /// A moment; then the replies are due.
    Waiting,
    /// Room for the replies.
    Sending,
    /// The client's own end of a conversation that is over.
    Lingering,
}

impl State {
    fn flags(self) -> epoll::EventFlags {
        match self {
            State::Reading | State::Lingering => epoll::EventFlags::IN,
            State::Waiting => epoll::EventFlags::empty(),
            State::Sending => epoll::EventFlags::OUT,
        }
    }
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    session: Session,
    state: State,
    /// Octets received but not yet fed, while waiting.
    unread: Vec<u8>,
    /// Octets of the session's replies already sent.
    sent: usize,
    counted: bool,
    /// Its end has been noted.
    gone: bool,
}

/// A place for a connection. The generation tells a late event or moment from one that is meant.
#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

/// When to end.
#[derive(Debug)]
pub(crate) struct Until {
    pub(crate) time: Option<Duration>,
    pub(crate) messages: Option<u64>,
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) address: SocketAddr,
    /// The index of the behaviour of those who come here.
    pub(crate) provider: usize,
}

/// All sockets of a sink.
#[derive(Debug)]
pub(crate) struct Server {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    /// The listeners are not watched because no descriptor was left.
    deaf: bool,
    slots: Vec<Slot>,
    free: Vec<usize>,
    moments: BinaryHeap<Reverse<(Duration, u64)>>,
    now: Duration,
    /// Connections so far.
    opened: u64,
    receiver: Receiver,
}

impl Server {
    pub(crate) fn new(listeners: Vec<Listener>, receiver: Receiver) -> io::Result<Server> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (n, listener) in listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64(LISTENER | n as u64);
            epoll::add(&epoll, &listener.socket, data, epoll::EventFlags::IN)?;
        }
        Ok(Server {
            epoll,
            listeners,
            deaf: false,
            slots: Vec::new(),
            free: Vec::new(),
            moments: BinaryHeap::new(),
            now: now(),
            opened: 0,
            receiver,
        })
    }

    /// Ends with the connections that are still open.
    pub(crate) fn into_receiver(mut self) -> Receiver {
        for index in 0..self.slots.len() {
            if self.slots[index].connection.is_some() {
                self.end(index);
            }
        }
        self.receiver
    }

    /// Serves until told to stop or until an end is reached.
    pub(crate) fn run(&mut self, stop: &AtomicBool, until: &Until) -> Ended {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BYTES];
        self.now = now();
        let deadline = until.time.map(|time| self.now + time);
        let mut complete_since = None;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ended::Stopped;
            }
            if deadline.is_some_and(|deadline| self.now >= deadline) {
                return Ended::TimeUp;
            }
            let counts = &self.receiver.counters;
            let messages = counts.messages.load(Ordering::Relaxed);
            if until.messages.is_some_and(|expected| messages >= expected) {
                let since = *complete_since.get_or_insert(self.now);
                let open = counts.connections_now.load(Ordering::Relaxed);
                if open == 0 || self.now >= since + LINGER {
                    return Ended::Complete;
                }
            }
            self.wait(&mut events);
            for event in events.drain(..) {
                self.react(event, &mut buffer);
            }
            self.wake();
        }
    }

    /// Waits for events, but no longer than until the next moment.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) {
        let next = self
            .moments
            .peek()
            .map_or(TICK, |Reverse((due, _))| due.saturating_sub(self.now).min(TICK));
        let timeout = Timespec::try_from(next).expect("a tick is short");
        match epoll::wait(&self.epoll, spare_capacity(events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing but a wrong argument is possible (epoll_wait(2)).
            Err(error) => panic!("epoll refuses to wait: {error}"),
        }
        self.now = now();
    }

    fn react(&mut self, event: epoll::Event, buffer: &mut [u8]) {
        let token = event.data.u64();
        if token & LISTENER != 0 {
            return self.accept((token & !LISTENER) as usize);
        }
        let Some(index) = self.meant(token) else { return };
        let flags = event.flags;
        match self.connection(index).state {
            State::Reading if flags.contains(epoll::EventFlags::IN) => self.read(index, buffer),
            State::Lingering if flags.contains(epoll::EventFlags::IN) => {
                self.read_away(index, buffer);
            }
            State::Sending if flags.contains(epoll::EventFlags::OUT) => self.send(index),
            _ if flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR) => {
                self.close(index);
            }
            _ => {}
        }
    }

    /// The index that a token stands for, unless its connection is gone.
    fn meant(&self, token: u64) -> Option<usize> {
        let (index, generation) = (token as u32 as usize, (token >> 32) as u32);
        let slot = self.slots.get(index)?;
        (slot.generation == generation && slot.connection.is_some()).then_some(index)
    }

    fn token(&self, index: usize) -> u64 {
        u64::from(self.slots[index].generation) << 32 | index as u64
    }

    fn connection(&mut self, index: usize) -> &mut Connection {
        self.slots[index].connection.as_mut().expect("only open connections are reacted to")
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS_IN_A_ROW {
            let socket = &self.listeners[listener].socket;
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match net::acceptfrom_with(socket, flags) {
                Ok((socket, peer)) => {
                    let source = peer
                        .and_then(|peer| SocketAddr::try_from(peer).ok())
                        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
                    self.open(socket, listener, source);
                }
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    return self.listen(false);
                }
                Err(_) => return,
            }
        }
    }

    /// Watches the listeners or not. Without a free descriptor they would only be reported over
    /// and over; the next connection that closes brings them back.
    fn listen(&mut self, watch: bool) {
        self.deaf = !watch;
        let flags = if watch { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        for (n, listener) in self.listeners.iter().enumerate() {
            let data = epoll::EventData::new_u64(LISTENER | n as u64);
            epoll::modify(&self.epoll, &listener.socket, data, flags)
                .expect("listeners are watched");
        }
    }

    fn open(&mut self, socket: OwnedFd, listener: usize, source: IpAddr) {
        let Listener { address, provider, .. } = self.listeners[listener];
        if self.receiver.counts_connections(provider) {
            self.note_gone();
        }
        let mut peer = Peer { provider, source, connection: self.opened, lane: None };
        self.opened += 1;
        let too_many = self.receiver.opened(&peer, address, self.now);
        let counters = &self.receiver.counters;
        let open = counters.connections_now.load(Ordering::Relaxed);
        let most = self.receiver.behaviour(&peer).connections_max;
        let served = !too_many && most.is_none_or(|most| open < most);
        if served {
            add(&counters.connections, 1);
            add(&counters.connections_now, 1);
            raise(&counters.connections_max, open + 1);
        } else {
            add(&counters.connections_refused, 1);
        }
        let rate = self.receiver.inspection.rate.as_mut();
        peer.lane = rate.filter(|_| served).map(|rate| rate.open(address, source));
        let mut session = Session::new(peer);
        let next =
            if served { session.greet(&self.receiver) } else { session.refuse(&self.receiver) };
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let data = epoll::EventData::new_u64(self.token(index));
        let watched = epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN);
        self.slots[index].connection = Some(Connection {
            socket,
            session,
            state: State::Reading,
            unread: Vec::new(),
            sent: 0,
            counted: served,
            gone: false,
        });
        match watched {
            Ok(()) => self.follow(index, next),
            Err(_) => self.close(index),
        }
    }

    /// Notes the end of every connection that its client has closed, be it that octets of it are
    /// still unread: whoever comes now came after that.
    fn note_gone(&mut self) {
        self.now = now();
        let open = |(index, slot): (usize, &Slot)| {
            slot.connection.as_ref().filter(|connection| !connection.gone).map(|_| index)
        };
        let open: Vec<usize> = self.slots.iter().enumerate().filter_map(open).collect();
        let mut watched: Vec<PollFd<'_>> = open
            .iter()
            .filter_map(|index| self.slots[*index].connection.as_ref())
            .map(|connection| PollFd::new(&connection.socket, PollFlags::RDHUP))
            .collect();
        if !matches!(poll(&mut watched, Some(&Timespec::default())), Ok(1..)) {
            return;
        }
        let gone: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (index, _) in open.into_iter().zip(gone).filter(|(_, gone)| *gone) {
            self.end(index);
        }
    }

    /// Notes the end of a connection, once.
    fn end(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        let connection = slot.connection.as_mut().expect("it is open");
        if !std::mem::replace(&mut connection.gone, true) {
            self.receiver.closed(connection.session.peer(), self.now);
        }
    }

    fn close(&mut self, index: usize) {
        self.end(index);
        let slot = &mut self.slots[index];
        let connection = slot.connection.take().expect("a connection closes once");
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        let counters = &self.receiver.counters;
        if connection.counted {
            counters.connections_now.fetch_sub(1, Ordering::Relaxed);
            add(&counters.aborted, u64::from(connection.session.in_body()));
        }
        if let (Some(rate), Some(lane)) =
            (&mut self.receiver.inspection.rate, connection.session.peer().lane)
        {
            rate.close(lane);
        }
        if self.deaf {
            self.listen(true);
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        for _ in 0..READS_IN_A_ROW {
            match receive(&self.connection(index).socket, buffer) {
                Ok(0) => return self.close(index),
                Ok(octets) => {
                    if self.receiver.log.is_some() {
                        self.now = now();
                    }
                    self.feed(index, &buffer[..octets]);
                    let more = octets == buffer.len() && self.slots[index].connection.is_some();
                    if !more || self.connection(index).state != State::Reading {
                        return;
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => return self.close(index),
            }
        }
    }

    fn read_away(&mut self, index: usize, buffer: &mut [u8]) {
        match receive(&self.connection(index).socket, buffer) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => self.close(index),
        }
    }

    fn feed(&mut self, index: usize, input: &[u8]) {
        let slot = &mut self.slots[index];
        let connection = slot.connection.as_mut().expect("the caller has just read from it");
        let (used, next) = connection.session.feed(input, &mut self.receiver, self.now);
        connection.unread.extend_from_slice(&input[used..]);
        self.follow(index, next);
    }

    fn follow(&mut self, index: usize, next: Next) {
        match next {
            Next::Read => self.send(index),
            Next::Wait(delay) => {
                self.moments.push(Reverse((self.now + delay, self.token(index))));
                self.turn(index, State::Waiting);
            }
            Next::Drop => {
                self.send(index);
                if self.slots[index].connection.is_some() {
                    self.close(index);
                }
            }
        }
    }

    /// Sends the replies; what follows depends on whether they all went and whether they were the
    /// last.
    fn send(&mut self, index: usize) {
        let connection = self.connection(index);
        let out = connection.session.out();
        while connection.sent < out.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match net::send(&connection.socket, &out[connection.sent..], flags) {
                Ok(octets) => connection.sent += octets,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return self.turn(index, State::Sending),
                Err(_) => return self.close(index),
            }
        }
        out.clear();
        connection.sent = 0;
        if connection.session.is_over() {
            return self.linger(index);
        }
        self.turn(index, State::Reading);
        self.feed_unread(index);
    }

    /// Goes on with octets that came before a wait.
    fn feed_unread(&mut self, index: usize) {
        let unread = std::mem::take(&mut self.connection(index).unread);
        if !unread.is_empty() {
            self.feed(index, &unread);
        }
    }

    /// Ends our half and waits for the client's. Closing at once could destroy the last reply: a
    /// reset follows if octets are unread.
    fn linger(&mut self, index: usize) {
        self.end(index);
        // A client that is gone already is noticed by the next read.
        let _ = net::shutdown(&self.connection(index).socket, Shutdown::Write);
        self.moments.push(Reverse((self.now + LINGER, self.token(index))));
        self.turn(index, State::Lingering);
    }

    fn turn(&mut self, index: usize, state: State) {
        let data = epoll::EventData::new_u64(self.token(index));
        let slot = &mut self.slots[index];
        let connection = slot.connection.as_mut().expect("only open connections are turned");
        let before = std::mem::replace(&mut connection.state, state);
        if before.flags() != state.flags() {
            epoll::modify(&self.epoll, &connection.socket, data, state.flags())
                .expect("open connections are watched");
        }
    }

    /// Goes on with the connections whose moment has come.
    fn wake(&mut self) {
        while let Some(&Reverse((due, token))) = self.moments.peek()
            && due <= self.now
        {
            self.moments.pop();
            let Some(index) = self.meant(token) else { continue };
            match self.connection(index).state {
                State::Waiting => self.send(index),
                State::Lingering => self.close(index),
                State::Reading | State::Sending => {}
            }
        }
    }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(octets, _)| octets)
}
