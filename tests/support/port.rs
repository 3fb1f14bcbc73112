//! port — a port at which nobody listens yet.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1 that is bound and not listened at: connections are refused, nobody else
/// gets it, and a listener with SO_REUSEADDR may still take it (ip(7)).
pub(crate) struct ReservedPort(Socket);

impl ReservedPort {
    /// Any free port.
    pub(crate) fn new() -> ReservedPort {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("sockets can be had");
        socket.set_reuse_address(true).expect("a fresh socket takes options");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("loopback has free ports");
        ReservedPort(socket)
    }

    /// Its number.
    pub(crate) fn number(&self) -> u16 {
        let address = self.0.local_addr().expect("a bound socket has an address");
        address.as_socket().expect("it is bound to IPv4").port()
    }
}
