//! From the tree of a file to a [`Config`]: one function per section, and the only place that knows defaults.

mod access_log;
mod admin;
mod client_ip;
mod discovery;
mod forwarded;
mod listener_tls;
mod listeners;
mod own_header;
mod request_id;
mod resilience;
mod routes;
mod tracing;
mod trust_lint;
mod upstreams;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys;
use super::problem::code;
use super::reader::{At, Choice, Reader, Section, shown};
use super::value::{Place, Value};
use super::{
    Access, Config, Limits, Log, LogFormat, NamedFile, PeerAccess, Reload, Shutdown,
    UnderscoreHeaders,
};
use crate::client_ip::{IpSet, PeerSet};

/// Reads a whole configuration; relative paths are taken from `dir`.
///
/// `None` after an error was reported; whatever else was found is reported too.
pub(super) fn config(
    reader: &mut Reader<'_>,
    root: &Value,
    dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Config> {
    let root = reader.section(
        &At {
            value: root,
            place: Place::default(),
        },
        &keys::ROOT,
    )?;
    reader.number_or(&root, "version", 1..=1, 1);
    let client_ip = client_ip::of_file(reader, &root, dir, environment);
    let listeners = listeners::listeners(reader, &root, dir, &client_ip);
    let request_id = request_id::request_id(reader, &root, &listeners);
    let emit = forwarded::emit_policy(reader, &root, &listeners, request_id.as_ref());
    let access = access(reader, &root);
    let upstreams = upstreams::upstreams(reader, &root, dir);
    let routes = routes::routes(reader, &root, &upstreams);
    let upstreams: Vec<_> = upstreams
        .into_iter()
        .filter_map(|(_, upstream)| upstream)
        .collect();
    let (_, network) = client_ip;
    trust_lint::probes(reader, &root, &listeners, &upstreams, &network);
    let admin = admin::admin(reader, &root, &listeners, dir, environment);
    let config = Config {
        listeners,
        emit,
        network,
        access,
        upstreams,
        routes,
        limits: limits(reader, &root),
        request_id,
        worker_threads: worker_threads(reader, &root),
        reload: reload(reader, &root),
        shutdown: shutdown(reader, &root, environment),
        access_log: access_log::access_log(reader, &root, dir),
        tracing: tracing::tracing(reader, &root),
        log: log(reader, &root),
        admin,
        whoami_name: None,
    };
    (!reader.has_errors()).then_some(config)
}

/// `access` of the file or of a route.
fn access(reader: &mut Reader<'_>, section: &Section<'_>) -> Access {
    let section = reader.subsection(section, "access", &keys::ACCESS);
    let mut addresses = |key| -> Option<IpSet> {
        for at in section.items(key) {
            if matches!(at.value, Value::Text(text) if text == "unix") {
                let problem = reader
                    .on_value(
                        &at.place,
                        code::BAD_RANGE,
                        "`unix` names a peer, and `access` looks at clients",
                    )
                    .help("a listener's `allow_peers` looks at peers");
                reader.report(problem);
                return None;
            }
        }
        peer_set(reader, &section, key).map(|set| set.addresses().clone())
    };
    let access = Access {
        allow: addresses("allow"),
        deny: addresses("deny"),
    };
    require_somebody(reader, &section, "allow");
    access
}

/// `allow_peers` and `deny_peers` of a listener.
fn peer_access(reader: &mut Reader<'_>, listener: &Section<'_>) -> PeerAccess {
    require_somebody(reader, listener, "allow_peers");
    PeerAccess {
        allow: peer_set(reader, listener, "allow_peers"),
        deny: peer_set(reader, listener, "deny_peers"),
    }
}

/// An empty list of those who may come in would let in everybody.
fn require_somebody(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) {
    if section.has(key) {
        reader.require_entry(section, key, "say who may come in, or remove the key");
    }
}

/// A list of blocks, addresses, presets and `unix`; `None` when it is empty or unusable.
fn peer_set(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<PeerSet> {
    let entries = reader.recorded_texts(section, key);
    let mut usable = true;
    for (at, text) in &entries {
        trust_lint::entry(reader, at, text);
        if let Err(error) = PeerSet::parse(&[text]) {
            usable = false;
            let message = format!("`{}` can't hold `{text}`", shown(&at.place));
            let problem = reader
                .on_value(&at.place, code::BAD_RANGE, message)
                .label(error.cause.to_string());
            reader.report(problem);
        }
    }
    let texts: Vec<_> = entries.iter().map(|(_, text)| *text).collect();
    PeerSet::parse(&texts)
        .ok()
        .filter(|set| usable && !set.is_empty())
}

/// More connections than any machine has ports for.
const MANY: u64 = 10_000_000;

fn limits(reader: &mut Reader<'_>, root: &Section<'_>) -> Limits {
    let section = reader.subsection(root, "limits", &keys::LIMITS);
    let words = [
        ("drop", UnderscoreHeaders::Drop),
        ("reject", UnderscoreHeaders::Reject),
        ("allow", UnderscoreHeaders::Allow),
    ];
    Limits {
        max_connections: count(reader, &section, "max_connections", MANY, 10_000),
        max_connections_per_client: count(
            reader,
            &section,
            "max_connections_per_client",
            MANY,
            256,
        ),
        max_handshakes_per_client: count(reader, &section, "max_handshakes_per_client", MANY, 64),
        // The HTTP/1 server reads into a buffer of at least 8 KiB.
        max_header_bytes: bytes(
            reader,
            &section,
            "max_header_bytes",
            8 << 10..=1 << 20,
            32 << 10,
        ),
        max_headers: count(reader, &section, "max_headers", 1_000, 100),
        // The server's own limit on targets is 65 534 bytes.
        max_target_bytes: bytes(reader, &section, "max_target_bytes", 64..=65_534, 8 << 10),
        // The server's own limit on trailers is 16 KiB.
        max_trailer_bytes: bytes(
            reader,
            &section,
            "max_trailer_bytes",
            64..=16 << 10,
            8 << 10,
        ),
        max_request_body: max_request_body(reader, &section),
        max_response_header_bytes: bytes(
            reader,
            &section,
            "max_response_header_bytes",
            1 << 10..=1 << 20,
            64 << 10,
        ),
        max_concurrent_streams: u32::try_from(count(
            reader,
            &section,
            "max_concurrent_streams",
            10_000,
            100,
        ))
        .unwrap_or(u32::MAX),
        underscore_headers: reader.choice(
            &section,
            "underscore_headers",
            &Choice::of(&words),
            UnderscoreHeaders::Drop,
        ),
    }
}

/// From one to `most`.
fn count(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    most: u64,
    default: u64,
) -> usize {
    usize::try_from(reader.number_or(section, key, 1..=most, default)).unwrap_or(usize::MAX)
}

fn bytes(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &str,
    range: RangeInclusive<u64>,
    default: u64,
) -> usize {
    usize::try_from(reader.size(section, key, range, default)).unwrap_or(usize::MAX)
}

/// Of `limits` or of a route; there is none unless it is written.
fn max_request_body(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<u64> {
    reader.optional_size(section, "max_request_body", 0..=1 << 50)
}

fn worker_threads(reader: &mut Reader<'_>, root: &Section<'_>) -> usize {
    let section = reader.subsection(root, "runtime", &keys::RUNTIME);
    let automatic = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let is_auto = match section.get("worker_threads") {
        None => true,
        Some(at) => matches!(at.value, Value::Text(text) | Value::Expanded(text) if text == "auto"),
    };
    if is_auto {
        reader.record_text(&section.place_of("worker_threads"), "auto");
        return automatic();
    }
    reader
        .optional_number(&section, "worker_threads", 1..=1_024)
        .map_or_else(automatic, |number| usize::try_from(number).unwrap_or(1))
}

fn reload(reader: &mut Reader<'_>, root: &Section<'_>) -> Reload {
    let section = reader.subsection(root, "reload", &keys::RELOAD);
    Reload {
        watch: reader.flag(&section, "watch", true),
        debounce: reader.duration_or_zero(&section, "debounce", Duration::from_millis(500)),
    }
}

fn shutdown(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Shutdown {
    let section = reader.subsection(root, "shutdown", &keys::SHUTDOWN);
    // Kubernetes goes on sending for a while to a pod that it has told to end.
    let is_kubernetes = environment("KUBERNETES_SERVICE_HOST").is_some();
    let delay = Duration::from_secs(if is_kubernetes { 5 } else { 0 });
    Shutdown {
        readiness_delay: reader.duration_or_zero(&section, "readiness_delay", delay),
        grace_period: reader.duration_or_zero(&section, "grace_period", Duration::from_secs(30)),
    }
}

fn log(reader: &mut Reader<'_>, root: &Section<'_>) -> Log {
    let section = reader.subsection(root, "log", &keys::LOG);
    let words = [
        ("auto", None),
        ("text", Some(LogFormat::Text)),
        ("json", Some(LogFormat::Json)),
    ];
    let level = log_level(reader, &section).unwrap_or_else(|| "info".to_owned());
    reader.record_text(&section.place_of("level"), &level);
    Log {
        level,
        format: reader.choice(&section, "format", &Choice::of(&words), None),
    }
}

/// A level, or filter directives such as `info,hyper=debug`, which only the log itself can judge.
fn log_level(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<String> {
    let (at, text) = reader.optional_text(section, "level")?;
    if text.contains(['=', ',']) {
        return Some(text.to_owned());
    }
    let levels = ["error", "warn", "info", "debug", "trace", "off"].map(|level| (level, level));
    reader.word(&at, &Choice::of(&levels)).map(str::to_owned)
}

/// The path of a file, taken from the directory of the configuration's own.
fn file(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, dir: &Path) -> Option<PathBuf> {
    let (at, text) = reader.optional_text(section, key)?;
    let path = dir.join(text);
    reader.record_text(&at.place, path.display());
    Some(path)
}

/// As [`file`], for each of a list.
fn files(reader: &mut Reader<'_>, section: &Section<'_>, key: &str, dir: &Path) -> Vec<NamedFile> {
    let texts = reader.texts(section, key).into_iter();
    let files: Vec<_> = texts
        .map(|(at, text)| NamedFile {
            field: at.place.to_string(),
            path: dir.join(text),
        })
        .collect();
    if section.has(key) {
        let paths = files.iter().map(|file| file.path.display().to_string());
        let list = Value::List(paths.map(Value::text).collect());
        reader.record(&section.place_of(key), list);
    }
    files
}

/// A name that can stand in key paths, logs and metrics.
fn check_name(reader: &mut Reader<'_>, place: &Place, name: &str) {
    let fits = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if name.is_empty() || name.len() > 64 || !fits {
        let problem = reader.on_key(place, code::BAD_NAME, format!("`{name}` can't be a name"));
        reader.report(problem.help("a name has 1 to 64 letters, digits, `_` and `-`"));
    }
}
