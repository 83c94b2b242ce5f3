//! What is wanted: the validated configuration, in types that can't hold an invalid state.
//!
//! [`Config::load`] reads a YAML file and finds all its problems in one run, each with its line, column and remedy.
//! The way there: `file` (text to tree, and the only user of `serde_yaml`), `variables`, `reader` (tree to typed values,
//! collecting problems), `convert` (values to [`Config`], with the defaults). Certificates, names and addresses are only
//! checked for form here: files are opened, names resolved and sockets bound by those who use them.

mod access_log;
mod address;
mod cases;
mod convert;
mod file;
mod keys;
mod lists;
mod load;
mod network;
mod problem;
mod reader;
mod remedies;
mod scalar;
mod source;
#[cfg(test)]
mod tests;
mod trust;
mod value;
mod variables;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::client_ip::{EmitPolicy, IpSet, TrustPolicy};
use crate::route;

pub use access_log::{AccessLog, LogOutput, RecordFormat, RedactIp, RedactQuery};
pub use cases::{Case, Cases, Expected};
pub use lists::NamedFile;
pub use load::Loaded;
pub use network::Network;
pub use problem::{Problem, Problems, Severity, Style, code, counted};
pub use remedies::{REMEDIES, Remedy, remedy};
pub use source::Source;

/// Everything a process needs to know, with every default filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// In the order of the file.
    pub listeners: Vec<Listener>,
    /// Which forwarding fields go upstream, and what is removed.
    pub emit: EmitPolicy,
    /// Where the process runs, for telling who translates addresses.
    pub network: Network,
    /// Clients refused or admitted before any route is looked at.
    pub access: Access,
    /// Named groups of endpoints; routes refer to them by index.
    pub upstreams: Vec<Upstream>,
    /// In the order of the file; the router orders them by how specific they are.
    pub routes: Vec<Route>,
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Data-plane threads.
    pub worker_threads: usize,
    /// When a change of this configuration is taken up.
    pub reload: Reload,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// What requests go by, upstream and to clients; `None`: nothing that either is told, but in errors.
    pub request_id: Option<RequestId>,
    /// What is recorded about requests.
    pub access_log: AccessLog,
    /// Where spans of requests are sent; `None`: nowhere.
    pub tracing: Option<Tracing>,
    /// The operational log.
    pub log: Log,
    /// Where operators look in; `None`: nowhere.
    pub admin: Option<Admin>,
    /// What the built-in echo service calls itself; only `headwater whoami --name` sets it.
    pub whoami_name: Option<String>,
}

impl Config {
    /// The files it names, each with the path of its key: what is read when it is put to use, and read again later.
    pub fn files(&self) -> Vec<(String, &Path)> {
        let mut files = Vec::new();
        for listener in &self.listeners {
            for NamedFile { field, path } in &listener.trust_files {
                // Listeners without a `client_ip` of their own have the same.
                if !files.iter().any(|(known, _)| known == field) {
                    files.push((field.clone(), path.as_path()));
                }
            }
            let Some(tls) = &listener.tls else { continue };
            let field = format!("listeners.{}.tls", listener.name);
            for (index, certificate) in tls.certificates.iter().enumerate() {
                let field = format!("{field}.certificates[{index}]");
                files.push((format!("{field}.cert"), certificate.cert.as_path()));
                files.push((format!("{field}.key"), certificate.key.as_path()));
            }
            if let Some(client_auth) = &tls.client_auth {
                files.push((format!("{field}.client_auth.ca"), client_auth.ca.as_path()));
            }
        }
        for upstream in &self.upstreams {
            let Some(tls) = &upstream.tls else { continue };
            let field = format!("upstreams.{}.tls", upstream.name);
            let ca = tls.ca.as_deref().map(|path| (format!("{field}.ca"), path));
            files.extend(ca);
            if let Some(own) = &tls.identity {
                files.push((format!("{field}.cert"), own.cert.as_path()));
                files.push((format!("{field}.key"), own.key.as_path()));
            }
        }
        let token = self
            .admin
            .as_ref()
            .and_then(|admin| admin.token_file.as_deref());
        files.extend(token.map(|path| ("admin.token_file".to_owned(), path)));
        files
    }
}

/// How requests are told from one another by those who serve them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    /// The field that carries the id. No copy of anybody else's reaches an endpoint.
    pub header: HeaderName,
    /// What a trusted peer sends is kept, if it looks like an id.
    pub trust_incoming: bool,
}

/// Spans for an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Who takes them.
    pub collector: Collector,
    /// Which share of the requests is traced, from 0 to 1. A trusted peer decides for its own.
    pub sample_ratio: f64,
    /// What the collector knows this process by.
    pub service_name: String,
}

