//! The way from a configuration to a server, which `run`, `whoami` and `check` share, and what is said on it.
//!
//! The seam to the server is [`start`]: `reload::prepare` loads what the configuration names, and `server::run` serves
//! until a signal and tells by a callback where it listens.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use super::console;
use super::port_owner::port_owner;
use super::{Exit, Global, LogChoice};
use crate::config::{
    Action, Config, EndpointAddress, Loaded, LogFormat, Problems, Severity, Style, Target, code,
};
use crate::control::reload::{self, Origin};
use crate::server::{self, Bound, Listened, Outcome};
use crate::telemetry;
use crate::transport::listener::BoundAddress;
use crate::transport::tls::SelfSigned;

/// Starts the server and stays until it ends.
pub(super) fn start(global: &Global, title: &str, origin: Origin, started: Instant) -> Exit {
    let loaded = match origin.load() {
        Ok(loaded) => loaded,
        Err(problems) => {
            show(global, problems_file(&problems), &problems);
            return exit_for(&problems);
        }
    };
    if let Some(problem) = reload::log_problem(&loaded) {
        show(global, loaded.source.name(), &problem.into());
        return Exit::Config;
    }
    let format = log_format(global, &loaded.config);
    if let Err(error) = install_log(global, &loaded.config, format) {
        console::error(&error);
        return Exit::Usage;
    }
    let prepared = match reload::prepare(loaded, SelfSigned::Make, None) {
        Ok(prepared) => prepared,
        Err(unfit) => {
            let file = unfit.loaded.source.name().to_owned();
            let problems = unfit.all();
            show(global, &file, &problems);
            return exit_for(&problems);
        }
    };
    let warnings = &prepared.loaded.warnings;
    if !warnings.is_empty() {
        show(global, prepared.loaded.source.name(), warnings);
    }
    let ready = |loaded: &Loaded, listened: &Listened| {
        if global.quiet {
            return;
        }
        match format {
            LogFormat::Text => console::diagnostic(&announcement(title, loaded, listened, started)),
            LogFormat::Json => log_announcement(listened, started),
        }
    };
    match server::run(origin, prepared, ready) {
        Ok(Outcome::Drained) => Exit::Success,
        Ok(Outcome::Cut(_)) => Exit::Failure,
        Err(error) => {
            console::error(&error);
            exit_for_server(&error)
        }
    }
}

/// The file that a flag or the environment names.
pub(super) fn named_file(global: &Global) -> Option<PathBuf> {
    let variable = || {
        std::env::var_os("HEADWATER_CONFIG")
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    global.config.clone().or_else(variable)
}

/// The first of the usual places where there is a file.
pub(super) fn default_file() -> Option<PathBuf> {
    let places = ["proxy.yaml", "/etc/headwater/proxy.yaml"];
    places
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.exists())
}

/// All problems and the line that counts them.
pub(super) fn show(global: &Global, file: &str, problems: &Problems) {
    let blocks = problems.render(global.color.style());
    console::diagnostic(&format!("{blocks}{}\n", problems.summary(file)));
}

pub(super) fn problems_file(problems: &Problems) -> &str {
    problems.iter().next().map_or("", |problem| &problem.path)
}

/// What a supervisor may want to tell apart; one problem of another kind makes it a wrong configuration.
pub(super) fn exit_for(problems: &Problems) -> Exit {
    let mut codes = problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
        .map(|p| p.code)
        .peekable();
    let Some(first) = codes.peek().copied() else {
        return Exit::Config;
    };
    if !codes.all(|code| code == first) {
        return Exit::Config;
    }
    match first {
        code::FILE_PERMISSION | code::FILE_UNREADABLE | code::FILE_UNWRITABLE => Exit::Permission,
        code::FILE_IO => Exit::Io,
        _ => Exit::Config,
    }
}

fn exit_for_server(error: &server::Error) -> Exit {
    let kind = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match (error, kind) {
        (server::Error::Bind(bind), Some(io::ErrorKind::AddrInUse)) => {
            let port = bind
                .address
                .parse()
                .map(|address: SocketAddr| address.port());
            if let Some(owner) = port.ok().and_then(port_owner) {
                console::diagnostic(&format!("help: {owner} listens there\n"));
            }
            Exit::AddressInUse
        }
        (server::Error::Bind(bind), Some(io::ErrorKind::PermissionDenied)) => {
            if bind
                .address
                .parse()
                .is_ok_and(|address: SocketAddr| address.port() < 1024)
            {
                console::diagnostic(PRIVILEGED_PORT);
            }
            Exit::Permission
        }
        (server::Error::Bind(_), _) => Exit::Io,
        _ => Exit::Failure,
    }
}

const PRIVILEGED_PORT: &str = "help: ports below 1024 need CAP_NET_BIND_SERVICE: use the systemd unit, `setcap`, or port 8080\n";

