//! `--log`: what lines of an access log tell is explained anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use http::{HeaderName, HeaderValue};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Explain, Rules, Series};
use crate::cli::ask::failed;
use crate::cli::{Exit, Global, console};
use crate::client_ip::explain::Explanation;
use crate::control::explanation::{Form, ParseError, Question, as_json, page};

/// As much of a line as tells who the client is.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(flatten)]
    found: Found,
    peer_ip: String,
    #[serde(default)]
    peer_port: u16,
    proxy_protocol: Option<String>,
    proxy_protocol_version: Option<u8>,
    listener: Option<String>,
    #[serde(default)]
    forwarded: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    method: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    path: String,
}

/// What was found when the line was written; without a reason nobody had looked.
#[derive(Debug, PartialEq, Eq, Deserialize, Serialize)]
#[expect(clippy::struct_field_names, reason = "the log's names")]
struct Found {
    client_ip: Option<String>,
    client_ip_reason: Option<String>,
    client_ip_source: Option<String>,
}

impl Found {
    fn in_explanation(explanation: &Explanation) -> Self {
        Self {
            client_ip: explanation.client.clone(),
            client_ip_reason: Some(explanation.reason.as_str().to_owned()),
            client_ip_source: Some(explanation.source.clone()),
        }
    }
}

/// Explains the lines as they come.
pub(super) fn explain(global: &Global, options: &Explain, file: &Path, rules: &Rules) -> Exit {
    if file == Path::new("-") {
        return lines(global, options, io::stdin().lock(), rules);
    }
    match File::open(file) {
        Ok(file) => lines(global, options, BufReader::new(file), rules),
        Err(error) => failed(&format!("can't read {}: {error}", file.display())),
    }
}

fn lines(global: &Global, options: &Explain, log: impl BufRead, rules: &Rules) -> Exit {
    let mut series = Series::new(global, options);
    for (index, line) in log.split(b'\n').enumerate() {
        let line = match line {
            Ok(line) => line,
            Err(error) => return failed(&format!("can't read on: {error}")),
        };
        if line.trim_ascii().is_empty() {
            continue;
        }
        if let Err(why) = one(&line, rules, &mut series) {
            series.fail(&format!("line {}", index + 1), &why);
        }
    }
    series.end()
}

fn one(line: &[u8], rules: &Rules, series: &mut Series<'_>) -> Result<(), String> {
    let line: Line = match serde_json::from_slice(line) {
        Ok(line) => line,
        Err(_) if is_about_the_process(line) => return Ok(()),
        Err(error) => return Err(format!("not one of an access log in JSON: {error}")),
    };
    let trust = rules.of(line.listener.as_deref())?;
    let question = line.question()?;
    let explanation = question.answer(trust, &rules.emit);
    let found = Found::in_explanation(&explanation);
    let differs = line.found.client_ip_reason.is_some() && line.found != found;
    match series.form {
        Form::Text => {
            series.text(&line.about(), &page(&explanation, Form::Text));
            if differs {
                console::diagnostic(&line.found.told());
            }
        }
        Form::Json => {
            let logged = differs.then_some(&line.found);
            let explanation = as_json(&explanation);
            series.json(&json!({
                "request_id": line.request_id,
                "explanation": explanation,
                "logged_otherwise": logged,
            }));
        }
    }
    Ok(())
}

/// Whether it is a line of the other log: whoever collects what a pod writes gets both in one stream.
fn is_about_the_process(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "level")]
        _level: IgnoredAny,
        #[serde(rename = "target")]
        _target: IgnoredAny,
    }
    serde_json::from_slice::<Event>(line).is_ok()
}

impl Found {
    fn told(&self) -> String {
        let text = |text: &Option<String>| text.as_deref().unwrap_or("unknown").to_owned();
        format!(
            "note: the log says {} ({}, {}): by other rules, or by more than the line holds\n",
            text(&self.client_ip),
            text(&self.client_ip_reason),
            text(&self.client_ip_source),
        )
    }
}

impl Line {
    fn about(&self) -> String {
        let Self {
            request_id,
            method,
            host,
            path,
            ..
        } = self;
        format!("request {request_id}  {method} {host}{path}")
    }

    fn question(&self) -> Result<Question, String> {
        let redacted = |error: ParseError| format!("{error}: addresses may be redacted");
        let peer = match self.peer_ip.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, self.peer_port).to_string(),
            Err(_) => self.peer_ip.clone(),
        };
        let mut question = Question::by(&peer).map_err(redacted)?;
        if let Some(source) = &self.proxy_protocol {
            let version = self.proxy_protocol_version.unwrap_or(2);
            let source = format!("v{version}/{source}");
            question = question.behind_proxy_header(&source).map_err(redacted)?;
        }
        for (name, values) in &self.forwarded {
            for value in values {
                let (name, value) = field(name, value)
                    .ok_or_else(|| format!("`{name}` in `forwarded` isn't a header"))?;
                question.fields.append(name, value);
            }
        }
        Ok(question)
    }
}

/// A line of a field as it came: the log writes each byte that isn't text as the character of its number.
fn field(name: &str, value: &str) -> Option<(HeaderName, HeaderValue)> {
    let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    Some((name, HeaderValue::from_bytes(&bytes?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(line: &str) -> Result<Question, String> {
        let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
        line.question()
    }

    #[test]
    fn a_line_holds_a_question() {
        let asked = question(
            r#"{"client_ip":"192.0.2.1","peer_ip":"::1","peer_port":4711,"proxy_protocol":"192.0.2.9:5",
            "proxy_protocol_version":1,"forwarded":{"x-forwarded-for":["a\u00ff","b"]},"status":200}"#,
        );
        let asked = asked.unwrap();
        let same = Question::by("[::1]:4711").unwrap();
        let same = same.behind_proxy_header("v1/192.0.2.9:5").unwrap();
        assert_eq!(asked.peer, same.peer);
        let values: Vec<_> = asked.fields.iter().map(|(_, value)| value).collect();
        assert_eq!(values, [&b"a\xff"[..], b"b"]);
        let unix = question(r#"{"peer_ip":"unix"}"#).unwrap();
        assert_eq!(unix.peer, Question::by("unix").unwrap().peer);
    }

    #[test]
    fn lines_of_the_other_log_are_known() {
        let event = br#"{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"ready","target":"headwater"}"#;
        assert!(is_about_the_process(event));
        assert!(!is_about_the_process(br#"{"status":200}"#));
        assert!(!is_about_the_process(b"ready in 4 ms"));
    }

    #[test]
    fn a_line_that_holds_none_says_why() {
        for (line, why) in [
            ("{}", "missing field `peer_ip`"),
            (r#"{"peer_ip":"00c0ffee00c0ffee"}"#, "redacted"),
            (
                r#"{"peer_ip":"unix","forwarded":{"a b":[""]}}"#,
                "isn't a header",
            ),
            (
                r#"{"peer_ip":"unix","forwarded":{"a":["\u0100"]}}"#,
                "isn't a header",
            ),
        ] {
            let error = question(line).unwrap_err();
            assert!(error.contains(why), "{line}: {error}");
        }
    }
}
