//! `tests/cases/client_ip.yaml`, read against the pure functions; black-box tests read the same table.

use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU16};

use http::HeaderName;
use serde::Deserialize;

use super::support::{fields, local, peer, proxied, rule};
use crate::client_ip::emit::{Forwarded, XForwardedFor};
use crate::client_ip::{
    Depth, EmitOptions, EmitPolicy, ForwardingField, OnMalformed, Prior, SentField, TrustPolicy,
    UntrustedPrior, emit, resolve,
};
use crate::fields::Fields;

const TABLE: &str = include_str!("../../../tests/cases/client_ip.yaml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    peer: String,
    proxy_header: Option<std::net::SocketAddr>,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    client_ip: ClientIp,
    #[serde(default)]
    forwarded: ForwardedSection,
    #[serde(default)]
    headers: Vec<(String, String)>,
    client: Option<std::net::IpAddr>,
    reason: String,
    status: Option<u16>,
    #[serde(default)]
    sent: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ClientIp {
    source: Option<String>,
    trust: Vec<Rule>,
    trusted_hops: Option<NonZeroU8>,
    header: Option<String>,
    recursive: Option<bool>,
    max_hops: Option<NonZeroU16>,
    on_malformed: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    from: Vec<String>,
    header: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ForwardedSection {
    x_forwarded_for: Option<String>,
    chain: Option<String>,
    untrusted_prior: Option<String>,
    forwarded: Option<String>,
    headers: Option<Vec<String>>,
    strip: Option<Vec<String>>,
}

impl ClientIp {
    fn policy(&self) -> TrustPolicy {
        let depth = if self.recursive == Some(false) {
            Depth::One
        } else {
            Depth::Full
        };
        let mut policy = match (self.source.as_deref(), self.trusted_hops) {
            (Some("peer"), _) => TrustPolicy::socket_only(),
            (Some("proxy_protocol"), _) => TrustPolicy::nobody(),
            (Some(other), _) if other != "header" => panic!("source: {other}"),
            (_, Some(count)) => {
                let field = self.header.as_deref().unwrap_or("X-Forwarded-For");
                TrustPolicy::by_hops(count, ForwardingField::parse(field).expect(field))
            }
            (_, None) => {
                let rules = self.trust.iter().map(|written| {
                    let from: Vec<&str> = written.from.iter().map(String::as_str).collect();
                    rule(&from, &written.header)
                });
                TrustPolicy::by_rules(rules.collect(), depth)
            }
        };
        if let Some(max_hops) = self.max_hops {
            policy = policy.with_max_hops(max_hops);
        }
        match self.on_malformed.as_deref() {
            None | Some("nearest") => policy,
            Some("reject") => policy.with_on_malformed(OnMalformed::Reject),
            Some(other) => panic!("on_malformed: {other}"),
        }
    }
}

impl ForwardedSection {
    fn policy(&self, trust: &TrustPolicy) -> EmitPolicy {
        let mut options = EmitOptions::default();
        let prior = match (self.chain.as_deref(), self.untrusted_prior.as_deref()) {
            (None | Some("verified"), None) => Prior::Verified,
            (Some("full"), None | Some("drop")) => Prior::Full(UntrustedPrior::Drop),
            (Some("full"), Some("keep")) => Prior::Full(UntrustedPrior::Keep),
            other => panic!("chain, untrusted_prior: {other:?}"),
        };
        options.x_forwarded_for = match self.x_forwarded_for.as_deref() {
            None | Some("append") => XForwardedFor::Append(prior),
            Some("replace") => XForwardedFor::Replace,
            Some("preserve") => XForwardedFor::Preserve,
            Some("off") => XForwardedFor::Off,
            Some(other) => panic!("x_forwarded_for: {other}"),
        };
        options.forwarded = match self.forwarded.as_deref() {
            None | Some("off") => Forwarded::Off,
            Some("append") => Forwarded::Append,
            Some("replace") => Forwarded::Replace,
            Some(other) => panic!("forwarded: {other}"),
        };
        if let Some(headers) = &self.headers {
            options.sent = headers
                .iter()
                .map(|name| SentField::parse(name).expect(name))
                .collect();
        }
        if let Some(strip) = &self.strip {
            options.strip = strip
                .iter()
                .map(|name| name.parse::<HeaderName>().expect(name))
                .collect();
        }
        EmitPolicy::new(options, [trust])
    }
}

/// What the upstream receives: fields that pass, and fields that are written.
struct Upstream(Vec<(String, String)>);

impl Upstream {
    fn value(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> = self
            .0
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect();
        assert!(lines.len() <= 1, "{name} has several lines: {lines:?}");
        lines.first().map(|line| (*line).to_owned())
    }
}

fn upstream(
    fields: &Fields,
    resolution: &crate::client_ip::Resolution<'_>,
    policy: &EmitPolicy,
) -> Upstream {
    let mut written = super::support::Sent::default();
    emit(
        resolution,
        fields,
        Some(b"app.example.test"),
        &local(),
        policy,
        &mut written,
    );
    let passing = fields
        .iter()
        .filter(|(name, _)| !policy.removes(name, resolution.peer_is_trusted()));
    let passing = passing.map(|(name, value)| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (text(name), text(value))
    });
    let written = written
        .0
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Upstream(passing.chain(written).collect())
}

impl Case {
    fn check(&self) {
        let peer = match self.proxy_header {
            Some(source) => proxied(&self.peer, &source.ip().to_string()),
            None => peer(&self.peer),
        };
        let headers = fields(
            self.headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_bytes())),
        );
        let trust = self.client_ip.policy();
        let resolution = resolve(&peer, &headers, &trust);
        assert_eq!(resolution.client().ip(), self.client);
        assert_eq!(resolution.reason().as_str(), self.reason);
        assert_eq!(resolution.must_reject().then_some(400), self.status);
        let upstream = upstream(&headers, &resolution, &self.forwarded.policy(&trust));
        for (name, expected) in &self.sent {
            let expected = expected
                .as_ref()
                .map(|value| value.replace("{port}", "8080"));
            assert_eq!(upstream.value(name), expected, "{name}");
        }
    }
}

#[test]
fn every_case_of_the_table_holds() {
    let cases: Vec<Case> = serde_yaml::from_str(TABLE).expect("the table");
    assert!(cases.len() >= 60, "the table lost rows");
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| std::panic::catch_unwind(|| case.check()).is_err())
        .map(|case| case.name.as_str())
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn rows_for_real_connections_use_loopback_peers() {
    let cases: Vec<Case> = serde_yaml::from_str(TABLE).expect("the table");
    for case in cases.iter().filter(|case| !case.offline) {
        assert!(
            case.peer.starts_with("127."),
            "{}: mark it offline",
            case.name
        );
    }
}
