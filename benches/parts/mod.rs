//! The parts of a request that are measured by themselves: by the clock in `time.rs`, by instructions in `instructions.rs`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use headwater::client_ip::{
    Addr, Depth, EmitOptions, EmitPolicy, FieldSink, ForwardingField, IpSet, LocalEnd, Peer,
    PeerSet, Scheme, SocketPeer, TrustPolicy, TrustRule, emit, resolve,
};
use headwater::fields::Fields;
use headwater::hop_by_hop;
use headwater::http1::{chunked, request, request_head, response, response_head};
use headwater::route::{HostPattern, Match, PathPattern, Request, Router};
use headwater::telemetry::snat::{Field, Peers, Sender};
use http::{Method, StatusCode, Version};
use ipnet::{IpNet, Ipv4Net};

/// Does its work once a call, on what was made ready before. Has been called once already: buffers have grown.
pub(crate) type Part = Box<dyn FnMut()>;

fn ready(mut part: impl FnMut() + 'static) -> Part {
    part();
    Box::new(part)
}

/// An untrusted peer, which sends fields all the same.
pub(crate) fn resolve_direct() -> Part {
    resolving("203.0.113.9", "X-Forwarded-For", "6.6.6.6, 198.51.100.7")
}

/// One trusted hop in front of the client.
pub(crate) fn resolve_one_hop() -> Part {
    resolving("10.0.0.1", "X-Forwarded-For", "198.51.100.7")
}

/// Three trusted hops, and what the client made up.
pub(crate) fn resolve_three_hops() -> Part {
    let chain = "6.6.6.6, 198.51.100.7, 10.0.0.3, 10.0.0.2";
    resolving("10.0.0.1", "X-Forwarded-For", chain)
}

/// The same as RFC 7239 writes it.
pub(crate) fn resolve_forwarded() -> Part {
    let chain = "for=6.6.6.6, for=198.51.100.7;proto=https, for=10.0.0.3, for=\"10.0.0.2:80\"";
    resolving("10.0.0.1", "Forwarded", chain)
}

fn resolving(peer: &str, field: &str, chain: &str) -> Part {
    let (peer, fields) = (peer_at(peer), browser_fields(&[(field, chain)]));
    let policy = policy(field);
    ready(move || {
        let found = resolve(black_box(&peer), black_box(&fields), black_box(&policy));
        black_box(found.client());
    })
}

/// Notes who a request came from, and that it named others in vain.
pub(crate) fn count_peer() -> Part {
    let peers = Peers::new(["http"]);
    let sender = Sender {
        ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        is_proxied: false,
    };
    ready(move || {
        let claim = Field::most_usual(black_box(&[b"X-Forwarded-For"]));
        peers.came_from(0, black_box(sender), claim);
    })
}

/// The fields for an untrusted peer.
pub(crate) fn emit_direct() -> Part {
    emitting("203.0.113.9", "6.6.6.6")
}

/// The fields for a client behind two trusted hops.
pub(crate) fn emit_two_hops() -> Part {
    emitting("10.0.0.1", "198.51.100.7, 10.0.0.2")
}

fn emitting(peer: &str, chain: &str) -> Part {
    const FIELD: &str = "X-Forwarded-For";
    let (peer, fields) = (peer_at(peer), browser_fields(&[(FIELD, chain)]));
    let trust = policy(FIELD);
    let policy = EmitPolicy::new(EmitOptions::default(), [&trust]);
    let local = LocalEnd::new(Scheme::Https, "192.0.2.1:443".parse().ok(), None);
    let mut head = Head(Vec::new());
    ready(move || {
        head.0.clear();
        let found = resolve(&peer, &fields, &trust);
        emit(
            &found,
            &fields,
            Some(b"example.com"),
            &local,
            black_box(&policy),
            &mut head,
        );
        black_box(&head.0);
    })
}

struct Head(Vec<u8>);

impl FieldSink for Head {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        self.field_with(name, &mut |out| out.extend_from_slice(value));
    }

    fn field_with(&mut self, name: &'static str, write: &mut dyn FnMut(&mut Vec<u8>)) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b": ");
        write(&mut self.0);
        self.0.extend_from_slice(b"\r\n");
    }
}

/// Ten ranges: an address in the middle, and one in none.
pub(crate) fn ip_set_10() -> Part {
    containing(10)
}

/// A thousand ranges.
pub(crate) fn ip_set_1_000() -> Part {
    containing(1_000)
}

/// A hundred thousand ranges.
pub(crate) fn ip_set_100_000() -> Part {
    containing(100_000)
}

fn containing(ranges: u32) -> Part {
    // Every other address, or they would become one range.
    let address = |number: u32| Ipv4Addr::from(0x0b00_0000 + 2 * number);
    let networks = (0..ranges).map(|number| IpNet::from(Ipv4Net::from(address(number))));
    let set = IpSet::from_networks(networks);
    let (inside, outside) = (address(ranges / 3), Ipv4Addr::new(203, 0, 113, 9));
    assert!(set.contains(inside.into()) && !set.contains(outside.into()));
    ready(move || {
        for asked in [inside, outside] {
            black_box(set.contains(black_box(IpAddr::V4(asked))));
        }
    })
}

/// Ten routes, of hosts and paths.
pub(crate) fn router_10() -> Part {
    finding(10)
}

/// Ten thousand of them.
pub(crate) fn router_10_000() -> Part {
    finding(10_000)
}

