//! socket — a TCP socket as delivery wants it, made by plain system calls.
//!
//! Non-blocking is left off on purpose: io_uring arms its own polling and would return EAGAIN
//! otherwise.

#![expect(unsafe_code, reason = "one socket option that no safe wrapper offers")]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

/// A socket for a connection to `to`, bound to `from` if given.
///
/// `TCP_NODELAY`, because each send is a whole command group; `IP_BIND_ADDRESS_NO_PORT`, so that a
/// bound source does not use up the port range before the destination is known (ip(7)).
pub(super) fn outgoing(to: &SocketAddr, from: Option<IpAddr>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(from) = from {
        choose_port_at_connect(&socket)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
    }
    Ok(socket)
}

/// Our own address on a connected socket.
pub(super) fn own_address(socket: &Socket) -> Option<IpAddr> {
    socket.local_addr().ok().and_then(|address| address.as_socket()).map(|address| address.ip())
}

/// Sets `IP_BIND_ADDRESS_NO_PORT`.
fn choose_port_at_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).expect("an int has four octets");
    // SAFETY: the descriptor is open, and `on` is an int of `size` octets that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
