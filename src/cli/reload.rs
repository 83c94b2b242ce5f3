//! `headwater reload`: has a running process take up its configuration, and says what came of it.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::ask::{Answer, Question, Where, failed};
use super::{Exit, Global, console};

/// It looks up names and reads files meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Reload {
    #[command(flatten)]
    place: Where,
}

/// As much of the verdict as is shown.
#[derive(Debug, Deserialize)]
struct Verdict {
    result: String,
    #[serde(default)]
    changed: Vec<String>,
    text: String,
}

pub(super) fn reload(global: &Global, options: &Reload) -> Exit {
    let (place, token) = match options.place.find(global) {
        Ok(found) => found,
        Err(unknown) => return unknown.tell(global),
    };
    let question = Question {
        method: "POST",
        token: token.as_deref(),
        patience: PATIENCE,
    };
    let place = place.at("/api/v1/reload");
    match place.ask(&question) {
        Ok(answer) => tell(&answer),
        Err(error) => failed(&format!("{}: {error}", place.shown())),
    }
}

fn tell(answer: &Answer) -> Exit {
    let Ok(verdict) = serde_json::from_str::<Verdict>(&answer.body) else {
        let line = answer.body.lines().next().unwrap_or_default();
        return failed(&format!("{} {line}", answer.status));
    };
    console::diagnostic(&verdict.text);
    match verdict.result.as_str() {
        "applied" => {
            console::result(&format!("reload applied: {}\n", verdict.changed.join(", ")));
            Exit::Success
        }
        "unchanged" => {
            console::result("nothing to reload, everything is as it was\n");
            Exit::Success
        }
        "rejected" => Exit::Config,
        _ => Exit::Failure,
    }
}
