//! Ways to a [`Config`]: a file, a text, the built-in demo, or two command-line options.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::problem::{Problem, Problems, code, counted};
use super::reader::Reader;
use super::source::Source;
use super::value::{Place, Value};
use super::{Config, EchoOf, Target, convert, file, trust, variables};
use crate::client_ip::presets::Month;

/// A larger file is refused: nobody writes one, and a YAML of that size can take long to read.
const MAX_BYTES: u64 = 1 << 20;

/// The shipped default, which also runs when there is no file anywhere.
const DEMO: &str = include_str!("../../proxy.yaml");

/// A configuration that can be used, with what was noticed on the way.
#[derive(Debug)]
pub struct Loaded {
    /// What is wanted.
    pub config: Config,
    /// No errors among them.
    pub warnings: Problems,
    /// For problems found later.
    pub source: Source,
    effective: Value,
}

impl Loaded {
    /// The whole configuration with defaults filled in, as YAML that loads again to the same [`Config`].
    ///
    /// Paths in it are resolved against the directory of the file it came from; variables are replaced.
    pub fn effective(&self) -> String {
        // A tree of texts, numbers, lists and maps always has a YAML form.
        file::write(&self.effective).unwrap_or_default()
    }

    /// The same as JSON, without what others might use: the values of fields that routes look for, and the queries of
    /// health checks. Keys and tokens stand in files, of which only the paths are here.
    pub fn redacted(&self) -> serde_json::Value {
        let mut effective = serde_json::to_value(&self.effective).unwrap_or_default();
        redact(&mut effective);
        effective
    }

    /// The keys that say something else than in `before`: `upstreams.whoami`, `routes`; named things one by one.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let (now, before) = (&self.effective, &before.effective);
        let mut changes = Vec::new();
        for key in differing(Some(now), Some(before)) {
            match key {
                "listeners" | "upstreams" => {
                    let names = differing(now.get(key), before.get(key));
                    changes.extend(names.into_iter().map(|name| format!("{key}.{name}")));
                }
                _ => changes.push(key.to_owned()),
            }
        }
        changes
    }

    /// Who may set the client address, for the start-up lines.
    pub fn trust_summary(&self) -> String {
        trust::summary(&self.effective)
    }

    /// `2 listeners, 1 upstream, 1 route, 0 warnings`.
    pub fn totals(&self) -> String {
        let config = &self.config;
        [
            counted(config.listeners.len(), "listener"),
            counted(config.upstreams.len(), "upstream"),
            counted(config.routes.len(), "route"),
            counted(self.warnings.iter().len(), "warning"),
        ]
        .join(", ")
    }
}

impl Config {
    /// Reads a file; `${NAME}` is taken from the process's environment.
    ///
    /// # Errors
    /// All that is wrong with the file, or why it can't be read.
    pub fn load(path: &Path) -> Result<Loaded, Problems> {
        let name = path.display().to_string();
        let text = text(path, &name)?;
        let dir = path.parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let environment = |name: &str| std::env::var(name).ok();
        Self::parse_on(Some(this_month()), &text, &name, &dir, &environment)
    }

    /// Reads a text as if it were the file `file_name` in `dir`. Nothing in it is too old.
    ///
    /// # Errors
    /// All that is wrong with the text, in its order.
    pub fn parse(
        text: &str,
        file_name: &str,
        dir: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Problems> {
        Self::parse_on(None, text, file_name, dir, environment)
    }

    pub(super) fn parse_on(
        today: Option<Month>,
        text: &str,
        file_name: &str,
        dir: &Path,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Loaded, Problems> {
        let source = Source::parse(file_name, text).map_err(|problem| Problems::from(*problem))?;
        let mut reader = Reader::new(&source, today);
        let mut root = source.root().clone();
        expand(&mut reader, &mut root, &Place::default(), environment);
        let config = convert::config(&mut reader, &root, dir, environment);
        let (problems, effective) = reader.finish();
        match config {
            Some(config) => Ok(Loaded {
                config,
                warnings: problems,
                source,
                effective,
            }),
            None => Err(problems),
        }
    }

    /// The built-in demo, its files in `certs/` of the working directory.
    ///
    /// # Errors
    /// None while the shipped file is correct; a test keeps it so.
    pub fn demo() -> Result<Loaded, Problems> {
        Self::parse(DEMO, "proxy.yaml (built in)", Path::new(""), &|name| {
            std::env::var(name).ok()
        })
    }

    /// One listener and one route, without a file: `headwater run --to URL --listen ADDRESS`.
    ///
    /// `url` is an endpoint's address, with or without `http://` before it.
    ///
    /// # Errors
    /// Either can't be read.
    pub fn to(url: &str, listen: &str) -> Result<Loaded, Problems> {
        let endpoint = endpoint_of(url).ok_or_else(|| {
            let message = format!("`--to {url}` isn't the address of an HTTP service");
            Problems::from(Problem::error(code::BAD_ADDRESS, OPTIONS, message).help(TO_HELP))
        })?;
        let upstream = Value::Map(vec![entry(
            "endpoints",
            Value::List(vec![Value::text(endpoint)]),
        )]);
        Self::from_options("app", listen, upstream, Value::Null)
    }

    /// One listener in front of the built-in echo service: `headwater whoami`.
    ///
    /// # Errors
    /// `listen` or an entry of `trust` can't be read.
    pub fn whoami(listen: &str, name: Option<&str>, trust: &[String]) -> Result<Loaded, Problems> {
        let trusted = trust.iter().map(Value::text).collect();
        let client_ip = Value::Map(vec![entry("trusted_proxies", Value::List(trusted))]);
        let upstream = Value::Map(vec![entry("builtin", Value::text("whoami"))]);
        let mut loaded = Self::from_options("whoami", listen, upstream, client_ip)?;
        loaded.config.whoami_name = name.map(str::to_owned);
        for upstream in &mut loaded.config.upstreams {
            upstream.target = Target::Whoami(EchoOf::Received);
        }
        Ok(loaded)
    }

    fn from_options(
        name: &str,
        listen: &str,
        upstream: Value,
        client_ip: Value,
    ) -> Result<Loaded, Problems> {
        let listener = Value::Map(vec![entry("address", Value::text(listen))]);
        let route = Value::Map(vec![entry("upstream", Value::text(name))]);
        let root = Value::Map(vec![
            entry("listeners", Value::Map(vec![entry("http", listener)])),
            entry("client_ip", client_ip),
            entry("upstreams", Value::Map(vec![entry(name, upstream)])),
            entry("routes", Value::List(vec![route])),
        ]);
        let source = Source::without_text(OPTIONS);
        let mut reader = Reader::new(&source, Some(this_month()));
        let config = convert::config(&mut reader, &root, Path::new(""), &|name| {
            std::env::var(name).ok()
        });
        let (problems, effective) = reader.finish();
        match config {
            Some(config) => Ok(Loaded {
                config,
                warnings: problems,
                source,
                effective,
            }),
            None => Err(problems),
        }
    }
}

fn this_month() -> Month {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    Month {
        year: u32::try_from(now.year()).unwrap_or_default(),
        month: u32::try_from(now.month()).unwrap_or_default(),
    }
}

fn redact(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(redact),
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                match (name.as_str(), value) {
                    ("headers", serde_json::Value::Object(fields)) => {
                        fields
                            .values_mut()
                            .for_each(|value| *value = REDACTED.into());
                    }
                    ("path" | "otlp_endpoint", serde_json::Value::String(text)) => redact_url(text),
                    (_, value) => redact(value),
                }
            }
        }
        _ => {}
    }
}

