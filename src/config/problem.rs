//! What is wrong with a configuration, in a form that people and programs can read.
//!
//! A [`Problem`] carries its own line of the file, so that it can be shown long after the text is gone.
//! Codes are stable: a code never changes its meaning, and is never used again for another one.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

/// The stable codes of problems.
pub mod code {
    /// The named file doesn't exist.
    pub const NO_FILE: &str = "E001";
    /// The file exists and may not be read.
    pub const FILE_PERMISSION: &str = "E002";
    /// Reading the file failed.
    pub const FILE_IO: &str = "E003";
    /// The file is too large, or not UTF-8.
    pub const FILE_UNFIT: &str = "E004";
    /// The text isn't YAML, or uses a part of YAML that has no meaning here; reported alone.
    pub const SYNTAX: &str = "E005";
    /// A key that nobody knows.
    pub const UNKNOWN_KEY: &str = "E010";
    /// A key or word of the interface that this version doesn't act on.
    pub const NOT_BUILT: &str = "E011";
    /// A key that is there twice.
    pub const DUPLICATE_KEY: &str = "E012";
    /// A key that has to be there and isn't.
    pub const MISSING_KEY: &str = "E013";
    /// A value of the wrong type.
    pub const WRONG_TYPE: &str = "E014";
    /// `${NAME}` without a value and without a default.
    pub const UNDEFINED_VARIABLE: &str = "E015";
    /// A word that isn't one of those allowed here.
    pub const UNKNOWN_WORD: &str = "E020";
    /// A number, size or duration that can't be read or is out of bounds.
    pub const BAD_NUMBER: &str = "E021";
    /// An address to bind or to connect to that can't be read.
    pub const BAD_ADDRESS: &str = "E022";
    /// A range, address or preset name that can't be read.
    pub const BAD_RANGE: &str = "E023";
    /// The name or value of a header field that can't be used.
    pub const BAD_FIELD: &str = "E024";
    /// A host, path or method that can't be matched.
    pub const BAD_MATCH: &str = "E025";
    /// The name of a listener, an upstream, a route or a certificate that can't be used.
    pub const BAD_NAME: &str = "E026";
    /// Keys that exclude each other, or a key that has no meaning beside another.
    pub const EXCLUSIVE: &str = "E030";
    /// A route sends to an upstream that doesn't exist.
    pub const NO_UPSTREAM: &str = "E031";
    /// An address that is bound twice.
    pub const ADDRESS_TWICE: &str = "E032";
    /// A list that needs an entry and has none.
    pub const EMPTY: &str = "E033";
    /// An admin address that others can reach, and no token.
    pub const NEEDS_TOKEN: &str = "E038";
    /// A list of headers where exactly one is allowed.
    pub const HEADER_LIST: &str = "E037";
    /// A file that the configuration names doesn't exist.
    pub const NEEDS_FILE: &str = "E040";
    /// A file that the configuration names can't be read.
    pub const FILE_UNREADABLE: &str = "E041";
    /// A file that the configuration names isn't what it should be.
    pub const FILE_INVALID: &str = "E042";
    /// A file that the configuration names can't be written.
    pub const FILE_UNWRITABLE: &str = "E043";
    /// An address that can't be listened on.
    pub const CANNOT_BIND: &str = "E050";
    /// There are more problems than are shown.
    pub const MORE: &str = "E099";
    /// Everybody may choose the client address.
    pub const WORLD_TRUST: &str = "W101";
    /// A TLS listener that redirects to HTTPS.
    pub const REDIRECT_WITH_TLS: &str = "W102";
    /// A route that no request can reach.
    pub const UNREACHABLE_ROUTE: &str = "W103";
    /// The client address comes from PROXY headers that nobody may send here.
    pub const NO_PROXY_HEADERS: &str = "W104";
    /// An upstream that no route leads to.
    pub const UNUSED_UPSTREAM: &str = "W105";
    /// An upstream whose certificates nobody verifies.
    pub const UNVERIFIED_UPSTREAM: &str = "W106";
    /// A collector whose port speaks another protocol.
    pub const GRPC_COLLECTOR: &str = "W107";
    /// Nodes or pods of the own cluster may choose the client address.
    pub const CLUSTER_TRUST: &str = "W108";
    /// A header of a CDN's is believed from elsewhere.
    pub const FOREIGN_CDN_HEADER: &str = "W109";
    /// Probes come from where a PROXY header is required.
    pub const PROBE_WITHOUT_PROXY_HEADER: &str = "W110";
    /// The ranges of a preset are old.
    pub const STALE_PRESET: &str = "W111";
    /// A certificate that no client accepts now.
    pub const CERTIFICATE_TIME: &str = "W112";
    /// Addresses of clients are translated before they get here; noticed while the process runs, as the next.
    pub const TRANSLATED: &str = "W120";
    /// A peer that nobody trusts names clients.
    pub const UNTRUSTED_HEADER: &str = "W121";
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration can't be used.
    Error,
    /// The configuration can be used, and probably doesn't do what is wanted.
    Warning,
}

