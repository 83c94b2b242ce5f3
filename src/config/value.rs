//! A configuration as a tree of plain values, and paths into it.

use std::fmt;

/// What the file says at one place, before it has a meaning.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// `~`, `null` or nothing at all.
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Text in which a `${NAME}` was replaced; may stand where a number or a switch is wanted.
    Expanded(String),
    List(Vec<Self>),
    /// In the order of the file, duplicate keys included.
    Map(Vec<(String, Self)>),
    /// Already reported; readers take the default and say nothing.
    Unusable,
}

impl Value {
    /// With an article, for «expected …, found …».
    pub(super) fn kind(&self) -> String {
        match self {
            Self::Null | Self::Unusable => "nothing".to_owned(),
            Self::Bool(value) => format!("`{value}`"),
            Self::Int(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(_) | Self::Expanded(_) => "text".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// What a map holds at a key.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        let Self::Map(entries) = self else {
            return None;
        };
        entries
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value)
    }

    /// The text a map holds at a key; empty when there is none.
    pub(super) fn text_at(&self, key: &str) -> &str {
        self.get(key).and_then(Self::as_text).unwrap_or_default()
    }

    /// The texts of a list.
    pub(super) fn texts(&self) -> Vec<&str> {
        let Self::List(items) = self else {
            return Vec::new();
        };
        items.iter().filter_map(Self::as_text).collect()
    }

    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Expanded(text) => Some(text),
            _ => None,
        }
    }

    /// Puts `value` at `place`, making the maps and lists on the way.
    pub(super) fn put(&mut self, steps: &[Step], value: Self) {
        let Some((first, rest)) = steps.split_first() else {
            *self = value;
            return;
        };
        match first {
            Step::Entry { key, .. } => self.entry(key).put(rest, value),
            Step::Item(index) => self.item(*index).put(rest, value),
        }
    }

    fn entry(&mut self, key: &str) -> &mut Self {
        if !matches!(self, Self::Map(_)) {
            *self = Self::Map(Vec::new());
        }
        let Self::Map(entries) = self else {
            return self;
        };
        let index = entries
            .iter()
            .position(|(known, _)| known == key)
            .unwrap_or_else(|| {
                entries.push((key.to_owned(), Self::Null));
                entries.len() - 1
            });
        #[expect(
            clippy::indexing_slicing,
            reason = "the index was found or made two lines above"
        )]
        &mut entries[index].1
    }

    fn item(&mut self, index: usize) -> &mut Self {
        if !matches!(self, Self::List(_)) {
            *self = Self::List(Vec::new());
        }
        let Self::List(items) = self else { return self };
        if items.len() <= index {
            items.resize(index + 1, Self::Null);
        }
        #[expect(
            clippy::indexing_slicing,
            reason = "the list was made long enough in the line above"
        )]
        &mut items[index]
    }
}

/// One step down the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The entry at `index` of a map: a number as well as a key, because keys may be there twice.
    Entry { index: usize, key: String },
    /// An item of a list.
    Item(usize),
}

/// A path from the root; prints as `listeners.https.address[0]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place(Vec<Step>);

impl Place {
    pub(super) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(super) fn entry(&self, index: usize, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Entry {
            index,
            key: key.to_owned(),
        });
        Self(steps)
    }

    pub(super) fn item(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Item(index));
        Self(steps)
    }

    pub(super) fn parent(&self) -> Self {
        let mut steps = self.0.clone();
        steps.pop();
        Self(steps)
    }

    /// Follows a printed path through `root`, as far as it exists there.
    pub(super) fn find(root: &Value, field: &str) -> Self {
        let mut place = Self::default();
        let mut at = root;
        for name in field.split(['.', '[']) {
            let next = match (at, name.strip_suffix(']')) {
                (Value::Map(entries), None) => entries
                    .iter()
                    .enumerate()
                    .find(|(_, (key, _))| key == name)
                    .map(|(index, (key, value))| (place.entry(index, key), value)),
                (Value::List(items), Some(number)) => number
                    .parse()
                    .ok()
                    .and_then(|index: usize| Some((place.item(index), items.get(index)?))),
                // One value where a list may stand: `address[0]` is `address`.
                (_, Some("0")) => Some((place.clone(), at)),
                _ => None,
            };
            let Some((deeper, value)) = next else { break };
            (place, at) = (deeper, value);
        }
        place
    }

    /// What stands at this place.
    pub(super) fn value<'v>(&self, root: &'v Value) -> Option<&'v Value> {
        let mut at = root;
        for step in &self.0 {
            at = match (step, at) {
                (Step::Entry { index, .. }, Value::Map(entries)) => &entries.get(*index)?.1,
                (Step::Item(index), Value::List(items)) => items.get(*index)?,
                _ => return None,
            };
        }
        Some(at)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Entry { key, .. } if depth == 0 => formatter.write_str(key)?,
                Step::Entry { key, .. } => write!(formatter, ".{key}")?,
                Step::Item(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}