const REDACTED: &str = "redacted";

/// Without whoever is named before the host, and without the query.
fn redact_url(url: &mut String) {
    if let Some((rest, _)) = url.split_once('?') {
        *url = format!("{rest}?{REDACTED}");
    }
    if let Some((scheme, rest)) = url.split_once("://")
        && let Some((_, host)) = rest.rsplit_once('@')
    {
        *url = format!("{scheme}://{REDACTED}@{host}");
    }
}

/// The keys of two maps under which they don't hold the same; those that were removed come last.
fn differing<'a>(now: Option<&'a Value>, before: Option<&'a Value>) -> Vec<&'a str> {
    let keys = |value: Option<&'a Value>| {
        let entries: &'a [_] = match value {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        };
        entries.iter().map(|(key, _)| key.as_str())
    };
    let get = |value: Option<&'a Value>, key: &str| value.and_then(|value| value.get(key));
    let changed = keys(now).filter(|key| get(now, key) != get(before, key));
    let removed = keys(before).filter(|key| get(now, key).is_none());
    changed.chain(removed).collect()
}

const OPTIONS: &str = "command line";

const TO_HELP: &str = "write  --to http://127.0.0.1:9000";

fn entry(key: &str, value: Value) -> (String, Value) {
    (key.to_owned(), value)
}

/// `http://127.0.0.1:9000/` → `127.0.0.1:9000`; port 80 when there is none.
fn endpoint_of(url: &str) -> Option<String> {
    let Some(authority) = url.strip_prefix("http://") else {
        return (!url.contains("://")).then(|| url.to_owned());
    };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
        return None;
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.ends_with(']'));
    Some(if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    })
}

/// Why a file's text couldn't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("larger than {} KiB", MAX_BYTES / 1024)]
    TooLarge,
    #[error("not UTF-8 text")]
    NotText,
}

impl ReadError {
    fn problem(&self, name: &str) -> Problem {
        let code = match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => code::NO_FILE,
                io::ErrorKind::PermissionDenied => code::FILE_PERMISSION,
                _ => code::FILE_IO,
            },
            Self::TooLarge | Self::NotText => code::FILE_UNFIT,
        };
        let reason = match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => "no such file".to_owned(),
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "permission denied".to_owned()
            }
            Self::Io(_) | Self::TooLarge | Self::NotText => self.to_string(),
        };
        Problem::error(code, name, format!("can't read {name}: {reason}"))
    }
}

/// What a file holds that the operator named `name`.
pub(super) fn text(path: &Path, name: &str) -> Result<String, Problems> {
    read(path).map_err(|error| error.problem(name).into())
}

/// What a file holds.
pub(super) fn read(path: &Path) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| ReadError::NotText)
}

/// Replaces variables in every scalar; one that can't be replaced is reported and left unusable.
fn expand(
    reader: &mut Reader<'_>,
    value: &mut Value,
    place: &Place,
    environment: &dyn Fn(&str) -> Option<String>,
) {
    match value {
        Value::Text(text) => match variables::expand(text, environment) {
            Ok(None) => {}
            Ok(Some(expanded)) => *value = Value::Expanded(expanded),
            Err(error) => {
                let problem = reader.on_value(place, code::UNDEFINED_VARIABLE, error.to_string());
                let problem = match error {
                    variables::ExpandError::Undefined(name) => {
                        problem.help(format!("set it, or give a default:  ${{{name}:-value}}"))
                    }
                    _ => problem.help("`$${` stands for `${` itself"),
                };
                reader.report(problem);
                *value = Value::Unusable;
            }
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(reader, item, &place.item(index), environment);
            }
        }
        Value::Map(entries) => {
            for (index, (key, item)) in entries.iter_mut().enumerate() {
                let place = place.entry(index, key);
                expand(reader, item, &place, environment);
            }
        }
        _ => {}
    }
}