/// One problem and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// One of [`code`].
    pub code: &'static str,
    /// Whether it can be lived with.
    pub severity: Severity,
    /// The file as the operator named it.
    pub path: String,
    /// Counted from 1; `None` when the problem has no place in the text.
    pub line: Option<usize>,
    /// Counted from 1, in characters.
    pub column: Option<usize>,
    /// The key path, such as `listeners.https.tls.certificates[0].cert`; empty for the whole file.
    pub field: String,
    /// One line.
    pub message: String,
    /// What stands beside the marked text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What to do about it.
    pub help: Vec<String>,
    /// The line of the file.
    #[serde(skip)]
    pub(super) excerpt: String,
    /// How many characters are marked.
    #[serde(skip)]
    pub(super) marked: usize,
}

impl Problem {
    /// An error about a file as a whole.
    pub fn error(code: &'static str, path: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            path: path.to_owned(),
            line: None,
            column: None,
            field: String::new(),
            message: message.into(),
            label: None,
            help: Vec::new(),
            excerpt: String::new(),
            marked: 0,
        }
    }

    /// Adds what stands beside the marked text.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Adds a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Turns the problem into one that can be lived with.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// The block shown to people, ending in a line feed.
    pub fn render(&self, style: Style) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = level
            .primary_title(self.message.as_str())
            .id(self.code)
            .elements(self.snippet());
        if let (None, Some(label)) = (self.line, &self.label) {
            group = group.element(Level::NOTE.message(label.as_str()));
        }
        for help in &self.help {
            group = group.element(Level::HELP.message(wrapped(help)));
        }
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Colour => Renderer::styled(),
        };
        let block = renderer.render(&[group]);
        // The renderer makes room for the digits of one line number; blocks line up when all have room for two.
        let gutter = match self.line {
            None => "  ",
            Some(line) if line < 10 => " ",
            Some(_) => "",
        };
        let mut shown = String::with_capacity(block.len() + 16);
        for (index, line) in block.lines().enumerate() {
            if index > 0 {
                shown.push_str(gutter);
            }
            shown.push_str(line);
            shown.push('\n');
        }
        shown
    }

    fn snippet(&self) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let (line, column) = (self.line?, self.column?);
        let bytes_before = |characters: usize| -> usize {
            self.excerpt
                .chars()
                .take(characters)
                .map(char::len_utf8)
                .sum()
        };
        let start = bytes_before(column.saturating_sub(1));
        let end = bytes_before(column.saturating_sub(1).saturating_add(self.marked));
        let annotation = AnnotationKind::Primary
            .span(start..end)
            .label(self.label.as_deref());
        Some(
            Snippet::source(self.excerpt.as_str())
                .line_start(line)
                .path(self.path.as_str())
                .annotation(annotation),
        )
    }
}

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Text alone.
    Plain,
    /// With the colours of a terminal.
    Colour,
}

/// The problems of one configuration, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many there are of one severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.0
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// Adds one at the end.
    pub fn push(&mut self, problem: Problem) {
        self.0.push(problem);
    }

    /// One after the other.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All blocks, each followed by an empty line.
    pub fn render(&self, style: Style) -> String {
        let mut shown = String::new();
        for problem in &self.0 {
            shown.push_str(&problem.render(style));
            shown.push('\n');
        }
        shown
    }

    /// `proxy.yaml: 3 errors, 1 warning`; without the severity that doesn't occur.
    pub fn summary(&self, file: &str) -> String {
        let mut counts = Vec::new();
        for (severity, word) in [(Severity::Error, "error"), (Severity::Warning, "warning")] {
            let number = self.count(severity);
            if number > 0 {
                counts.push(counted(number, word));
            }
        }
        format!("{file}: {}", counts.join(", "))
    }

    pub(super) fn sort_by_place(&mut self) {
        self.0
            .sort_by_key(|problem| (problem.line.unwrap_or(usize::MAX), problem.column));
    }
}

impl Extend<Problem> for Problems {
    fn extend<I: IntoIterator<Item = Problem>>(&mut self, problems: I) {
        self.0.extend(problems);
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl IntoIterator for Problems {
    type Item = Problem;
    type IntoIter = std::vec::IntoIter<Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// `1 error`, `2 errors`.
pub fn counted(number: usize, word: &str) -> String {
    if number == 1 {
        format!("1 {word}")
    } else {
        format!("{number} {word}s")
    }
}

/// `title: a, b, c`.
pub(super) fn listed(title: &str, words: &[&str]) -> String {
    format!("{title}: {}", words.join(", "))
}

/// Breaks a long list into lines, behind its commas only: what is to be typed stays in one piece.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = String::with_capacity(text.len() + 4);
    let mut width = 0;
    for part in text.split_inclusive(", ") {
        if width > 0 && width + part.trim_end().len() > WIDTH {
            lines.truncate(lines.trim_end().len());
            lines.push('\n');
            width = 0;
        }
        lines.push_str(part);
        width += part.len();
    }
    lines
}

/// The candidate that `word` was probably meant to be.
///
/// A kebab-case or camelCase spelling of a candidate always is; otherwise it may differ by a third of its letters.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let snake = snake_case(word);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&snake, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `trustedProxies`, `trusted-proxies` → `trusted_proxies`.
pub(super) fn snake_case(word: &str) -> String {
    let mut snake = String::with_capacity(word.len() + 4);
    let mut after_lower = false;
    for letter in word.chars() {
        if letter == '-' || letter == ' ' || letter == '.' {
            snake.push('_');
        } else {
            if letter.is_ascii_uppercase() && after_lower {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
        }
        after_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
    }
    snake
}
