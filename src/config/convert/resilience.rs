//! `upstreams.*`: health, retries, and what an endpoint may be burdened with.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;

use super::super::keys;
use super::super::problem::code;
use super::super::reader::{At, Choice, Reader, Section};
use super::super::value::Value;
use super::super::{HealthCheck, OutlierDetection, Retries, RetryMethods};

/// Checks and failures in a row.
const ROW: RangeInclusive<u64> = 1..=1_000;

pub(super) fn health_check(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Option<HealthCheck> {
    let at = upstream.get("health_check")?;
    let section = reader.section(&at, &keys::HEALTH_CHECK)?;
    let path = path(reader, &section);
    if !section.has("path") {
        reader.meaningless(&section, "expect_status", "without `path`");
    }
    Some(HealthCheck {
        path,
        interval: reader.duration(&section, "interval", Duration::from_secs(5)),
        timeout: reader.duration(&section, "timeout", Duration::from_secs(2)),
        expect_status: expect_status(reader, &section),
        unhealthy_after: in_a_row(reader, &section, "unhealthy_after", 3),
        healthy_after: in_a_row(reader, &section, "healthy_after", 2),
    })
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let (at, text) = reader.optional_text(section, "path")?;
    if !text.starts_with('/') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("`{text}` isn't a path");
        let problem = reader.on_value(&at.place, code::BAD_MATCH, message);
        reader.report(problem.help("a path begins with `/` and has no spaces"));
        return None;
    }
    reader.record_text(&at.place, text);
    Some(text.to_owned())
}

fn expect_status(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<StatusCode> {
    let statuses: Vec<_> = section
        .items("expect_status")
        .iter()
        .filter_map(|at| status(reader, at))
        .collect();
    if section.has("expect_status") {
        let numbers = statuses
            .iter()
            .map(|status| Value::Int(status.as_u16().into()));
        reader.record(
            &section.place_of("expect_status"),
            Value::List(numbers.collect()),
        );
    }
    statuses
}

fn status(reader: &mut Reader<'_>, at: &At<'_>) -> Option<StatusCode> {
    let number = reader.number(at, 200..=599)?;
    StatusCode::from_u16(u16::try_from(number).ok()?).ok()
}

pub(super) fn outlier_detection(
    reader: &mut Reader<'_>,
    upstream: &Section<'_>,
) -> OutlierDetection {
    let section = reader.subsection(upstream, "outlier_detection", &keys::OUTLIER_DETECTION);
    let rule = OutlierDetection {
        consecutive_failures: in_a_row(reader, &section, "consecutive_failures", 3),
        eject_for: reader.duration(&section, "eject_for", Duration::from_secs(2)),
        max_eject_for: reader.duration(&section, "max_eject_for", Duration::from_secs(30)),
    };
    if rule.max_eject_for < rule.eject_for {
        let place = section.place_of("max_eject_for");
        let message = "`max_eject_for` is shorter than `eject_for`";
        let problem = reader.on_value(&place, code::BAD_NUMBER, message);
        reader.report(problem);
    }
    rule
}

fn in_a_row(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, default: u32) -> u32 {
    let number = reader.number_or(section, key, ROW, default.into());
    u32::try_from(number).unwrap_or(default)
}

pub(super) fn retries(reader: &mut Reader<'_>, upstream: &Section<'_>) -> Retries {
    #[derive(Clone, Copy, PartialEq)]
    enum On {
        ConnectError,
        Reset,
    }
    let words = [
        ("connect_error", On::ConnectError),
        ("reset_before_response", On::Reset),
    ];
    let section = reader.subsection(upstream, "retries", &keys::RETRIES);
    let attempts = reader.number_or(&section, "attempts", 1..=10, 3);
    let reasons: Vec<On> = if section.has("on") {
        let items = section.items("on");
        let word = |at: &At<'_>| reader.word(at, &Choice::of(&words));
        items.iter().filter_map(word).collect()
    } else {
        vec![On::ConnectError, On::Reset]
    };
    let shown = words.iter().filter(|(_, reason)| reasons.contains(reason));
    let shown = shown.map(|(word, _)| Value::text(*word)).collect();
    reader.record(&section.place_of("on"), Value::List(shown));
    let methods = [
        ("safe", RetryMethods::Safe),
        ("idempotent", RetryMethods::Idempotent),
    ];
    Retries {
        attempts: usize::try_from(attempts).unwrap_or(1),
        connect_error: reasons.contains(&On::ConnectError),
        reset: reasons.contains(&On::Reset),
        methods: reader.choice(
            &section,
            "methods",
            &Choice::of(&methods),
            RetryMethods::Safe,
        ),
    }
}

pub(super) fn max_connections(reader: &mut Reader<'_>, upstream: &Section<'_>) -> usize {
    let number = reader.number_or(
        upstream,
        "max_connections_per_endpoint",
        1..=1_000_000,
        1_024,
    );
    usize::try_from(number).unwrap_or(usize::MAX)
}
