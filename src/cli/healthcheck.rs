//! `headwater healthcheck`: asks a running process whether it is ready, for container probes.

use std::time::Duration;

use clap::Args;

use super::ask::{self, NO_ADMIN, Place, Question, Unknown};
use super::{Exit, Global, console, start};

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// Ask there, by plain HTTP, and not at the admin address of the configuration
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Anybody may ask, so no token is needed.
const QUESTION: Question<'static> = Question {
    method: "GET",
    token: None,
    patience: Duration::from_secs(3),
};

/// Who doesn't say that it is ready isn't, whatever the reason: probes know two answers.
pub(super) fn healthcheck(global: &Global, options: &Healthcheck) -> Exit {
    let place = match &options.url {
        Some(url) => Place::of_url(url).ok_or_else(|| format!("`{url}` isn't an http:// URL")),
        None => configured(global),
    };
    let answer = place.and_then(|place| {
        let answer = place.ask(&QUESTION);
        answer.map_err(|error| format!("{}: {error}", place.shown()))
    });
    let message = match answer {
        Ok(answer) if answer.status == 200 => return Exit::Success,
        Ok(answer) => {
            let line = answer.body.lines().next().unwrap_or_default();
            format!("not ready: {line}")
        }
        Err(message) => message,
    };
    console::diagnostic(&format!("error: {message}\n"));
    Exit::Failure
}

fn configured(global: &Global) -> Result<Place, String> {
    match ask::configured(global) {
        Ok((place, _)) => Ok(place.at("/readyz")),
        Err(Unknown::Config(problems)) => {
            start::show(global, start::problems_file(&problems), &problems);
            Err("the configuration doesn't say where to ask".to_owned())
        }
        Err(_) => Err(NO_ADMIN.to_owned()),
    }
}
