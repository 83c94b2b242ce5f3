//! `routes`.

use std::time::Duration;

use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::super::problem::{code, did_you_mean, listed};
use super::super::reader::{At, Reader, Section};
use super::super::value::Value;
use super::super::{Action, Route, Upstream, keys};
use super::{access, max_request_body};
use crate::route::{HostPattern, Match, PathPattern, Router};

/// Reads all routes; one that can't be used is reported and left out.
pub(super) fn routes(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    upstreams: &[(&str, Option<Upstream>)],
) -> Vec<Route> {
    let items = root.items("routes");
    reader.require_entry(
        root,
        "routes",
        "the shortest one is  routes: [{ upstream: NAME }]",
    );
    let mut routes: Vec<Route> = Vec::with_capacity(items.len());
    for (index, at) in items.iter().enumerate() {
        let Some(section) = reader.section(at, &keys::ROUTE) else {
            continue;
        };
        let name = name(reader, &section, index, &routes);
        let action = action(reader, &section, &name, upstreams);
        let matcher = matcher(reader, &section);
        let access = access(reader, &section);
        let max_request_body = max_request_body(reader, &section);
        let response_header = response_header(reader, &section);
        let Some(action) = action else { continue };
        routes.push(Route {
            name,
            matcher,
            access,
            max_request_body,
            response_header,
            action,
        });
    }
    // A route that couldn't be read may have been the one that is missing here.
    if !reader.has_errors() {
        warn_of_unused(reader, root, upstreams, &routes);
        warn_of_unreachable(reader, &items, &routes);
    }
    routes
}

fn name(reader: &mut Reader<'_>, section: &Section<'_>, index: usize, earlier: &[Route]) -> String {
    let Some((at, name)) = reader.optional_text(section, "name") else {
        return format!("routes[{index}]");
    };
    reader.record_text(&at.place, name);
    let fits = name.chars().all(|c| !c.is_control()) && !name.trim().is_empty() && name.len() <= 64;
    if !fits {
        let problem = reader.on_value(
            &at.place,
            code::BAD_NAME,
            "a route's name has 1 to 64 printable characters",
        );
        reader.report(problem);
    } else if earlier.iter().any(|route| route.name == name) {
        let problem = reader.on_value(
            &at.place,
            code::BAD_NAME,
            format!("two routes are named `{name}`"),
        );
        reader.report(problem);
    }
    name.to_owned()
}

fn action(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    name: &str,
    upstreams: &[(&str, Option<Upstream>)],
) -> Option<Action> {
    if section.has("respond") {
        reader.meaningless(section, "upstream", "beside `respond`");
        reader.meaningless(section, "timeouts", "beside `respond`");
        return respond(reader, section);
    }
    reader.require(
        section,
        "upstream",
        "a route has an `upstream`, or a `respond`",
    );
    let (at, target) = reader.optional_text(section, "upstream")?;
    reader.record_text(&at.place, target);
    let index = upstreams.iter().position(|(known, _)| *known == target);
    if index.is_none() {
        let known: Vec<_> = upstreams.iter().map(|(known, _)| *known).collect();
        let message = format!("route `{name}` sends to an upstream that does not exist");
        let problem = reader.on_value(&at.place, code::NO_UPSTREAM, message);
        let problem = match did_you_mean(target, known.iter().copied()) {
            Some(meant) => {
                problem.label(format!("no upstream `{target}`; did you mean `{meant}`?"))
            }
            None if known.is_empty() => problem.label("there are no upstreams"),
            None => problem
                .label(format!("no upstream `{target}`"))
                .help(listed("upstreams", &known)),
        };
        reader.report(problem);
    }
    index.map(Action::Upstream)
}

fn respond(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Action> {
    let at = route.get("respond")?;
    let section = reader.section(&at, &keys::RESPOND)?;
    let number = reader.number_or(&section, "status", 200..=599, 200);
    let status = u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok())?;
    let body = reader.optional_text(&section, "body");
    reader.record_text(
        &section.place_of("body"),
        body.as_ref().map_or("", |(_, text)| text),
    );
    let bodiless = [
        StatusCode::NO_CONTENT,
        StatusCode::RESET_CONTENT,
        StatusCode::NOT_MODIFIED,
    ];
    match body {
        Some((at, text)) if !text.is_empty() && bodiless.contains(&status) => {
            let message = format!("an answer with status {number} has no body");
            let problem = reader
                .on_value(&at.place, code::EXCLUSIVE, message)
                .label("remove it");
            reader.report(problem);
            None
        }
        body => Some(Action::Respond {
            status,
            body: body.map_or_else(String::new, |(_, text)| text.to_owned()),
        }),
    }
}

fn response_header(reader: &mut Reader<'_>, route: &Section<'_>) -> Option<Duration> {
    if !route.has("timeouts") {
        return None;
    }
    let section = reader.subsection(route, "timeouts", &keys::ROUTE_TIMEOUTS);
    reader.optional_duration(&section, "response_header")
}

