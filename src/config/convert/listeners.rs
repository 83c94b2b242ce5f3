//! `listeners`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;

use super::super::problem::code;
use super::super::reader::{Choice, Reader, Section};
use super::super::value::{Place, Value};
use super::super::{
    Address, Listener, ListenerTimeouts, Network, Protocols, ProxyProtocol, RedirectToHttps,
    address, keys,
};
use super::client_ip::{self, ClientIp, Source};
use super::listener_tls::tls;
use super::{check_name, peer_access, peer_set, trust_lint};

/// Reads all listeners; one that can't be used is reported and left out.
pub(super) fn listeners(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    dir: &Path,
    (global, network): &(ClientIp, Network),
) -> Vec<Listener> {
    let named = reader.named(root, "listeners");
    reader.require_entry(
        root,
        "listeners",
        "the shortest one is  listeners: { http: { address: \":8080\" } }",
    );
    let mut listeners = Vec::with_capacity(named.len());
    let mut bound = Vec::new();
    for (name, at) in named {
        check_name(reader, &at.place, name);
        let Some(section) = reader.section(&at, &keys::LISTENER) else {
            continue;
        };
        let own = section
            .has("client_ip")
            .then(|| client_ip::of_listener(reader, &section, dir, network));
        let client_ip = own.as_ref().unwrap_or(global);
        listeners.extend(listener(reader, name, &section, client_ip, dir, &mut bound));
    }
    listeners
}

/// An address with the place that asks for it.
type Bound = (Address, Place);

fn listener(
    reader: &mut Reader<'_>,
    name: &str,
    section: &Section<'_>,
    client_ip: &ClientIp,
    dir: &Path,
    bound: &mut Vec<Bound>,
) -> Option<Listener> {
    let addresses = addresses(reader, section, dir, bound);
    let protocols = protocols(reader, section);
    let tls = section.has("tls").then(|| tls(reader, section, dir));
    let proxy_protocol = proxy_protocol(reader, section);
    let peers = peer_access(reader, section);
    warn_without_proxy_headers(reader, section, client_ip, proxy_protocol.is_some());
    let listener = Listener {
        name: name.to_owned(),
        addresses,
        protocols,
        tls: tls.flatten(),
        proxy_protocol,
        peers,
        trust: client_ip.policy.clone(),
        trust_files: client_ip.files.clone(),
        explain_header: client_ip.explain_header.clone(),
        public_port: public_port(reader, section),
        redirect_to_https: redirect_to_https(reader, section),
        reuse_port: reader.flag(section, "reuse_port", false),
        timeouts: timeouts(reader, section),
    };
    (!listener.addresses.is_empty()).then_some(listener)
}

fn addresses(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    dir: &Path,
    bound: &mut Vec<Bound>,
) -> Vec<Address> {
    let texts = reader.texts(section, "address");
    reader.require_entry(section, "address", "the usual one is  address: \":8080\"");
    let mut addresses = Vec::with_capacity(texts.len());
    for (at, text) in texts {
        match address::listener(text, dir) {
            Ok(address) => {
                reader.record_text(&at.place, show_address(&address));
                report_overlap(reader, &at.place, &address, bound);
                bound.push((address.clone(), at.place));
                addresses.push(address);
            }
            Err(error) => {
                let problem = reader
                    .on_value(
                        &at.place,
                        code::BAD_ADDRESS,
                        format!("a listener can't be bound to `{text}`"),
                    )
                    .label(error.to_string());
                reader.report(problem);
            }
        }
    }
    addresses
}

