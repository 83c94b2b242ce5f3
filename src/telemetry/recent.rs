//! The last requests of a worker, kept so that operators can ask who their clients were, and why.
//!
//! A ring whose places keep their buffers: once it has come around, keeping a request allocates nothing. What a client sent
//! is kept as far as it decides who the client is, up to a bound.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue};

use crate::client_ip::Peer;
use crate::fields::Fields;

use super::origins::{Origin, Origins, Verdict};

/// Of all workers together; each keeps its part.
const REQUESTS: usize = 1024;

/// Of a worker, however many there are.
const MIN_REQUESTS: usize = 64;

/// Of a method, a host and a path.
const MAX_TEXT_BYTES: usize = 256;

/// Of the fields about the client, names included.
const MAX_FIELD_BYTES: usize = 2048;

/// The last requests of one worker.
#[derive(Debug)]
pub struct Recent {
    capacity: usize,
    ring: RefCell<Ring>,
    origins: RefCell<Origins>,
}

#[derive(Debug, Default)]
struct Ring {
    places: Vec<Place>,
    /// Requests so far: the number of the next one.
    begun: u64,
    /// Requests so far that have ended.
    ended: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    /// By the order in which they ended, from 1; 0: it hasn't.
    ended: u64,
    begun: Instant,
    id: Id,
    listener: Rc<str>,
    peer: Peer,
    client: Option<IpAddr>,
    reason: &'static str,
    source: Source,
    forged: usize,
    buffer: Vec<u8>,
    /// Where method, host and path end in it.
    ends: [usize; 3],
    /// The lengths of a name and a value that follow them.
    fields: Vec<(usize, usize)>,
    /// There were more fields than are kept.
    cut: bool,
    end: Option<End<Rc<str>>>,
}

/// What a request goes by in logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Id {
    /// Given here.
    Own {
        /// Of the process.
        boot: u32,
        /// Whose request it was.
        worker: usize,
        /// By that worker.
        number: u64,
    },
    /// Given by a peer that may do that.
    Given(HeaderValue),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own {
                boot,
                worker,
                number,
            } => write!(f, "{boot:08x}-{worker}-{number}"),
            Self::Given(value) => f.write_str(value.to_str().unwrap_or_default()),
        }
    }
}

/// Where a client's address was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The connection itself.
    Peer,
    /// A PROXY header.
    ProxyProtocol,
    /// This field.
    Field(HeaderName),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Peer => f.write_str("peer"),
            Self::ProxyProtocol => f.write_str("proxy_protocol"),
            Self::Field(name) => write!(f, "header:{name}"),
        }
    }
}

/// A request whose client is known.
#[derive(Debug)]
pub struct Request<'a> {
    /// When its head was complete.
    pub begun: Instant,
    /// What it goes by.
    pub id: Id,
    /// The listener's name.
    pub listener: Rc<str>,
    /// Who sent it.
    pub peer: Peer,
    /// Who the client is.
    pub client: Option<IpAddr>,
    /// Why.
    pub reason: &'static str,
    /// Where that was found.
    pub source: Source,
    /// Fields that were sent in vain.
    pub forged: usize,
    /// As received.
    pub method: &'a str,
    /// As received.
    pub host: &'a str,
    /// Without the query.
    pub path: &'a str,
}

/// How a request ended; `S` is how names are held.
#[derive(Debug, Clone)]
pub struct End<S = String> {
    /// The route's name; empty where there was none.
    pub route: S,
    /// 499: the client left before.
    pub status: u16,
    /// From its head to its end.
    pub duration: Duration,
}

/// A request as it was kept.
#[derive(Debug, Clone)]
pub struct Seen {
    /// By the order in which its worker's requests ended, from 1; 0: it hasn't.
    pub ended: u64,
    /// When its head was complete.
    pub time: SystemTime,
    /// What it goes by in logs.
    pub id: String,
    /// The listener's name.
    pub listener: String,
    /// Who sent it.
    pub peer: Peer,
    /// Who the client is.
    pub client: Option<IpAddr>,
    /// Why.
    pub reason: &'static str,
    /// Where that was found.
    pub source: String,
    /// Fields that were sent in vain.
    pub forged: usize,
    /// What the client's address is worth.
    pub verdict: Verdict,
    /// As received, and cut if it was long; so are the next two.
    pub method: String,
    /// As received.
    pub host: String,
    /// Without the query.
    pub path: String,
    /// What was said about the client; `None` when it was more than is kept.
    pub fields: Option<Fields>,
    /// `None` while it lasts.
    pub end: Option<End>,
}

