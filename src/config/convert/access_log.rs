//! `access_log`.

use std::net::Ipv6Addr;
use std::path::Path;

use super::super::address::is_host_name;
use super::super::keys;
use super::super::problem::{Problem, code, did_you_mean, listed};
use super::super::reader::{At, Choice, Reader, Section, shown};
use super::super::value::Value;
use super::super::{AccessLog, LogOutput, RecordFormat, RedactIp, RedactQuery};

/// RFC 5426 §3.3.
const SYSLOG_PORT: u16 = 514;

const WORDS: [&str; 3] = ["stdout", "stderr", "off"];

pub(super) fn access_log(reader: &mut Reader<'_>, root: &Section<'_>, dir: &Path) -> AccessLog {
    let section = reader.subsection(root, "access_log", &keys::ACCESS_LOG);
    let formats = [
        ("auto", None),
        ("json", Some(RecordFormat::Json)),
        ("combined", Some(RecordFormat::Combined)),
        ("text", Some(RecordFormat::Text)),
    ];
    let redactions = [
        ("none", RedactIp::None),
        ("truncate", RedactIp::Truncate),
        ("hash", RedactIp::Hash),
    ];
    AccessLog {
        output: output(reader, &section, dir),
        format: reader.choice(&section, "format", &Choice::of(&formats), None),
        exclude_paths: exclude_paths(reader, &section),
        redact_query: redact_query(reader, &section),
        redact_ip: reader.choice(
            &section,
            "redact_ip",
            &Choice::of(&redactions),
            RedactIp::None,
        ),
    }
}

fn output(reader: &mut Reader<'_>, section: &Section<'_>, dir: &Path) -> LogOutput {
    let output = match reader.optional_text(section, "output") {
        None => LogOutput::Stdout,
        Some((at, text)) => match parse_output(reader, &at, text, dir) {
            Ok(output) => output,
            Err(problem) => {
                reader.report(*problem);
                LogOutput::Stdout
            }
        },
    };
    let written = match &output {
        LogOutput::Off => "off".to_owned(),
        LogOutput::Stdout => "stdout".to_owned(),
        LogOutput::Stderr => "stderr".to_owned(),
        LogOutput::File(path) => path.display().to_string(),
        LogOutput::SyslogSocket(path) => format!("syslog://{}", path.display()),
        LogOutput::SyslogHost { host, port } if host.contains(':') => {
            format!("syslog://[{host}]:{port}")
        }
        LogOutput::SyslogHost { host, port } => format!("syslog://{host}:{port}"),
    };
    reader.record_text(&section.place_of("output"), written);
    output
}

fn parse_output(
    reader: &Reader<'_>,
    at: &At<'_>,
    text: &str,
    dir: &Path,
) -> Result<LogOutput, Box<Problem>> {
    match text {
        "off" => return Ok(LogOutput::Off),
        "stdout" => return Ok(LogOutput::Stdout),
        "stderr" => return Ok(LogOutput::Stderr),
        _ => {}
    }
    let refuse = |code, why: &str, help: &str| {
        let message = format!("`{}` can't be `{text}`", shown(&at.place));
        let problem = reader.on_value(&at.place, code, message);
        Err(Box::new(problem.label(why).help(help)))
    };
    if let Some(target) = text.strip_prefix("syslog://") {
        return match syslog(target) {
            Some(output) => Ok(output),
            None => refuse(code::BAD_ADDRESS, "expected a socket or a host", SYSLOG),
        };
    }
    if let Some((scheme, _)) = text.split_once("://") {
        let why = format!("nothing is sent by `{scheme}`");
        return refuse(code::BAD_ADDRESS, &why, SYSLOG);
    }
    if text.is_empty() || text.ends_with('/') {
        let help = listed("words here", &WORDS);
        return refuse(code::UNKNOWN_WORD, "expected the name of a file", &help);
    }
    // Nobody wants a file that is called almost as one of the words.
    if let Some(meant) = did_you_mean(text, WORDS) {
        let why = format!("did you mean `{meant}`?");
        let help = format!("a file of that name is written `./{text}`");
        return refuse(code::UNKNOWN_WORD, &why, &help);
    }
    Ok(LogOutput::File(dir.join(text)))
}

const SYSLOG: &str = "write  syslog:///dev/log  or  syslog://host:514";

/// `/dev/log`, `host`, `host:port`, `[ipv6]:port`.
fn syslog(target: &str) -> Option<LogOutput> {
    if target.starts_with('/') {
        return Some(LogOutput::SyslogSocket(target.into()));
    }
    let (host, port) = match target.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
        _ => (target, SYSLOG_PORT),
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let is_address = match inner {
        Some(ip) => ip.parse::<Ipv6Addr>().is_ok(),
        None => is_host_name(host) || host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    (is_address && port != 0).then(|| LogOutput::SyslogHost {
        host: inner.unwrap_or(host).to_owned(),
        port,
    })
}

fn exclude_paths(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<String> {
    let texts = reader.recorded_texts(section, "exclude_paths");
    let mut paths = Vec::with_capacity(texts.len());
    for (at, text) in texts {
        if text.starts_with('/') && !text.contains(['?', '#', '*']) {
            paths.push(text.to_owned());
            continue;
        }
        let message = format!("`{}` isn't a path: `{text}`", shown(&at.place));
        let problem = reader.on_value(&at.place, code::BAD_MATCH, message);
        reader.report(problem.help("write  /healthz  for it and all below it"));
    }
    paths
}

/// `true`, `false`, or names of parameters.
fn redact_query(reader: &mut Reader<'_>, section: &Section<'_>) -> RedactQuery {
    let flag = section
        .get("redact_query")
        .is_some_and(|at| matches!(at.value, Value::Bool(_)));
    if flag {
        return if reader.flag(section, "redact_query", false) {
            RedactQuery::Whole
        } else {
            RedactQuery::Values(Vec::new())
        };
    }
    let names = reader.recorded_texts(section, "redact_query");
    RedactQuery::Values(names.iter().map(|(_, name)| (*name).to_owned()).collect())
}
