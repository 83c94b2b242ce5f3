//! Warnings about trust: rules that can be read, and that probably believe more than is wanted.

use super::super::problem::code;
use super::super::reader::{At, Reader, Section};
use super::super::value::Value;
use super::super::{Address, EndpointAddress, Listener, Network, Target, Upstream};
use crate::client_ip::presets::preset;
use crate::client_ip::{ForwardingField, IpSet, PeerSet};

/// Looks at the entries of a rule that believes `field`.
pub(super) fn rule(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    field: &ForwardingField,
    network: &Network,
) {
    let entries = entries(section, key);
    let all = entries.iter().map(|(at, _)| text(at).unwrap_or_default());
    let all = PeerSet::parse(&all.collect::<Vec<_>>());
    if all.is_ok_and(|set| set.is_world()) {
        warn_of_world_trust(reader, section, key, &entries);
        // Whatever else is too much is part of that.
        return;
    }
    for (at, set) in &entries {
        warn_of_cluster_trust(reader, at, set.addresses(), network);
        warn_of_foreign_cdn(reader, at, set.addresses(), field);
    }
}

/// Looks at those who may send PROXY headers.
pub(super) fn proxy_senders(reader: &mut Reader<'_>, section: &Section<'_>) {
    let entries = entries(section, "from");
    if entries.iter().any(|(_, set)| set.is_world()) {
        warn_of_world_trust(reader, section, "from", &entries);
    }
}

fn entries<'v>(section: &Section<'v>, key: &str) -> Vec<(At<'v>, PeerSet)> {
    let entries = section.items(key).into_iter().filter_map(|at| {
        let set = PeerSet::parse(&[text(&at)?]).ok()?;
        Some((at, set))
    });
    entries.collect()
}

fn text<'v>(at: &At<'v>) -> Option<&'v str> {
    match at.value {
        Value::Text(text) | Value::Expanded(text) => Some(text),
        _ => None,
    }
}

