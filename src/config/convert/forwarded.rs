//! `forwarded`.

use http::header::{self, HeaderName};

use super::super::keys;
use super::super::problem::{code, did_you_mean, listed};
use super::super::reader::{At, Choice, Reader, Section};
use super::super::value::Value;
use super::super::{Listener, RequestId};
use crate::client_ip::emit::{EmitOptions, Forwarded, XForwardedFor};
use crate::client_ip::{EmitPolicy, Prior, SentField, UntrustedPrior, UpstreamHost};

/// Reads the section; the fields that the listeners' trust rules name are stripped in any case.
pub(super) fn emit_policy(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    listeners: &[Listener],
    request_id: Option<&RequestId>,
) -> EmitPolicy {
    let section = reader.subsection(root, "forwarded", &keys::FORWARDED);
    let defaults = EmitOptions::default();
    let forwarded = [
        ("off", Forwarded::Off),
        ("append", Forwarded::Append),
        ("replace", Forwarded::Replace),
    ];
    let options = EmitOptions {
        x_forwarded_for: x_forwarded_for(reader, &section),
        forwarded: reader.choice(
            &section,
            "forwarded",
            &Choice::of(&forwarded),
            defaults.forwarded,
        ),
        sent: sent(reader, &section, defaults.sent),
        strip: strip(reader, &section, defaults.strip),
        managed: subject_headers(listeners),
        renewed: request_id.map(|id| id.header.clone()),
        upstream_host: if reader.flag(&section, "rewrite_host", false) {
            UpstreamHost::Forwarded
        } else {
            UpstreamHost::AsReceived
        },
    };
    EmitPolicy::new(options, listeners.iter().map(|listener| &listener.trust))
}

/// The fields that name clients by their certificates.
fn subject_headers(listeners: &[Listener]) -> Vec<HeaderName> {
    let tls = listeners
        .iter()
        .filter_map(|listener| listener.tls.as_ref());
    tls.filter_map(|tls| tls.subject_header.clone()).collect()
}

fn x_forwarded_for(reader: &mut Reader<'_>, section: &Section<'_>) -> XForwardedFor {
    #[derive(Clone, Copy, PartialEq)]
    enum Extent {
        Verified,
        Full,
    }
    let verified = XForwardedFor::Append(Prior::Verified);
    let modes = [
        ("append", verified),
        ("replace", XForwardedFor::Replace),
        ("preserve", XForwardedFor::Preserve),
        ("off", XForwardedFor::Off),
    ];
    let mode = reader.choice(section, "x_forwarded_for", &Choice::of(&modes), verified);
    if mode != verified {
        for key in ["chain", "untrusted_prior"] {
            reader.meaningless(section, key, "unless `x_forwarded_for` is `append`");
        }
        return mode;
    }
    let extents = [("verified", Extent::Verified), ("full", Extent::Full)];
    if reader.choice(section, "chain", &Choice::of(&extents), Extent::Verified) == Extent::Verified
    {
        reader.meaningless(section, "untrusted_prior", "unless `chain` is `full`");
        return mode;
    }
    let priors = [
        ("drop", UntrustedPrior::Drop),
        ("keep", UntrustedPrior::Keep),
    ];
    let prior = reader.choice(
        section,
        "untrusted_prior",
        &Choice::of(&priors),
        UntrustedPrior::Drop,
    );
    XForwardedFor::Append(Prior::Full(prior))
}

fn sent(reader: &mut Reader<'_>, section: &Section<'_>, default: Vec<SentField>) -> Vec<SentField> {
    let sent = if section.get("headers").is_some() {
        let texts = reader.texts(section, "headers");
        texts
            .iter()
            .filter_map(|(at, text)| sent_field(reader, at, text))
            .collect()
    } else {
        default
    };
    let names = sent.iter().map(|field| Value::text(field.title()));
    reader.record(&section.place_of("headers"), Value::List(names.collect()));
    sent
}

fn sent_field(reader: &mut Reader<'_>, at: &At<'_>, text: &str) -> Option<SentField> {
    let field = SentField::parse(text);
    if field.is_none() {
        let titles = SentField::ALL.map(SentField::title);
        let problem = reader.on_value(
            &at.place,
            code::UNKNOWN_WORD,
            format!("`{text}` isn't written by headwater"),
        );
        let problem = match text.to_ascii_lowercase().as_str() {
            "x-forwarded-for" => {
                problem.label("it has a key of its own: `forwarded.x_forwarded_for`")
            }
            "forwarded" => problem.label("it has a key of its own: `forwarded.forwarded`"),
            _ => match did_you_mean_field(text, &titles) {
                Some(meant) => problem.label(format!("did you mean `{meant}`?")),
                None => problem,
            },
        };
        reader.report(problem.help(listed("headers here", &titles)));
    }
    field
}

/// Field names are written with `-`, which [`did_you_mean`] takes for the mark of another language's keys.
fn did_you_mean_field(text: &str, titles: &[&'static str]) -> Option<&'static str> {
    let keys: Vec<_> = titles.iter().map(|title| title.replace('-', "_")).collect();
    let meant = did_you_mean(&text.to_ascii_lowercase(), keys.iter().map(String::as_str))?;
    titles
        .iter()
        .copied()
        .find(|title| title.replace('-', "_") == meant)
}

fn strip(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    default: Vec<HeaderName>,
) -> Vec<HeaderName> {
    let strip = if section.get("strip").is_some() {
        let texts = reader.texts(section, "strip");
        texts
            .iter()
            .filter_map(|(at, text)| strip_name(reader, at, text))
            .collect()
    } else {
        default
    };
    let names = strip.iter().map(|name| Value::text(name.as_str()));
    reader.record(&section.place_of("strip"), Value::List(names.collect()));
    strip
}

fn strip_name(reader: &mut Reader<'_>, at: &At<'_>, text: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes()).ok();
    let message = match &name {
        None => format!("`{text}` isn't the name of a header field"),
        Some(name) if is_framing(name) => format!("`{text}` can't be stripped"),
        Some(_) => return name,
    };
    let problem = reader.on_value(&at.place, code::BAD_FIELD, message);
    reader.report(problem);
    None
}

/// Fields without which a request is another, and that are written anew.
fn is_framing(name: &HeaderName) -> bool {
    let names = [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::TE,
        header::TRAILER,
    ];
    names.contains(name)
}
