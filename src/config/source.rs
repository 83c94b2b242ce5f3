//! The text of a configuration, kept so that problems found later can name their place in it.

use super::file::{self, Part, Position, SyntaxError};
use super::problem::{Problem, code};
use super::value::{Place, Step, Value};

/// A configuration file as it was read.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    text: String,
    root: Value,
}

impl Source {
    /// Reads the text; a syntax error is the only problem then.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, Box<Problem>> {
        let text = text.trim_start_matches('\u{feff}');
        let source = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            root: Value::Null,
        };
        match file::parse(text) {
            Ok(root) => Ok(Self { root, ..source }),
            Err(error) => Err(Box::new(source.syntax_problem(&error))),
        }
    }

    /// For a configuration that was never text: its problems have no place.
    pub(super) fn without_text(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: String::new(),
            root: Value::Null,
        }
    }

    /// The file as the operator named it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the file says, without a byte order mark; empty when there is no file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error at a key's value, for what is found after reading: certificates, binding.
    ///
    /// `field` is a path such as `listeners.https.tls.certificates[0].cert`. Where the file doesn't say it, the
    /// nearest thing it says is marked.
    pub fn problem_at(
        &self,
        field: &str,
        code: &'static str,
        message: &str,
        help: Option<&str>,
    ) -> Problem {
        let place = Place::find(&self.root, field);
        let is_container = matches!(
            place.value(&self.root),
            Some(Value::Map(_) | Value::List(_))
        );
        let part = if is_container && place.to_string() != field {
            Part::Key
        } else {
            Part::Value
        };
        let mut problem = self.problem(&place, part, code, message.to_owned());
        field.clone_into(&mut problem.field);
        match help {
            Some(help) => problem.help(help),
            None => problem,
        }
    }

    pub(super) fn root(&self) -> &Value {
        &self.root
    }

    /// An error at a place; `Part::Key` marks the key that leads there.
    pub(super) fn problem(
        &self,
        place: &Place,
        part: Part,
        code: &'static str,
        message: String,
    ) -> Problem {
        let mut problem = Problem::error(code, &self.name, message);
        problem.field = place.to_string();
        // What isn't there is shown at the key it is missing from.
        if place.value(&self.root).is_none() && !place.steps().is_empty() {
            return Problem {
                field: problem.field,
                ..self.problem(&place.parent(), Part::Key, code, problem.message)
            };
        }
        let part = if matches!(place.steps().last(), Some(Step::Entry { .. })) {
            part
        } else {
            Part::Value
        };
        if place.steps().is_empty() {
            return problem;
        }
        let written = match (part, place.steps().last()) {
            (Part::Key, Some(Step::Entry { key, .. })) => Some(key.as_str()),
            _ => match place.value(&self.root) {
                Some(Value::Text(text)) => Some(text.as_str()),
                _ => None,
            },
        };
        // Nothing is written where a value is empty: the key is marked instead.
        let part = if place.value(&self.root) == Some(&Value::Null) {
            Part::Key
        } else {
            part
        };
        if let Some(position) = file::locate(&self.text, place, part) {
            self.mark(&mut problem, position, written);
        }
        problem
    }

    fn mark(&self, problem: &mut Problem, at: Position, written: Option<&str>) {
        let line = self.line(at);
        let rest: String = line.chars().skip(at.column.saturating_sub(1)).collect();
        problem.line = Some(at.line);
        problem.column = Some(at.column);
        line.clone_into(&mut problem.excerpt);
        problem.marked = match written {
            Some(written) if !written.is_empty() && rest.starts_with(written) => {
                written.chars().count()
            }
            _ => token_length(&rest),
        };
    }

    fn line(&self, at: Position) -> &str {
        self.text
            .lines()
            .nth(at.line.saturating_sub(1))
            .unwrap_or_default()
    }

    fn syntax_problem(&self, error: &SyntaxError) -> Problem {
        if let Some(problem) = self.unquoted_ipv6(error) {
            return problem;
        }
        let mut problem = Problem::error(
            code::SYNTAX,
            &self.name,
            format!("this can't be read as YAML: {}", error.message),
        );
        if let Some(at) = error.at {
            // The parser stops behind the `*` of an alias, and nobody meant an alias.
            let is_star = self.line(at).chars().nth(at.column.saturating_sub(2)) == Some('*');
            let column = if is_star && at.column > 1 {
                at.column - 1
            } else {
                at.column
            };
            self.mark(&mut problem, Position { column, ..at }, None);
            problem.marked = 1;
        }
        if !error.context.is_empty() {
            problem = problem.label(error.context.clone());
        }
        let before: String = problem
            .excerpt
            .chars()
            .take(problem.column.unwrap_or(0))
            .collect();
        if before.ends_with('*')
            || error.message.contains("alias")
            || error.message.contains("anchor")
        {
            problem = problem.help("a host pattern must be quoted:  \"*.example.com\"");
        } else if before.contains('\t') {
            problem = problem.help("YAML is indented with spaces; a tab can't stand here");
        } else if error.message.contains("more than one document") {
            problem = problem.help("one file is one configuration: remove the line `---`");
        }
        problem
    }

    /// `address: [::]:8080`: the commonest mistake, and YAML's own message about it doesn't help.
    fn unquoted_ipv6(&self, error: &SyntaxError) -> Option<Problem> {
        let failed = error.at.map_or(usize::MAX, |at| at.line);
        let (number, line) = self
            .text
            .lines()
            .enumerate()
            .take(failed)
            .filter(|(_, line)| bracketed_ipv6(line).is_some())
            .last()?;
        let (column, address) = bracketed_ipv6(line)?;
        let mut problem = Problem::error(
            code::SYNTAX,
            &self.name,
            "a bracketed IPv6 address must be quoted in YAML",
        );
        self.mark(
            &mut problem,
            Position {
                line: number + 1,
                column,
            },
            None,
        );
        problem.marked = 1;
        let key = line
            .trim_start()
            .trim_start_matches("- ")
            .split_once(": [")
            .map(|(key, _)| key);
        let key = key.filter(|key| key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
        let remedy = key.map_or_else(
            || format!("write  \"{address}\""),
            |key| format!("write  {key}: \"{address}\""),
        );
        Some(
            problem
                .label("YAML reads `[` as the start of a list")
                .help(remedy),
        )
    }
}

