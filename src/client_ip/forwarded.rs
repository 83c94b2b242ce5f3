//! RFC 7239 `Forwarded`: reading one element, writing elements.
//!
//! A comma always separates elements, even inside quotes: otherwise an attacker's open quote could swallow the element
//! that the balancer appended behind it. The element it cuts is unreadable, and so is what stands to the left of it.

use super::Addr;
use super::x_forwarded::{self, Node, port_number, trim, write_decimal, write_ip};
use crate::fields::{is_in_name, is_token};

/// What one element says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// `for=`: who made the request.
    pub node: Node<'a>,
    /// `proto=`, quotes removed, not checked.
    pub proto: Option<&'a [u8]>,
    /// `host=`, quotes removed, not checked.
    pub host: Option<&'a [u8]>,
}

/// Why an element can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Not `name=value` pairs separated by `;`.
    #[error("an element breaks the grammar of RFC 7239")]
    Grammar,
    /// `for`, `by`, `host` or `proto` stands twice in one element (RFC 7239 §4).
    #[error("a parameter of an element is repeated")]
    Repeated,
}

/// Reads one element: what stands between two commas.
///
/// # Errors
/// An element that breaks the grammar says nothing, not even in its readable parts.
pub fn element(text: &[u8]) -> Result<Element<'_>, ParseError> {
    let (mut node, mut by, mut host, mut proto) = (None, None, None, None);
    let mut rest = trim(text);
    while !rest.is_empty() {
        let (pair, following) = next_pair(rest)?;
        rest = following;
        let Some((name, value)) = pair else { continue };
        let slot = match name {
            _ if name.eq_ignore_ascii_case(b"for") => &mut node,
            _ if name.eq_ignore_ascii_case(b"by") => &mut by,
            _ if name.eq_ignore_ascii_case(b"host") => &mut host,
            _ if name.eq_ignore_ascii_case(b"proto") => &mut proto,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(ParseError::Repeated);
        }
    }
    Ok(Element {
        node: node.map_or(Node::Unknown, read_node),
        proto: proto.map(|value| value.text),
        host: host.map(|value| value.text),
    })
}

/// Reads one element for the party it names; an unreadable one is [`Node::Malformed`].
pub fn node(text: &[u8]) -> Node<'_> {
    element(text).map_or(Node::Malformed(text), |element| element.node)
}

/// What one element written says; what is `None` is left out, except `for`, which is `unknown` then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Statement<'a> {
    pub(super) node: Option<(Addr, Option<u16>)>,
    pub(super) by: Option<Addr>,
    pub(super) host: Option<&'a [u8]>,
    pub(super) proto: Option<&'static str>,
}

impl Statement<'_> {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"for=");
        match self.node {
            Some((addr, port)) => write_node(out, addr, port),
            None => out.extend_from_slice(b"unknown"),
        }
        if let Some(by) = self.by {
            out.extend_from_slice(b";by=");
            write_node(out, by, None);
        }
        if let Some(host) = self.host {
            out.extend_from_slice(b";host=");
            write_value(out, host);
        }
        if let Some(proto) = self.proto {
            out.extend_from_slice(b";proto=");
            out.extend_from_slice(proto.as_bytes());
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Value<'a> {
    /// Without the quotes, escapes as they stand.
    text: &'a [u8],
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Token,
    Quoted,
}

type Pair<'a> = (&'a [u8], Value<'a>);

/// `[ token "=" value ] [ ";" ]`, with white space around it, and what follows.
fn next_pair(text: &[u8]) -> Result<(Option<Pair<'_>>, &[u8]), ParseError> {
    if let Some(rest) = text.strip_prefix(b";") {
        return Ok((None, trim(rest)));
    }
    let (name, rest) = split_while(text, is_token);
    let rest = rest
        .strip_prefix(b"=")
        .filter(|_| !name.is_empty())
        .ok_or(ParseError::Grammar)?;
    let (value, rest) = if let Some(quoted) = rest.strip_prefix(b"\"") {
        quoted_string(quoted)?
    } else {
        // `[v6]` and `v4:port` without quotes aren't tokens, but many write them so.
        let (text, rest) = split_while(rest, |byte| is_token(byte) || b"[]:".contains(&byte));
        (
            Value {
                text,
                form: Form::Token,
            },
            rest,
        )
    };
    if value.form == Form::Token && value.text.is_empty() {
        return Err(ParseError::Grammar);
    }
    match trim(rest) {
        [] => Ok((Some((name, value)), &[])),
        [b';', rest @ ..] => Ok((Some((name, value)), trim(rest))),
        _ => Err(ParseError::Grammar),
    }
}

