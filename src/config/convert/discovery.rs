//! `upstreams.*.discovery`: endpoints that are looked up, and not listed.

use std::num::NonZeroU16;
use std::time::Duration;

use super::super::keys;
use super::super::problem::code;
use super::super::reader::{Reader, Section};
use super::super::{Endpoint, EndpointAddress, Target, address};

/// How often names are looked up where nothing else is said.
pub(super) const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

const HELP: &str = "write  discovery: { dns: { name: api.internal, port: 8080 } }";

/// The endpoints behind a name, and how often it is looked up.
pub(super) fn discovery(
    reader: &mut Reader<'_>,
    upstream: &Section<'_>,
) -> Option<(Target, Duration)> {
    let at = upstream.get("discovery")?;
    let section = reader.section(&at, &keys::DISCOVERY)?;
    reader.require(&section, "dns", HELP);
    let dns = reader.section(&section.get("dns")?, &keys::DISCOVERY_DNS)?;
    for key in ["name", "port"] {
        reader.require(&dns, key, HELP);
    }
    let host = host(reader, &dns);
    let port = reader.optional_number(&dns, "port", 1..=65_535);
    let interval = reader.duration(&dns, "interval", DEFAULT_INTERVAL);
    let endpoint = Endpoint {
        address: EndpointAddress::Name {
            host: host?,
            port: u16::try_from(port?).ok()?,
        },
        weight: NonZeroU16::MIN,
        backup: false,
    };
    Some((Target::Endpoints(vec![endpoint]), interval))
}

fn host(reader: &mut Reader<'_>, dns: &Section<'_>) -> Option<String> {
    let (at, text) = reader.optional_text(dns, "name")?;
    if !address::is_host_name(text) {
        let message = format!("`{text}` isn't a host name");
        let problem = reader.on_value(&at.place, code::BAD_NAME, message);
        reader.report(problem.help("an address needs no look-up: list it in `endpoints`"));
        return None;
    }
    let host = text.to_ascii_lowercase();
    reader.record_text(&at.place, &host);
    Some(host)
}
