//! Where headwater differs from ingress-nginx on purpose.
//!
//! Each deviation is a predicate over a case (what was configured and sent) and, for each aspect it covers, what headwater
//! sends instead. D1 to D18 are the specification's (section 8); D13 and D17 can't occur here, as an exact import keeps
//! untrusted chains and no recording tells an explicit 0.0.0.0/0 from the default. U1 and following aren't in that list:
//! they follow from other sections, which their doc lines name.

use super::case::{Aspect, Outcome};
use super::facts::{Facts, address, trim};

pub(crate) struct Deviation {
    pub(crate) name: &'static str,
    /// What headwater does with this aspect instead of what nginx does; `None`: it doesn't differ by this rule.
    pub(crate) instead: fn(&Facts<'_>, Aspect) -> Option<Expected>,
}

/// What headwater sends upstream for an aspect; `None`: nothing.
pub(crate) type Expected = Option<String>;

/// The first that foresees a difference names it: D4, which asks only what came of a chain, stands behind those that ask
/// what is odd about it.
pub(crate) const ALL: &[Deviation] = &[
    Deviation {
        name: "D1",
        instead: d1,
    },
    Deviation {
        name: "D2",
        instead: d2,
    },
    Deviation {
        name: "D3",
        instead: d3,
    },
    Deviation {
        name: "D5",
        instead: d5,
    },
    Deviation {
        name: "D6",
        instead: d6,
    },
    Deviation {
        name: "D7",
        instead: d7,
    },
    Deviation {
        name: "D8",
        instead: d8,
    },
    Deviation {
        name: "D9",
        instead: d9,
    },
    Deviation {
        name: "D4",
        instead: d4,
    },
    Deviation {
        name: "D10",
        instead: d10,
    },
    Deviation {
        name: "D11",
        instead: d11,
    },
    Deviation {
        name: "D12",
        instead: d12,
    },
    Deviation {
        name: "D14",
        instead: d14,
    },
    Deviation {
        name: "D16",
        instead: d16,
    },
    Deviation {
        name: "D18",
        instead: d18,
    },
    Deviation {
        name: "U2",
        instead: u2,
    },
    Deviation {
        name: "U3",
        instead: u3,
    },
    Deviation {
        name: "U4",
        instead: u4,
    },
    Deviation {
        name: "U5",
        instead: u5,
    },
    Deviation {
        name: "U6",
        instead: u6,
    },
    Deviation {
        name: "U7",
        instead: u7,
    },
    Deviation {
        name: "U9",
        instead: u9,
    },
];

/// D1: without a range nobody is trusted, so the source is the client.
fn d1(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let case = facts.case;
    let realip = case.key('U') || case.key('E') && !case.key('P');
    (realip && case.from.is_none()).then(|| client_aspect(facts, aspect))?
}

/// D2: scheme, host and port are believed only from a trusted peer.
fn d2(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    (facts.case.key('U') && !facts.is_trusted).then(|| own_aspect(facts, aspect))?
}

/// D3: no scratch field reaches the upstream.
fn d3(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    (facts.case.key('P') && aspect == Aspect::Scratch).then_some(None)
}

/// D4: the PROXY source is kept when it is trusted, but names nobody.
fn d4(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let names_nobody = facts.is_trusted && facts.verified == 0;
    (facts.is_proxied && names_nobody).then(|| client_aspect(facts, aspect))?
}

/// D5: tabs, empty elements and brackets are read.
fn d5(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let odd =
        |entry: &String| entry.is_empty() || entry.starts_with('[') && address(entry).is_some();
    let has_tab = facts
        .lines(&facts.case.header)
        .iter()
        .any(|line| line.contains('\t'));
    let applies = has_tab || facts.elements(&facts.case.header).iter().any(odd);
    (facts.is_trusted && applies).then(|| client_aspect(facts, aspect))?
}

/// D6: IPv4 is read strictly, never in brackets, and addresses that nobody has are refused.
fn d6(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let is_loose = |entry: &String| {
        let is_dotted = entry
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
            && !entry.is_empty();
        let is_bracketed = entry.starts_with('[') && !entry.contains("::");
        (is_dotted || is_bracketed || entry == "::") && address(entry).is_none()
    };
    let applies = facts.elements(&facts.case.header).iter().any(is_loose);
    (facts.is_trusted && applies).then(|| client_aspect(facts, aspect))?
}

/// D7: IPv4-mapped addresses are IPv4, of peers, in PROXY headers and in fields.
fn d7(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let is_mapped_peer = facts.case.peer.starts_with("mapped:");
    let in_preamble = facts.is_proxied
        && facts
            .case
            .preamble()
            .is_some_and(|bytes| holds_mapped(&bytes));
    let in_field = facts
        .elements(&facts.case.header)
        .iter()
        .any(|entry| entry.contains("::ffff:"));
    (is_mapped_peer || in_preamble || facts.is_trusted && in_field)
        .then(|| client_aspect(facts, aspect))?
}

/// D8: space and `;` don't separate elements.
fn d8(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let applies = facts
        .elements(&facts.case.header)
        .iter()
        .any(|entry| entry.contains([' ', ';', '\t']));
    (facts.is_trusted && applies).then(|| client_aspect(facts, aspect))?
}

/// D9: a single-address field with more than one line or value is malformed: the source stays.
fn d9(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let applies = !facts.is_list() && facts.elements(&facts.case.header).len() > 1;
    (facts.is_trusted && applies).then(|| client_aspect(facts, aspect))?
}

/// D10: no empty elements are sent.
fn d10(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let has_empty = |name: &str| facts.elements(name).iter().any(String::is_empty);
    match aspect {
        Aspect::For if facts.case.key('C') && has_empty("X-Forwarded-For") => {
            Some(facts.forwarded_for())
        }
        Aspect::OriginalFor if has_empty(&facts.case.header) => {
            Some(joined(facts, &facts.case.header))
        }
        _ => None,
    }
}

/// D11: a Unix socket is nobody's address.
fn d11(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    (facts.case.peer == "unix").then(|| client_aspect(facts, aspect))?
}

/// D12: `Host` is sent even where X-Forwarded-Host begins with nothing.
fn d12(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let begins_with_nothing = facts
        .elements("X-Forwarded-Host")
        .first()
        .is_some_and(String::is_empty);
    let applies = facts.case.key('U') && begins_with_nothing;
    match aspect {
        Aspect::Authority if applies => Some(facts.host()),
        Aspect::Host if applies && joined(facts, "X-Forwarded-Host").is_none() => {
            Some(facts.host())
        }
        _ => None,
    }
}

/// D14: a scheme or port that is none is ignored.
fn d14(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let name = stated_name(aspect).filter(|name| *name != "X-Forwarded-Host")?;
    let is_garbage = |text: &String| match aspect {
        Aspect::Port => text.parse::<u16>().is_err(),
        _ => !["http", "https", "ws", "wss"].contains(&text.to_lowercase().as_str()),
    };
    (facts.is_trusted && facts.elements(name).last().is_some_and(is_garbage))
        .then(|| own_aspect(facts, aspect))?
}

/// D16: `Forwarded` doesn't pass: not from an untrusted peer, and from a trusted one only as the rule's field.
fn d16(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    (aspect == Aspect::Forwarded && !facts.lines("Forwarded").is_empty()).then_some(None)
}

/// D18: originals join all lines.
fn d18(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let name = original_name(facts, aspect)?;
    (facts.lines(name).len() > 1).then(|| joined(facts, name))
}

/// U2: of several values of scheme, host and port the last is taken, unless there is one for each hop (section 4).
fn u2(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let values = facts.elements(stated_name(aspect)?);
    let hops = facts.elements(&facts.case.header).len();
    (facts.is_trusted && values.len() > 1 && values.len() != hops).then(|| values.last().cloned())
}

/// U3: trust in an address is trust in scheme, host and port, with enable-real-ip alone too (section 8: "the same").
fn u3(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let value = facts.elements(stated_name(aspect)?).last().cloned();
    (facts.is_trusted && !facts.case.key('U')).then_some(value)
}

/// U4: without a PROXY destination the listener's own port is sent instead of none (section 4).
fn u4(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let applies =
        facts.case.preamble.is_some() && facts.own_port.as_deref() == Some("{listen_port}");
    (applies && aspect == Aspect::Port).then(|| facts.own_port.clone())
}

/// U5: more hops or commas than the limits allow end the walk (section 3), and originals are cut (section 4).
fn u5(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let Some(name) = original_name(facts, aspect) else {
        return facts.is_cut.then(|| client_aspect(facts, aspect))?;
    };
    let whole = joined(facts, name)?;
    let cut = whole.get(whole.len().checked_sub(2048)?..)?;
    let whole_elements = cut.split_once(',').map_or(cut, |(_, rest)| rest);
    Some(Some(whole_elements.to_owned()))
}

/// U6: schemes are sent in lower case (section 4).
fn u6(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let is_scheme = stated_name(aspect) == Some("X-Forwarded-Proto");
    let value = facts.elements("X-Forwarded-Proto").pop()?;
    (is_scheme && facts.is_trusted && value == "HTTPS").then(|| Some("https".to_owned()))
}

/// U7: where the client named no host, none is invented (nginx sends the name of its default server, `_`).
fn u7(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    (facts.host().is_none() && matches!(aspect, Aspect::Host | Aspect::Authority)).then_some(None)
}

/// U9: behind LOCAL, UNKNOWN and UNSPEC the socket peer is the source, for the walk and in what is sent (section 6).
fn u9(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let applies = facts.case.key('U') && facts.case.preamble.is_some() && !facts.is_proxied;
    applies.then(|| client_aspect(facts, aspect))?
}

/// Deviations by which a request isn't answered as nginx does.
pub(crate) fn of_outcome(facts: &Facts<'_>, headwater: &Outcome) -> Option<&'static str> {
    let case = facts.case;
    let is_admitted = case.ranges().contains_peer(&case.socket_peer());
    let control = |c: char| c.is_ascii_control() && c != '\t';
    let has_control = case
        .request
        .fields
        .iter()
        .any(|(_, value)| value.contains(control));
    match headwater {
        // D15: whoever isn't admitted sends no preamble.
        Outcome::Rejected if case.preamble.is_some() && !is_admitted => Some("D15"),
        // D15: an admitted sender's preamble is read strictly.
        Outcome::Closed if case.preamble.is_some() && is_admitted && !facts.is_proxied => {
            Some("D15")
        }
        Outcome::Closed if case.preamble().is_some_and(|bytes| is_doubled(&bytes)) => Some("D15"),
        // U8: control characters are refused (RFC 9110 §5.5).
        Outcome::Rejected if has_control => Some("U8"),
        _ => None,
    }
}

/// The aspects that follow from who the client is.
fn client_aspect(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    let client = facts.client.map(|ip| ip.to_string());
    match aspect {
        Aspect::Client => Some(Some(client.unwrap_or_default())),
        Aspect::RealIp => Some(client),
        Aspect::For => Some(facts.forwarded_for()),
        _ => None,
    }
}

/// Scheme, host and port as our own end knows them, where the request states others.
fn own_aspect(facts: &Facts<'_>, aspect: Aspect) -> Option<Expected> {
    if facts.lines(stated_name(aspect)?).is_empty() {
        return None;
    }
    match aspect {
        Aspect::Proto | Aspect::Scheme | Aspect::XScheme => Some(Some(facts.own_scheme.to_owned())),
        Aspect::Host | Aspect::Authority => Some(facts.host()),
        Aspect::Port => Some(facts.own_port.clone()),
        _ => None,
    }
}

/// The field that states an aspect beside the chain.
fn stated_name(aspect: Aspect) -> Option<&'static str> {
    match aspect {
        Aspect::Proto | Aspect::Scheme | Aspect::XScheme => Some("X-Forwarded-Proto"),
        Aspect::Host | Aspect::Authority => Some("X-Forwarded-Host"),
        Aspect::Port => Some("X-Forwarded-Port"),
        _ => None,
    }
}

fn original_name<'c>(facts: &Facts<'c>, aspect: Aspect) -> Option<&'c str> {
    match aspect {
        Aspect::OriginalFor => Some(&facts.case.header),
        Aspect::OriginalHost => Some("X-Forwarded-Host"),
        _ => None,
    }
}

/// All lines that say something, as one.
fn joined(facts: &Facts<'_>, name: &str) -> Option<String> {
    let mut lines = facts.lines(name);
    lines.retain(|line| !trim(line).is_empty());
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// An address in `::ffff:0:0/96`, as text or as bytes.
fn holds_mapped(preamble: &[u8]) -> bool {
    let binary = [[0; 10].as_slice(), &[0xff; 2]].concat();
    [b"::ffff:".as_slice(), &binary]
        .iter()
        .any(|mark| preamble.windows(mark.len()).any(|window| window == *mark))
}

fn is_doubled(preamble: &[u8]) -> bool {
    let marks = [b"PROXY ".as_slice(), b"\r\n\r\n\0\r\nQUIT\n"];
    let count = |mark: &[u8]| {
        preamble
            .windows(mark.len())
            .filter(|window| *window == mark)
            .count()
    };
    marks.iter().map(|mark| count(mark)).sum::<usize>() > 1
}
