//! client — SMTP clients on loopback sockets, and a sink on a thread of the test.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mailshot_sink::{Config, Counters, Report, Sink};
use rustix::net::{self, AddressFamily, SocketType};

/// Runs the clients against a sink, stops it when they are done and returns what it saw.
pub(crate) fn with_sink(config: Config, clients: impl FnOnce(&[SocketAddr], &Counters)) -> Report {
    /// Stops the sink even if a client panics, so that the scope can end.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let sink = Sink::bind(config).expect("a free loopback port exists");
    let (addresses, counters) = (sink.addresses().to_vec(), sink.counters());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| sink.run(&stop));
        let stopping = Stop(&stop);
        clients(&addresses, &counters);
        drop(stopping);
        serving.join().expect("the sink ends in peace")
    })
}

/// A client on a socket that blocks.
pub(crate) struct Client(pub(crate) BufReader<TcpStream>);

impl Client {
    /// Connects without reading the greeting.
    pub(crate) fn silent(address: SocketAddr) -> Client {
        Client::from(Ipv4Addr::LOCALHOST, address)
    }

    /// The same from another address of this machine.
    pub(crate) fn from(source: Ipv4Addr, address: SocketAddr) -> Client {
        let any = SocketAddrV4::new(source, 0);
        let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        net::bind(&socket, &any).expect("all of 127/8 is ours");
        net::connect(&socket, &address).expect("the sink listens");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("not zero");
        Client(BufReader::new(socket))
    }

    /// Connects and says HELO.
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let mut client = Client::silent(address);
        assert_eq!(client.reply(), "220 sink.test ESMTP mailshot-sink");
        client.say("HELO x\r\n");
        assert_eq!(client.reply(), "250 sink.test");
        client
    }

    /// Sends octets.
    pub(crate) fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("the sink reads");
    }

    /// One line.
    pub(crate) fn reply(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("the sink answers");
        line.trim_end().to_owned()
    }

    /// The first word of each of the next replies; an empty one is the end of the connection.
    pub(crate) fn codes(&mut self, number: usize) -> String {
        let code = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
        (0..number).map(|_| code(self.reply())).collect::<Vec<_>>().join(" ")
    }

    /// The connection ended, by a reset too: a client cannot tell more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.0.read(&mut [0]) {
            Ok(octets) => octets == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }
}
