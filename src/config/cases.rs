//! Cases for `headwater explain --cases`: requests, and who their clients must be.

use std::path::Path;

use super::keys;
use super::load;
use super::problem::{Problem, Problems, code};
use super::reader::{At, Reader, Section};
use super::source::Source;
use super::value::{Place, Value};

/// A file of cases, read as a configuration is: every problem has its line.
#[derive(Debug)]
pub struct Cases {
    /// In the order of the file; at least one.
    pub cases: Vec<Case>,
    source: Source,
}

/// A request, and what must be said of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Case {
    /// The path of its keys, such as `cases[0]`.
    pub field: String,
    /// `name`, else `field`.
    pub name: String,
    /// Whose rules apply; `None`: what the command line says.
    pub listener: Option<String>,
    /// Who connected, as `--peer` takes it.
    pub peer: String,
    /// Whom its PROXY header names, as `--proxy-protocol` takes it.
    pub proxy_protocol: Option<String>,
    /// Name and value.
    pub headers: Vec<(String, String)>,
    /// At least one.
    pub expect: Vec<Expected>,
}

/// Something that must be said.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    /// A member of the explanation's JSON: `client_ip`, `client_ip_reason`, `client_ip_source`.
    Member(&'static str, String),
    /// The names of all fields that are removed, in any order.
    Forged(Vec<String>),
    /// A field that goes upstream, by its name in any case.
    Sent(String, String),
}

impl Cases {
    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let name = path.display().to_string();
        Self::parse(&load::text(path, &name)?, &name)
    }

    fn parse(text: &str, name: &str) -> Result<Self, Problems> {
        let source = Source::parse(name, text).map_err(|problem| Problems::from(*problem))?;
        let mut reader = Reader::new(&source, None);
        let root = At {
            value: source.root(),
            place: Place::default(),
        };
        let cases = match reader.section(&root, &keys::CASES) {
            Some(root) => cases(&mut reader, &root),
            None => Vec::new(),
        };
        if reader.has_errors() {
            return Err(reader.finish().0);
        }
        Ok(Self { cases, source })
    }

    /// An error at a key's value, for what is found later.
    pub fn problem_at(&self, field: &str, code: &'static str, message: &str) -> Problem {
        self.source.problem_at(field, code, message, None)
    }
}

fn cases(reader: &mut Reader<'_>, root: &Section<'_>) -> Vec<Case> {
    reader.require_entry(
        root,
        "cases",
        "the shortest one is  cases: [{ peer: 192.0.2.1, expect: { client_ip: 192.0.2.1 } }]",
    );
    let items = root.items("cases");
    items.iter().filter_map(|at| case(reader, at)).collect()
}

fn case(reader: &mut Reader<'_>, at: &At<'_>) -> Option<Case> {
    let section = reader.section(at, &keys::CASE)?;
    let mut text = |key| {
        reader
            .optional_text(&section, key)
            .map(|(_, text)| text.to_owned())
    };
    let (name, listener) = (text("name"), text("listener"));
    let (peer, proxy_protocol) = (text("peer"), text("proxy_protocol"));
    reader.require(&section, "peer", "say who connects:  peer: 192.0.2.1");
    reader.require_entry(
        &section,
        "expect",
        "say who the client must be:  expect: { client_ip: 192.0.2.1 }",
    );
    let field = at.place.to_string();
    Some(Case {
        name: name.unwrap_or_else(|| field.clone()),
        field,
        listener,
        proxy_protocol,
        headers: headers(reader, &section),
        expect: expect(reader, &section),
        peer: peer?,
    })
}

/// A mapping of names to a value, or to a list of them: one line each.
fn headers(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, at) in reader.named(section, "headers") {
        let lines = match at.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, value)| At {
                    value,
                    place: at.place.item(index),
                })
                .collect(),
            _ => vec![at],
        };
        for line in &lines {
            let text = reader.text(line);
            headers.extend(text.map(|text| (name.to_owned(), text.to_owned())));
        }
    }
    headers
}

