//! client — hickory-resolver, set up for mail: what `bulk` wants to know, asked.
//!
//! hickory says everything that is not a record with one error type; [`missing`] tells NODATA,
//! NXDOMAIN and the many forms of "no answer" apart. A referral counts as no answer: a server that
//! sends one does no recursion, and hickory would take it for NODATA.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use tokio::task::coop::unconstrained;

use super::bulk::{Brought, Bulk, Task};
use super::{Config, ResolverError};
use crate::routes::{self, Answer, Found, Mx};

/// Answers that are remembered from one call to the next: the mail hosts of a large list, mostly.
const CACHE_ENTRIES: u64 = 32_768;

/// The resolver and what it is asked.
pub(super) struct Client {
    resolver: TokioResolver,
    /// The longest that one look-up may take.
    patience: Duration,
    ipv6: bool,
}

impl Client {
    pub(super) fn new(config: &Config) -> Result<Client, ResolverError> {
        let attempts = config.attempts.max(1);
        let no_servers = |error: NetError| ResolverError::NoServers(error.to_string());
        let servers = match config.servers.as_slice() {
            [] => read_system_conf().map_err(no_servers)?.0.name_servers,
            given => given.iter().map(|address| server(*address)).collect(),
        };
        let servers = ResolverConfig::from_name_servers(servers);
        let mut builder =
            TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default())
                .with_tls_config(unused_tls());
        let options = builder.options_mut();
        options.ndots = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.timeout = config.timeout;
        // hickory counts what comes after the first.
        options.attempts = attempts - 1;
        options.cache_size = CACHE_ENTRIES;
        // All that is asked for at a time may have to go over one TCP connection, A and AAAA.
        options.max_active_requests = config.concurrency.max(1) * 2;
        let resolver = builder.build().map_err(no_servers)?;
        let patience = config.timeout.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
        Ok(Client { resolver, patience, ipv6: config.ipv6 })
    }

    /// Resolves domains with `concurrency` look-ups at a time; tells each answer with the position
    /// of its domain.
    pub(super) async fn all(
        &self,
        domains: &[String],
        concurrency: usize,
        say: &mut dyn FnMut(usize, Answer),
    ) {
        let mut bulk = Bulk::new(domains);
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < concurrency {
                match bulk.next() {
                    Some(task) => asked.push(self.ask(task)),
                    None => break,
                }
            }
            // It polls only what has news, so tokio's budget for one task must not stop it.
            match unconstrained(asked.next()).await {
                Some(brought) => bulk.take(brought, say),
                None => return,
            }
        }
    }

    async fn ask(&self, task: Task) -> Brought {
        match task {
            Task::Exchanges(at, name) => Brought::Exchanges(at, self.exchanges(&name).await),
            Task::Addresses(host, name) => Brought::Addresses(host, self.addresses(&name).await),
        }
    }

    async fn exchanges(&self, domain: &str) -> Found<Mx> {
        let mx = |data: &RData| match data {
            RData::MX(mx) => Some(Mx::new(mx.preference, &mx.exchange.iter().collect::<Vec<_>>())),
            _ => None,
        };
        self.look_up(domain, RecordType::MX, mx).await
    }

    async fn addresses(&self, host: &str) -> Found<IpAddr> {
        let address = |data: &RData| data.ip_addr();
        let v4 = self.look_up(host, RecordType::A, address);
        let v6 = async {
            match self.ipv6 {
                true => self.look_up(host, RecordType::AAAA, address).await,
                false => Found::NoData,
            }
        };
        let (v4, v6) = join(v4, v6).await;
        routes::both(v4, v6)
    }

    async fn look_up<T>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Found<T> {
        let silence = || Found::Failed(format!("no answer from the DNS for {kind} of {name}"));
        let Ok(mut fqdn) = Name::from_ascii(name) else { return Found::NoName };
        fqdn.set_fqdn(true);
        let look_up = self.resolver.lookup(fqdn, kind);
        let lookup = match tokio::time::timeout(self.patience, look_up).await {
            Err(_) => return silence(),
            Ok(Err(NetError::Timeout)) => return silence(),
            Ok(Err(error)) => return missing(&error, kind, name),
            Ok(Ok(lookup)) => lookup,
        };
        let of_kind = || lookup.answers().iter().filter(|record| record.record_type() == kind);
        let records: Vec<T> = of_kind().filter_map(|record| read(&record.data)).collect();
        let ttl = of_kind().map(|record| record.ttl).min();
        match ttl {
            Some(ttl) if !records.is_empty() => {
                Found::Records { records, ttl: Duration::from_secs(ttl.into()) }
            }
            _ => Found::NoData,
        }
    }
}

/// What an error says that came in place of records.
fn missing<T>(error: &NetError, kind: RecordType, name: &str) -> Found<T> {
    let failed = |what: &str| Found::Failed(format!("{what} for {kind} of {name}"));
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Found::NoName,
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                failed("the DNS server does no recursion: a referral")
            }
            ResponseCode::NoError => Found::NoData,
            code => failed(&format!("the DNS said {}", word(code))),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => {
            failed(&format!("the DNS said {}", word(*code)))
        }
        other => failed(&format!("no answer from the DNS ({other})")),
    }
}

/// The name that RFC 1035 §4.1.1 or BIND gives a response code.
fn word(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        other => other.to_str().to_owned(),
    }
}

/// A server that is asked over UDP, and over TCP when an answer was truncated.
fn server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections)
}

/// A TLS configuration that trusts nobody. hickory wants one even when all servers are plain;
/// without this it looks for the system's certificates and refuses to start where there are none.
fn unused_tls() -> rustls::ClientConfig {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the ciphers of the default protocol versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth()
}
