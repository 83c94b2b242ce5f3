//! What the specification says about a case, worked out the plain way: no laziness, no borrowed text, one step at a time.

use std::net::{IpAddr, SocketAddr};

use headwater::client_ip::SocketPeer;
use headwater::proxy_protocol::{self, Decoded};

use super::case::Case;

/// A case, taken apart.
pub(crate) struct Facts<'c> {
    pub(crate) case: &'c Case,
    /// The PROXY source, else the socket peer; `None` on a Unix socket.
    pub(crate) source: Option<IpAddr>,
    /// The PROXY header named a source and a destination.
    pub(crate) is_proxied: bool,
    /// A rule lets the source speak for others.
    pub(crate) is_trusted: bool,
    /// Who the client is.
    pub(crate) client: Option<IpAddr>,
    /// Entries believed.
    pub(crate) verified: usize,
    /// The walk ended at a limit of ours.
    pub(crate) is_cut: bool,
    pub(crate) own_scheme: &'static str,
    pub(crate) own_port: Option<String>,
}

impl<'c> Facts<'c> {
    pub(crate) fn of(case: &'c Case) -> Self {
        let socket = match case.socket_peer() {
            SocketPeer::Ip(addr, _) => Some(addr.ip()),
            SocketPeer::Unix => None,
        };
        let header = match case.preamble().map(|bytes| proxy_protocol::decode(&bytes)) {
            Some(Ok(Decoded::Complete { header, .. })) => Some(header),
            _ => None,
        };
        let addresses = header.as_ref().and_then(|header| header.addresses);
        let is_443 = addresses.is_some_and(|addresses| addresses.destination.port() == 443);
        let says_tls = header.is_some_and(|header| header.tlvs.ssl == Some(true));
        let source = addresses.map(|addresses| addresses.source.ip()).or(socket);
        let is_trusted =
            case.trusts_somebody() && source.is_some_and(|ip| case.ranges().contains(ip));
        let listener =
            (socket.is_some()).then(|| if case.tls { "443" } else { "{listen_port}" }.to_owned());
        let destination = addresses
            .map(|addresses| addresses.destination.port())
            .filter(|port| *port != 0);
        let mut facts = Self {
            case,
            source,
            is_proxied: addresses.is_some(),
            is_trusted,
            client: source,
            verified: 0,
            is_cut: false,
            own_scheme: if case.tls || is_443 || says_tls {
                "https"
            } else {
                "http"
            },
            own_port: destination.map(|port| port.to_string()).or(listener),
        };
        if is_trusted {
            facts.walk();
        }
        facts
    }

    /// Section 3 of the specification.
    fn walk(&mut self) {
        let lines = self.lines(&self.case.header);
        let entries: Vec<&str> = lines
            .iter()
            .flat_map(|line| line.split(','))
            .map(trim)
            .collect();
        let readable = entries.iter().filter(|entry| !entry.is_empty()).count();
        if !self.is_list() && (lines.len() != 1 || readable != 1) {
            return;
        }
        let mut empty = 0;
        for entry in entries.iter().rev() {
            if entry.is_empty() {
                empty += 1;
                self.is_cut = empty > 4 * 64;
            } else if self.verified == 64 {
                self.is_cut = true;
            } else {
                let Some(ip) = address(entry) else { return };
                self.client = Some(ip);
                self.verified += 1;
                if !self.case.ranges().contains(ip) {
                    return;
                }
            }
            if self.is_cut {
                return;
            }
        }
    }

    /// Values of a field as they came, without surrounding white space.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let fields = self.case.request.fields.iter();
        let lines = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        lines.map(|(_, value)| trim(value).to_owned()).collect()
    }

    /// All elements of a list field, empty ones too.
    pub(crate) fn elements(&self, name: &str) -> Vec<String> {
        self.lines(name)
            .iter()
            .flat_map(|line| line.split(','))
            .map(|text| trim(text).to_owned())
            .collect()
    }

    /// Whether the walked field is a list.
    pub(crate) fn is_list(&self) -> bool {
        self.case.header == "X-Forwarded-For"
    }

    /// What X-Forwarded-For says: everything received and the source, or the client.
    pub(crate) fn forwarded_for(&self) -> Option<String> {
        let mut entries = Vec::new();
        if self.case.key('U') && self.case.key('C') {
            entries = self.elements("X-Forwarded-For");
            entries.retain(|entry| !entry.is_empty());
            entries.extend(self.source.map(|ip| ip.to_string()));
        } else {
            entries.extend(self.client.map(|ip| ip.to_string()));
        }
        (!entries.is_empty()).then(|| entries.join(", "))
    }

    pub(crate) fn host(&self) -> Option<String> {
        self.lines("Host").into_iter().next()
    }
}

/// One element of section 3's table.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = match (text.parse::<IpAddr>(), text.parse::<SocketAddr>()) {
        (Ok(ip), _) => ip,
        (_, Ok(socket)) if socket.port() != 0 && !text.contains('%') => socket.ip(),
        _ => IpAddr::V6(bracketed?.parse().ok()?),
    };
    let ip = ip.to_canonical();
    let is_nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::from([255; 4]);
    (!is_nobody).then_some(ip)
}

pub(crate) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
