//! Reads typed values out of a tree, and collects every problem on the way.
//!
//! A value that can't be used is reported once and replaced by its default, so that one run finds all problems.
//! Everything read is also written down, with the defaults: that is what `check --print` shows.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::file::Part;
use super::keys::{self, Keys};
use super::problem::{Problem, Problems, Severity, code, did_you_mean, listed, snake_case};
use super::scalar::{self, ParseError, ShowDuration, ShowSize};
use super::source::Source;
use super::value::{Place, Step, Value};
use super::variables;
use crate::client_ip::presets::Month;

/// More problems than this are counted, not shown: finding the place of each costs a reading of the file.
const MAX_SHOWN: usize = 50;

/// The longest duration that makes sense anywhere, and that no sum of two overflows.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct At<'v> {
    pub(super) value: &'v Value,
    pub(super) place: Place,
}

impl At<'_> {
    /// What stands at a key, where this is a mapping.
    fn entry(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = self.value else {
            return None;
        };
        let index = entries.iter().position(|(known, _)| known == key)?;
        Some(Self {
            value: &entries.get(index)?.1,
            place: self.place.entry(index, key),
        })
    }
}

/// A mapping whose keys have been checked.
#[derive(Debug)]
pub(super) struct Section<'v> {
    pub(super) place: Place,
    entries: &'v [(String, Value)],
    /// Keys that unknown ones were probably meant to be: they aren't reported as missing, too.
    meant: Vec<&'static str>,
}

impl<'v> Section<'v> {
    /// What stands at a key; nothing when the key has no value.
    pub(super) fn get(&self, key: &str) -> Option<At<'v>> {
        let (index, (_, value)) = self
            .entries
            .iter()
            .enumerate()
            .find(|(_, (known, _))| known == key)?;
        (*value != Value::Null).then(|| At {
            value,
            place: self.place.entry(index, key),
        })
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether the key isn't there, and isn't misspelt either.
    pub(super) fn lacks(&self, key: &str) -> bool {
        !self.has(key) && !self.meant.contains(&key)
    }

    /// The items of a list, or the one value that stands in its place.
    pub(super) fn items(&self, key: &str) -> Vec<At<'v>> {
        match self.get(key) {
            Some(At {
                value: Value::List(items),
                place,
            }) => {
                let at = |(index, value)| At {
                    value,
                    place: place.item(index),
                };
                items.iter().enumerate().map(at).collect()
            }
            Some(at) => vec![at],
            None => Vec::new(),
        }
    }

    /// What stands at the end of a path of keys.
    pub(super) fn find(&self, path: &[&str]) -> Option<At<'v>> {
        let (first, rest) = path.split_first()?;
        rest.iter()
            .try_fold(self.get(first)?, |at, key| at.entry(key))
    }

    /// Where a key stands, or would stand.
    pub(super) fn place_of(&self, key: &str) -> Place {
        let index = self.entries.iter().position(|(known, _)| known == key);
        self.place.entry(index.unwrap_or(usize::MAX), key)
    }
}

/// Reads one file.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    source: &'s Source,
    problems: Problems,
    omitted: usize,
    effective: Value,
    today: Option<Month>,
}

impl<'s> Reader<'s> {
    /// Without `today` nothing is too old.
    pub(super) fn new(source: &'s Source, today: Option<Month>) -> Self {
        Self {
            today,
            source,
            problems: Problems::default(),
            omitted: 0,
            effective: Value::Map(Vec::new()),
        }
    }

    /// All problems in the order of the file, and what is in effect.
    pub(super) fn finish(mut self) -> (Problems, Value) {
        self.problems.sort_by_place();
        if self.omitted > 0 {
            let message = format!("{} more problems aren't shown", self.omitted);
            self.problems
                .push(Problem::error(code::MORE, self.source.name(), message));
        }
        (self.problems, self.effective)
    }

    pub(super) fn today(&self) -> Option<Month> {
        self.today
    }

    pub(super) fn has_errors(&self) -> bool {
        // Only errors are counted as omitted.
        self.omitted > 0 || self.problems.has_errors()
    }

    // Problems.

    /// An error that marks a value.
    pub(super) fn on_value(
        &self,
        place: &Place,
        code: &'static str,
        message: impl Into<String>,
    ) -> Problem {
        self.problem(place, Part::Value, code, message.into())
    }