fn finding(routes: usize) -> Part {
    let host = |number: usize| format!("host{}.example.com", number / 10);
    let path = |number: usize| format!("/api/v1/thing{}", number % 10);
    let route = |number: usize| {
        let found = Match {
            hosts: vec![HostPattern::parse(&host(number)).unwrap()],
            path: PathPattern::prefix(&path(number)).unwrap(),
            ..Match::default()
        };
        (found, number)
    };
    let router = Router::new((0..routes).map(route));
    let (host, path) = (host(routes / 2), path(routes / 2) + "/of/somebody");
    let fields = browser_fields(&[]);
    ready(move || {
        let asked = Request {
            host: &host,
            path: &path,
            method: &Method::GET,
            fields: &fields,
        };
        let found = router.find(black_box(&asked));
        assert!(black_box(found).is_some());
    })
}

/// The head of a browser's GET, as it goes upstream.
pub(crate) fn request_head() -> Part {
    let fields = browser_fields(&[]);
    let mut head = Vec::new();
    ready(move || {
        head.clear();
        request::begin(
            &mut head,
            &Method::GET,
            black_box("/articles/42?page=3"),
            b"example.com",
        );
        black_box(&fields).write(&mut head, |_, _| true);
        request::finish(&mut head, request::Framing::None);
        black_box(&head);
    })
}

/// The head of an application's response.
const RESPONSE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: app\r\n\
    Date: Sat, 14 Nov 2026 08:49:37 GMT\r\n\
    Content-Type: text/html; charset=utf-8\r\n\
    Content-Length: 100\r\n\
    Cache-Control: no-cache, private\r\n\
    ETag: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n\
    Set-Cookie: session=0123456789abcdef; Path=/; HttpOnly\r\n\
    Vary: Accept-Encoding\r\n\
    Connection: keep-alive\r\n\r\n";

/// That head, read.
pub(crate) fn response_head() -> Part {
    let limits = response::Limits::default();
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    let mut reader = response::Reader::default();
    ready(move || {
        buffer.extend_from_slice(black_box(RESPONSE_HEAD));
        let head = reader.read(&mut buffer, &Method::GET, &limits);
        assert!(black_box(head).is_ok_and(|head| head.is_some()));
    })
}

/// A browser's GET, read.
pub(crate) fn client_head() -> Part {
    let mut head = b"GET /articles/42?page=3 HTTP/1.1\r\nHost: example.com\r\n".to_vec();
    write_fields(&mut head);
    let mut reader = request_head::Reader::new(HEAD_LIMITS);
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    ready(move || {
        buffer.extend_from_slice(black_box(&head));
        let head = reader.read(&mut buffer, false);
        assert!(black_box(head).is_ok_and(|head| head.is_some()));
    })
}

/// A chunked body, decoded.
pub(crate) fn client_chunks() -> Part {
    let mut body = Vec::new();
    for _ in 0..4 {
        body.extend_from_slice(b"400\r\n");
        body.extend_from_slice(&[b'a'; 0x400]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    ready(move || {
        buffer.extend_from_slice(black_box(&body));
        let mut decoder = chunked::Decoder::default();
        let mut pieces = 0;
        while let Ok(chunked::Step::Data(piece)) = decoder.decode(&mut buffer) {
            pieces += usize::from(!black_box(piece).is_empty());
        }
        assert_eq!(pieces, 4);
        assert!(buffer.is_empty());
    })
}

/// That head, written to a client.
pub(crate) fn client_answer() -> Part {
    let limits = response::Limits::default();
    let head = response::Reader::default().read(&mut RESPONSE_HEAD.into(), &Method::GET, &limits);
    let mut fields = head.unwrap().unwrap().fields;
    hop_by_hop::strip_response(&mut fields);
    let asked = response_head::Asked::new(&Method::GET, Version::HTTP_11, true);
    let mut out = Vec::with_capacity(4096);
    ready(move || {
        out.clear();
        let fields = black_box(&fields);
        let announced = response_head::write(&mut out, asked, StatusCode::OK, fields, Some(100));
        assert!(black_box(announced).keep_alive);
    })
}

fn write_fields(head: &mut Vec<u8>) {
    browser_fields(&[]).write(head, |_, _| true);
    head.extend_from_slice(b"\r\n");
}

fn peer_at(ip: &str) -> Peer {
    let addr = Addr::new(ip.parse().unwrap()).unwrap();
    Peer {
        socket: SocketPeer::Ip(addr, 40_000),
        proxied: None,
    }
}

fn policy(field: &str) -> TrustPolicy {
    let rule = TrustRule {
        from: PeerSet::parse(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]).unwrap(),
        field: ForwardingField::parse(field).unwrap(),
    };
    TrustPolicy::by_rules(vec![rule], Depth::Full)
}

const HEAD_LIMITS: request_head::Limits = request_head::Limits {
    max_bytes: 32 * 1024,
    max_fields: 100,
    max_target_bytes: 8 * 1024,
};

fn browser_fields(more: &[(&str, &str)]) -> Fields {
    const USUAL: &str = "GET / HTTP/1.1\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-US,en;q=0.5\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Referer: https://example.com/articles\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
        Sec-Fetch-Dest: document\r\n\
        Sec-Fetch-Mode: navigate\r\n\
        Upgrade-Insecure-Requests: 1\r\n";
    let mut head = BytesMut::from(USUAL);
    for (name, value) in more {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    let head = request_head::Reader::new(HEAD_LIMITS).read(&mut head, false);
    head.unwrap().unwrap().request.fields
}