/// Which requests somebody wants to see.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// So many of the last.
    Last(usize),
    /// That ended after the one that was the `n`th to end.
    EndedAfter(u64),
    /// That goes by this.
    Named(String),
}

impl Recent {
    /// Of one of so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            capacity: (REQUESTS / workers.max(1)).max(MIN_REQUESTS),
            ring: RefCell::default(),
            origins: RefCell::default(),
        }
    }

    /// Keeps a request, and returns its number. `fields` are those that decide who its client is.
    pub fn begin<'a>(
        &self,
        request: Request<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) -> u64 {
        self.origins.borrow_mut().count(
            request.client,
            &request.peer,
            &request.source,
            request.forged,
        );
        let mut ring = self.ring.borrow_mut();
        let number = ring.begun;
        ring.begun += 1;
        let index = self.index(number);
        let used = ring.places.get_mut(index).map(|place| {
            (
                std::mem::take(&mut place.buffer),
                std::mem::take(&mut place.fields),
            )
        });
        let (buffer, lengths) = used.unwrap_or_default();
        let place = Place::new(number, request, fields, buffer, lengths);
        match ring.places.get_mut(index) {
            Some(used) => *used = place,
            None => ring.places.push(place),
        }
        number
    }

    /// Notes how a request ended, if it is still kept. `end` is asked only then.
    pub fn end(&self, number: u64, end: impl FnOnce() -> End<Rc<str>>) {
        let mut ring = self.ring.borrow_mut();
        let ended = ring.ended + 1;
        let index = self.index(number);
        if let Some(place) = ring.places.get_mut(index)
            && place.number == number
        {
            place.ended = ended;
            place.end = Some(end());
            ring.ended = ended;
        }
    }

    /// The requests that are wanted, oldest first.
    pub fn seen(&self, wanted: &Wanted) -> Vec<Seen> {
        let ring = self.ring.borrow();
        let mut places: Vec<&Place> = ring.places.iter().collect();
        match wanted {
            Wanted::Last(most) => {
                places.sort_unstable_by_key(|place| place.number);
                places.drain(..places.len().saturating_sub(*most));
            }
            Wanted::EndedAfter(last) => {
                places.retain(|place| place.ended > *last);
                places.sort_unstable_by_key(|place| place.ended);
            }
            Wanted::Named(id) => places.retain(|place| place.id.to_string() == *id),
        }
        places.into_iter().map(Place::seen).collect()
    }

    /// Where requests came from since there is somebody to ask, and how many from each.
    pub fn origins(&self) -> Vec<(Origin, u64)> {
        self.origins.borrow().all()
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number % self.capacity as u64).unwrap_or_default()
    }
}

