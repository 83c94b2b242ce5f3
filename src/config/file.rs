//! The YAML text as a tree, and the place of every node in it.
//!
//! The only file that knows `serde_yaml`, which is archived: replacing it means replacing this file.
//!
//! `serde_yaml` tells positions only in errors. [`locate`] therefore reads the text again and fails on purpose at the
//! wanted node; that costs a parse per reported problem and nothing for a correct file.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::value::{Place, Step, Value};

/// The text isn't YAML, or uses a part of YAML that has no meaning here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub(super) message: String,
    /// What the parser was doing; empty when it doesn't say.
    pub(super) context: String,
    pub(super) at: Option<Position>,
}

/// A place in the text, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The key of an entry, or what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// Reads the text into a tree. Duplicate keys are kept: the reader reports them.
pub(super) fn parse(text: &str) -> Result<Value, SyntaxError> {
    let budget = Cell::new(MAX_NODES);
    Tree(&budget)
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| syntax_error(&error))
}

/// Where a node of a tree made by [`parse`] from this text stands.
///
/// A node that is there by an alias stands where its anchor is.
pub(super) fn locate(text: &str, place: &Place, part: Part) -> Option<Position> {
    let walk = Walk {
        steps: place.steps(),
        part,
    };
    let error = walk
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    position(&error)
}

/// Writes a tree as YAML that [`parse`] reads into the same tree.
pub(super) fn write(value: &Value) -> Result<String, fmt::Error> {
    serde_yaml::to_string(value).map_err(|_| fmt::Error)
}

fn position(error: &serde_yaml::Error) -> Option<Position> {
    let location = error.location()?;
    Some(Position {
        line: location.line(),
        column: location.column(),
    })
}

fn syntax_error(error: &serde_yaml::Error) -> SyntaxError {
    // "PROBLEM at line 3 column 5, CONTEXT at line 2 column 3"; errors of our own begin with a key path.
    let text = error.to_string();
    let mut parts = text.split(" at line ");
    let message = parts.next().unwrap_or_default();
    let message = message.rsplit_once(OURS).map_or(message, |(_, ours)| ours);
    let context = parts
        .next()
        .and_then(|rest| rest.split_once(", "))
        .map_or("", |(_, context)| context);
    SyntaxError {
        message: message.to_owned(),
        context: context.to_owned(),
        at: position(error),
    }
}

/// Begins the messages of this file's own errors, to tell them from the key path in front.
const OURS: &str = "\u{1}";

/// A node with all below it. Counts nodes: aliases can make a short text a huge tree.
#[derive(Clone, Copy)]
struct Tree<'b>(&'b Cell<usize>);

/// More than a file of the largest size can hold without aliases.
const MAX_NODES: usize = 1 << 20;

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.0.get().checked_sub(1) else {
            return Err(D::Error::custom(format_args!(
                "{OURS}aliases make it too large"
            )));
        };
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(i128::try_from(value).map_or(Value::Float(f64::INFINITY), Value::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            map.push((key, entries.next_value_seed(self)?));
        }
        Ok(Value::Map(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (tag, _) = tagged.variant::<String>()?;
        Err(A::Error::custom(format_args!(
            "{OURS}the tag `!{tag}` has no meaning here"
        )))
    }
}

/// A key: any scalar, as it is written.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = String;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key that is text")
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Goes down the tree by entry and item numbers, and fails at the end.
#[derive(Clone, Copy)]
struct Walk<'p> {
    steps: &'p [Step],
    part: Part,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.steps.is_empty() {
            deserializer.deserialize_any(Here)
        } else {
            deserializer.deserialize_any(self)
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a container")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Some((Step::Item(index), rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("not a list"));
        };
        for _ in 0..*index {
            if items.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("no such item"));
            }
        }
        items.next_element_seed(Walk {
            steps: rest,
            ..self
        })?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((Step::Entry { index, .. }, rest)) = self.steps.split_first() else {
            return Err(A::Error::custom("not a mapping"));
        };
        for _ in 0..*index {
            if entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("no such entry"));
            }
        }
        if rest.is_empty() && self.part == Part::Key {
            entries.next_key_seed(Walk {
                steps: rest,
                ..self
            })?;
        }
        entries.next_key::<IgnoredAny>()?;
        entries.next_value_seed(Walk {
            steps: rest,
            ..self
        })
    }
}

/// Accepts nothing, so that the error tells the position.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nothing: the error is the position")
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null | Self::Unusable => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(value) => serializer.serialize_i128(*value),
            Self::Float(value) => serializer.serialize_f64(*value),
            Self::Text(text) | Self::Expanded(text) => serializer.serialize_str(text),
            Self::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}