/// Reads up to the closing quote (RFC 9110 §5.6.4).
fn quoted_string(text: &[u8]) -> Result<(Value<'_>, &[u8]), ParseError> {
    let mut escaped = false;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            0..=8 | 10..=31 | 127 => return Err(ParseError::Grammar),
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (text, rest) = text.split_at_checked(index).unwrap_or_default();
                let rest = rest.strip_prefix(b"\"").unwrap_or_default();
                return Ok((
                    Value {
                        text,
                        form: Form::Quoted,
                    },
                    rest,
                ));
            }
            _ => {}
        }
    }
    Err(ParseError::Grammar)
}

/// RFC 7239 §6: an address with or without port, `unknown`, or an identifier that begins with `_`.
fn read_node(value: Value<'_>) -> Node<'_> {
    let mut buffer = [0; LONGEST_NODE];
    let Some(text) = unescape(value.text, &mut buffer) else {
        return Node::Malformed(value.text);
    };
    let colon = text.iter().rposition(|byte| *byte == b':');
    let (name, port) = match colon.and_then(|colon| text.split_at_checked(colon)) {
        // The colons of an address in brackets aren't the port's.
        Some((name, port)) if !port.contains(&b']') => (name, port.get(1..)),
        _ => (text, None),
    };
    let port = match port {
        None => None,
        Some(text) if is_obfuscated(text) => None,
        Some(digits) => match port_number(digits) {
            Some(port) => Some(port),
            None => return Node::Malformed(value.text),
        },
    };
    if name.eq_ignore_ascii_case(b"unknown") {
        return Node::Unknown;
    }
    if is_obfuscated(name) {
        return Node::Obfuscated(value.text);
    }
    match x_forwarded::node(name) {
        // Without brackets, where an IPv6 address ends and its port begins can't be told.
        Node::Addr(addr, None) if addr.ip().is_ipv4() || name.starts_with(b"[") => {
            Node::Addr(addr, port)
        }
        _ => Node::Malformed(value.text),
    }
}

/// Takes the backslashes of quoted pairs out; `None` when the text is too long for a node.
fn unescape<'b>(text: &[u8], buffer: &'b mut [u8; LONGEST_NODE]) -> Option<&'b [u8]> {
    let mut length = 0;
    let mut escaped = false;
    for byte in text {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        *buffer.get_mut(length)? = *byte;
        length += 1;
    }
    buffer.get(..length)
}

fn is_obfuscated(text: &[u8]) -> bool {
    text.len() > 1 && text.starts_with(b"_") && text.iter().copied().all(is_in_name)
}

fn split_while(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text
        .iter()
        .position(|byte| !belongs(*byte))
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or_default()
}

/// RFC 7239 §6: IPv6 in brackets, and in quotes whatever isn't a token.
fn write_node(out: &mut Vec<u8>, addr: Addr, port: Option<u16>) {
    let ip = addr.ip();
    let is_bare = ip.is_ipv4() && port.is_none();
    let (open, close): (&[u8], &[u8]) = match (is_bare, ip.is_ipv6()) {
        (true, _) => (b"", b""),
        (false, true) => (b"\"[", b"]"),
        (false, false) => (b"\"", b""),
    };
    out.extend_from_slice(open);
    write_ip(out, ip);
    out.extend_from_slice(close);
    if let Some(port) = port {
        out.push(b':');
        write_decimal(out, port);
    }
    if !is_bare {
        out.push(b'"');
    }
}

/// As a token where it is one, else as a quoted string.
fn write_value(out: &mut Vec<u8>, value: &[u8]) {
    if !value.is_empty() && value.iter().all(|byte| is_token(*byte)) {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// Longer than any address with any port, and as much of an identifier as anybody is shown.
const LONGEST_NODE: usize = 64;

#[cfg(test)]
mod tests;
