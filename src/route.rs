//! WHICH CLUSTER? Host, path, method and fields of a request, and the route that is most specific.
//!
//! The order of a [`Router`] is that of Ingress and Gateway API: an exact host before a wildcard,
//! the longer wildcard first, then routes for any host; on one host an exact path before a prefix,
//! the longest prefix first; on one path more matchers (a list of methods is one, each field is
//! one) before fewer; what is still equal in the order of the list. A route whose methods or fields
//! don't fit passes the request on to the next in this order, in the end to a less specific host.
//!
//! Finding costs as much among ten thousand routes as among ten, unless they differ in methods and
//! fields alone. Paths are compared byte for byte, neither decoded nor normalised: what is matched
//! is what is forwarded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv6Addr;

use http::{HeaderName, HeaderValue, Method};

use crate::fields::Fields;

/// What a request must look like for a route; the default fits every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// One of these; empty: any host.
    pub hosts: Vec<HostPattern>,
    /// The path, or how it begins.
    pub path: PathPattern,
    /// One of these; empty: any method.
    pub methods: Vec<Method>,
    /// All of these, each on any line of that name, compared byte for byte.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Match {
    fn matchers(&self) -> usize {
        usize::from(!self.methods.is_empty()) + self.headers.len()
    }

    fn fits(&self, request: &Request<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(request.method))
            && self.headers.iter().all(|(name, value)| {
                let mut received = request.fields.get_all(name);
                received.any(|received| received == value.as_bytes())
            })
    }

    /// Whether methods and fields let every request pass that those of `other` do.
    fn covers(&self, other: &Self) -> bool {
        let methods = self.methods.is_empty()
            || (!other.methods.is_empty()
                && other
                    .methods
                    .iter()
                    .all(|method| self.methods.contains(method)));
        methods
            && self
                .headers
                .iter()
                .all(|field| other.headers.contains(field))
    }
}

/// A host to match: `example.com`, `*.example.net`, or `*` for any.
///
/// A wildcard stands for one or more whole labels, as in Gateway API (and unlike in a certificate):
/// `*.example.net` matches `a.example.net` and `a.b.example.net`, not `example.net`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(Host);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Exact(Box<str>),
    /// What follows `*.`
    Wildcard(Box<str>),
    Any,
}

impl HostPattern {
    /// Reads a pattern, lower-casing it and dropping the dot of a fully qualified name.
    ///
    /// An IPv6 address is written in brackets, as in `Host`. Names beyond ASCII are written in
    /// their `xn--` form, as browsers send them.
    ///
    /// # Errors
    ///
    /// A port, an empty or overlong label, a character that no host has, or a star that isn't the
    /// whole first label.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(Host::Any));
        }
        let lower = text.to_ascii_lowercase();
        let lower = lower.strip_suffix('.').unwrap_or(&lower);
        if let Some(address) = lower.strip_prefix('[') {
            let address = address
                .strip_suffix(']')
                .ok_or(PatternError::HostCharacter('['))?;
            address
                .parse::<Ipv6Addr>()
                .map_err(|_| PatternError::HostCharacter('['))?;
            return Ok(Self(Host::Exact(lower.into())));
        }
        let name = lower.strip_prefix("*.").unwrap_or(lower);
        check_name(name)?;
        let is_wildcard = name.len() < lower.len();
        Ok(Self(if is_wildcard {
            Host::Wildcard(name.into())
        } else {
            Host::Exact(name.into())
        }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Host::Exact(name) => f.write_str(name),
            Host::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Host::Any => f.write_str("*"),
        }
    }
}

/// A path to match: the whole of it, or its first segments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path and no other; begins with `/`.
    Exact(String),
    /// Whole segments: `/api` matches `/api`, `/api/` and `/api/x`, not `/apix`.
    ///
    /// Without a trailing `/` except the root itself, and `/` matches everything, `*` included.
    Prefix(String),
}

impl PathPattern {
    /// The path, or its beginning.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(path) | Self::Prefix(path) => path,
        }
    }

    /// Reads a path to be matched as a whole.
    ///
    /// # Errors
    ///
    /// No `/` at the start, or a character that a path in a request can't have or that means
    /// something else: `?`, `#`, `*`, white space, anything beyond ASCII (write it
    /// percent-encoded).
    pub fn exact(text: &str) -> Result<Self, PatternError> {
        check_path(text)?;
        Ok(Self::Exact(text.to_owned()))
    }

    /// Reads a path to be matched by whole segments; a trailing `/` makes no difference.
    ///
    /// # Errors
    ///
    /// As [`PathPattern::exact`].
    pub fn prefix(text: &str) -> Result<Self, PatternError> {
        check_path(text)?;
        let trimmed = text.trim_end_matches('/');
        Ok(Self::Prefix(
            if trimmed.is_empty() { "/" } else { trimmed }.to_owned(),
        ))
    }
}

