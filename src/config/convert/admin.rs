//! `admin`.

use std::path::Path;

use super::super::problem::code;
use super::super::reader::{Reader, Section};
use super::super::value::{Place, Value};
use super::super::{Address, Admin, Listener, Problem, address, keys};
use super::file;
use super::listeners::{overlap, show_address};

/// The variable whose address replaces the file's.
const VARIABLE: &str = "HEADWATER_ADMIN_ADDRESS";

const USUAL: &str = "the usual one is  address: \"127.0.0.1:9900\"";

/// Reads the section; `None` where neither it nor the variable is there, and after an error.
pub(super) fn admin(
    reader: &mut Reader<'_>,
    root: &Section<'_>,
    listeners: &[Listener],
    dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Admin> {
    let instead = environment(VARIABLE).filter(|text| !text.is_empty());
    if !root.has("admin") && instead.is_none() {
        return None;
    }
    let section = reader.subsection(root, "admin", &keys::ADMIN);
    let wanted = match instead {
        Some(text) => from_environment(reader, &section, &text, dir),
        None => from_file(reader, &section, dir),
    };
    let list: Vec<_> = wanted
        .iter()
        .map(|(_, address)| Value::text(show_address(address)))
        .collect();
    let place = section.place_of("address");
    match <[Value; 1]>::try_from(list) {
        Ok([one]) => reader.record(&place, one),
        Err(list) => reader.record(&place, Value::List(list)),
    }
    let ui = reader.flag(&section, "ui", true);
    let token_file = file(reader, &section, "token_file", dir);
    for (at, address) in &wanted {
        report_overlap(reader, at, address, listeners);
        if !address.is_local() && section.lacks("token_file") {
            report_without_token(reader, at, address);
        }
    }
    let metrics_path = metrics_path(reader, &section);
    let addresses: Vec<_> = wanted.into_iter().map(|(_, address)| address).collect();
    (!addresses.is_empty()).then_some(Admin {
        addresses,
        ui,
        token_file,
        metrics_path,
    })
}

/// Where an address comes from.
#[derive(Debug)]
enum From {
    File(Place),
    Environment,
}

impl From {
    fn problem(&self, reader: &Reader<'_>, code: &'static str, message: String) -> Problem {
        match self {
            Self::File(place) => reader.on_value(place, code, message),
            Self::Environment => {
                reader.on_key(&Place::default(), code, format!("{VARIABLE}: {message}"))
            }
        }
    }
}

fn from_file(reader: &mut Reader<'_>, section: &Section<'_>, dir: &Path) -> Vec<(From, Address)> {
    let texts = reader.texts(section, "address");
    reader.require_entry(section, "address", USUAL);
    let mut addresses = Vec::with_capacity(texts.len());
    for (at, text) in texts {
        let from = From::File(at.place);
        addresses.extend(read(reader, &from, text, dir).map(|address| (from, address)));
    }
    addresses
}

fn from_environment(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    text: &str,
    dir: &Path,
) -> Vec<(From, Address)> {
    // What the file says is read all the same: that it may be wrong shouldn't depend on who starts the process.
    for (at, text) in reader.texts(section, "address") {
        read(reader, &From::File(at.place), text, dir);
    }
    let address = read(reader, &From::Environment, text, dir);
    address
        .map(|address| (From::Environment, address))
        .into_iter()
        .collect()
}

fn read(reader: &mut Reader<'_>, from: &From, text: &str, dir: &Path) -> Option<Address> {
    match address::listener(text, dir) {
        Ok(address) => Some(address),
        Err(error) => {
            let message = format!("the admin interface can't be bound to `{text}`");
            let problem = from.problem(reader, code::BAD_ADDRESS, message);
            reader.report(problem.label(error.to_string()).help(USUAL));
            None
        }
    }
}

fn report_overlap(reader: &mut Reader<'_>, from: &From, address: &Address, listeners: &[Listener]) {
    let binds = |listener: &&Listener| {
        listener
            .addresses
            .iter()
            .any(|bound| overlap(bound, address))
    };
    let Some(listener) = listeners.iter().find(binds) else {
        return;
    };
    let message = format!(
        "`{}` is already bound by listener `{}`",
        show_address(address),
        listener.name
    );
    let problem = from.problem(reader, code::ADDRESS_TWICE, message);
    reader.report(problem.help("the admin interface has a port of its own"));
}

fn report_without_token(reader: &mut Reader<'_>, from: &From, address: &Address) {
    let message = format!(
        "anybody who reaches `{}` could look in and change what runs",
        show_address(address)
    );
    let problem = from
        .problem(reader, code::NEEDS_TOKEN, message)
        .label("not an address of this machine alone")
        .help("write  token_file: admin.token  and put a long random word into that file")
        .help("or keep to this machine:  address: \"127.0.0.1:9900\"  or  address: \"unix:admin.sock\"");
    reader.report(problem);
}

const DEFAULT_METRICS_PATH: &str = "/metrics";

fn metrics_path(reader: &mut Reader<'_>, admin: &Section<'_>) -> String {
    let section = reader.subsection(admin, "metrics", &keys::ADMIN_METRICS);
    let mut path = DEFAULT_METRICS_PATH;
    if let Some((at, text)) = reader.optional_text(&section, "path") {
        if let Some(why) = unfit_path(text) {
            let problem = reader
                .on_value(
                    &at.place,
                    code::BAD_MATCH,
                    format!("metrics can't be at `{text}`"),
                )
                .label(why);
            reader.report(problem);
        }
        path = text;
    }
    reader.record_text(&section.place_of("path"), path);
    path.to_owned()
}

/// Why something else can't be, or is, at this path.
fn unfit_path(path: &str) -> Option<&'static str> {
    let taken = ["/", "/healthz", "/readyz", "/explain"].contains(&path)
        || ["/api/", "/page/"]
            .iter()
            .any(|taken| path.starts_with(taken));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#%\"<>\\^`{|}".contains(&byte);
    if !path.starts_with('/') {
        Some("a path begins with `/`")
    } else if !path.bytes().all(plain) {
        Some("a path of letters, digits and `-._~/`")
    } else if taken {
        Some("there is something else already")
    } else {
        None
    }
}
