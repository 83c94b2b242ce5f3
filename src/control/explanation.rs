//! Questions about who a client is, and their answers as text and JSON: the same for the command line, the admin
//! interface and its page.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::client_ip::explain::{Explanation, explain};
use crate::client_ip::{Addr, EmitPolicy, Peer, ProxySource, SocketPeer, TrustPolicy, resolve};
use crate::fields::Fields;

/// A request, as far as it decides who its client is.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who connected.
    pub peer: Peer,
    /// What was sent.
    pub fields: Fields,
}

/// Why something can't be part of a question; the text that can't.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Who connected.
    #[error("`{0}` isn't an address")]
    Peer(String),
    /// Whom a PROXY header named.
    #[error("`{0}` isn't an address")]
    ProxySource(String),
    /// The same, for one that is no party's.
    #[error("`{0}` can't be anybody's address")]
    NobodysSource(String),
    /// A field.
    #[error("`{0}` isn't a header: write 'Name: value'")]
    Field(String),
}

impl Question {
    /// About a request without fields, by `peer`: an address, with or without a port, or `unix`.
    ///
    /// # Errors
    /// `peer` is neither.
    pub fn by(peer: &str) -> Result<Self, ParseError> {
        let socket = match peer {
            "unix" => SocketPeer::Unix,
            text => {
                let address = address(text).ok_or_else(|| ParseError::Peer(text.to_owned()))?;
                SocketPeer::Ip(Addr::from_socket(address), address.port())
            }
        };
        Ok(Self {
            peer: Peer {
                socket,
                proxied: None,
            },
            fields: Fields::default(),
        })
    }

    /// Behind an accepted PROXY header that names `source`: an address, with or without a port; `v1/` or `v2/` may stand
    /// before it (default: 2).
    ///
    /// # Errors
    /// `source` is none that somebody can have.
    pub fn behind_proxy_header(mut self, source: &str) -> Result<Self, ParseError> {
        let (version, text) = match source.split_once('/') {
            Some(("v1", text)) => (1, text),
            Some(("v2", text)) => (2, text),
            _ => (2, source),
        };
        let address = address(text).ok_or_else(|| ParseError::ProxySource(source.to_owned()))?;
        let addr = Addr::new(address.ip());
        self.peer.proxied = Some(ProxySource {
            addr: addr.ok_or_else(|| ParseError::NobodysSource(source.to_owned()))?,
            port: address.port(),
            version,
        });
        Ok(self)
    }

    /// With one more field: `NAME: VALUE`.
    ///
    /// # Errors
    /// `field` isn't one.
    pub fn with(mut self, field: &str) -> Result<Self, ParseError> {
        let parsed = field.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).ok()?;
            Some((name, value))
        });
        let (name, value) = parsed.ok_or_else(|| ParseError::Field(field.to_owned()))?;
        self.fields.append(name, value);
        Ok(self)
    }

    /// Who the client is by these rules, and why.
    pub fn answer(&self, trust: &TrustPolicy, emit: &EmitPolicy) -> Explanation {
        explain(&resolve(&self.peer, &self.fields, trust), emit, None)
    }
}

fn address(text: &str) -> Option<SocketAddr> {
    let alone = || text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    text.parse().ok().or_else(alone)
}

/// How an explanation is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// One object.
    Json,
}

/// An explanation as it is printed, and as the admin interface answers: byte for byte the same.
pub fn page(explanation: &Explanation, form: Form) -> String {
    match form {
        Form::Text => format!("{explanation}\n"),
        Form::Json => format!("{:#}\n", as_json(explanation)),
    }
}

/// One object, whose members are those of the log where there are such.
pub fn as_json(explanation: &Explanation) -> Value {
    let hops = explanation.hops.iter().map(|hop| {
        json!({ "party": hop.party, "origin": hop.origin.to_string(), "verdict": hop.verdict.to_string() })
    });
    let sent: Map<_, _> = explanation
        .sent
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({
        "client_ip": explanation.client,
        "client_ip_reason": explanation.reason.as_str(),
        "client_ip_source": explanation.source,
        "summary": explanation.summary,
        "found_in": explanation.place.to_string(),
        "hops": hops.collect::<Value>(),
        "unlisted": explanation.unlisted,
        "forged": explanation.forged,
        "sent": sent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_part_of_a_question_is_named() {
        let by = |peer: &str| Question::by(peer).unwrap_err();
        assert_eq!(by("nobody"), ParseError::Peer("nobody".to_owned()));
        let question = || Question::by("192.0.2.1").unwrap();
        for (source, error) in [
            ("v3/192.0.2.2", ParseError::ProxySource as fn(String) -> _),
            ("v1/", ParseError::ProxySource),
            ("v1/0.0.0.0:1", ParseError::NobodysSource),
        ] {
            let refused = question().behind_proxy_header(source).unwrap_err();
            assert_eq!(refused, error(source.to_owned()));
        }
        for field in ["no colon", ": value", "a b: c", "a: \u{7}"] {
            let refused = question().with(field).unwrap_err();
            assert_eq!(refused, ParseError::Field(field.to_owned()));
        }
    }

    #[test]
    fn the_version_of_a_proxy_header_may_be_said() {
        for (source, version) in [
            ("v1/192.0.2.2:40000", 1),
            ("v2/192.0.2.2:40000", 2),
            ("192.0.2.2:40000", 2),
        ] {
            let question = Question::by("unix").unwrap();
            let question = question.behind_proxy_header(source).unwrap();
            let proxied = question.peer.proxied.unwrap();
            assert_eq!(
                (proxied.version, proxied.port),
                (version, 40000),
                "{source}"
            );
        }
    }
}
