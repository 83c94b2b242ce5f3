//! `resolve` against a naive walk: join the lines, split at commas, go from right to left.
//!
//! Input: a byte that chooses the peer and the policy, then the field's lines, each ended by LF.
#![no_main]

use std::net::IpAddr;
use std::num::{NonZeroU8, NonZeroU16};

use headwater::client_ip::{
    Addr, Depth, ForwardingField, Peer, PeerSet, Reason, SocketPeer, TrustPolicy, TrustRule,
    forwarded, resolve, x_forwarded::Node,
};
use headwater::fields::Fields;
use headwater_fuzz::x_forwarded_element;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

const MAX_HOPS: u16 = 5;
const COUNTED_HOPS: u8 = 3;

fuzz_target!(|input: &[u8]| {
    let Some((choice, text)) = input.split_first() else {
        return;
    };
    // Beyond this the limit in bytes applies, which the walk below doesn't know.
    if text.len() > 8000 {
        return;
    }
    let field = ForwardingField::parse(match choice & 3 {
        0 | 1 => "X-Forwarded-For",
        2 => "Forwarded",
        _ => "X-Client",
    })
    .unwrap();
    let depth = if choice & 4 == 0 {
        Depth::Full
    } else {
        Depth::One
    };
    let counted = choice & 8 != 0;
    let socket = match choice >> 4 & 3 {
        0 => SocketPeer::Unix,
        1 => ip_peer("203.0.113.9"),
        2 => ip_peer("192.0.2.1"),
        _ => ip_peer("10.0.0.1"),
    };
    let peer = Peer {
        socket,
        proxied: None,
    };
    let policy = if counted {
        TrustPolicy::by_hops(NonZeroU8::new(COUNTED_HOPS).unwrap(), field.clone())
    } else {
        let rule = |from: &[&str], field| TrustRule {
            from: PeerSet::parse(from).unwrap(),
            field,
        };
        let other = ForwardingField::parse("X-Other").unwrap();
        let rules = [
            rule(&["10.0.0.0/8", "unix", "2001:db8::/32"], field.clone()),
            rule(&["192.0.2.0/24", "10.0.0.0/7"], other),
        ];
        TrustPolicy::by_rules(rules.into(), depth)
    }
    .with_max_hops(NonZeroU16::new(MAX_HOPS).unwrap());

    let mut fields = Fields::default();
    let mut lines = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append(field.name().clone(), value);
            lines.push(line);
        }
    }

    let found = resolve(&peer, &fields, &policy);
    let expected = if counted {
        count(socket, &field, &lines)
    } else {
        walk(socket, &field, &lines, depth)
    };
    assert_eq!((found.client().ip(), found.reason()), expected);
    let certain = !matches!(expected.1, Reason::Malformed | Reason::HopLimit);
    assert_eq!(
        found.client_for_decision().map(|client| client.ip()),
        certain.then_some(expected.0)
    );
    let believed = found.believed();
    assert!(
        believed
            .map(|(addr, _)| addr.ip())
            .next()
            .is_none_or(|leftmost| Some(leftmost) == expected.0)
    );
});

type Outcome = (Option<IpAddr>, Reason);

fn ip_peer(ip: &str) -> SocketPeer {
    SocketPeer::Ip(Addr::new(ip.parse().unwrap()).unwrap(), 4711)
}

/// Whether the rule for this field is the first that holds the address.
fn is_trusted(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 10,
        IpAddr::V6(ip) => ip.segments()[..2] == [0x2001, 0xdb8],
    }
}

fn walk(socket: SocketPeer, field: &ForwardingField, lines: &[&[u8]], depth: Depth) -> Outcome {
    let mut at = match socket {
        SocketPeer::Unix => None,
        SocketPeer::Ip(addr, _) => Some(addr.ip()),
    };
    // 192.0.2.0/24 and 11.0.0.0/8 may speak through another field, which isn't there.
    if at.is_some_and(|ip| !is_trusted(ip)) {
        let speaks_otherwise = at == Some("192.0.2.1".parse().unwrap());
        return (
            at,
            if speaks_otherwise {
                Reason::AllTrusted
            } else {
                Reason::DirectPeer
            },
        );
    }
    for step in steps(field, lines) {
        match step {
            Err(reason) => return (at, reason),
            Ok(ip) => at = Some(ip),
        }
        if !at.is_some_and(is_trusted) {
            return (at, Reason::FirstUntrusted);
        }
        if depth == Depth::One {
            break;
        }
    }
    (at, Reason::AllTrusted)
}

fn count(socket: SocketPeer, field: &ForwardingField, lines: &[&[u8]]) -> Outcome {
    let peer = match socket {
        SocketPeer::Unix => None,
        SocketPeer::Ip(addr, _) => Some(addr.ip()),
    };
    let mut at = peer;
    for (index, step) in steps(field, lines).into_iter().enumerate() {
        match step {
            Err(reason) => return (at, reason),
            Ok(ip) => at = Some(ip),
        }
        if index + 1 == usize::from(COUNTED_HOPS) {
            return (at, Reason::FirstUntrusted);
        }
    }
    (peer, Reason::DirectPeer)
}

/// The parties named, nearest first, up to the first that can't be read or is one too many.
fn steps(field: &ForwardingField, lines: &[&[u8]]) -> Vec<Result<IpAddr, Reason>> {
    let joined = lines.join(&b","[..]);
    let mut steps = Vec::new();
    let mut empty = 0;
    for element in joined.rsplit(|byte| *byte == b',').map(trim) {
        if element.is_empty() {
            empty += 1;
            if empty > 4 * MAX_HOPS {
                steps.push(Err(Reason::HopLimit));
                break;
            }
            continue;
        }
        if steps.len() == usize::from(MAX_HOPS) {
            steps.push(Err(Reason::HopLimit));
            break;
        }
        steps.push(party(field, element).ok_or(Reason::Malformed));
    }
    if let ForwardingField::SingleAddress(_) = field {
        return match (lines, &steps[..]) {
            ([], _) => Vec::new(),
            ([_], [Ok(_)] | [Err(Reason::HopLimit), ..]) => steps,
            ([_], [Ok(_), Err(Reason::HopLimit)]) if empty > 4 * MAX_HOPS => {
                vec![Err(Reason::HopLimit)]
            }
            _ => vec![Err(Reason::Malformed)],
        };
    }
    steps
}

fn party(field: &ForwardingField, element: &[u8]) -> Option<IpAddr> {
    match field {
        ForwardingField::Forwarded => match forwarded::node(element) {
            Node::Addr(addr, _) => Some(addr.ip()),
            Node::Unknown | Node::Obfuscated(_) | Node::Malformed(_) => None,
        },
        ForwardingField::XForwardedFor | ForwardingField::SingleAddress(_) => {
            Some(x_forwarded_element(element)?.0)
        }
    }
}

fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text
        .iter()
        .position(|byte| !is_space(byte))
        .unwrap_or(text.len());
    let end = text
        .iter()
        .rposition(|byte| !is_space(byte))
        .map_or(start, |last| last + 1);
    &text[start..end]
}
