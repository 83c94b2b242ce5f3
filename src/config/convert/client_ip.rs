//! `client_ip`: of the file, and of a listener that has its own.

use std::num::{NonZeroU8, NonZeroU16};
use std::path::Path;

use http::HeaderName;

use super::super::keys;
use super::super::problem::code;
use super::super::reader::{At, Choice, Reader, Section, shown};
use super::super::value::{Place, Value};
use super::super::{NamedFile, Network};
use super::own_header::own_header;
use super::{files, peer_set, trust_lint};
use crate::client_ip::ip_set::{self, ParseCause};
use crate::client_ip::{Depth, ForwardingField, OnMalformed, PeerSet, TrustPolicy, TrustRule};

/// Where the client address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Header,
    ProxyProtocol,
    Peer,
}

/// What a `client_ip` block says.
#[derive(Debug, Clone)]
pub(super) struct ClientIp {
    pub(super) source: Source,
    pub(super) policy: TrustPolicy,
    pub(super) files: Vec<NamedFile>,
    pub(super) explain_header: Option<HeaderName>,
}

const SOURCES: [(&str, Source); 3] = [
    ("header", Source::Header),
    ("proxy_protocol", Source::ProxyProtocol),
    ("peer", Source::Peer),
];

const X_FORWARDED_FOR: &str = "X-Forwarded-For";

