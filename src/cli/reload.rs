//! `headwater reload`: has a running process take up its configuration, and says what came of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::ask::{self, Answer, NO_ADMIN, Place, Question, Unknown};
use super::{Exit, Global, console, start};

/// It looks up names and reads files meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct Reload {
    /// The admin interface, by plain HTTP, when it isn't where the configuration says
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// File with its token [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
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
    let (place, token_file) = match place(options, global) {
        Ok(found) => found,
        Err(Unknown::NoAdmin) => return failed(NO_ADMIN),
        // What runs would say the same of it.
        Err(Unknown::Config(problems)) => {
            start::show(global, start::problems_file(&problems), &problems);
            return start::exit_for(&problems);
        }
    };
    let Some(place) = place else {
        console::usage("--url is an http:// URL");
        return Exit::Usage;
    };
    let token = match options.token_file.as_ref().or(token_file.as_ref()) {
        None => None,
        Some(path) => match std::fs::read_to_string(path) {
            Ok(token) => Some(token),
            Err(error) => return failed(&format!("can't read {}: {error}", path.display())),
        },
    };
    let question = Question {
        method: "POST",
        token: token.as_deref().map(str::trim),
        patience: PATIENCE,
    };
    match place.ask(&question) {
        Ok(answer) => tell(&answer),
        Err(error) => failed(&format!("{}: {error}", place.shown())),
    }
}

/// `None`: what was named is no place.
fn place(options: &Reload, global: &Global) -> Result<(Option<Place>, Option<PathBuf>), Unknown> {
    let (place, token_file) = if let Some(url) = &options.url {
        (Place::of_url(url), None)
    } else {
        let (place, token_file) = ask::configured(global)?;
        (Some(place), token_file)
    };
    let place = place.map(|place| place.at("/api/v1/reload"));
    Ok((place, token_file))
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

fn failed(message: &str) -> Exit {
    console::diagnostic(&format!("error: {message}\n"));
    Exit::Failure
}