fn matcher(reader: &mut Reader<'_>, route: &Section<'_>) -> Match {
    let section = reader.subsection(route, "match", &keys::MATCH);
    let mut hosts = Vec::new();
    for (at, text) in reader.recorded_texts(&section, "hosts") {
        hosts.extend(pattern(reader, &at, text, "host", HostPattern::parse(text)));
    }
    let mut methods = Vec::new();
    for (at, text) in reader.recorded_texts(&section, "methods") {
        methods.extend(method(reader, &at, text));
    }
    let path = path(reader, &section).unwrap_or_default();
    Match {
        hosts,
        path,
        methods,
        headers: headers(reader, &section),
    }
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<PathPattern> {
    let at = section.get("path")?;
    if !matches!(at.value, Value::Map(_)) {
        let text = reader.text(&at)?;
        reader.record_text(&at.place, text);
        return pattern(reader, &at, text, "path", PathPattern::prefix(text));
    }
    let section = reader.section(&at, &keys::PATH)?;
    if section.has("exact") {
        reader.meaningless(&section, "prefix", "beside `exact`");
        let (at, text) = reader.optional_text(&section, "exact")?;
        reader.record_text(&at.place, text);
        return pattern(reader, &at, text, "path", PathPattern::exact(text));
    }
    reader.require(
        &section,
        "prefix",
        "write  path: { exact: /x }  or  path: { prefix: /x }",
    );
    let (at, text) = reader.optional_text(&section, "prefix")?;
    reader.record_text(&at.place, text);
    pattern(reader, &at, text, "path", PathPattern::prefix(text))
}

fn pattern<T, E: std::fmt::Display>(
    reader: &mut Reader<'_>,
    at: &At<'_>,
    text: &str,
    what: &str,
    parsed: Result<T, E>,
) -> Option<T> {
    match parsed {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let message = format!("no {what} can match `{text}`");
            let problem = reader
                .on_value(&at.place, code::BAD_MATCH, message)
                .label(error.to_string());
            reader.report(problem);
            None
        }
    }
}

fn method(reader: &mut Reader<'_>, at: &At<'_>, text: &str) -> Option<Method> {
    let method = Method::from_bytes(text.as_bytes()).ok();
    let problem = match &method {
        None => reader.on_value(
            &at.place,
            code::BAD_MATCH,
            format!("`{text}` isn't a method"),
        ),
        Some(Method::CONNECT | Method::TRACE) => reader
            .on_value(
                &at.place,
                code::BAD_MATCH,
                format!("`{text}` never reaches a route"),
            )
            .label("answered with 405"),
        // Methods are case-sensitive (RFC 9110 §9.1): `get` would match nothing a browser sends.
        Some(method) if method.as_str().chars().any(|c| c.is_ascii_lowercase()) => reader
            .on_value(
                &at.place,
                code::BAD_MATCH,
                format!("`{text}` isn't a method"),
            )
            .label(format!("did you mean `{}`?", text.to_ascii_uppercase())),
        Some(_) => return method,
    };
    reader.report(problem);
    None
}

fn headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, at) in reader.named(section, "headers") {
        let Some(text) = reader.text(&at) else {
            continue;
        };
        reader.record_text(&at.place, text);
        let problem = match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(text),
        ) {
            (Ok(known), Ok(_)) if headers.iter().any(|(earlier, _)| *earlier == known) => reader
                .on_key(
                    &at.place,
                    code::DUPLICATE_KEY,
                    format!("`{name}` is there twice"),
                ),
            (Ok(HOST), Ok(_)) => reader
                .on_key(
                    &at.place,
                    code::BAD_FIELD,
                    "`Host` is matched by `hosts`, in every version of HTTP",
                )
                .help(format!("write  hosts: [{text}]")),
            (Ok(name), Ok(value)) => {
                headers.push((name, value));
                continue;
            }
            (Err(_), _) => reader.on_key(
                &at.place,
                code::BAD_FIELD,
                format!("`{name}` isn't the name of a header field"),
            ),
            (_, Err(_)) => reader.on_value(
                &at.place,
                code::BAD_FIELD,
                format!("`{name}` can't have this value"),
            ),
        };
        reader.report(problem);
    }
    headers
}

fn warn_of_unused(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    upstreams: &[(&str, Option<Upstream>)],
    routes: &[Route],
) {
    let named = reader.named(root, "upstreams");
    for (index, ((name, at), _)) in named.iter().zip(upstreams).enumerate() {
        let used = routes
            .iter()
            .any(|route| matches!(route.action, Action::Upstream(to) if to == index));
        if !used {
            let message = format!("no route leads to the upstream `{name}`");
            let problem = reader
                .on_key(&at.place, code::UNUSED_UPSTREAM, message)
                .warning();
            reader.report(problem);
        }
    }
}

fn warn_of_unreachable(reader: &mut Reader<'_>, items: &[At<'_>], routes: &[Route]) {
    let router = Router::new(routes.iter().map(|route| (route.matcher.clone(), ())));
    for shadowed in router.shadowed() {
        let (Some(at), Some(route), Some(by)) = (
            items.get(shadowed.route),
            routes.get(shadowed.route),
            routes.get(shadowed.by),
        ) else {
            continue;
        };
        let message = format!("no request can reach the route `{}`", route.name);
        let problem = reader
            .on_value(&at.place, code::UNREACHABLE_ROUTE, message)
            .warning()
            .label(format!("`{}` takes them all", by.name));
        reader.report(problem);
    }
}