/// Reads the block of the file; a block without keys trusts nobody.
pub(super) fn of_file(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (ClientIp, Network) {
    let section = reader.subsection(root, "client_ip", &keys::CLIENT_IP);
    let mut network = network(reader, &section);
    network.extend_from(environment);
    (client_ip(reader, &section, dir, &network), network)
}

/// Reads the block of a listener, which takes the place of the file's.
pub(super) fn of_listener(
    reader: &mut Reader<'_>,
    listener: &Section<'_>,
    dir: &Path,
    network: &Network,
) -> ClientIp {
    let section = reader.subsection(listener, "client_ip", &keys::CLIENT_IP);
    reader.meaningless(
        &section,
        "cluster",
        "here: it belongs to the file's own `client_ip`",
    );
    client_ip(reader, &section, dir, network)
}

/// `cluster`: the addresses of nodes and pods.
fn network(reader: &mut Reader<'_>, client_ip: &Section<'_>) -> Network {
    let section = reader.subsection(client_ip, "cluster", &keys::CLUSTER);
    let mut ranges = |key| {
        let entries = reader.recorded_texts(&section, key).into_iter();
        let ranges = entries.filter_map(|(at, text)| match ip_set::block(text) {
            Ok(range) => Some(range),
            Err(cause) => {
                let message = format!("`{}` can't hold `{text}`", shown(&at.place));
                let problem = reader.on_value(&at.place, code::BAD_RANGE, message);
                reader.report(problem.label(match cause {
                    ParseCause::NotAnEntry => "is not a CIDR block or an address".to_owned(),
                    host_bits @ ParseCause::HostBits(_) => host_bits.to_string(),
                }));
                None
            }
        });
        ranges.collect()
    };
    Network {
        nodes: ranges("nodes"),
        pods: ranges("pods"),
    }
}

fn client_ip(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    dir: &Path,
    network: &Network,
) -> ClientIp {
    let source = reader.choice(section, "source", &Choice::of(&SOURCES), Source::Header);
    let mut files = Vec::new();
    let mut explain_header = None;
    let policy = match source {
        Source::Header => {
            files = trust_files(reader, section, dir);
            explain_header = own_header(
                reader,
                section,
                "explain_header",
                "an explanation",
                "X-Client-IP-Explained",
            );
            header_policy(reader, section, network)
        }
        Source::ProxyProtocol | Source::Peer => {
            let word = SOURCES
                .iter()
                .find(|(_, known)| *known == source)
                .map_or("", |(word, _)| *word);
            let others = |key: &&&str| !["source", "cluster"].contains(*key);
            for key in keys::CLIENT_IP.built.iter().filter(others) {
                reader.meaningless(section, key, &format!("with `source: {word}`"));
            }
            if source == Source::Peer {
                TrustPolicy::socket_only()
            } else {
                TrustPolicy::nobody()
            }
        }
    };
    ClientIp {
        source,
        policy,
        files,
        explain_header,
    }
}

/// Files of more ranges for the first rule, which has to be there.
fn trust_files(reader: &mut Reader<'_>, section: &Section<'_>, dir: &Path) -> Vec<NamedFile> {
    const KEY: &str = "trusted_proxies_files";
    if section.has("trusted_hops") {
        reader.meaningless(section, KEY, "beside `trusted_hops`");
        return Vec::new();
    }
    if section.has(KEY) && section.has("trust") {
        reader.require_entry(section, "trust", "the files' ranges join the first rule");
    }
    files(reader, section, KEY, dir)
}

fn header_policy(reader: &mut Reader<'_>, section: &Section<'_>, network: &Network) -> TrustPolicy {
    let words = [
        ("nearest", OnMalformed::Nearest),
        ("reject", OnMalformed::Reject),
    ];
    let by_hops = section.has("trusted_hops");
    let policy = if by_hops {
        hops_policy(reader, section)
    } else {
        rules_policy(reader, section, network)
    };
    let max_hops = reader.number_or(section, "max_hops", 1..=1_000, 64);
    if policy
        .trusted_hops()
        .is_some_and(|hops| u64::from(hops.get()) > max_hops)
    {
        let place = section.place_of("trusted_hops");
        let message = format!("`trusted_hops` is above `max_hops`, which is {max_hops}");
        let problem = reader
            .on_value(&place, code::BAD_NUMBER, message)
            .help("no chain would ever be read so far: raise `max_hops`");
        reader.report(problem);
    }
    let on_malformed = reader.choice(
        section,
        "on_malformed",
        &Choice::of(&words),
        OnMalformed::Nearest,
    );
    let policy = policy.with_on_malformed(on_malformed);
    match u16::try_from(max_hops).ok().and_then(NonZeroU16::new) {
        Some(max_hops) => policy.with_max_hops(max_hops),
        None => policy,
    }
}

fn hops_policy(reader: &mut Reader<'_>, section: &Section<'_>) -> TrustPolicy {
    for key in ["trust", "trusted_proxies", "recursive"] {
        reader.meaningless(section, key, "beside `trusted_hops`");
    }
    let count = reader.optional_number(section, "trusted_hops", 1..=255);
    let field = field_at(reader, section);
    match count
        .and_then(|count| u8::try_from(count).ok())
        .and_then(NonZeroU8::new)
    {
        Some(count) => TrustPolicy::by_hops(count, field),
        None => TrustPolicy::nobody(),
    }
}

fn rules_policy(reader: &mut Reader<'_>, section: &Section<'_>, network: &Network) -> TrustPolicy {
    let rules = if section.has("trust") {
        for key in ["trusted_proxies", "header"] {
            reader.meaningless(section, key, "beside `trust`");
        }
        let items = section.items("trust");
        items
            .iter()
            .filter_map(|at| rule(reader, at, network))
            .collect()
    } else {
        let proxies = peer_set(reader, section, "trusted_proxies");
        if proxies.is_none() {
            reader.record(
                &section.place_of("trusted_proxies"),
                Value::List(Vec::new()),
            );
        }
        let field = field_at(reader, section);
        trust_lint::rule(reader, section, "trusted_proxies", &field, network);
        let has_files = !section.items("trusted_proxies_files").is_empty();
        proxies
            .or_else(|| has_files.then(PeerSet::default))
            .map(|from| TrustRule { from, field })
            .into_iter()
            .collect()
    };
    let depth = if reader.flag(section, "recursive", true) {
        Depth::Full
    } else {
        Depth::One
    };
    TrustPolicy::by_rules(rules, depth)
}

fn rule(reader: &mut Reader<'_>, at: &At<'_>, network: &Network) -> Option<TrustRule> {
    let section = reader.section(at, &keys::TRUST)?;
    let from = peer_set(reader, &section, "from");
    reader.require_entry(
        &section,
        "from",
        "say which proxies send the header:  from: [private]",
    );
    let field = field_at(reader, &section);
    trust_lint::rule(reader, &section, "from", &field, network);
    Some(TrustRule { from: from?, field })
}

/// `header`: exactly one field name.
fn field_at(reader: &mut Reader<'_>, section: &Section<'_>) -> ForwardingField {
    let field = section
        .get("header")
        .and_then(|at| read_field(reader, &at))
        .unwrap_or(ForwardingField::XForwardedFor);
    reader.record_text(&section.place_of("header"), field.title());
    field
}

fn read_field(reader: &mut Reader<'_>, at: &At<'_>) -> Option<ForwardingField> {
    if matches!(at.value, Value::List(_)) {
        return refuse_list(reader, &at.place);
    }
    let text = reader.text(at)?;
    if text.contains(',') {
        return refuse_list(reader, &at.place);
    }
    if CANT_NAME_A_CLIENT
        .iter()
        .any(|name| text.eq_ignore_ascii_case(name))
    {
        let message = format!("`{text}` can't name the client");
        let problem = reader.on_value(&at.place, code::BAD_FIELD, message);
        reader.report(problem.help(format!("the usual field is `{X_FORWARDED_FOR}`")));
        return None;
    }
    match ForwardingField::parse(text) {
        Ok(field) => Some(field),
        Err(error) => {
            let message = format!("`{text}` isn't the name of a header field");
            let problem = reader
                .on_value(&at.place, code::BAD_FIELD, message)
                .label(error.to_string());
            reader.report(problem);
            None
        }
    }
}

/// Fields that mean something else to every HTTP party.
const CANT_NAME_A_CLIENT: [&str; 8] = [
    "Host",
    "Connection",
    "Content-Length",
    "Transfer-Encoding",
    "Upgrade",
    "Cookie",
    "Authorization",
    "TE",
];

fn refuse_list(reader: &mut Reader<'_>, place: &Place) -> Option<ForwardingField> {
    let problem = reader
        .on_value(place, code::HEADER_LIST, format!("`{}` takes exactly one header", shown(place)))
        .label("a client would simply send the preferred one")
        .help("bind each header to its senders:  trust: [{ from: [cloudflare], header: CF-Connecting-IP }]");
    reader.report(problem);
    None
}
