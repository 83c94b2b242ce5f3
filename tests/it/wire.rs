//! `tests/cases/wire`: what RELIABILITY.md asks for, row by row, as bytes of both ends.
//!
//! The same table is put to other proxies by `tests/lanes/compare.py`.

mod case;
mod client;
mod message;
mod script;

use std::time::Duration;

use crate::support::{DEADLINE, Proxy};

use case::{Case, Class, Required, Seen, Then};
use client::{Doors, Saw};
use script::{Got, Play, Script};

const TABLE: [&str; 4] = [
    include_str!("../cases/wire/requests.yaml"),
    include_str!("../cases/wire/fields.yaml"),
    include_str!("../cases/wire/responses.yaml"),
    include_str!("../cases/wire/http2.yaml"),
];

fn table() -> Vec<Class> {
    let classes = |text| serde_yaml::from_str::<Vec<Class>>(text).expect("a table");
    TABLE.into_iter().flat_map(classes).collect()
}

/// Plays a row, and says what is wrong with what came of it: nothing, if it holds.
fn play(case: &Case, required: &Required, doors: Doors, script: &Script) -> Vec<Wrong> {
    script.begin(Play {
        answer: case.answer.as_ref().map_or_else(ok, case::Bytes::bytes),
        early: case.early,
        ends: case.ends,
    });
    let saw = match &case.fields {
        Some(fields) => client::over_http2(case, fields, doors),
        None => client::over_http1(case, required.upstream, doors, script),
    };
    judge(required, &saw, &script.end())
}

fn ok() -> Vec<u8> {
    crate::support::OK.into()
}

/// What is wrong, and the bytes that show it.
struct Wrong {
    what: String,
    bytes: String,
}

impl Wrong {
    fn new(what: impl Into<String>, bytes: &[u8]) -> Self {
        Self {
            what: what.into(),
            bytes: shown(bytes),
        }
    }
}

fn judge(required: &Required, saw: &Saw, got: &Got) -> Vec<Wrong> {
    let mut wrong = Vec::new();
    if (required.status.as_ref()).is_some_and(|status| !status.contains(&saw.answer)) {
        wrong.push(Wrong::new(saw.answer.to_string(), &saw.bytes));
    }
    match (required.then, saw.then) {
        (Some(Then::Keep), Then::Close) => wrong.push(Wrong::new("closed", b"")),
        (Some(Then::Close), Then::Keep) => wrong.push(Wrong::new("kept open", b"")),
        (Some(_), Then::Hang) => wrong.push(Wrong::new("left hanging", b"")),
        _ => {}
    }
    if !saw.surplus.is_empty() {
        wrong.push(Wrong::new("answered once more", &saw.surplus));
    }
    let fits = match required.upstream {
        None => true,
        Some(Seen::Nothing) => got.whole == 0 && got.bytes.is_empty(),
        Some(Seen::Unfinished) => got.whole == 0,
        Some(Seen::Whole) => got.whole == 1,
    };
    if !fits {
        let what = match got.whole {
            0 if got.bytes.is_empty() => "not forwarded",
            0 => "forwarded in part",
            1 => "forwarded",
            _ => "forwarded more than once",
        };
        wrong.push(Wrong::new(what, &got.bytes));
    }
    if required.reuses == Some(false) && got.reused {
        wrong.push(Wrong::new("the upstream's connection used again", b""));
    }
    judge_texts(required, saw, got, &mut wrong);
    wrong
}

fn judge_texts(required: &Required, saw: &Saw, got: &Got, wrong: &mut Vec<Wrong>) {
    for (texts, bytes, wanted, what) in [
        (&required.forwards, &got.bytes, true, "doesn't forward"),
        (&required.never_forwards, &got.bytes, false, "forwards"),
        (&required.returns, &saw.bytes, true, "doesn't return"),
        (&required.never_returns, &saw.bytes, false, "returns"),
    ] {
        let text = lower(bytes);
        let wrongly = |part: &&String| text.contains(&part.to_ascii_lowercase()) != wanted;
        let parts: Vec<_> = texts.iter().flatten().filter(wrongly).collect();
        if !parts.is_empty() {
            wrong.push(Wrong::new(format!("{what} {parts:?}"), bytes));
        }
    }
}

/// Each byte a character, as in the table.
fn lower(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| char::from(byte.to_ascii_lowercase()))
        .collect()
}

fn shown(bytes: &[u8]) -> String {
    let shown = bytes.escape_ascii().to_string();
    if shown.len() > 400 {
        format!("{}...", &shown[..400])
    } else {
        shown
    }
}

#[test]
fn every_row_of_the_table_holds() {
    let (script, upstream) = Script::listen("127.0.0.1:0");
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{upstream}\"] }} }}\nroutes: [{{ upstream: app }}]\n"
    ));
    let address = proxy.address("http");
    let doors = Doors {
        http1: address,
        http2: address,
        patience: DEADLINE,
    };
    let mut failed = Vec::new();
    for class in table() {
        for case in &class.cases {
            let required = case.requires.or(&class.requires);
            for Wrong { what, bytes } in play(case, &required, doors, &script) {
                failed.push(format!("{} / {}: {what}: {bytes}", class.name, case.name));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} ways to fail:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// For `tests/lanes/compare.py`: a line a row, `CLASS<tab>NAME<tab>ok` or what came of it instead.
#[test]
#[ignore = "asks a proxy that the environment names"]
fn another_proxy_beside_the_table() {
    let variable = |name| std::env::var(name).expect(name);
    let (script, _) = Script::listen(&variable("WIRE_UPSTREAM"));
    let doors = Doors {
        http1: variable("WIRE_HTTP1").parse().unwrap(),
        http2: variable("WIRE_HTTP2").parse().unwrap(),
        patience: Duration::from_secs(2),
    };
    for class in table() {
        for case in &class.cases {
            let required = case.requires.or(&class.requires);
            let wrong = play(case, &required, doors, &script);
            let wrong: Vec<_> = wrong.into_iter().map(|wrong| wrong.what).collect();
            let came = if wrong.is_empty() {
                "ok".into()
            } else {
                wrong.join(", ")
            };
            eprintln!("wire\t{}\t{}\t{came}", class.name, case.name);
        }
    }
}