impl Default for PathPattern {
    fn default() -> Self {
        Self::Prefix("/".to_owned())
    }
}

/// Why a pattern can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Two dots in a row, a dot at the start, or nothing at all.
    #[error("empty label in host")]
    EmptyLabel,
    /// A label has at most 63 bytes, a name 253.
    #[error("host or one of its labels is too long")]
    HostTooLong,
    /// A port is the listener's business.
    #[error("host with a port")]
    Port,
    /// Not as the whole first label, or more than one.
    #[error("`*` in a host stands for its first labels: `*.example.com`")]
    HostStar,
    /// Not a letter, digit, `-`, `_` or `.`.
    #[error("{0:?} in host")]
    HostCharacter(char),
    /// Every path does.
    #[error("path does not begin with `/`")]
    PathStart,
    /// Prefixes are what covers the paths below one.
    #[error("`*` in path: a prefix matches all below it without one")]
    PathStar,
    /// Not in the path of any request, in this spelling.
    #[error("{0:?} in path")]
    PathCharacter(char),
}

fn check_name(name: &str) -> Result<(), PatternError> {
    for character in name.chars() {
        match character {
            'a'..='z' | '0'..='9' | '-' | '_' | '.' => {}
            '*' => return Err(PatternError::HostStar),
            ':' => return Err(PatternError::Port),
            other => return Err(PatternError::HostCharacter(other)),
        }
    }
    if name.len() > MAX_HOST_BYTES {
        return Err(PatternError::HostTooLong);
    }
    name.split('.').try_for_each(|label| match label.len() {
        0 => Err(PatternError::EmptyLabel),
        1..=63 => Ok(()),
        _ => Err(PatternError::HostTooLong),
    })
}

fn check_path(path: &str) -> Result<(), PatternError> {
    if !path.starts_with('/') {
        return Err(PatternError::PathStart);
    }
    path.chars().try_for_each(|character| match character {
        '*' => Err(PatternError::PathStar),
        '?' | '#' => Err(PatternError::PathCharacter(character)),
        _ if character.is_ascii_graphic() => Ok(()),
        other => Err(PatternError::PathCharacter(other)),
    })
}

/// What the router looks at.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The host without port, as received: any case, with or without a final dot; empty: none.
    pub host: &'a str,
    /// The raw path without query, not decoded.
    pub path: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The fields as received.
    pub fields: &'a Fields,
}

/// All routes, compiled: finds the most specific one for a request.
#[derive(Debug)]
pub struct Router<T> {
    /// In configuration order; the tables below hold indices into it.
    routes: Vec<(Match, T)>,
    hosts: HashMap<Box<[u8]>, Paths>,
    wildcards: ByLength<Paths>,
    any_host: Paths,
}

impl<T> Router<T> {
    /// Compiles routes given in configuration order, which breaks ties.
    pub fn new(routes: impl IntoIterator<Item = (Match, T)>) -> Self {
        let mut router = Self {
            routes: routes.into_iter().collect(),
            hosts: HashMap::new(),
            wildcards: ByLength::default(),
            any_host: Paths::default(),
        };
        let mut order: Vec<_> = router
            .routes
            .iter()
            .map(|(pattern, _)| pattern)
            .enumerate()
            .collect();
        // Stable, so that equal ones stay in list order; then each table entry comes out sorted.
        order.sort_by_key(|(_, pattern)| std::cmp::Reverse(pattern.matchers()));
        for (index, pattern) in order {
            if pattern.hosts.is_empty() {
                router.any_host.insert(&pattern.path, index);
            }
            for host in &pattern.hosts {
                let paths = match &host.0 {
                    Host::Exact(name) => router.hosts.entry(name.as_bytes().into()).or_default(),
                    Host::Wildcard(suffix) => router.wildcards.entry(suffix.as_bytes()),
                    Host::Any => &mut router.any_host,
                };
                paths.insert(&pattern.path, index);
            }
        }
        router
    }

    /// The most specific route that fits; `None` when none does. Doesn't allocate.
    pub fn find(&self, request: &Request<'_>) -> Option<&T> {
        let mut buffer = [0; MAX_HOST_BYTES];
        let host = lower_case(request.host, &mut buffer);
        let path = request.path.as_bytes();
        self.paths_of(host)
            .flat_map(|paths| paths.candidates(path))
            .flatten()
            .filter_map(|index| self.routes.get(*index))
            .find_map(|(pattern, target)| pattern.fits(request).then_some(target))
    }

