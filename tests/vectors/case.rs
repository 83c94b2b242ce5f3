//! One recorded case: what was configured and sent, what nginx made of it, and what headwater makes of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;

use headwater::client_ip::emit::{Forwarded, XForwardedFor};
use headwater::client_ip::{
    Addr, Depth, EmitOptions, EmitPolicy, FieldSink, ForwardingField, LocalEnd, Peer, PeerSet,
    Prior, ProxySource, Scheme, SentField, SocketPeer, TrustPolicy, TrustRule, UntrustedPrior,
    UpstreamHost, emit, resolve, upstream_host,
};
use headwater::fields::Fields;
use headwater::proxy_protocol::{self, Decoded};
use http::header::HOST;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;

/// A line of `ingress.jsonl`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) input: String,
    /// `ConfigMap` keys that were true: U use-forwarded-headers, C compute-full-forwarded-for, E enable-real-ip,
    /// P use-proxy-protocol, _ enable-underscores-in-headers.
    pub(crate) keys: String,
    /// forwarded-for-header.
    #[serde(default = "x_forwarded_for")]
    pub(crate) header: String,
    /// proxy-real-ip-cidr; `None` is its default, everybody.
    pub(crate) from: Option<String>,
    /// An address, `mapped:` and an address, or `unix`.
    pub(crate) peer: String,
    /// Bytes before the request, in hexadecimal.
    pub(crate) preamble: Option<String>,
    #[serde(default)]
    pub(crate) tls: bool,
    nginx: Recorded,
    #[serde(skip)]
    pub(crate) request: Request,
}

