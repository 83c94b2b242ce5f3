//! `--live` and `--id`: what a running process says of its last requests.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Explain, Series};
use crate::cli::ask::{Answer, Place, Question, failed};
use crate::cli::{Exit, Global, console};
use crate::control::explanation::Form;

const PATIENCE: Duration = Duration::from_secs(10);

/// As much of a request as is shown.
#[derive(Debug, Deserialize)]
struct Request {
    #[serde(rename = "request_id")]
    id: String,
    method: String,
    host: String,
    path: String,
    explanation: Option<Value>,
    unexplained: Option<String>,
}

/// One request. What comes is what is printed.
pub(super) fn one(global: &Global, options: &Explain, id: &str) -> Exit {
    let form = word(options.form());
    let path = format!("/api/v1/requests/{}/explain?format={form}", encoded(id));
    match ask(global, options, &path) {
        Ok(answer) if answer.status == 200 => {
            console::result(&answer.body);
            Exit::Success
        }
        Ok(answer) => refused(&answer),
        Err(exit) => exit,
    }
}

/// The last ones, the newest last.
pub(super) fn last(global: &Global, options: &Explain) -> Exit {
    let (last, form) = (options.last, word(options.form()));
    let path = format!("/api/v1/requests?last={last}&explain={form}");
    let answer = match ask(global, options, &path) {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return refused(&answer),
        Err(exit) => return exit,
    };
    let requests: Vec<Request> = match serde_json::from_str(&answer.body) {
        Ok(requests) => requests,
        Err(error) => return failed(&format!("the answer isn't understood: {error}")),
    };
    if requests.is_empty() {
        console::diagnostic("no requests yet\n");
    }
    let mut series = Series::new(global, options);
    for request in requests.into_iter().rev() {
        request.show(&mut series);
    }
    series.end()
}

impl Request {
    fn show(self, series: &mut Series<'_>) {
        let Self {
            id,
            method,
            host,
            path,
            ..
        } = self;
        let about = format!("request {id}  {method} {host}{path}");
        match (self.explanation, self.unexplained) {
            (Some(Value::String(text)), _) => series.text(&about, &text),
            (Some(explanation), _) => {
                series.json(&json!({ "request_id": id, "explanation": explanation }));
            }
            (None, why) => series.fail(&about, why.as_deref().unwrap_or("not explained")),
        }
    }
}

fn ask(global: &Global, options: &Explain, path: &str) -> Result<Answer, Exit> {
    let (place, token) = options.place.find(global).map_err(|no| no.tell(global))?;
    let place: Place = place.at(path);
    let question = Question {
        method: "GET",
        token: token.as_deref(),
        patience: PATIENCE,
    };
    let answer = place.ask(&question);
    answer.map_err(|error| failed(&format!("{}: {error}", place.shown())))
}

fn refused(answer: &Answer) -> Exit {
    let line = answer.body.lines().next().unwrap_or_default();
    failed(&format!("{} {line}", answer.status))
}

fn word(form: Form) -> &'static str {
    match form {
        Form::Text => "text",
        Form::Json => "json",
    }
}

/// A segment of a path: whoever gave the id may have put anything into it.
fn encoded(id: &str) -> String {
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_segment() {
        assert_eq!(encoded("0af7-1.x_~"), "0af7-1.x_~");
        assert_eq!(encoded("a/b?c d%"), "a%2Fb%3Fc%20d%25");
    }
}
