//! `upstreams`.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use super::super::problem::code;
use super::super::reader::{At, Choice, Reader, Section};
use super::super::value::Value;
use super::super::{
    Certificate, EchoOf, Endpoint, EndpointAddress, PoolLimits, ProxyHeader, Target, Upstream,
    UpstreamProtocol, UpstreamTimeouts, UpstreamTls, Verify, address, keys,
};
use super::discovery::{DEFAULT_INTERVAL, discovery};
use super::{check_name, file, resilience};

/// Reads all upstreams with their names; one that can't be used is reported, and its name stays known to the routes.
pub(super) fn upstreams<'v>(
    reader: &mut Reader<'_>,
    root: &Section<'v>,
    dir: &Path,
) -> Vec<(&'v str, Option<Upstream>)> {
    let named = reader.named(root, "upstreams");
    named
        .into_iter()
        .map(|(name, at)| {
            check_name(reader, &at.place, name);
            (name, upstream(reader, name, &at, dir))
        })
        .collect()
}

fn upstream(reader: &mut Reader<'_>, name: &str, at: &At<'_>, dir: &Path) -> Option<Upstream> {
    let section = reader.section(at, &keys::UPSTREAM)?;
    let found = target(reader, &section, dir);
    choose_policy(reader, &section);
    let tls = tls(reader, &section, dir);
    let protocol = protocol(reader, &section, tls.as_ref());
    let proxy_header = proxy_header(reader, &section);
    let timeouts = timeouts(reader, &section);
    let pool = pool(reader, &section);
    let health_check = resilience::health_check(reader, &section);
    let outlier_detection = resilience::outlier_detection(reader, &section);
    let retries = resilience::retries(reader, &section);
    let max_connections_per_endpoint = resilience::max_connections(reader, &section);
    let queue_timeout = reader.duration_or_zero(&section, "queue_timeout", Duration::from_secs(3));
    let slow_start = reader.duration_or_zero(&section, "slow_start", Duration::ZERO);
    let (target, lookup_interval) = found?;
    Some(Upstream {
        name: name.to_owned(),
        target,
        lookup_interval,
        protocol,
        tls,
        proxy_header,
        timeouts,
        pool,
        health_check,
        outlier_detection,
        retries,
        max_connections_per_endpoint,
        queue_timeout,
        slow_start,
    })
}

/// What stands behind the upstream, and how often the names in it are looked up.
fn target(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    dir: &Path,
) -> Option<(Target, Duration)> {
    if section.has("builtin") {
        for key in [
            "endpoints",
            "discovery",
            "tls",
            "send_proxy_protocol",
            "health_check",
        ] {
            reader.meaningless(section, key, "beside `builtin`");
        }
        reader.choice(section, "builtin", &Choice::of(&[("whoami", ())]), ());
        return Some((Target::Whoami(EchoOf::Forwarded), DEFAULT_INTERVAL));
    }
    if section.has("discovery") {
        reader.meaningless(section, "endpoints", "beside `discovery`");
        return discovery(reader, section);
    }
    let items = section.items("endpoints");
    reader.require_entry(
        section,
        "endpoints",
        "write  endpoints: [\"127.0.0.1:9000\"]  or  builtin: whoami",
    );
    let endpoints: Vec<_> = items
        .iter()
        .filter_map(|at| endpoint(reader, at, dir))
        .collect();
    (!endpoints.is_empty()).then_some((Target::Endpoints(endpoints), DEFAULT_INTERVAL))
}

fn endpoint(reader: &mut Reader<'_>, at: &At<'_>, dir: &Path) -> Option<Endpoint> {
    if !matches!(at.value, Value::Map(_)) {
        let address = endpoint_address(reader, at, dir)?;
        return Some(Endpoint {
            address,
            weight: NonZeroU16::MIN,
            backup: false,
        });
    }
    let section = reader.section(at, &keys::ENDPOINT)?;
    reader.require(
        &section,
        "address",
        "write  { address: \"127.0.0.1:9000\", weight: 2 }",
    );
    let address = section
        .get("address")
        .and_then(|at| endpoint_address(reader, &at, dir));
    let weight = u16::try_from(reader.number_or(&section, "weight", 1..=256, 1))
        .ok()
        .and_then(NonZeroU16::new)?;
    Some(Endpoint {
        address: address?,
        weight,
        backup: reader.flag(&section, "backup", false),
    })
}

fn endpoint_address(reader: &mut Reader<'_>, at: &At<'_>, dir: &Path) -> Option<EndpointAddress> {
    let text = reader.text(at)?;
    match address::endpoint(text, dir) {
        Ok(address) => {
            reader.record_text(&at.place, show_address(&address));
            Some(address)
        }
        Err(error) => {
            let problem = reader
                .on_value(
                    &at.place,
                    code::BAD_ADDRESS,
                    format!("`{text}` isn't the address of an endpoint"),
                )
                .label(error.to_string());
            reader.report(problem);
            None
        }
    }
}