    /// Routes that no request can reach, because a route before them takes all they would take.
    ///
    /// In the order of the routes. Compares routes of the same host and path with each other; for
    /// start-up, not for requests.
    pub fn shadowed(&self) -> Vec<Shadowed> {
        let mut reachable = BTreeSet::new();
        let mut shadowed = BTreeMap::new();
        let tables = self.hosts.values().chain(self.wildcards.entries.values());
        for candidates in tables.chain([&self.any_host]).flat_map(Paths::all) {
            for (position, route) in candidates.iter().copied().enumerate() {
                let mut before = candidates.iter().copied().take(position);
                match before.find(|earlier| self.covers(*earlier, route)) {
                    // A host listed twice doesn't make a route hide itself.
                    Some(by) if by == route => {}
                    Some(by) => {
                        shadowed
                            .entry(route)
                            .and_modify(|first: &mut usize| *first = by.min(*first))
                            .or_insert(by);
                    }
                    None => {
                        reachable.insert(route);
                    }
                }
            }
        }
        let hidden = shadowed
            .into_iter()
            .filter(|(route, _)| !reachable.contains(route));
        hidden.map(|(route, by)| Shadowed { route, by }).collect()
    }

    fn covers(&self, earlier: usize, later: usize) -> bool {
        match (self.routes.get(earlier), self.routes.get(later)) {
            (Some((earlier, _)), Some((later, _))) => earlier.covers(later),
            _ => false,
        }
    }

    /// The path tables that may apply to a host, the most specific first.
    fn paths_of<'a>(&'a self, host: &'a [u8]) -> impl Iterator<Item = &'a Paths> {
        let wildcards = self.wildcards.longest_first(move |length| {
            let (labels, suffix) = host.split_at_checked(host.len().checked_sub(length)?)?;
            (labels.len() > 1 && labels.ends_with(b".")).then_some(suffix)
        });
        self.hosts
            .get(host)
            .into_iter()
            .chain(wildcards)
            .chain([&self.any_host])
    }
}

/// A route that no request can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// Its index in the list of routes.
    pub route: usize,
    /// The index of a route that takes its requests.
    pub by: usize,
}

/// Indices of the routes for one path on one host, in the order in which they are tried.
type Candidates = Vec<usize>;

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<Box<[u8]>, Candidates>,
    /// Without a trailing slash: the root is the empty prefix.
    prefixes: ByLength<Candidates>,
}

impl Paths {
    fn insert(&mut self, path: &PathPattern, index: usize) {
        let candidates = match path {
            PathPattern::Exact(path) => self.exact.entry(path.as_bytes().into()).or_default(),
            PathPattern::Prefix(path) => self.prefixes.entry(path.trim_end_matches('/').as_bytes()),
        };
        candidates.push(index);
    }

    /// The candidates for a path, the most specific first.
    fn candidates<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a Candidates> {
        let prefixes = self.prefixes.longest_first(move |length| {
            let (prefix, rest) = path.split_at_checked(length)?;
            (rest.is_empty() || rest.starts_with(b"/") || prefix.is_empty()).then_some(prefix)
        });
        self.exact.get(path).into_iter().chain(prefixes)
    }

    fn all(&self) -> impl Iterator<Item = &Candidates> {
        self.exact.values().chain(self.prefixes.entries.values())
    }
}

/// A table of beginnings or ends of a text, which can be asked for the longest one that is there.
///
/// One look-up for each length that occurs: few, and never more than the text has bytes. The
/// standard library's keyed hash, since the texts asked for are a stranger's.
#[derive(Debug)]
struct ByLength<V> {
    /// Descending.
    lengths: Vec<usize>,
    entries: HashMap<Box<[u8]>, V>,
}

impl<V> Default for ByLength<V> {
    fn default() -> Self {
        Self {
            lengths: Vec::new(),
            entries: HashMap::new(),
        }
    }
}

impl<V: Default> ByLength<V> {
    fn entry(&mut self, key: &[u8]) -> &mut V {
        if let Err(at) = self
            .lengths
            .binary_search_by(|length| key.len().cmp(length))
        {
            self.lengths.insert(at, key.len());
        }
        self.entries.entry(key.into()).or_default()
    }

    /// The entries for what `cut` makes of the text at hand for each length, if it makes anything.
    fn longest_first<'a>(
        &'a self,
        cut: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> impl Iterator<Item = &'a V> {
        self.lengths
            .iter()
            .filter_map(move |length| self.entries.get(cut(*length)?))
    }
}

/// Lower-cases a host into `buffer` without its final dot; what no pattern can match is empty.
fn lower_case<'a>(host: &str, buffer: &'a mut [u8; MAX_HOST_BYTES]) -> &'a [u8] {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    let Some(lower) = buffer.get_mut(..host.len()) else {
        return &[];
    };
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    lower
}

/// The longest name there is (RFC 1035 §2.3.4), without its final dot.
const MAX_HOST_BYTES: usize = 253;

#[cfg(test)]
mod tests;
