//! selftest — how many messages a sink takes per second of its processor time.
//!
//! A client on the calling thread sends messages of 10 KB over loopback, 100 per connection, to a
//! sink on a thread of its own. It fails if the sink answers anything unexpected. It must not know
//! the sink's inside: it speaks SMTP.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::thread;

use serde::Serialize;

use crate::{Config, Sink};

/// Octets of a test message: what a marketing mail without pictures has.
const MESSAGE_BYTES: usize = 10_000;
/// Messages per connection, as a sender that reuses connections has them.
const MESSAGES_PER_CONNECTION: u64 = 100;
/// Messages of one write of [`Style::Flood`].
const FLOOD: u64 = 20;
/// Connections that are written to before they are read from.
const CONNECTIONS: u64 = 16;

/// How the client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// 20 messages in one write, without waiting for any reply: what the sink itself can take.
    Flood,
    /// A body and the next envelope in one write, the most that RFC 2920 allows: what a sender
    /// costs the sink.
    Polite,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measurement {
    /// How the client sent.
    pub style: Style,
    /// Messages accepted.
    pub messages: u64,
    /// From the first octet to the last reply.
    pub seconds: f64,
    /// Processor time of the sink's thread, system calls included.
    pub cpu_seconds: f64,
    /// Messages per second of that processor time.
    pub messages_per_cpu_second: f64,
}

/// Sends at least `messages`, rounded up to full connections.
///
/// # Errors
/// Those of sockets, and any reply that is not the one to expect.
pub fn measure(style: Style, messages: u64) -> io::Result<Measurement> {
    let mut config = Config::plain(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let connections = messages.div_ceil(MESSAGES_PER_CONNECTION);
    config.expect = Some(connections * MESSAGES_PER_CONNECTION);
    let sink = Sink::bind(config).map_err(io::Error::other)?;
    let address = sink.addresses()[0];
    let stop = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        let serving = scope.spawn(|| sink.run(&stop));
        let sent = send(style, address, connections);
        if sent.is_err() {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let report = serving.join().map_err(|_| io::Error::other("the sink panicked"))?;
        sent.map(|()| report)
    })?;
    let messages = report.counts.messages;
    Ok(Measurement {
        style,
        messages,
        seconds: report.seconds,
        cpu_seconds: report.cpu_seconds,
        messages_per_cpu_second: messages as f64 / report.cpu_seconds,
    })
}

fn send(style: Style, address: SocketAddr, connections: u64) -> io::Result<()> {
    let mut left = connections;
    while left > 0 {
        let number = left.min(CONNECTIONS);
        let mut clients =
            (0..number).map(|_| Client::connect(address)).collect::<io::Result<Vec<_>>>()?;
        match style {
            Style::Flood => flood(&mut clients)?,
            Style::Polite => be_polite(&mut clients)?,
        }
        for client in &mut clients {
            client.say(b"QUIT\r\n", 1)?;
        }
        left -= number;
    }
    Ok(())
}

fn flood(clients: &mut [Client]) -> io::Result<()> {
    let message = [ENVELOPE, &body()].concat();
    let burst = message.repeat(FLOOD as usize);
    for _ in 0..MESSAGES_PER_CONNECTION / FLOOD {
        for client in &mut *clients {
            client.socket.write_all(&burst)?;
        }
        for client in &mut *clients {
            client.expect(4 * FLOOD)?;
        }
    }
    Ok(())
}

fn be_polite(clients: &mut [Client]) -> io::Result<()> {
    let last = body();
    let message = [&*last, ENVELOPE].concat();
    for client in &mut *clients {
        client.say(ENVELOPE, 3)?;
    }
    for _ in 1..MESSAGES_PER_CONNECTION {
        for client in &mut *clients {
            client.socket.write_all(&message)?;
        }
        for client in &mut *clients {
            client.expect(4)?;
        }
    }
    clients.iter_mut().try_for_each(|client| client.say(&last, 1))
}

const ENVELOPE: &[u8] = b"MAIL FROM:<news@example.test>\r\nRCPT TO:<anna@example.test>\r\nDATA\r\n";

fn body() -> Vec<u8> {
    let mut body = b"From: <news@example.test>\r\nSubject: test\r\n\r\n".to_vec();
    let line = [&[b'x'; 74][..], b"\r\n"].concat();
    while body.len() < MESSAGE_BYTES {
        body.extend_from_slice(&line);
    }
    body.extend_from_slice(b".\r\n");
    body
}

struct Client {
    socket: TcpStream,
    replies: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut client = Client { socket, replies: vec![0; 16 << 10] };
        client.expect(1)?;
        client.say(b"EHLO out.example.test\r\n", 5)?;
        Ok(client)
    }

    fn say(&mut self, octets: &[u8], lines: u64) -> io::Result<()> {
        self.socket.write_all(octets)?;
        self.expect(lines)
    }

    /// Reads that many lines, none of them a refusal.
    fn expect(&mut self, mut lines: u64) -> io::Result<()> {
        let mut first = true;
        while lines > 0 {
            let octets = self.socket.read(&mut self.replies)?;
            let replies = &self.replies[..octets];
            let refused = memchr::memchr2_iter(b'4', b'5', replies)
                .any(|at| if at == 0 { first } else { replies[at - 1] == b'\n' });
            if octets == 0 || refused {
                return Err(io::Error::other(String::from_utf8_lossy(replies).into_owned()));
            }
            first = replies.ends_with(b"\n");
            lines = lines.saturating_sub(memchr::memchr_iter(b'\n', replies).count() as u64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_are_measured() {
        for style in [Style::Flood, Style::Polite] {
            let measured = measure(style, 1650).unwrap();
            assert_eq!((measured.style, measured.messages), (style, 1700));
            assert!(measured.cpu_seconds > 0.0, "{measured:?}");
        }
    }
}