fn log_format(global: &Global, config: &Config) -> LogFormat {
    let automatic = || {
        if io::stderr().is_terminal() {
            LogFormat::Text
        } else {
            LogFormat::Json
        }
    };
    match global.log_format {
        Some(LogChoice::Text) => LogFormat::Text,
        Some(LogChoice::Json) => LogFormat::Json,
        Some(LogChoice::Auto) => automatic(),
        None => config.log.format.unwrap_or_else(automatic),
    }
}

fn install_log(
    global: &Global,
    config: &Config,
    format: LogFormat,
) -> Result<(), telemetry::Error> {
    let filter = match (global.quiet, global.verbose) {
        (true, _) => "error".to_owned(),
        (false, 0) => std::env::var("HEADWATER_LOG")
            .ok()
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| config.log.level.clone()),
        (false, 1) => "debug".to_owned(),
        (false, _) => "trace".to_owned(),
    };
    let colour = if global.color.style() == Style::Colour {
        telemetry::Colour::On
    } else {
        telemetry::Colour::Off
    };
    telemetry::install(&telemetry::Options {
        filter,
        format,
        colour,
    })
}

/// The start-up lines for people. The second word of a listener's line is its address as a URL with the port that was
/// really bound: programs that start headwater on port 0 read it there, or in the JSON log.
fn announcement(title: &str, loaded: &Loaded, listened: &Listened, started: Instant) -> String {
    let bound = &listened.listeners;
    let width = bound
        .iter()
        .map(|bound| bound.listener.len())
        .max()
        .unwrap_or(0)
        .max(5);
    let urls: Vec<_> = bound.iter().map(url).collect();
    let admin_urls: Vec<_> = listened
        .admin
        .iter()
        .map(|address| url_of("http", address))
        .collect();
    let url_width = urls
        .iter()
        .chain(&admin_urls)
        .map(String::len)
        .max()
        .unwrap_or(0);
    let mut lines = format!("headwater {}  {title}\n", env!("CARGO_PKG_VERSION"));
    for (bound, url) in bound.iter().zip(&urls) {
        let target = target(&loaded.config, &bound.listener);
        // Writing to a String can't fail.
        let _ = writeln!(
            lines,
            "  {:<width$}   {url:<url_width$}  -> {target}",
            bound.listener
        );
    }
    let offered = loaded.config.admin.as_ref().map(|admin| {
        let page = if admin.ui { "page, " } else { "" };
        format!("{page}{}, /readyz", admin.metrics_path)
    });
    let offered = offered.unwrap_or_default();
    for url in admin_urls {
        let _ = writeln!(
            lines,
            "  {:<width$}   {url:<url_width$}  {offered}",
            "admin"
        );
    }
    let _ = writeln!(lines, "  {:<width$}   {}", "trust", loaded.trust_summary());
    let _ = writeln!(lines, "ready in {} ms", started.elapsed().as_millis());
    lines
}

fn log_announcement(listened: &Listened, started: Instant) {
    for bound in &listened.listeners {
        let url = url(bound);
        tracing::info!(
            listener = bound.listener,
            address = %bound.address,
            url,
            "listening"
        );
    }
    for address in &listened.admin {
        tracing::info!(%address, url = url_of("http", address), "admin interface");
    }
    let elapsed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(duration_ms = elapsed, "ready");
}

/// What to open in a browser on this machine.
fn url(bound: &Bound) -> String {
    url_of(if bound.tls { "https" } else { "http" }, &bound.address)
}

fn url_of(scheme: &str, address: &BoundAddress) -> String {
    match address {
        BoundAddress::Ip(address) if address.ip().is_unspecified() => {
            format!("{scheme}://localhost:{}", address.port())
        }
        BoundAddress::Ip(address) => format!("{scheme}://{address}"),
        BoundAddress::Unix(_) => address.to_string(),
    }
}

/// Where a listener's requests go, in a few words.
fn target(config: &Config, listener: &str) -> String {
    let redirect = config
        .listeners
        .iter()
        .find(|known| known.name == listener)
        .and_then(|known| known.redirect_to_https);
    if let Some(redirect) = redirect {
        return format!("redirect to https ({})", redirect.status.as_u16());
    }
    match config.routes.as_slice() {
        [route] => match &route.action {
            Action::Respond { status, .. } => format!("{} from here", status.as_u16()),
            Action::Upstream(index) => config
                .upstreams
                .get(*index)
                .map_or_else(String::new, |upstream| {
                    format!("{} ({})", upstream.name, endpoints(&upstream.target))
                }),
        },
        routes => format!("{} routes", routes.len()),
    }
}