/// Where OTLP is spoken over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector {
    /// A name or an address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Of the URL.
    pub path: String,
}

impl Collector {
    /// `host:port`.
    pub fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        }
    }
}

impl std::fmt::Display for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.path)
    }
}

/// When changes of the configuration, and of the files it names, are taken up without a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// Look for changes at all; SIGHUP works in any case.
    pub watch: bool,
    /// How long files must have stayed as they are before they are read.
    pub debounce: Duration,
}

/// What happens between SIGTERM and the end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long listeners stay open, for balancers that have yet to notice.
    pub readiness_delay: Duration,
    /// How long requests in flight may take to finish after that.
    pub grace_period: Duration,
}

/// A bound address (or several) with its protocols, TLS and PROXY-protocol settings.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The key under `listeners`.
    pub name: String,
    /// At least one.
    pub addresses: Vec<Address>,
    /// Which HTTP versions are spoken here; at least one.
    pub protocols: Protocols,
    /// Certificates, when this listener speaks TLS.
    pub tls: Option<Tls>,
    /// Who may send a PROXY header here; `None` is `off`.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Which socket peers may connect at all.
    pub peers: PeerAccess,
    /// How the client address is found here: the global block with this listener's override.
    ///
    /// Without what stands in `trust_files`, until [`Loaded::read_lists`].
    pub trust: TrustPolicy,
    /// More ranges, for the first rule of `trust`.
    pub trust_files: Vec<NamedFile>,
    /// The field that tells trusted peers why their client is who it is; `None`: they aren't told.
    pub explain_header: Option<HeaderName>,
    /// The port the outside knows this listener by, when it isn't the local one.
    pub public_port: Option<NonZeroU16>,
    /// Answer every request with a redirect to HTTPS (ACME http-01 paths excepted).
    pub redirect_to_https: Option<RedirectToHttps>,
    /// Another process may bind the same addresses (handover).
    pub reuse_port: bool,
    /// Deadlines towards the client.
    pub timeouts: ListenerTimeouts,
}

/// What a listening socket was made for, by which a later configuration knows it as its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose {
    /// The listener's name when it was made.
    pub listener: String,
    /// What was asked for; `None` for a socket that was handed over under the listener's name.
    pub address: Option<Address>,
}

impl Listener {
    /// Whether a socket made for `purpose` is this listener's.
    ///
    /// A listener may be renamed and keep its sockets, which belong to the address. Without a fixed port or an address
    /// of its own choice, they belong to the name.
    pub fn claims(&self, purpose: &Purpose) -> bool {
        let is_namesake = self.name == purpose.listener;
        match &purpose.address {
            None => is_namesake,
            Some(address) => {
                self.addresses.contains(address) && (is_namesake || address.is_definite())
            }
        }
    }
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `":8080"`: every interface, IPv4 and IPv6, by one dual-stack socket where the machine has IPv6.
    Dual(u16),
    /// One address. An IPv6 address here never takes IPv4 connections (`IPV6_V6ONLY`).
    Ip(SocketAddr),
    /// `unix:path`, already resolved against the file's directory.
    Unix(PathBuf),
}

impl Address {
    /// The port, where there is one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Dual(port) => Some(*port),
            Self::Ip(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }

    /// Whether nobody but this machine can get there.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Dual(_) => false,
            Self::Ip(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Whether it is the same place whenever it is bound: port 0 isn't.
    fn is_definite(&self) -> bool {
        self.port() != Some(0)
    }
}

/// HTTP versions of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocols {
    /// HTTP/1.0 and HTTP/1.1.
    pub http1: bool,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in the clear.
    pub http2: bool,
}

/// TLS settings of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// At least one.
    pub certificates: Vec<Certificate>,
    /// What a client with no or an unknown server name gets.
    pub default_certificate: DefaultCertificate,
    /// TLS 1.2 is spoken as well as 1.3.
    pub tls12: bool,
    /// Which clients must show a certificate, and may; `None`: nobody is asked for one.
    pub client_auth: Option<ClientAuth>,
    /// The field that tells endpoints the subject of a verified certificate. No copy of anybody else's reaches them
    /// through any listener, be clients asked for a certificate or not.
    pub subject_header: Option<HeaderName>,
    /// Requests are refused (421) whose host is covered by another certificate than was shown.
    pub strict_sni: bool,
}

/// What is asked of clients before their first request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    /// Whether a client without a certificate is refused. One with a wrong one always is.
    pub required: bool,
    /// PEM file with the authorities that are believed.
    pub ca: PathBuf,
}

/// A certificate chain and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// PEM chain, leaf first.
    pub cert: PathBuf,
    /// PEM key: PKCS#1, PKCS#8 or SEC1.
    pub key: PathBuf,
    /// Names of a self-signed certificate to make when both files are missing; empty: never made.
    pub self_signed: Vec<String>,
}