    /// An error that marks a key.
    pub(super) fn on_key(
        &self,
        place: &Place,
        code: &'static str,
        message: impl Into<String>,
    ) -> Problem {
        self.problem(place, Part::Key, code, message.into())
    }

    fn problem(&self, place: &Place, part: Part, code: &'static str, message: String) -> Problem {
        if self.problems.iter().len() >= MAX_SHOWN {
            return Problem::error(code, self.source.name(), message);
        }
        self.source.problem(place, part, code, message)
    }

    pub(super) fn report(&mut self, problem: Problem) {
        if self.problems.iter().len() < MAX_SHOWN {
            self.problems.push(problem);
        } else if problem.severity == Severity::Error {
            self.omitted += 1;
        }
    }

    /// Reports a key that has to be there and isn't.
    pub(super) fn require(&mut self, section: &Section<'_>, key: &str, help: &str) {
        if !section.lacks(key) {
            return;
        }
        let message = format!("`{}` needs `{key}`", shown(&section.place));
        let problem = self
            .on_key(&section.place, code::MISSING_KEY, message)
            .help(help);
        self.report(problem);
    }

    /// Reports a list or a mapping of names that has no entry, or isn't there.
    pub(super) fn require_entry(&mut self, section: &Section<'_>, key: &str, help: &str) {
        let place = section.place_of(key);
        let problem = match section.get(key).map(|at| at.value) {
            Some(Value::List(items)) if items.is_empty() => self.without_entry(&place, key),
            Some(Value::Map(entries)) if entries.is_empty() => self.without_entry(&place, key),
            None if section.place.steps().is_empty() && section.lacks(key) => self.on_key(
                &section.place,
                code::MISSING_KEY,
                format!("`{key}` is missing"),
            ),
            None => return self.require(section, key, help),
            Some(_) => return,
        };
        self.report(problem.help(help));
    }

    fn without_entry(&self, place: &Place, key: &str) -> Problem {
        self.on_value(
            place,
            code::EMPTY,
            format!("`{key}` needs at least one entry"),
        )
    }

    /// Reports a key that has no meaning here.
    pub(super) fn meaningless(&mut self, section: &Section<'_>, key: &str, why: &str) {
        if let Some(at) = section.get(key) {
            let problem = self.on_key(
                &at.place,
                code::EXCLUSIVE,
                format!("`{key}` has no effect {why}"),
            );
            self.report(problem.label("remove it"));
        }
    }

    fn wrong_type(&mut self, at: &At<'_>, expected: &str) {
        if *at.value == Value::Unusable {
            return;
        }
        let message = format!(
            "`{}` must be {expected}, not {}",
            shown(&at.place),
            at.value.kind()
        );
        let mut problem = self.on_value(&at.place, code::WRONG_TYPE, message);
        if expected == TEXT && matches!(at.value, Value::Int(_) | Value::Float(_) | Value::Bool(_))
        {
            problem = problem.help("put it in quotes");
        }
        self.report(problem);
    }

    // What is in effect.

