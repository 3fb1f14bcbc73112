//! receiver — real mail servers on loopback ports, each storing what it takes in one Maildir.
//!
//! A receiver lives in a PID and a mount namespace of its own: killing the first process of the
//! namespace ends all others, so a server that forks and detaches cannot outlive its test, and
//! `setpriv --pdeathsig` ends it even if the test is killed. That needs root.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::process::Process;
use super::{Deadline, free_port, interop_file, parts, scratch, skip, wait_for};

/// How long a server may take to greet. Postfix takes one second alone, more on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How long a namespace may take to vanish after its first process was killed.
const STOP: Duration = Duration::from_secs(10);
/// A Maildir that did not grow for so long has all it will get: its server's queue is empty.
const QUIET: Duration = Duration::from_secs(2);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// Announces PIPELINING and CHUNKING.
    Postfix,
    /// Python, and stricter about line ends than real servers.
    Aiosmtpd,
    /// No PIPELINING; takes at most 100 messages per connection.
    Opensmtpd,
}

impl Server {
    /// How many connections may be opened at the same moment.
    ///
    /// OpenSMTPD listens with a backlog of 5. Beyond it, where SYN cookies are on, the client holds
    /// an established connection that the server never hears of, and waits for its greeting.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Server::Postfix | Server::Aiosmtpd => 20,
            Server::Opensmtpd => 5,
        }
    }
}

/// A running server.
pub(crate) struct Receiver {
    process: Process,
    port: u16,
    folder: tempfile::TempDir,
}

impl Receiver {
    /// Starts a server and waits for its greeting; `None`, loudly, when it cannot run here.
    ///
    /// # Panics
    /// When it does not greet, with all it wrote; see [`super::skip`] for missing parts.
    pub(crate) fn start(server: Server) -> Option<Receiver> {
        let parts = parts()?;
        if !rustix::process::geteuid().is_root() {
            return skip("mail servers on loopback need root (namespaces, users)");
        }
        let folder = scratch();
        let port = free_port();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]);
        command.args(["--kill-child=KILL", "--mount-proc"]);
        match server {
            Server::Postfix => command.arg(interop_file("receive-postfix")),
            Server::Opensmtpd => command.arg(interop_file("receive-opensmtpd")),
            Server::Aiosmtpd => {
                command.arg(parts.join("venv/bin/python")).arg(interop_file("receive_aiosmtpd.py"))
            }
        };
        command.arg(folder.path()).arg(port.to_string());
        if server == Server::Opensmtpd {
            command.arg(parts.join("opensmtpd"));
        }
        let mut receiver = Receiver { process: Process::start(&mut command), port, folder };
        wait_for(&format!("the greeting of {server:?}"), START, || receiver.greets(server));
        Some(receiver)
    }

    /// Where it listens on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it stores.
    pub(crate) fn maildir(&self) -> PathBuf {
        self.folder.path().join("maildir")
    }

    /// Messages stored so far.
    pub(crate) fn stored(&self) -> usize {
        ["new", "cur"].iter().map(|sub| entries(&self.maildir().join(sub))).sum()
    }

    /// Waits until at least `count` messages are stored and no more come; says how many there are.
    ///
    /// Returns early, with fewer, when `limit` passes: what is missing is for the verifier to say.
    pub(crate) fn settle(&self, count: usize, limit: Duration) -> usize {
        let deadline = Deadline::after(limit);
        let mut last = self.stored();
        let mut quiet = Deadline::after(QUIET);
        while !(deadline.passed() || last >= count && quiet.passed()) {
            std::thread::sleep(Duration::from_millis(50));
            let stored = self.stored();
            if stored != last {
                quiet = Deadline::after(QUIET);
            }
            last = stored;
        }
        last
    }

    /// `Some` once the server says 220; panics if it ended.
    fn greets(&mut self, server: Server) -> Option<()> {
        if let Some(status) = self.process.ended() {
            panic!("{server:?} ended with {status}: {:?}", self.process.written());
        }
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        line.starts_with("220 ").then_some(())
    }

    /// Kills the first process of the namespace; the kernel then kills the rest before `unshare`,
    /// its parent, hears of it.
    fn kill_namespace(&self) {
        let parent = self.process.id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        for child in std::fs::read_to_string(children).unwrap_or_default().split_whitespace() {
            if let Some(pid) = child.parse().ok().and_then(Pid::from_raw) {
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.kill_namespace();
        let deadline = Deadline::after(STOP);
        while self.process.ended().is_none() && !deadline.passed() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}