fn show_address(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Ip(address) => address.to_string(),
        EndpointAddress::Name { host, port } => format!("{host}:{port}"),
        EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// A key with one meaning so far.
fn choose_policy(reader: &mut Reader<'_>, section: &Section<'_>) {
    let policies = Choice {
        words: &[("round_robin", ())],
        later: keys::words::POLICY_LATER,
    };
    reader.choice(section, "policy", &policies, ());
}

/// `tls` decides what the words mean; those that name a transport as well have to agree with it.
fn protocol(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    tls: Option<&UpstreamTls>,
) -> UpstreamProtocol {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Auto,
        H1,
        H2,
        H2c,
    }
    let words = [
        ("auto", Word::Auto),
        ("h1", Word::H1),
        ("h2", Word::H2),
        ("h2c", Word::H2c),
    ];
    let word = reader.choice(section, "protocol", &Choice::of(&words), Word::Auto);
    let contradiction = match word {
        Word::H2 if tls.is_none() => Some(("`h2` needs `tls`", "without TLS it is `h2c`")),
        Word::H2c if tls.is_some() => Some(("`h2c` has no TLS", "with TLS it is `h2`")),
        _ => None,
    };
    if let Some((message, help)) = contradiction {
        let place = section.place_of("protocol");
        let problem = reader.on_value(&place, code::EXCLUSIVE, message);
        reader.report(problem.help(help));
    }
    match word {
        Word::Auto if tls.is_some() => UpstreamProtocol::Negotiated,
        Word::Auto | Word::H1 => UpstreamProtocol::Http1,
        Word::H2 | Word::H2c => UpstreamProtocol::Http2,
    }
}

fn tls(reader: &mut Reader<'_>, upstream: &Section<'_>, dir: &Path) -> Option<UpstreamTls> {
    let at = upstream.get("tls")?;
    let Value::Map(_) = at.value else {
        return reader.flag(upstream, "tls", false).then_some(UpstreamTls {
            server_name: None,
            ca: None,
            identity: None,
            verify: Verify::Authority,
        });
    };
    let section = reader.section(&at, &keys::UPSTREAM_TLS)?;
    let ca = file(reader, &section, "ca", dir);
    let verify = verify(reader, &section);
    if verify == Verify::Nothing {
        reader.meaningless(&section, "ca", "beside `verify: false`");
    }
    Some(UpstreamTls {
        server_name: server_name(reader, &section),
        ca,
        identity: identity(reader, &section, dir),
        verify,
    })
}

fn server_name(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let (at, text) = reader.optional_text(section, "server_name")?;
    reader.record_text(&at.place, text);
    if text.parse::<IpAddr>().is_err() && !address::is_host_name(text) {
        let message = format!("a certificate can't be valid for `{text}`");
        let problem = reader.on_value(&at.place, code::BAD_NAME, message);
        reader.report(problem.help("a name is a host name or an IP address, without a port"));
    }
    Some(text.to_ascii_lowercase())
}

fn identity(reader: &mut Reader<'_>, section: &Section<'_>, dir: &Path) -> Option<Certificate> {
    const HELP: &str = "a certificate is a pair:  cert: certs/me.crt  and  key: certs/me.key";
    if section.has("cert") || section.has("key") {
        reader.require(section, "cert", HELP);
        reader.require(section, "key", HELP);
    }
    let cert = file(reader, section, "cert", dir);
    let key = file(reader, section, "key", dir);
    Some(Certificate {
        cert: cert?,
        key: key?,
        self_signed: Vec::new(),
    })
}

fn verify(reader: &mut Reader<'_>, section: &Section<'_>) -> Verify {
    if reader.flag(section, "verify", true) {
        return Verify::Authority;
    }
    let problem = reader
        .on_value(
            &section.place_of("verify"),
            code::UNVERIFIED_UPSTREAM,
            "nobody verifies the certificates of this upstream",
        )
        .warning()
        .label("whoever sits in between can read and change everything")
        .help("name the authority that issued them instead:  ca: certs/internal-ca.pem");
    reader.report(problem);
    Verify::Nothing
}

fn proxy_header(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<ProxyHeader> {
    let words = [("v1", Some(ProxyHeader::V1)), ("v2", Some(ProxyHeader::V2))];
    reader.choice(section, "send_proxy_protocol", &Choice::of(&words), None)
}

fn timeouts(reader: &mut Reader<'_>, upstream: &Section<'_>) -> UpstreamTimeouts {
    let section = reader.subsection(upstream, "timeouts", &keys::UPSTREAM_TIMEOUTS);
    UpstreamTimeouts {
        connect: reader.duration(&section, "connect", Duration::from_secs(3)),
        response_header: reader.duration(&section, "response_header", Duration::from_secs(60)),
        idle: reader.duration(&section, "idle", Duration::from_secs(60)),
        tunnel: reader.duration(&section, "tunnel", Duration::from_secs(60 * 60)),
    }
}

fn pool(reader: &mut Reader<'_>, upstream: &Section<'_>) -> PoolLimits {
    let section = reader.subsection(upstream, "pool", &keys::POOL);
    let max_idle = reader.number_or(&section, "max_idle_per_endpoint", 0..=65_536, 64);
    PoolLimits {
        max_idle_per_endpoint: usize::try_from(max_idle).unwrap_or(usize::MAX),
        idle_timeout: reader.duration(&section, "idle_timeout", Duration::from_secs(15)),
    }
}
