//! `tracing`.

use super::super::address::is_host_name;
use super::super::keys;
use super::super::problem::code;
use super::super::reader::{Reader, Section, shown};
use super::super::value::Value;
use super::super::{Collector, Tracing};

/// Where OTLP over HTTP is listened for, and under which path.
const PORT: u16 = 4318;
const PATH: &str = "/v1/traces";

/// Where OTLP over gRPC is.
const GRPC_PORT: u16 = 4317;

pub(super) fn tracing(reader: &mut Reader<'_>, root: &Section<'_>) -> Option<Tracing> {
    root.get("tracing")?;
    if cfg!(not(feature = "otlp")) {
        return None; // the key was reported
    }
    let section = reader.subsection(root, "tracing", &keys::TRACING);
    let help = "name the collector:  otlp_endpoint: \"http://otel-collector:4318\"";
    reader.require(&section, "otlp_endpoint", help);
    let collector = collector(reader, &section);
    let sample_ratio = sample_ratio(reader, &section);
    let service_name = match reader.optional_text(&section, "service_name") {
        Some((_, text)) => text.to_owned(),
        None => "headwater".to_owned(),
    };
    reader.record_text(&section.place_of("service_name"), &service_name);
    Some(Tracing {
        collector: collector?,
        sample_ratio: sample_ratio?,
        service_name,
    })
}

fn collector(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<Collector> {
    let (at, text) = reader.optional_text(section, "otlp_endpoint")?;
    reader.record_text(&at.place, text);
    let Some(collector) = parse(text) else {
        let message = format!("`{}` can't be `{text}`", shown(&at.place));
        let problem = reader.on_value(&at.place, code::BAD_ADDRESS, message);
        reader.report(problem.help("write  http://otel-collector:4318"));
        return None;
    };
    if collector.port == GRPC_PORT {
        let message =
            format!("collectors speak gRPC on port {GRPC_PORT}, and spans are sent over HTTP");
        let problem = reader.on_value(&at.place, code::GRPC_COLLECTOR, message);
        reader.report(
            problem
                .label(format!("they listen for that on {PORT}"))
                .warning(),
        );
    }
    Some(collector)
}

/// `http://host[:port][/path]`.
fn parse(text: &str) -> Option<Collector> {
    let rest = text.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at)?,
        None => (rest, ""),
    };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, PORT),
    };
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let fits = match inner {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host) || host.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    let path = match path {
        "" | "/" => PATH,
        path => path,
    };
    let is_path = path.bytes().all(|byte| byte.is_ascii_graphic());
    (fits && port != 0 && is_path).then(|| Collector {
        host: inner.unwrap_or(host).to_owned(),
        port,
        path: path.to_owned(),
    })
}

fn sample_ratio(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<f64> {
    let place = section.place_of("sample_ratio");
    let ratio = match section.get("sample_ratio").map(|at| at.value) {
        None | Some(Value::Int(1)) => Some(1.0),
        Some(Value::Int(0)) => Some(0.0),
        Some(Value::Float(ratio)) => Some(*ratio),
        Some(Value::Expanded(text)) => text.parse().ok(),
        Some(_) => None,
    };
    let ratio = ratio.filter(|ratio| (0.0..=1.0).contains(ratio));
    if let Some(ratio) = ratio {
        reader.record(&place, Value::Float(ratio));
    } else {
        let message = "`sample_ratio` is a number from 0 to 1";
        let problem = reader.on_value(&place, code::BAD_NUMBER, message);
        reader.report(problem.help("0.05 records one request in twenty"));
    }
    ratio
}