fn expect(reader: &mut Reader<'_>, case: &Section<'_>) -> Vec<Expected> {
    let section = reader.subsection(case, "expect", &keys::EXPECT);
    let mut expected = Vec::new();
    for member in ["client_ip", "client_ip_reason", "client_ip_source"] {
        let text = reader.optional_text(&section, member);
        expected.extend(text.map(|(_, text)| Expected::Member(member, text.to_owned())));
    }
    if section.has("forged") {
        let names = reader.texts(&section, "forged");
        let names = names.iter().map(|(_, name)| name.to_ascii_lowercase());
        expected.push(Expected::Forged(names.collect()));
    }
    for (name, at) in reader.named(&section, "sent") {
        let text = reader.text(&at);
        expected.extend(text.map(|text| Expected::Sent(name.to_owned(), text.to_owned())));
    }
    if expected.is_empty() && section.has("sent") && !reader.has_errors() {
        let problem = reader.on_value(
            &section.place_of("sent"),
            code::EMPTY,
            "`sent` needs at least one entry",
        );
        reader.report(problem);
    }
    expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_has_a_request_and_what_is_expected() {
        let text = "\
cases:
  - name: one
    listener: https
    peer: 10.0.0.5
    proxy_protocol: \"192.0.2.1:40000\"
    headers: { X-Forwarded-For: [a, b], X-Real-IP: c }
    expect:
      client_ip: 192.0.2.1
      client_ip_reason: all_trusted
      client_ip_source: proxy_protocol
      forged: [X-Real-IP]
      sent: { X-Forwarded-For: \"192.0.2.1\" }
  - { peer: unix, expect: { forged: [] } }
";
        let cases = Cases::parse(text, "cases.yaml").unwrap().cases;
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let first = Case {
            field: "cases[0]".to_owned(),
            name: "one".to_owned(),
            listener: Some("https".to_owned()),
            peer: "10.0.0.5".to_owned(),
            proxy_protocol: Some("192.0.2.1:40000".to_owned()),
            headers: vec![
                pair("X-Forwarded-For", "a"),
                pair("X-Forwarded-For", "b"),
                pair("X-Real-IP", "c"),
            ],
            expect: vec![
                Expected::Member("client_ip", "192.0.2.1".to_owned()),
                Expected::Member("client_ip_reason", "all_trusted".to_owned()),
                Expected::Member("client_ip_source", "proxy_protocol".to_owned()),
                Expected::Forged(vec!["x-real-ip".to_owned()]),
                Expected::Sent("X-Forwarded-For".to_owned(), "192.0.2.1".to_owned()),
            ],
        };
        assert_eq!(cases[0], first);
        assert_eq!((&*cases[1].name, cases.len()), ("cases[1]", 2));
        assert_eq!(cases[1].expect, [Expected::Forged(Vec::new())]);
    }

    #[test]
    fn what_is_wrong_has_a_code_and_a_line() {
        for (text, found) in [
            ("cases: []", ("E033", 1)),
            ("case: []", ("E010", 1)),
            ("cases:\n- { peer: unix }", ("E013", 2)),
            ("cases:\n- { peer: unix, expect: {} }", ("E033", 2)),
            ("cases:\n- { expect: { client_ip: a } }", ("E013", 2)),
            (
                "cases:\n- { peer: unix,\n    expect: { ip: a } }",
                ("E010", 3),
            ),
            (
                "cases:\n- { peer: unix,\n    expect: { sent: {} } }",
                ("E033", 3),
            ),
            (
                "cases:\n- peer: unix\n  headers: { a: 1 }\n  expect: { client_ip: a }",
                ("E014", 3),
            ),
            ("cases: [", ("E005", 2)),
        ] {
            let problems = Cases::parse(text, "cases.yaml").unwrap_err();
            let first = problems.iter().next().unwrap();
            assert_eq!((first.code, first.line.unwrap_or(0)), found, "{text}");
        }
    }
}