impl Place {
    fn new<'a>(
        number: u64,
        request: Request<'_>,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        mut buffer: Vec<u8>,
        mut lengths: Vec<(usize, usize)>,
    ) -> Self {
        buffer.clear();
        lengths.clear();
        let ends = [request.method, request.host, request.path].map(|text| {
            let kept = text
                .as_bytes()
                .get(..MAX_TEXT_BYTES)
                .unwrap_or(text.as_bytes());
            buffer.extend_from_slice(kept);
            buffer.len()
        });
        let room = buffer.len() + MAX_FIELD_BYTES;
        let mut cut = false;
        for (name, value) in fields {
            if buffer.len() + name.len() + value.len() > room {
                cut = true;
                break;
            }
            buffer.extend_from_slice(name);
            buffer.extend_from_slice(value);
            lengths.push((name.len(), value.len()));
        }
        Self {
            number,
            ended: 0,
            begun: request.begun,
            id: request.id,
            listener: request.listener,
            peer: request.peer,
            client: request.client,
            reason: request.reason,
            source: request.source,
            forged: request.forged,
            buffer,
            ends,
            fields: lengths,
            cut,
            end: None,
        }
    }

    fn seen(&self) -> Seen {
        let [method, host, path] = self.ends;
        let text = |from: usize, to: usize| {
            let bytes = self.buffer.get(from..to).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        Seen {
            ended: self.ended,
            time: SystemTime::now() - self.begun.elapsed(),
            id: self.id.to_string(),
            listener: self.listener.as_ref().to_owned(),
            peer: self.peer,
            client: self.client,
            reason: self.reason,
            source: self.source.to_string(),
            forged: self.forged,
            verdict: Verdict::of(&self.source, self.forged),
            method: text(0, method),
            host: text(method, host),
            path: text(host, path),
            fields: (!self.cut).then(|| self.fields(path)),
            end: self.end.as_ref().map(|end| End {
                route: end.route.as_ref().to_owned(),
                status: end.status,
                duration: end.duration,
            }),
        }
    }

    fn fields(&self, mut from: usize) -> Fields {
        let mut fields = Fields::default();
        for (name_len, value_len) in &self.fields {
            let (middle, to) = (from + name_len, from + name_len + value_len);
            let name = self.buffer.get(from..middle).map(HeaderName::from_bytes);
            let value = self.buffer.get(middle..to).map(HeaderValue::from_bytes);
            if let (Some(Ok(name)), Some(Ok(value))) = (name, value) {
                fields.append(name, value);
            }
            from = to;
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use http::header::FORWARDED;

    use super::*;
    use crate::client_ip::SocketPeer;

    const XFF: HeaderName = HeaderName::from_static("x-forwarded-for");

    fn begin(recent: &Recent, number: u64, fields: &Fields) -> u64 {
        let request = Request {
            begun: Instant::now(),
            id: Id::Own {
                boot: 0xabc,
                worker: 1,
                number,
            },
            listener: "http".into(),
            peer: Peer {
                socket: SocketPeer::Unix,
                proxied: None,
            },
            client: None,
            reason: "direct_peer",
            source: Source::Peer,
            forged: 2,
            method: "GET",
            host: "a.test",
            path: "/path",
        };
        recent.begin(request, fields.iter())
    }

    fn end(recent: &Recent, number: u64, status: u16) {
        recent.end(number, || End {
            route: "".into(),
            status,
            duration: Duration::ZERO,
        });
    }

    fn ids(seen: &[Seen]) -> Vec<&str> {
        seen.iter().map(|seen| seen.id.as_str()).collect()
    }

    #[test]
    fn a_request_is_shown_as_it_came() {
        let recent = Recent::new(1);
        let mut fields = Fields::default();
        fields.append(XFF, HeaderValue::from_static("192.0.2.1"));
        fields.append(XFF, HeaderValue::from_bytes(b"\xff").unwrap());
        fields.append(FORWARDED, HeaderValue::from_static(""));
        let number = begin(&recent, 7, &fields);
        let [seen] = &recent.seen(&Wanted::Last(9))[..] else {
            panic!("not one")
        };
        assert_eq!(
            (&*seen.method, &*seen.host, &*seen.path),
            ("GET", "a.test", "/path")
        );
        let seen_fields = seen.fields.as_ref().unwrap();
        assert!(seen_fields.iter().eq(fields.iter()));
        assert!(seen.end.is_none());
        end(&recent, number, 204);
        let seen = recent.seen(&Wanted::Named("00000abc-1-7".to_owned()));
        assert_eq!(seen[0].end.as_ref().unwrap().status, 204);
    }

    #[test]
    fn the_last_stay_and_keep_their_order() {
        let recent = Recent::new(1_000);
        let fields = Fields::default();
        for number in 0..100 {
            begin(&recent, number, &fields);
        }
        assert_eq!(recent.seen(&Wanted::Last(1_000)).len(), MIN_REQUESTS);
        let last = recent.seen(&Wanted::Last(2));
        assert_eq!(ids(&last), ["00000abc-1-98", "00000abc-1-99"]);
    }

    #[test]
    fn the_end_of_a_request_that_is_gone_is_nobodys() {
        let recent = Recent::new(1_000);
        let fields = Fields::default();
        let first = begin(&recent, 0, &fields);
        for number in 1..=MIN_REQUESTS as u64 {
            begin(&recent, number, &fields);
        }
        end(&recent, first, 200);
        assert!(
            recent
                .seen(&Wanted::Last(1_000))
                .iter()
                .all(|seen| seen.end.is_none())
        );
    }

    #[test]
    fn what_ended_meanwhile_comes_in_the_order_of_the_ends() {
        let recent = Recent::new(1);
        let fields = Fields::default();
        let [first, second, third] = [1, 2, 3].map(|number| begin(&recent, number, &fields));
        end(&recent, second, 200);
        let seen = recent.seen(&Wanted::EndedAfter(0));
        assert_eq!(ids(&seen), ["00000abc-1-2"]);
        end(&recent, third, 200);
        end(&recent, first, 200);
        let seen = recent.seen(&Wanted::EndedAfter(seen[0].ended));
        assert_eq!(ids(&seen), ["00000abc-1-3", "00000abc-1-1"]);
    }

    #[test]
    fn more_than_is_kept_is_known_to_be_missing() {
        let recent = Recent::new(1);
        let mut fields = Fields::default();
        fields.append(
            XFF,
            HeaderValue::try_from("1".repeat(MAX_FIELD_BYTES)).unwrap(),
        );
        begin(&recent, 1, &fields);
        assert!(recent.seen(&Wanted::Last(1))[0].fields.is_none());
    }
}