fn endpoints(target: &Target) -> String {
    match target {
        Target::Whoami(_) => "built in".to_owned(),
        Target::Endpoints(endpoints) => match endpoints.as_slice() {
            [one] => match &one.address {
                EndpointAddress::Ip(address) => address.to_string(),
                EndpointAddress::Name { host, port } => format!("{host}:{port}"),
                EndpointAddress::Unix(path) => format!("unix:{}", path.display()),
            },
            many => format!("{} endpoints", many.len()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Problem;
    use crate::transport::listener;

    fn loaded(text: &str) -> Loaded {
        Config::parse(text, "proxy.yaml", std::path::Path::new(""), &|_| None).unwrap()
    }

    fn bound(listener: &str, address: &str, tls: bool) -> Bound {
        Bound {
            listener: listener.to_owned(),
            address: match address.strip_prefix("unix:") {
                Some(path) => BoundAddress::Unix(path.into()),
                None => BoundAddress::Ip(address.parse().unwrap()),
            },
            tls,
        }
    }

    #[test]
    fn start_up_lines_show_where_each_listener_really_is() {
        let loaded = Config::demo().unwrap();
        let bound = [
            bound("http", "[::]:41234", false),
            bound("https", "0.0.0.0:41235", true),
        ];
        let listened = Listened {
            listeners: bound.into(),
            admin: vec![BoundAddress::Ip("127.0.0.1:41236".parse().unwrap())],
        };
        let shown = announcement("proxy.yaml", &loaded, &listened, Instant::now());
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines[..5],
            [
                concat!("headwater ", env!("CARGO_PKG_VERSION"), "  proxy.yaml"),
                "  http    http://localhost:41234   -> whoami (built in)",
                "  https   https://localhost:41235  -> whoami (built in)",
                "  admin   http://127.0.0.1:41236   page, /metrics, /readyz",
                "  trust   nobody may set the client address (client_ip.trusted_proxies is empty)",
            ]
        );
        assert!(
            lines[5].starts_with("ready in ") && lines[5].ends_with(" ms"),
            "{}",
            lines[5]
        );
    }

    #[test]
    fn an_address_of_its_own_is_shown_as_it_is() {
        for (address, tls, shown) in [
            ("127.0.0.1:41234", false, "http://127.0.0.1:41234"),
            ("[::1]:41234", true, "https://[::1]:41234"),
            (
                "unix:/run/headwater.sock",
                false,
                "unix:/run/headwater.sock",
            ),
        ] {
            assert_eq!(url(&bound("a", address, tls)), shown);
        }
    }

    #[test]
    fn a_listener_says_where_its_requests_go() {
        let listeners = "listeners: { a: { address: \":80\" }, b: { address: \":81\", redirect_to_https: true } }\n";
        for (rest, listener, shown) in [
            (
                "upstreams: { x: { endpoints: [\"app:1\"] } }\nroutes: [{ upstream: x }]",
                "a",
                "x (app:1)",
            ),
            (
                "upstreams: { x: { endpoints: [\"a:1\", \"b:1\"] } }\nroutes: [{ upstream: x }]",
                "a",
                "x (2 endpoints)",
            ),
            (
                "routes: [{ respond: { status: 404 } }]",
                "a",
                "404 from here",
            ),
            (
                "routes: [{ respond: {} }, { respond: {}, match: { path: /x } }]",
                "a",
                "2 routes",
            ),
            ("routes: [{ respond: {} }]", "b", "redirect to https (308)"),
        ] {
            assert_eq!(
                target(&loaded(&format!("{listeners}{rest}")).config, listener),
                shown
            );
        }
    }

    #[test]
    fn problems_of_one_kind_have_an_exit_code_of_their_own() {
        let problem = |code| Problem::error(code, "proxy.yaml", "");
        for (codes, exit) in [
            (vec![code::NO_FILE], Exit::Config),
            (vec![code::SYNTAX], Exit::Config),
            (vec![code::FILE_PERMISSION], Exit::Permission),
            (
                vec![code::FILE_UNREADABLE, code::FILE_UNREADABLE],
                Exit::Permission,
            ),
            (vec![code::FILE_UNREADABLE, code::NEEDS_FILE], Exit::Config),
            (vec![code::FILE_IO], Exit::Io),
        ] {
            let mut problems = Problems::default();
            problems.extend(codes.iter().copied().map(problem));
            assert_eq!(exit_for(&problems), exit, "{codes:?}");
        }
    }

    #[test]
    fn failing_to_bind_has_the_exit_code_of_its_cause() {
        for (kind, exit) in [
            (io::ErrorKind::AddrInUse, Exit::AddressInUse),
            (io::ErrorKind::PermissionDenied, Exit::Permission),
            (io::ErrorKind::AddrNotAvailable, Exit::Io),
        ] {
            let error = server::Error::Bind(listener::Error {
                address: "127.0.0.1:8080".to_owned(),
                source: kind.into(),
            });
            assert_eq!(exit_for_server(&error), exit);
        }
    }
}
