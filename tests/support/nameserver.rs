//! nameserver — NSD, a real authoritative name server, on a loopback port with the test's zones.
//!
//! It does no recursion, so one server has all zones that a test asks for. Asked for a zone that it
//! has no file of, it answers SERVFAIL; for a zone that it does not know, REFUSED.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{free_port, scratch, skip, wait_for};

/// Where Debian's package puts it; `/usr/sbin` is not in everybody's PATH.
const NSD: &str = "/usr/sbin/nsd";
/// How long it may take to answer: 100,000 names take a second to load.
const START: Duration = Duration::from_secs(30);

/// A running server; ends on drop.
pub(crate) struct NameServer {
    process: Process,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl NameServer {
    /// Starts a server on 127.0.0.1 and waits until it answers; `None`, loudly, when it cannot run.
    ///
    /// `zones` are names without the last dot, and their records below a SOA and an NS record that
    /// are added; a zone without text has no file.
    ///
    /// # Panics
    /// When it does not answer, with all it wrote; see [`skip`] for when it is not installed.
    pub(crate) fn start(zones: &[(&str, Option<&str>)]) -> Option<NameServer> {
        NameServer::start_on(Ipv4Addr::LOCALHOST, zones)
    }

    /// The same on another address of 127.0.0.0/8.
    pub(crate) fn start_on(ip: Ipv4Addr, zones: &[(&str, Option<&str>)]) -> Option<NameServer> {
        NameServer::start_at(SocketAddr::from((ip, free_port())), zones)
    }

    /// The same on a certain address, such as that of a server that has just ended.
    pub(crate) fn start_at(
        address: SocketAddr,
        zones: &[(&str, Option<&str>)],
    ) -> Option<NameServer> {
        if !Path::new(NSD).exists() {
            return skip(&format!("{NSD} is missing; run tools/setup"));
        }
        assert!(address.ip().is_loopback(), "{address} is not on loopback");
        let folder = scratch();
        write_files(folder.path(), address, zones);
        // It ends with the thread that started it, even if that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", NSD, "-d", "-c"]);
        command.arg(folder.path().join("nsd.conf"));
        let process = Process::start(&mut command);
        let mut server = NameServer { process, address, _folder: folder };
        wait_for("an answer of nsd", START, || server.answers());
        Some(server)
    }

    /// Where it listens, UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `Some` once it answers; panics if it ended.
    fn answers(&mut self) -> Option<()> {
        if let Some(status) = self.process.ended() {
            panic!("nsd ended with {status}: {:?}", self.process.written());
        }
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a fresh socket");
        // RFC 1035 §4.1: id 7, a query, one question: NS of the root. Any reply will do.
        let query = [0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
        socket.send_to(&query, self.address).ok()?;
        let length = socket.recv(&mut [0; 512]).ok()?;
        (length >= 12).then_some(())
    }
}

fn write_files(folder: &Path, address: SocketAddr, zones: &[(&str, Option<&str>)]) {
    let path = folder.display();
    let (ip, port): (IpAddr, u16) = (address.ip(), address.port());
    let mut config = format!(
        "server:\n  ip-address: {ip}@{port}\n  username: \"\"\n  server-count: 1\n  \
         database: \"\"\n  zonesdir: \"{path}\"\n  pidfile: \"\"\n  xfrdir: \"{path}\"\n  \
         xfrdfile: \"\"\n  zonelistfile: \"{path}/zone.list\"\n  rrl-ratelimit: 0\n  \
         rrl-whitelist-ratelimit: 0\nremote-control:\n  control-enable: no\n"
    );
    for (zone, records) in zones {
        config += &format!("zone:\n  name: \"{zone}\"\n  zonefile: \"{zone}.zone\"\n");
        if let Some(records) = records {
            let text = format!(
                "$ORIGIN {zone}.\n$TTL 600\n@ SOA ns.{zone}. root.{zone}. 1 3600 900 86400 60\n\
                 @ NS ns.{zone}.\n{records}\n"
            );
            std::fs::write(folder.join(format!("{zone}.zone")), text).expect("scratch is writable");
        }
    }
    std::fs::write(folder.join("nsd.conf"), config).expect("scratch is writable");
}