/// The certificate for clients with no or an unknown server name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefaultCertificate {
    /// The first in the list.
    First,
    /// The one that covers this name; loading fails when none does.
    Named(String),
    /// None: the handshake is refused.
    Reject,
}

/// PROXY protocol on a listener (CLIENT-IP specification, section 6).
#[derive(Debug, Clone)]
pub struct ProxyProtocol {
    /// Whether senders in `from` may or must send a header.
    pub required: bool,
    /// Who may send one. Never empty.
    pub from: crate::client_ip::PeerSet,
    /// For the whole preamble and the TLS hello behind it.
    pub timeout: Duration,
}

/// `allow_peers` and `deny_peers`: judged on the socket peer, before a byte is read.
#[derive(Debug, Clone, Default)]
pub struct PeerAccess {
    /// `None`: everybody.
    pub allow: Option<crate::client_ip::PeerSet>,
    /// Wins over `allow`.
    pub deny: Option<crate::client_ip::PeerSet>,
}

/// `access.allow` and `access.deny`: judged on the resolved client.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: everybody. Never holds for a client whose chain couldn't be read.
    pub allow: Option<IpSet>,
    /// Wins over `allow`; applies to the nearest address when the chain couldn't be read.
    pub deny: Option<IpSet>,
}

/// How a listener redirects to HTTPS.
#[derive(Debug, Clone, Copy)]
pub struct RedirectToHttps {
    /// 301, 302, 307 or 308 (default).
    pub status: StatusCode,
    /// Left out of the location when it is 443.
    pub port: u16,
}

/// Deadlines towards the client.
#[derive(Debug, Clone, Copy)]
pub struct ListenerTimeouts {
    /// The TLS handshake in total.
    pub handshake: Duration,
    /// A request head in total, from its first byte; that byte is awaited as long.
    pub request_header: Duration,
    /// Between two reads of a request body.
    pub request_body: Duration,
    /// Without progress in what is sent.
    pub send: Duration,
    /// An idle connection between requests.
    pub keep_alive: Duration,
}

/// A named group of endpoints.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// The key under `upstreams`.
    pub name: String,
    /// Addresses, or something built in.
    pub target: Target,
    /// How often the names among the addresses are looked up.
    pub lookup_interval: Duration,
    /// Which HTTP version the endpoints speak.
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints.
    pub tls: Option<UpstreamTls>,
    /// What goes ahead of each connection, to say who the client is.
    pub proxy_header: Option<ProxyHeader>,
    /// Deadlines towards the endpoints.
    pub timeouts: UpstreamTimeouts,
    /// Idle connections kept for reuse.
    pub pool: PoolLimits,
    /// Asking endpoints how they are; `None`: nobody asks.
    pub health_check: Option<HealthCheck>,
    /// When an endpoint that can't be connected to is left alone.
    pub outlier_detection: OutlierDetection,
    /// What is sent again, to another endpoint perhaps.
    pub retries: Retries,
    /// Over all workers; at least 1.
    pub max_connections_per_endpoint: usize,
    /// How long a request waits while every endpoint has that many; zero: not at all.
    pub queue_timeout: Duration,
    /// From a tenth to the whole of its weight, for an endpoint that is new or healthy again; zero: at once.
    pub slow_start: Duration,
}

/// How endpoints are asked whether they are healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// A GET of this path and query; `None`: a connect is enough.
    pub path: Option<String>,
    /// Between two checks of an endpoint.
    pub interval: Duration,
    /// From the connect to the response head.
    pub timeout: Duration,
    /// Statuses of a healthy endpoint; empty: 200 to 299.
    pub expect_status: Vec<StatusCode>,
    /// Failed checks in a row.
    pub unhealthy_after: u32,
    /// Passed checks in a row.
    pub healthy_after: u32,
}

/// When an endpoint that can't be connected to is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutlierDetection {
    /// At least 1.
    pub consecutive_failures: u32,
    /// The first time; doubled each time after that.
    pub eject_for: Duration,
    /// At most.
    pub max_eject_for: Duration,
}

/// What may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Tries per request, the first included: 1 to 10.
    pub attempts: usize,
    /// When nothing of the request was written.
    pub connect_error: bool,
    /// When the endpoint closed the connection before a byte of its response.
    pub reset: bool,
    /// What may be sent again after it was written.
    pub methods: RetryMethods,
}

/// Methods that may be sent again after they were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryMethods {
    /// GET, HEAD, OPTIONS.
    Safe,
    /// PUT and DELETE as well.
    Idempotent,
}

/// What stands behind an upstream's name.
#[derive(Debug, Clone)]
pub enum Target {
    /// At least one endpoint; smooth weighted round robin over them.
    Endpoints(Vec<Endpoint>),
    /// The echo service in this binary.
    Whoami(EchoOf),
}