pub(super) fn show_address(address: &Address) -> String {
    match address {
        Address::Dual(port) => format!(":{port}"),
        Address::Ip(address) => address.to_string(),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

fn report_overlap(reader: &mut Reader<'_>, place: &Place, address: &Address, bound: &[Bound]) {
    let Some((earlier, at)) = bound.iter().find(|(earlier, _)| overlap(earlier, address)) else {
        return;
    };
    let listener = |place: &Place| place.steps().iter().take(2).cloned().collect::<Vec<_>>();
    let whose = if listener(at) == listener(place) {
        String::new()
    } else {
        format!(" by `{}`", owner(at))
    };
    let message = format!("`{}` is already bound{whose}", show_address(address));
    let mut problem = reader.on_value(place, code::ADDRESS_TWICE, message);
    if earlier != address {
        problem = problem.label(format!("`{}` covers it", show_address(earlier)));
    }
    reader.report(problem);
}

/// The name of the listener that a place belongs to.
fn owner(place: &Place) -> String {
    place
        .to_string()
        .split('.')
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

/// Whether the kernel would refuse the second of these.
pub(super) fn overlap(a: &Address, b: &Address) -> bool {
    match (a, b) {
        (Address::Unix(a), Address::Unix(b)) => a == b,
        (Address::Unix(_), _) | (_, Address::Unix(_)) => false,
        (Address::Dual(a), Address::Dual(b)) => a == b && *a != 0,
        (Address::Dual(port), Address::Ip(address))
        | (Address::Ip(address), Address::Dual(port)) => *port == address.port() && *port != 0,
        (Address::Ip(a), Address::Ip(b)) => same_port_and_family(a, b) && meets(a.ip(), b.ip()),
    }
}

fn same_port_and_family(a: &SocketAddr, b: &SocketAddr) -> bool {
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4()
}

fn meets(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}

fn protocols(reader: &mut Reader<'_>, section: &Section<'_>) -> Protocols {
    #[derive(Clone, Copy, PartialEq)]
    enum Version {
        Http1,
        Http2,
    }
    let words = [("h1", Version::Http1), ("h2", Version::Http2)];
    let choice = Choice {
        words: &words,
        later: keys::words::PROTOCOLS_LATER,
    };
    let items = section.items("protocols");
    if section.has("protocols") {
        reader.require_entry(section, "protocols", "write  protocols: [h1, h2]");
    }
    let chosen: Vec<_> = if section.has("protocols") {
        items
            .iter()
            .filter_map(|at| reader.word(at, &choice))
            .collect()
    } else {
        vec![Version::Http1, Version::Http2]
    };
    let list = words.iter().filter(|(_, version)| chosen.contains(version));
    reader.record(
        &section.place_of("protocols"),
        Value::List(list.map(|(word, _)| Value::text(*word)).collect()),
    );
    Protocols {
        http1: chosen.contains(&Version::Http1),
        http2: chosen.contains(&Version::Http2),
    }
}

fn proxy_protocol(reader: &mut Reader<'_>, listener: &Section<'_>) -> Option<ProxyProtocol> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Off,
        Optional,
        Required,
    }
    if !listener.has("proxy_protocol") {
        return None;
    }
    let words = [
        ("off", Mode::Off),
        ("optional", Mode::Optional),
        ("required", Mode::Required),
    ];
    let section = reader.subsection(listener, "proxy_protocol", &keys::PROXY_PROTOCOL);
    reader.require(
        &section,
        "mode",
        "write  mode: optional  or  mode: required",
    );
    let mode = reader.choice(&section, "mode", &Choice::of(&words), Mode::Off);
    let from = peer_set(reader, &section, "from");
    let timeout = reader.duration(&section, "timeout", Duration::from_secs(5));
    if mode == Mode::Off {
        return None;
    }
    reader.require_entry(
        &section,
        "from",
        "list the balancer's networks, or nobody could send a PROXY header:  from: [10.0.0.0/16]",
    );
    trust_lint::proxy_senders(reader, &section);
    Some(ProxyProtocol {
        required: mode == Mode::Required,
        from: from?,
        timeout,
    })
}

fn warn_without_proxy_headers(
    reader: &mut Reader<'_>,
    listener: &Section<'_>,
    client_ip: &ClientIp,
    accepted: bool,
) {
    let unknown = listener.has("proxy_protocol") && reader.has_errors();
    if client_ip.source != Source::ProxyProtocol || accepted || unknown {
        return;
    }
    let problem = reader
        .on_key(
            &listener.place,
            code::NO_PROXY_HEADERS,
            "the client address comes from PROXY headers, and nobody may send one here",
        )
        .warning()
        .label("every client is its socket peer here")
        .help("write  proxy_protocol: { mode: required, from: [10.0.0.0/16] }");
    reader.report(problem);
}

fn public_port(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<NonZeroU16> {
    let port = reader.optional_number(section, "public_port", 1..=65_535)?;
    u16::try_from(port).ok().and_then(NonZeroU16::new)
}

fn redirect_to_https(reader: &mut Reader<'_>, listener: &Section<'_>) -> Option<RedirectToHttps> {
    let at = listener.get("redirect_to_https")?;
    let default = RedirectToHttps {
        status: StatusCode::PERMANENT_REDIRECT,
        port: 443,
    };
    let redirect = match at.value {
        Value::Map(_) => {
            let section = reader.section(&at, &keys::REDIRECT)?;
            RedirectToHttps {
                status: redirect_status(reader, &section).unwrap_or(default.status),
                port: u16::try_from(reader.number_or(&section, "port", 1..=65_535, 443))
                    .unwrap_or(default.port),
            }
        }
        _ if reader.flag(listener, "redirect_to_https", false) => default,
        _ => return None,
    };
    if matches!(at.value, Value::Map(_)) {
        let status = Value::Int(redirect.status.as_u16().into());
        reader.record(&at.place.entry(0, "status"), status);
    }
    if listener.has("tls") {
        let problem = reader
            .on_key(
                &at.place,
                code::REDIRECT_WITH_TLS,
                "a listener that speaks TLS redirects to HTTPS",
            )
            .warning()
            .label("every request would be sent on, and come back here or elsewhere")
            .help("put `redirect_to_https` on the listener of port 80");
        reader.report(problem);
    }
    Some(redirect)
}

fn redirect_status(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<StatusCode> {
    let at = section.get("status")?;
    let number = reader.number(&at, 0..=999)?;
    let status = u16::try_from(number)
        .ok()
        .filter(|number| [301, 302, 307, 308].contains(number));
    if status.is_none() {
        let problem = reader.on_value(
            &at.place,
            code::BAD_NUMBER,
            format!("`{number}` doesn't redirect to HTTPS"),
        );
        reader.report(problem.help("status is one of 301, 302, 307, 308"));
    }
    StatusCode::from_u16(status?).ok()
}

fn timeouts(reader: &mut Reader<'_>, listener: &Section<'_>) -> ListenerTimeouts {
    let section = reader.subsection(listener, "timeouts", &keys::LISTENER_TIMEOUTS);
    ListenerTimeouts {
        handshake: reader.duration(&section, "handshake", Duration::from_secs(10)),
        request_header: reader.duration(&section, "request_header", Duration::from_secs(10)),
        request_body: reader.duration(&section, "request_body", Duration::from_secs(30)),
        send: reader.duration(&section, "send", Duration::from_secs(30)),
        keep_alive: reader.duration(&section, "keep_alive", Duration::from_secs(60)),
    }
}