    /// Writes down what is in effect at a place, such that reading it again gives the same.
    pub(super) fn record(&mut self, place: &Place, value: Value) {
        let written = match value {
            Value::Text(text) => Value::Text(variables::escape(&text)),
            Value::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| match item {
                        Value::Text(text) => Value::Text(variables::escape(&text)),
                        item => item,
                    })
                    .collect(),
            ),
            value => value,
        };
        self.effective.put(place.steps(), written);
    }

    pub(super) fn record_text(&mut self, place: &Place, text: impl std::fmt::Display) {
        self.record(place, Value::text(text.to_string()));
    }

    // Mappings and lists.

    /// A mapping with known keys; `None`, after a report, when something else is there.
    pub(super) fn section<'v>(&mut self, at: &At<'v>, known: &Keys) -> Option<Section<'v>> {
        let entries: &[_] = match at.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            _ => {
                self.wrong_type(at, "a mapping");
                return None;
            }
        };
        self.check_duplicates(&at.place, entries);
        let mut meant = Vec::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            let place = at.place.entry(index, key);
            if *value == Value::Null && keys::GUARDS.contains(&key.as_str()) {
                self.report_unsaid(&place, key);
            }
            meant.extend(self.check_key(&place, key, known));
        }
        Some(Section {
            place: at.place.clone(),
            entries,
            meant,
        })
    }

    /// The section at a key; empty when it isn't there or unusable.
    pub(super) fn subsection<'v>(
        &mut self,
        section: &Section<'v>,
        key: &str,
        keys: &Keys,
    ) -> Section<'v> {
        let absent = |meant| Section {
            place: section.place_of(key),
            entries: &[],
            meant,
        };
        match section.get(key) {
            // Already reported: whatever it was meant to be, its keys aren't missing as well.
            Some(at) => self
                .section(&at, keys)
                .unwrap_or_else(|| absent(keys.built.to_vec())),
            None => absent(Vec::new()),
        }
    }

    /// The entries of a mapping whose keys are names chosen by the operator.
    pub(super) fn named<'v>(&mut self, section: &Section<'v>, key: &str) -> Vec<(&'v str, At<'v>)> {
        let Some(at) = section.get(key) else {
            return Vec::new();
        };
        let Value::Map(entries) = at.value else {
            self.wrong_type(&at, "a mapping of names");
            return Vec::new();
        };
        self.check_duplicates(&at.place, entries);
        let mut named = Vec::with_capacity(entries.len());
        for (index, (name, value)) in entries.iter().enumerate() {
            named.push((
                name.as_str(),
                At {
                    value,
                    place: at.place.entry(index, name),
                },
            ));
        }
        named
    }

    /// The texts of a list, or the one text that stands in its place.
    pub(super) fn texts<'v>(&mut self, section: &Section<'v>, key: &str) -> Vec<(At<'v>, &'v str)> {
        let items = section.items(key);
        items
            .into_iter()
            .filter_map(|at| self.text(&at).map(|text| (at, text)))
            .collect()
    }

    /// As [`Reader::texts`], written down as it is.
    pub(super) fn recorded_texts<'v>(
        &mut self,
        section: &Section<'v>,
        key: &str,
    ) -> Vec<(At<'v>, &'v str)> {
        let texts = self.texts(section, key);
        if section.has(key) {
            let list = texts.iter().map(|(_, text)| Value::text(*text)).collect();
            self.record(&section.place_of(key), Value::List(list));
        }
        texts
    }

    // Scalars.

    pub(super) fn text<'v>(&mut self, at: &At<'v>) -> Option<&'v str> {
        match at.value {
            Value::Text(text) | Value::Expanded(text) => Some(text),
            _ => {
                self.wrong_type(at, TEXT);
                None
            }
        }
    }

    /// The text at a key, if it is there.
    pub(super) fn optional_text<'v>(
        &mut self,
        section: &Section<'v>,
        key: &str,
    ) -> Option<(At<'v>, &'v str)> {
        let at = section.get(key)?;
        let text = self.text(&at)?;
        Some((at, text))
    }

    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str, default: bool) -> bool {
        let flag = section.get(key).and_then(|at| match at.value {
            Value::Bool(flag) => Some(*flag),
            Value::Expanded(text) if text == "true" => Some(true),
            Value::Expanded(text) if text == "false" => Some(false),
            _ => {
                self.wrong_type(&at, "`true` or `false`");
                None
            }
        });
        let flag = flag.unwrap_or(default);
        self.record(&section.place_of(key), Value::Bool(flag));
        flag
    }

    /// A whole number within bounds, if the key is there.
    pub(super) fn optional_number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let at = section.get(key)?;
        let number = self.number(&at, range)?;
        self.record(&section.place_of(key), Value::Int(number.into()));
        Some(number)
    }

    pub(super) fn number_or(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        self.optional_number(section, key, range)
            .unwrap_or_else(|| {
                self.record(&section.place_of(key), Value::Int(default.into()));
                default
            })
    }

    pub(super) fn number(&mut self, at: &At<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let number = match at.value {
            Value::Int(number) => *number,
            Value::Expanded(text) if text.parse::<i128>().is_ok() => {
                text.parse().unwrap_or_default()
            }
            _ => {
                self.wrong_type(at, "a whole number");
                return None;
            }
        };
        let fitting = u64::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        if fitting.is_none() {
            let name = shown(&at.place);
            let message = match (range.start(), range.end()) {
                (least, most) if least == most => format!("`{name}` must be {least}"),
                (least, most) => format!("`{name}` must be between {least} and {most}"),
            };
            let problem = self.on_value(&at.place, code::BAD_NUMBER, message);
            self.report(problem);
        }
        fitting
    }

    /// A duration above zero.
    pub(super) fn duration(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: Duration,
    ) -> Duration {
        self.duration_from(section, key, Duration::from_millis(1), default)
    }

    /// One that stands for another where it is there.
    pub(super) fn optional_duration(
        &mut self,
        section: &Section<'_>,
        key: &str,
    ) -> Option<Duration> {
        let duration = self.read_duration(&section.get(key)?, Duration::from_millis(1))?;
        self.record_text(&section.place_of(key), ShowDuration(duration));
        Some(duration)
    }

    /// A duration that may be zero.
    pub(super) fn duration_or_zero(
        &mut self,
        section: &Section<'_>,
        key: &str,
        default: Duration,
    ) -> Duration {
        self.duration_from(section, key, Duration::ZERO, default)
    }

    fn duration_from(
        &mut self,
        section: &Section<'_>,
        key: &str,
        least: Duration,
        default: Duration,
    ) -> Duration {
        let duration = section
            .get(key)
            .and_then(|at| self.read_duration(&at, least))
            .unwrap_or(default);
        self.record_text(&section.place_of(key), ShowDuration(duration));
        duration
    }

    fn read_duration(&mut self, at: &At<'_>, least: Duration) -> Option<Duration> {
        let problem = match at.value {
            Value::Text(text) | Value::Expanded(text) => match scalar::duration(text) {
                Ok(duration) if duration < least => self
                    .on_value(
                        &at.place,
                        code::BAD_NUMBER,
                        format!("`{}` can't be zero", shown(&at.place)),
                    )
                    .help("there is no «off»: every wait has a bound"),
                Ok(duration) if duration > LONGEST => self.on_value(
                    &at.place,
                    code::BAD_NUMBER,
                    format!("`{}` is longer than a year", shown(&at.place)),
                ),
                Ok(duration) => return Some(duration),
                Err(error) => self.bad_duration(at, error),
            },
            Value::Int(number) => self
                .bad_duration(at, ParseError::NoUnit)
                .help(format!("write `{number}s` for seconds")),
            _ => {
                self.wrong_type(at, "a duration such as `30s`");
                return None;
            }
        };
        self.report(problem);
        None
    }

    fn bad_duration(&self, at: &At<'_>, error: ParseError) -> Problem {
        let problem = self.on_value(
            &at.place,
            code::BAD_NUMBER,
            format!("`{}` isn't a duration: {error}", shown(&at.place)),
        );
        match error {
            ParseError::NoUnit | ParseError::TooLarge => problem,
            ParseError::UnknownUnit | ParseError::NotANumber => {
                problem.help("a duration is written `30s`, `1m 30s` or `500ms`; units: d h m s ms")
            }
        }
    }

    /// A size in bytes within bounds.
    pub(super) fn size(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        self.optional_size(section, key, range).unwrap_or_else(|| {
            self.record_text(&section.place_of(key), ShowSize(default));
            default
        })
    }

    /// A size in bytes within bounds, if the key is there.
    pub(super) fn optional_size(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let size = self.read_size(&section.get(key)?, range)?;
        self.record_text(&section.place_of(key), ShowSize(size));
        Some(size)
    }

    fn read_size(&mut self, at: &At<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let size = match at.value {
            Value::Int(number) => u64::try_from(*number).map_err(|_| ParseError::TooLarge),
            Value::Text(text) | Value::Expanded(text) => scalar::size(text),
            _ => {
                self.wrong_type(at, "a size such as `32KiB`");
                return None;
            }
        };
        let problem = match size {
            Ok(size) if range.contains(&size) => return Some(size),
            Ok(_) | Err(ParseError::TooLarge) => {
                let (least, most) = (ShowSize(*range.start()), ShowSize(*range.end()));
                let message = format!("`{}` must be between {least} and {most}", shown(&at.place));
                self.on_value(&at.place, code::BAD_NUMBER, message)
            }
            Err(error) => self
                .on_value(&at.place, code::BAD_NUMBER, format!("`{}` isn't a size: {error}", shown(&at.place)))
                .help("a size is written `32KiB` or `10MiB`, or as a plain number of bytes; units: B KiB MiB GiB"),
        };
        self.report(problem);
        None
    }

    /// One of some words; `later` are words that this version refuses.
    pub(super) fn choice<T: Copy + PartialEq>(
        &mut self,
        section: &Section<'_>,
        key: &str,
        choice: &Choice<'_, T>,
        default: T,
    ) -> T {
        let chosen = section
            .get(key)
            .and_then(|at| self.word(&at, choice))
            .unwrap_or(default);
        if let Some((word, _)) = choice.words.iter().find(|(_, value)| *value == chosen) {
            self.record_text(&section.place_of(key), word);
        }
        chosen
    }

    pub(super) fn word<T: Copy>(&mut self, at: &At<'_>, choice: &Choice<'_, T>) -> Option<T> {
        let text = match at.value {
            // `min_version: 1.2` says what it means without quotes, too.
            Value::Float(number) => number.to_string(),
            // No word here is one of these, but they deserve the list of words.
            Value::Int(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            _ => self.text(at)?.to_owned(),
        };
        if let Some((_, value)) = choice.words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let key = shown(&at.place);
        let problem = if choice.later.contains(&text.as_str()) {
            self.on_value(
                &at.place,
                code::NOT_BUILT,
                format!("`{text}` isn't built in this version"),
            )
        } else {
            let words = choice.words.iter().map(|(word, _)| *word);
            let problem = self.on_value(
                &at.place,
                code::UNKNOWN_WORD,
                format!("`{key}` can't be `{text}`"),
            );
            match did_you_mean(&text, words) {
                Some(word) => problem.label(format!("did you mean `{word}`?")),
                None => problem,
            }
        };
        let words: Vec<_> = choice.words.iter().map(|(word, _)| *word).collect();
        self.report(problem.help(listed("words here", &words)));
        None
    }

    // Keys.

    /// Without a value everybody would come in whom the key was to keep out.
    fn report_unsaid(&mut self, place: &Place, key: &str) {
        let message = format!("`{key}` has no value");
        let problem = self
            .on_key(place, code::EMPTY, message)
            .label("as if it weren't there")
            .help("remove the key, or write what it is to hold");
        self.report(problem);
    }

    fn check_duplicates(&mut self, place: &Place, entries: &[(String, Value)]) {
        let mut first_at = std::collections::HashMap::new();
        for (index, (key, _)) in entries.iter().enumerate() {
            let Some(first) = first_at.insert(key, index) else {
                continue;
            };
            first_at.insert(key, first);
            let earlier = self.on_key(&place.entry(first, key), code::DUPLICATE_KEY, "");
            let problem = self.on_key(
                &place.entry(index, key),
                code::DUPLICATE_KEY,
                format!("`{key}` is there twice"),
            );
            let problem = match earlier.line {
                Some(line) => problem.label(format!("the first is in line {line}")),
                None => problem,
            };
            self.report(problem);
        }
    }

    /// Reports a key that isn't one; gives back what it was probably meant to be.
    fn check_key(&mut self, place: &Place, key: &str, keys: &Keys) -> Option<&'static str> {
        let snake = snake_case(key);
        if keys.built.contains(&key) {
            return None;
        }
        if keys.later.contains(&key) || keys.later.contains(&snake.as_str()) {
            let problem = self.on_key(
                place,
                code::NOT_BUILT,
                format!("`{snake}` isn't built in this version"),
            );
            self.report(problem.label("remove it"));
            return None;
        }
        let parent = place.parent();
        let message = if parent.steps().is_empty() {
            format!("unknown key `{key}`")
        } else {
            format!("unknown key `{key}` in `{}`", shown(&parent))
        };
        let mut problem = self.on_key(place, code::UNKNOWN_KEY, message);
        let meant = did_you_mean(key, keys.built.iter().copied());
        if key == "<<" {
            problem = problem.label("anchors and aliases are read, merge keys aren't");
        } else if let Some(meant) = meant {
            problem = problem.label(format!("did you mean `{meant}`?"));
        }
        self.report(problem.help(listed("keys here", keys.built)));
        meant
    }
}

/// The words a key may hold.
#[derive(Debug)]
pub(super) struct Choice<'w, T> {
    pub(super) words: &'w [(&'static str, T)],
    pub(super) later: &'w [&'static str],
}

impl<'w, T> Choice<'w, T> {
    pub(super) const fn of(words: &'w [(&'static str, T)]) -> Self {
        Self { words, later: &[] }
    }
}

const TEXT: &str = "text";

/// A place as messages name it: the last key with what follows it, or the name of the thing it belongs to.
pub(super) fn shown(place: &Place) -> String {
    let steps = place.steps();
    let last_key = steps
        .iter()
        .rposition(|step| matches!(step, Step::Entry { .. }))
        .unwrap_or(0);
    let mut name = String::new();
    for step in steps.iter().skip(last_key) {
        // Writing to a String can't fail.
        let _ = match step {
            Step::Entry { key, .. } => write!(name, "{key}"),
            Step::Item(index) => write!(name, "[{index}]"),
        };
    }
    name
}
