//! The io_uring driver against real sockets on loopback.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mailshot::ring::{Clock, ConnId, Event, Events, Parcel, Ring, Shared, Uring};

struct Bench {
    ring: Uring,
    clock: Clock,
    events: Events,
}

impl Bench {
    fn new() -> Bench {
        let clock = Clock::start();
        let ring = Uring::new(clock).expect("this kernel allows io_uring");
        Bench { ring, clock, events: Events::default() }
    }

    /// Waits until `wanted` picks something out of the events; fails after ten seconds.
    fn until<T>(&mut self, mut wanted: impl FnMut(&Events) -> Option<T>) -> T {
        let end = self.clock.tick().after(Duration::from_secs(10));
        loop {
            let soon = self.clock.tick().after(Duration::from_millis(100));
            self.ring.wait(soon, &mut self.events).expect("a working ring");
            if let Some(found) = wanted(&self.events) {
                return found;
            }
            assert!(self.clock.tick() < end, "nothing came within ten seconds");
        }
    }

    fn connected(&mut self, to: SocketAddr) -> ConnId {
        let conn = self.ring.connect(to, None).expect("a socket");
        self.until(|events| {
            events.list.iter().find_map(|event| match event {
                Event::Connected { conn: c, .. } if *c == conn => Some(()),
                _ => None,
            })
        });
        conn
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().expect("a connection").0
}

#[test]
fn a_parcel_arrives_in_order_and_whole() {
    let (listener, address) = listener();
    let mut bench = Bench::new();
    let conn = bench.connected(address);
    let mut peer = accept(&listener);
    // Larger than any socket buffer, so that the kernel takes it in several bites.
    let body: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let owner: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(body.clone());
    let range = 1000..body.len() - 1000;
    let parcel = Parcel {
        head: b"head".to_vec(),
        body: Some(Shared::new(owner, range.clone())),
        tail: b"tail".to_vec(),
    };
    let expected = 8 + range.len();
    let reader = std::thread::spawn(move || {
        let mut all = vec![0; expected];
        peer.read_exact(&mut all).expect("all octets");
        all
    });
    bench.ring.send(conn, parcel);
    bench.until(|events| events.list.contains(&Event::Sent { conn }).then_some(()));
    let all = reader.join().expect("a reader");
    assert_eq!(&all[..4], b"head");
    assert!(all[4..all.len() - 4] == body[range]);
    assert_eq!(&all[all.len() - 4..], b"tail");
}

#[test]
fn octets_arrive_and_a_close_is_told_once() {
    let (listener, address) = listener();
    let mut bench = Bench::new();
    let conn = bench.connected(address);
    let mut peer = accept(&listener);
    // More than all receive buffers hold.
    let text = vec![b'x'; 5_000_000];
    let expected = text.len();
    let writer = std::thread::spawn(move || {
        peer.write_all(&text).expect("written");
    });
    let mut received = 0;
    let errno = bench.until(|events| {
        for event in &events.list {
            match event {
                Event::Received { octets, .. } => received += octets.len(),
                Event::Broken { errno, .. } => return Some(*errno),
                _ => {}
            }
        }
        None
    });
    writer.join().expect("a writer");
    assert_eq!((errno, received), (0, expected));
    bench.ring.close(conn);
}

#[test]
fn a_refused_connection_is_broken_with_its_errno() {
    let (listener, address) = listener();
    drop(listener);
    let mut bench = Bench::new();
    let conn = bench.ring.connect(address, None).expect("a socket");
    let errno = bench.until(|events| match events.list.first() {
        Some(Event::Broken { conn: c, errno, .. }) if *c == conn => Some(*errno),
        _ => None,
    });
    assert_eq!(errno, libc::ECONNREFUSED);
    bench.ring.close(conn);
}

#[test]
fn a_deadline_comes_and_a_closed_connection_is_silent() {
    let (listener, address) = listener();
    let mut bench = Bench::new();
    let conn = bench.connected(address);
    let mut peer = accept(&listener);
    let soon = bench.clock.tick().after(Duration::from_millis(20));
    bench.ring.deadline(conn, soon);
    bench.until(|events| events.list.contains(&Event::Deadline { conn }).then_some(()));
    assert!(bench.clock.tick() >= soon);
    bench.ring.close(conn);
    peer.write_all(b"late").expect("the socket may still be open");
    let again = bench.connected(address);
    let soon = bench.clock.tick().after(Duration::from_millis(50));
    bench.ring.wait(soon, &mut bench.events).expect("a working ring");
    assert_eq!(bench.events.list, []);
    bench.ring.close(again);
}

#[test]
fn a_source_address_is_used() {
    let (listener, address) = listener();
    let mut bench = Bench::new();
    let source = "127.0.0.9".parse().expect("an address");
    bench.ring.connect(address, Some(source)).expect("a socket");
    let own = bench.until(|events| match events.list.first() {
        Some(Event::Connected { source, .. }) => Some(*source),
        _ => None,
    });
    assert_eq!(own, Some(source));
    assert_eq!(accept(&listener).peer_addr().expect("a peer").ip(), source);
}

#[test]
fn another_thread_wakes_the_ring() {
    let mut bench = Bench::new();
    let waker = bench.ring.waker();
    let begun = bench.clock.tick();
    let thread = std::thread::spawn(move || {
        for _ in 0..3 {
            waker.wake();
        }
    });
    let never = begun.after(Duration::from_secs(3600));
    bench.ring.wait(never, &mut bench.events).expect("a working ring");
    thread.join().expect("a thread");
    assert!(bench.clock.tick().since(begun) < Duration::from_millis(900));
}

#[test]
fn what_a_broken_send_has_left_is_never_told_too_low() {
    let (listener, address) = listener();
    let mut bench = Bench::new();
    let conn = bench.connected(address);
    let peer = accept(&listener);
    // Nobody reads, so the send stays in the kernel; then the peer ends the connection.
    let parcel = Parcel { head: vec![b'x'; 50_000_000], ..Parcel::default() };
    let length = parcel.len();
    bench.ring.send(conn, parcel);
    let soon = bench.clock.tick().after(Duration::from_millis(50));
    bench.ring.wait(soon, &mut bench.events).expect("a working ring");
    peer.shutdown(std::net::Shutdown::Write).expect("half closed");
    let sent = bench.until(|events| match events.list.first() {
        Some(Event::Broken { sent, .. }) => Some(*sent),
        _ => None,
    });
    assert_eq!(sent, length, "all of it may have left");
    bench.ring.close(conn);
}