/// The column (from 1) and text of the first `[v6]:port` outside quotes and comments.
fn bracketed_ipv6(line: &str) -> Option<(usize, String)> {
    let mut quote = None;
    let mut before = ' ';
    for (column, (index, letter)) in line.char_indices().enumerate() {
        match (quote, letter) {
            (None, '"' | '\'') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None, '#') if before.is_whitespace() => return None,
            (None, '[') => {
                let (inside, after) = line.get(index + 1..)?.split_once(']')?;
                let port: String = after
                    .strip_prefix(':')
                    .unwrap_or_default()
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect();
                if !port.is_empty() && inside.parse::<std::net::Ipv6Addr>().is_ok() {
                    return Some((column + 1, format!("[{inside}]:{port}")));
                }
            }
            _ => {}
        }
        before = letter;
    }
    None
}

/// How many characters of a line, from where a node begins, belong to it.
fn token_length(rest: &str) -> usize {
    let mut quote = None;
    let mut depth = 0_usize;
    let mut before = ' ';
    let mut letters = rest.chars().enumerate().peekable();
    while let Some((index, letter)) = letters.next() {
        let next = letters.peek().map_or(' ', |(_, next)| *next);
        match (quote, letter) {
            (Some(open), _) if letter == open && (open == '\'' || before != '\\') => {
                quote = None;
                if depth == 0 {
                    return index + 1;
                }
            }
            (None, '"' | '\'') if index == 0 || depth > 0 => quote = Some(letter),
            (None, '[' | '{') if index == 0 || depth > 0 => depth += 1,
            (None, ']' | '}') if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    return index + 1;
                }
            }
            (None, ',' | ']' | '}') if depth == 0 => return index.max(1),
            (None, ':') if depth == 0 && next.is_whitespace() => return index.max(1),
            (None, '#') if depth == 0 && before.is_whitespace() => break,
            _ => {}
        }
        before = letter;
    }
    // A list or mapping that goes on in the next line: its bracket alone.
    if depth > 0 || quote.is_some() {
        return 1;
    }
    let text = rest.split(" #").next().unwrap_or(rest);
    text.trim_end().chars().count().max(1)
}
