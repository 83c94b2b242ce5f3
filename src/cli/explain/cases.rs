//! `--cases`: whether the rules give the answers that a file expects.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Explain, Refused, Rules};
use crate::cli::{Exit, console};
use crate::client_ip::explain::Explanation;
use crate::config::{Case, Cases, Expected, Problems, code, counted};
use crate::control::explanation::{Form, ParseError, Question, as_json, page};

/// A case whose answer isn't the expected one.
#[derive(Debug)]
struct Failed<'a> {
    case: &'a Case,
    differences: Vec<Difference>,
    explanation: Explanation,
}

/// What is otherwise than expected.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    what: String,
    expected: String,
    actual: String,
}

/// Exit 1 when one differs.
pub(super) fn check(options: &Explain, file: &Path, rules: &Rules) -> Result<Exit, Refused> {
    let refused = |problems| Refused::Config(file.display().to_string(), problems);
    let read = Cases::load(file).map_err(refused)?;
    let mut problems = Problems::default();
    let mut failed = Vec::new();
    for case in &read.cases {
        match answer(&read, case, rules) {
            Ok(explanation) => failed.extend(judge(case, explanation)),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(refused(problems));
    }
    let total = read.cases.len();
    console::result(&match options.form() {
        Form::Text => text(&failed, total),
        Form::Json => format!("{:#}\n", json(&failed, total)),
    });
    Ok(if failed.is_empty() {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn answer(read: &Cases, case: &Case, rules: &Rules) -> Result<Explanation, Problems> {
    let at = |key: &str, code, message: &str| {
        let field = format!("{}.{key}", case.field);
        Problems::from(read.problem_at(&field, code, message))
    };
    let trust = rules
        .of(case.listener.as_deref())
        .map_err(|message| at("listener", code::BAD_NAME, &message))?;
    let question = question(case).map_err(|error| {
        let (key, code) = match error {
            ParseError::Peer(_) => ("peer", code::BAD_ADDRESS),
            ParseError::ProxySource(_) | ParseError::NobodysSource(_) => {
                ("proxy_protocol", code::BAD_ADDRESS)
            }
            ParseError::Field(_) => ("headers", code::BAD_FIELD),
        };
        at(key, code, &error.to_string())
    })?;
    Ok(question.answer(trust, &rules.emit))
}

fn question(case: &Case) -> Result<Question, ParseError> {
    let mut question = Question::by(&case.peer)?;
    if let Some(source) = &case.proxy_protocol {
        question = question.behind_proxy_header(source)?;
    }
    for (name, value) in &case.headers {
        question = question.with(&format!("{name}: {value}"))?;
    }
    Ok(question)
}

fn judge(case: &Case, explanation: Explanation) -> Option<Failed<'_>> {
    let expected = case.expect.iter();
    let differences: Vec<_> = expected
        .filter_map(|expected| difference(expected, &explanation))
        .collect();
    (!differences.is_empty()).then_some(Failed {
        case,
        differences,
        explanation,
    })
}

fn difference(expected: &Expected, explanation: &Explanation) -> Option<Difference> {
    let (what, expected, actual) = match expected {
        Expected::Member(name, expected) => {
            let actual = match *name {
                "client_ip" => explanation.client.as_deref().unwrap_or("unknown"),
                "client_ip_reason" => explanation.reason.as_str(),
                _ => &explanation.source,
            };
            let expected = canonical(expected).unwrap_or_else(|| expected.clone());
            ((*name).to_owned(), expected, actual.to_owned())
        }
        Expected::Forged(names) => ("forged".to_owned(), list(names), list(&explanation.forged)),
        Expected::Sent(name, expected) => {
            let sent = explanation.sent.iter();
            let mut actual = sent.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            let actual = actual.next().map_or("nothing", |(_, value)| value);
            (name.clone(), expected.clone(), actual.to_owned())
        }
    };
    (expected != actual).then_some(Difference {
        what,
        expected,
        actual,
    })
}

/// An address in the one form that explanations have.
fn canonical(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical().to_string())
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Each case that differs, and how many don't.
fn text(failed: &[Failed<'_>], total: usize) -> String {
    let mut text = String::new();
    for failed in failed {
        // Writing to a String can't fail.
        let _ = writeln!(text, "case `{}` differs", failed.case.name);
        for Difference {
            what,
            expected,
            actual,
        } in &failed.differences
        {
            let _ = writeln!(text, "  {what}: expected {expected}, found {actual}");
        }
        let _ = writeln!(text, "\n{}", page(&failed.explanation, Form::Text));
    }
    let cases = counted(total, "case");
    let _ = match failed.len() {
        0 => writeln!(text, "{cases}, all as expected"),
        differing => writeln!(text, "{cases}, {differing} not as expected"),
    };
    text
}

fn json(failed: &[Failed<'_>], total: usize) -> Value {
    let failed = failed.iter().map(|failed| {
        let differences = failed.differences.iter().map(|difference| {
            json!({
                "what": difference.what,
                "expected": difference.expected,
                "actual": difference.actual,
            })
        });
        json!({
            "name": failed.case.name,
            "differences": differences.collect::<Value>(),
            "explanation": as_json(&failed.explanation),
        })
    });
    json!({ "cases": total, "failed": failed.collect::<Value>() })
}