fn warn_of_world_trust(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    entries: &[(At<'_>, PeerSet)],
) {
    let entry = entries.iter().find(|(_, set)| set.is_world());
    let place = entry.map_or_else(|| section.place_of(key), |(at, _)| at.place.clone());
    let mut problem = reader
        .on_value(
            &place,
            code::WORLD_TRUST,
            "every address on the internet may choose its own client address",
        )
        .warning()
        .help("list your load balancer's networks, or `private` if it is on the same network")
        .help("see who connects now:  headwater explain --live");
    if entry.is_some_and(|(at, _)| matches!(at.value, Value::Text(text) if text == "0.0.0.0/0")) {
        problem = problem.label("this was the default of ingress-nginx");
    }
    reader.report(problem);
}

fn warn_of_cluster_trust(reader: &mut Reader<'_>, at: &At<'_>, trusted: &IpSet, network: &Network) {
    let mut ranges = network.ranges();
    let within = ranges.find(|(_, range)| trusted.contains_all(&IpSet::from_networks([**range])));
    let Some((whose, range)) = within else {
        return;
    };
    let (message, label) = if whose == "nodes" {
        (
            "visitors whose addresses a node translates may choose their client address",
            format!("holds the nodes, {range}"),
        )
    } else {
        (
            "every pod of the cluster may choose its client address",
            format!("holds the pods, {range}"),
        )
    };
    let problem = reader
        .on_value(&at.place, code::CLUSTER_TRUST, message)
        .warning()
        .label(label)
        .help("list the addresses of your balancer alone");
    reader.report(problem);
}

/// The fields that a CDN writes over a client's own, and the preset of its ranges.
const CDN_FIELDS: [(&str, &str); 3] = [
    ("cf-connecting-ip", "cloudflare"),
    ("cf-connecting-ipv6", "cloudflare"),
    ("fastly-client-ip", "fastly"),
];

fn warn_of_foreign_cdn(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    trusted: &IpSet,
    field: &ForwardingField,
) {
    let name = field.name().as_str();
    let Some((_, cdn)) = CDN_FIELDS.iter().find(|(known, _)| *known == name) else {
        return;
    };
    let ranges_of = |name| preset(name).map_or(&[][..], |preset| preset.ranges);
    // A CDN's tunnel ends on the machine itself.
    let ranges = [ranges_of(cdn), ranges_of("loopback")].concat();
    let fitting = PeerSet::parse(&ranges);
    if fitting.is_ok_and(|fitting| fitting.addresses().contains_all(trusted)) {
        return;
    }
    let field = field.title();
    let problem = reader
        .on_value(
            &at.place,
            code::FOREIGN_CDN_HEADER,
            format!("`{field}` is believed from addresses that aren't {cdn}'s"),
        )
        .warning()
        .label("anybody else there passes on what a client wrote, or writes it")
        .help(format!(
            "bind the header to its senders:  {{ from: [{cdn}], header: {field} }}"
        ));
    reader.report(problem);
}

/// How old a preset may be: operators of CDNs add ranges every few years.
const MAX_MONTHS: u32 = 12;

/// Looks at an entry that may be the name of a preset.
pub(super) fn entry(reader: &mut Reader<'_>, at: &At<'_>, text: &str) {
    let Some((preset, today)) = preset(text).zip(reader.today()) else {
        return;
    };
    if preset.months_old(today) <= Some(MAX_MONTHS) {
        return;
    }
    let problem = reader
        .on_value(
            &at.place,
            code::STALE_PRESET,
            format!("the ranges of `{text}` may have changed since this program was made"),
        )
        .warning()
        .label(format!("as of {}", preset.seen))
        .help(format!("compare them with {}", preset.source))
        .help(
            "a newer headwater has newer ranges; until then, list those that are missing beside it",
        );
    reader.report(problem);
}

/// Looks for those who connect where a PROXY header is required, and send none.
pub(super) fn probes(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    listeners: &[Listener],
    upstreams: &[Upstream],
    network: &Network,
) {
    for listener in listeners {
        let Some(rule) = listener
            .proxy_protocol
            .as_ref()
            .filter(|rule| rule.required)
        else {
            continue;
        };
        let own = upstreams.iter().find(|upstream| {
            upstream.proxy_header.is_none() && leads_to(upstream, listener, &rule.from)
        });
        let label = match own {
            Some(upstream) => format!("upstream `{}` and its checks send none", upstream.name),
            None if rule.from.addresses().meets(&network.addresses()) => {
                "a node that asks whether its pod is ready sends none".to_owned()
            }
            None => continue,
        };
        let path = ["listeners", &listener.name, "proxy_protocol", "mode"];
        let Some(mode) = root.find(&path) else {
            continue;
        };
        let problem = reader
            .on_value(
                &mode.place,
                code::PROBE_WITHOUT_PROXY_HEADER,
                "probes without a PROXY header are closed here, and fail",
            )
            .warning()
            .label(label)
            .help(
                "`mode: optional` believes the same senders, and serves them without a header, too",
            )
            .help(
                "or send probes to /readyz of the admin address, which never takes a PROXY header",
            );
        reader.report(problem);
    }
}

/// Whether an endpoint is this listener, to which its connections come from an address in `from`.
fn leads_to(upstream: &Upstream, listener: &Listener, from: &PeerSet) -> bool {
    let Target::Endpoints(endpoints) = &upstream.target else {
        return false;
    };
    endpoints.iter().any(|endpoint| {
        listener
            .addresses
            .iter()
            .any(|bound| match (&endpoint.address, bound) {
                // Who connects to an address of its own comes from it.
                (EndpointAddress::Ip(asked), Address::Ip(bound)) => {
                    let is_bound = asked == bound
                        || asked.port() == bound.port()
                            && bound.ip().is_unspecified()
                            && asked.ip().is_loopback();
                    is_bound && from.contains(asked.ip())
                }
                (EndpointAddress::Ip(asked), Address::Dual(port)) => {
                    asked.port() == *port && asked.ip().is_loopback() && from.contains(asked.ip())
                }
                (EndpointAddress::Unix(asked), Address::Unix(bound)) => {
                    asked == bound && from.contains_unix()
                }
                _ => false,
            })
    })
}
