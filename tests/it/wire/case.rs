//! A row of `tests/cases/wire`, as the table has it.

use serde::Deserialize;

/// Rows that ask for the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Class {
    #[serde(rename = "class")]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) requires: Required,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What a client of HTTP/1 sends; for one of HTTP/2, what stands in its DATA.
    #[serde(default)]
    pub(crate) sends: Bytes,
    /// The fields of a request over HTTP/2.
    pub(crate) fields: Option<Vec<(String, String)>>,
    #[serde(default)]
    pub(crate) trailers: Vec<(String, String)>,
    /// Goes away once the upstream has seen something.
    #[serde(default)]
    pub(crate) leaves: bool,
    pub(crate) answer: Option<Bytes>,
    /// Answers when it has the head.
    #[serde(default)]
    pub(crate) early: bool,
    #[serde(default)]
    pub(crate) ends: Ends,
    #[serde(default)]
    pub(crate) requires: Required,
}

/// What the upstream does with its connection after the answer.
#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ends {
    #[default]
    Keeps,
    Closes,
    Resets,
}

/// What isn't said isn't asked for; a class speaks for its rows that say nothing.
#[derive(Deserialize, Clone, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Required {
    /// Any of them.
    pub(crate) status: Option<Vec<Answer>>,
    pub(crate) then: Option<Then>,
    pub(crate) upstream: Option<Seen>,
    /// Whether the next request may come on the connection of this one.
    pub(crate) reuses: Option<bool>,
    /// Stand in what the upstream got, whatever the case of letters.
    pub(crate) forwards: Option<Vec<String>>,
    pub(crate) never_forwards: Option<Vec<String>>,
    /// Stand in what the client got.
    pub(crate) returns: Option<Vec<String>>,
    pub(crate) never_returns: Option<Vec<String>>,
}

impl Required {
    pub(crate) fn or(&self, class: &Self) -> Self {
        Self {
            status: self.status.clone().or_else(|| class.status.clone()),
            then: self.then.or(class.then),
            upstream: self.upstream.or(class.upstream),
            reuses: self.reuses.or(class.reuses),
            forwards: self.forwards.clone().or_else(|| class.forwards.clone()),
            never_forwards: (self.never_forwards.clone()).or_else(|| class.never_forwards.clone()),
            returns: self.returns.clone().or_else(|| class.returns.clone()),
            never_returns: (self.never_returns.clone()).or_else(|| class.never_returns.clone()),
        }
    }
}

/// How a request ended for the client.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(untagged)]
pub(crate) enum Answer {
    Whole(u16),
    Broken(Broken),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(status) => write!(f, "answered {status}"),
            Self::Broken(Broken::Cut) => f.write_str("cut off"),
            Self::Broken(Broken::Reset) => f.write_str("reset"),
            Self::Broken(Broken::Hangs) => f.write_str("hung"),
        }
    }
}

#[derive(Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Broken {
    /// The connection closed before the answer had its end.
    Cut,
    /// The stream was reset.
    Reset,
    /// Nothing more came.
    Hangs,
}

/// What became of the client's connection.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Then {
    /// The next request on it was answered.
    Keep,
    Close,
    /// It was neither answered on nor closed.
    #[serde(skip)]
    Hang,
}

/// What came to the upstream, whose connections are over by then.
#[derive(Deserialize, Clone, Copy, Debug, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Seen {
    /// Not a byte.
    Nothing,
    /// No request with its end; maybe a beginning.
    Unfinished,
    /// One request, once.
    Whole,
}

/// Bytes, each written as the character of that number, in pieces: a text, or a text and how often.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    One(Piece),
    Many(Vec<Piece>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Piece {
    Text(String),
    Repeated(String, usize),
}

impl Default for Bytes {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Bytes {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let pieces = match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Many(pieces) => pieces,
        };
        pieces.iter().flat_map(Piece::bytes).collect()
    }
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        let (text, times) = match self {
            Self::Text(text) => (text, 1),
            Self::Repeated(text, times) => (text, *times),
        };
        let byte = |character| u8::try_from(character).expect("a byte");
        text.chars().map(byte).collect::<Vec<u8>>().repeat(times)
    }
}