/// A line of `inputs.jsonl`.
#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    input: String,
    /// Names and values as sent; characters stand for bytes.
    pub(crate) fields: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Recorded {
    Failed(String),
    Forwarded(BTreeMap<Aspect, Lines>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lines {
    One(String),
    Many(Vec<String>),
}

/// What is compared.
#[derive(Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aspect {
    Client,
    RealIp,
    For,
    Proto,
    Scheme,
    XScheme,
    Host,
    Port,
    OriginalFor,
    OriginalHost,
    Forwarded,
    /// The field `Host`.
    Authority,
    /// `X-Forwarded-For-Proxy-Protocol`, by which ingress-nginx tells itself something.
    Scratch,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection was closed without an answer.
    Closed,
    /// 400.
    Rejected,
    /// What the upstream received; several lines of a field, joined.
    Forwarded(Upstream),
}

pub(crate) type Upstream = BTreeMap<Aspect, String>;

/// All cases.
pub(crate) fn load() -> Vec<Case> {
    let requests: BTreeMap<String, Request> = include_str!("inputs.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Request>(line).unwrap())
        .map(|request| (request.input.clone(), request))
        .collect();
    let cases = include_str!("ingress.jsonl").lines().map(|line| {
        let case: Case = serde_json::from_str(line).unwrap();
        Case {
            request: requests[&case.input].clone(),
            ..case
        }
    });
    cases.collect()
}

impl Case {
    pub(crate) fn key(&self, key: char) -> bool {
        self.keys.contains(key)
    }

    /// proxy-real-ip-cidr: the ranges named in the recordings' description, one range, or everybody.
    pub(crate) fn ranges(&self) -> PeerSet {
        const CHAIN: [&str; 5] = [
            "127.10.0.0/16",
            "10.0.0.0/8",
            "198.51.100.0/24",
            "2001:db8:cd::/48",
            "::1",
        ];
        match self.from.as_deref() {
            Some("chain") => PeerSet::parse(&CHAIN).unwrap(),
            Some(range) => PeerSet::parse(&[range]).unwrap(),
            None => PeerSet::parse(&["0.0.0.0/0"]).unwrap(),
        }
    }

    pub(crate) fn socket_peer(&self) -> SocketPeer {
        let ip: IpAddr = match self.peer.strip_prefix("mapped:") {
            Some(ip) => ip.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().into(),
            None if self.peer == "unix" => return SocketPeer::Unix,
            None => self.peer.parse().unwrap(),
        };
        SocketPeer::Ip(Addr::from_socket(SocketAddr::new(ip, 40000)), 40000)
    }

    /// What nginx did.
    pub(crate) fn nginx(&self) -> Outcome {
        match &self.nginx {
            Recorded::Failed(how) if how == "closed" => Outcome::Closed,
            Recorded::Failed(_) => Outcome::Rejected,
            Recorded::Forwarded(aspects) => {
                let joined = |lines: &Lines| match lines {
                    Lines::One(line) => line.clone(),
                    Lines::Many(lines) => lines.join(", "),
                };
                Outcome::Forwarded(
                    aspects
                        .iter()
                        .map(|(aspect, lines)| (*aspect, joined(lines)))
                        .collect(),
                )
            }
        }
    }

    /// The request's fields; `None` for bytes that no request may hold.
    pub(crate) fn fields(&self) -> Option<Fields> {
        let mut fields = Fields::default();
        for (name, value) in &self.request.fields {
            // A bare line feed ends a line here as in nginx (RFC 9112 §2.2).
            for (index, line) in value.split('\n').enumerate() {
                let (name, value) = match (index, line.split_once(": ")) {
                    (0, _) => (name.as_str(), line),
                    (_, Some(field)) => field,
                    (_, None) => return None,
                };
                let value: Vec<u8> = value
                    .chars()
                    .map(|c| u8::try_from(u32::from(c)).unwrap())
                    .collect();
                let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
                fields.append(HeaderName::from_bytes(name.as_bytes()).ok()?, value);
            }
        }
        Some(fields)
    }

    /// What headwater does with `headwater import ingress-nginx --exact`.
    pub(crate) fn headwater(&self) -> Outcome {
        let socket = self.socket_peer();
        let scheme = if self.tls {
            Scheme::Https
        } else {
            Scheme::Http
        };
        let address =
            (socket != SocketPeer::Unix).then(|| SocketAddr::from(([127, 0, 0, 1], LISTEN_PORT)));
        let mut local = LocalEnd::new(scheme, address, NonZeroU16::new(443).filter(|_| self.tls));
        let mut peer = Peer {
            socket,
            proxied: None,
        };
        if let Some(preamble) = self.preamble() {
            let admitted = self.ranges().contains_peer(&socket);
            match proxy_protocol::decode(&preamble) {
                // Not from an admitted sender: the bytes are no HTTP request.
                Ok(Decoded::Complete { .. } | Decoded::Incomplete) | Err(_)
                    if !admitted && !preamble.is_empty() =>
                {
                    return Outcome::Rejected;
                }
                Ok(Decoded::Complete { header, len }) => {
                    if proxy_protocol::starts_with_signature(&preamble[len..]) {
                        return Outcome::Closed;
                    }
                    if let Some(addresses) = header.addresses {
                        let Some(addr) = Addr::new(addresses.source.ip()) else {
                            return Outcome::Closed;
                        };
                        let (port, version) = (addresses.source.port(), header.version);
                        peer.proxied = Some(ProxySource {
                            addr,
                            port,
                            version,
                        });
                        local = local.behind_balancer(addresses.destination, header.tlvs.ssl);
                    }
                }
                Ok(Decoded::Incomplete | Decoded::Absent) if !admitted => {}
                Ok(Decoded::Incomplete | Decoded::Absent) | Err(_) => return Outcome::Closed,
            }
        }
        let Some(headers) = self.fields() else {
            return Outcome::Rejected;
        };
        Outcome::Forwarded(self.forward(&peer, &headers, &local))
    }

    /// Bytes before the request.
    pub(crate) fn preamble(&self) -> Option<Vec<u8>> {
        let digits = self.preamble.as_deref()?.as_bytes();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Some(digits.chunks(2).map(byte).collect())
    }

    /// Whether the importer carries the trusted ranges over.
    pub(crate) fn trusts_somebody(&self) -> bool {
        let realip = self.key('U') || self.key('E') && !self.key('P');
        realip && self.from.is_some()
    }

    pub(crate) fn trust(&self) -> TrustPolicy {
        let from = if self.trusts_somebody() {
            self.ranges()
        } else {
            PeerSet::default()
        };
        let field = ForwardingField::parse(&self.header).unwrap();
        TrustPolicy::by_rules(vec![TrustRule { from, field }], Depth::Full)
    }

    fn emit_policy(&self, trust: &TrustPolicy) -> EmitPolicy {
        let options = EmitOptions {
            x_forwarded_for: if self.key('U') && self.key('C') {
                XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep))
            } else {
                XForwardedFor::Replace
            },
            forwarded: Forwarded::Off,
            sent: SentField::ALL.to_vec(),
            upstream_host: UpstreamHost::Forwarded,
            ..EmitOptions::default()
        };
        EmitPolicy::new(options, [trust])
    }

    fn forward(&self, peer: &Peer, fields: &Fields, local: &LocalEnd) -> Upstream {
        let trust = self.trust();
        let policy = self.emit_policy(&trust);
        let resolution = resolve(peer, fields, &trust);
        let host = fields.get(&HOST);
        let mut written = Written::default();
        emit(&resolution, fields, host, local, &policy, &mut written);
        if let Some(host) = upstream_host(&resolution, fields, host, &policy) {
            written.add("host", host);
        }
        for (name, value) in fields.iter() {
            if name != b"host" && !policy.removes(name, resolution.peer_is_trusted()) {
                written.add(str::from_utf8(name).unwrap(), value);
            }
        }
        let client = resolution.client().ip().map(|ip| ip.to_string());
        written.0.insert(Aspect::Client, client.unwrap_or_default());
        if let Some(port) = written
            .0
            .get_mut(&Aspect::Port)
            .filter(|port| **port == LISTEN_PORT.to_string())
        {
            "{listen_port}".clone_into(port);
        }
        written.0
    }
}

#[derive(Default)]
struct Written(Upstream);

impl Written {
    fn add(&mut self, name: &str, value: &[u8]) {
        let aspect = match name.to_ascii_lowercase().as_str() {
            "x-real-ip" => Aspect::RealIp,
            "x-forwarded-for" => Aspect::For,
            "x-forwarded-proto" => Aspect::Proto,
            "x-forwarded-scheme" => Aspect::Scheme,
            "x-scheme" => Aspect::XScheme,
            "x-forwarded-host" => Aspect::Host,
            "x-forwarded-port" => Aspect::Port,
            "x-original-forwarded-for" => Aspect::OriginalFor,
            "x-original-forwarded-host" => Aspect::OriginalHost,
            "forwarded" => Aspect::Forwarded,
            "host" => Aspect::Authority,
            "x-forwarded-for-proxy-protocol" => Aspect::Scratch,
            _ => return,
        };
        let value = value.iter().map(|byte| char::from(*byte)).collect();
        assert_eq!(self.0.insert(aspect, value), None, "{name} has one line");
    }
}

impl FieldSink for Written {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        self.add(name, value);
    }
}

fn x_forwarded_for() -> String {
    "X-Forwarded-For".to_owned()
}

/// Stands for the port that was recorded as `{listen_port}`.
const LISTEN_PORT: u16 = 8080;