/// Which request the echo service shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EchoOf {
    /// What an endpoint would receive: after hop-by-hop removal, with our forwarding fields.
    Forwarded,
    /// What was received: `headwater whoami` on its own.
    Received,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: EndpointAddress,
    /// 1 to 256, default 1.
    pub weight: NonZeroU16,
    /// Used only while no other is available.
    pub backup: bool,
}

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointAddress {
    /// `ip:port`.
    Ip(SocketAddr),
    /// `host:port`: as many as the name has addresses, looked up again and again; the last good set is kept.
    Name {
        /// A DNS name.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `unix:path`.
    Unix(PathBuf),
}

/// The HTTP version of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge without.
    Http2,
    /// Whatever the endpoint prefers in ALPN; only with TLS.
    Negotiated,
}

/// TLS towards an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// What certificates must be valid for, and what is asked for; `None`: the host of each endpoint.
    pub server_name: Option<String>,
    /// PEM file with the authorities that are believed; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// Our own certificate, where the upstream asks for one.
    pub identity: Option<Certificate>,
    /// Whether certificates are looked at.
    pub verify: Verify,
}

/// Which certificates of an upstream are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// Those that a known authority issued for the name asked for.
    Authority,
    /// Any: whoever sits in between can read and change everything.
    Nothing,
}

/// The version of a PROXY header that we send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Deadlines towards an upstream.
#[derive(Debug, Clone, Copy)]
pub struct UpstreamTimeouts {
    /// Per try.
    pub connect: Duration,
    /// From the end of the request to the response head.
    pub response_header: Duration,
    /// Between two reads of a response body, and without progress in an upload.
    pub idle: Duration,
    /// Without a byte in either direction of a WebSocket.
    pub tunnel: Duration,
}

/// Bounds of a worker's idle connections.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// Kept idle per endpoint and worker.
    pub max_idle_per_endpoint: usize,
    /// Idle for longer: closed. Should be below the endpoint's own keep-alive time.
    pub idle_timeout: Duration,
}

/// A match and where it leads.
#[derive(Debug, Clone)]
pub struct Route {
    /// `name`, else `routes[N]`.
    pub name: String,
    /// Host, path, methods, header fields.
    pub matcher: route::Match,
    /// Judged on the resolved client, after the global one.
    pub access: Access,
    /// Instead of [`Limits::max_request_body`].
    pub max_request_body: Option<u64>,
    /// Instead of [`UpstreamTimeouts::response_header`].
    pub response_header: Option<Duration>,
    /// What happens to a request that matches.
    pub action: Action,
}

/// What a route does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Forward to `Config::upstreams[.0]`.
    Upstream(usize),
    /// Answer from here.
    Respond {
        /// Any final status.
        status: StatusCode,
        /// Sent as `text/plain; charset=utf-8`.
        body: String,
    },
}

/// Bounds on what a client may send, and on what it may make us hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Client connections of the whole process; nine tenths of its file descriptors if those are fewer.
    pub max_connections: usize,
    /// Connections of one address that isn't a trusted proxy's.
    pub max_connections_per_client: usize,
    /// TLS handshakes under way with one such address.
    pub max_handshakes_per_client: usize,
    /// Request head in bytes.
    pub max_header_bytes: usize,
    /// Fields in a request head.
    pub max_headers: usize,
    /// Request target in bytes.
    pub max_target_bytes: usize,
    /// All trailer lines of a request, in bytes.
    pub max_trailer_bytes: usize,
    /// Request body in bytes; `None`: any, for memory doesn't depend on it.
    pub max_request_body: Option<u64>,
    /// An endpoint's response head in bytes.
    pub max_response_header_bytes: usize,
    /// HTTP/2 streams of one connection at a time.
    pub max_concurrent_streams: u32,
    /// Fields whose name holds `_`.
    pub underscore_headers: UnderscoreHeaders,
}

/// What becomes of fields whose name holds `_`. Twins of managed names go in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnderscoreHeaders {
    /// Removed (default).
    Drop,
    /// 400.
    Reject,
    /// Passed on.
    Allow,
}

/// The admin interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// At least one. Without a token each is a loopback address or a Unix socket.
    pub addresses: Vec<Address>,
    /// Whether the live page is there.
    pub ui: bool,
    /// Holds the token that clients must show.
    pub token_file: Option<PathBuf>,
    /// Where the metrics are.
    pub metrics_path: String,
}

/// The operational log.
#[derive(Debug, Clone)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or `EnvFilter` directives.
    pub level: String,
    /// `None`: text on a terminal, JSON otherwise.
    pub format: Option<LogFormat>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}
