//! HTTP/2 clients that keep to the letter of the protocol and make it expensive.

use std::io::Read;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::support::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, HEADERS, PING,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, field, fields, frame,
};
use crate::support::{Proxy, Upstream};

/// An upstream that answers nothing, and counts how many requests it has at a time.
struct Crowd {
    address: String,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// All that ever were there.
    seen: Arc<AtomicUsize>,
    _accepting: JoinHandle<()>,
}

impl Crowd {
    fn gather() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let now = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::new(AtomicUsize::new(0));
        let counts = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&seen));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let (now, most, seen) = counts.clone();
                std::thread::spawn(move || {
                    let mut piece = [0; 1024];
                    // A request is there when its first bytes are, and gone when the connection is.
                    if stream.read(&mut piece).is_ok_and(|length| length > 0) {
                        let here = now.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(here, Ordering::SeqCst);
                        seen.fetch_add(1, Ordering::SeqCst);
                        while stream.read(&mut piece).is_ok_and(|length| length > 0) {}
                        now.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        Self {
            address,
            now,
            most,
            seen,
            _accepting: accepting,
        }
    }

    fn proxy(&self, limits: &str) -> Proxy {
        Proxy::start(&format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
             limits: {{ {limits} }}\n\
             upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
            self.address
        ))
    }

    /// Waits until so many requests are there.
    fn await_requests(&self, count: usize) {
        await_count(&self.now, count);
    }

    /// Waits until so many requests have come, ever.
    fn await_seen(&self, count: usize) {
        await_count(&self.seen, count);
    }
}

fn await_count(counter: &AtomicUsize, count: usize) {
    let began = std::time::Instant::now();
    while counter.load(Ordering::SeqCst) != count {
        assert!(began.elapsed() < crate::support::DEADLINE, "not {count}");
        std::thread::yield_now();
    }
}

/// As a stream is numbered.
fn numbered(index: u32) -> u32 {
    2 * index + 1
}

#[test]
fn streams_taken_back_at_once_end_the_connection() {
    let proxy = Proxy::to_whoami();
    let mut client = Frames::connect(&proxy, &[]);
    let mut flood = Vec::new();
    for stream in (0..1000).map(numbered) {
        let fields = fields("GET", "/");
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
    }
    client.offer(flood);
    assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn streams_taken_back_one_by_one_end_the_connection_and_stop_upstream() {
    let crowd = Crowd::gather();
    let proxy = crowd.proxy("max_concurrent_streams: 5");
    let mut client = Frames::connect(&proxy, &[]);
    for stream in (0..199).map(numbered) {
        client.get(stream, "/");
        client.settle();
        client.reset(stream);
    }
    client.settle();
    client.get(numbered(199), "/");
    client.settle();
    client.reset(numbered(199));
    assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM));
    crowd.await_requests(0);
    assert!(crowd.most.load(Ordering::SeqCst) <= 5);
}

#[test]
fn clients_may_change_their_mind() {
    let proxy = Proxy::to_whoami();
    let mut client = Frames::connect(&proxy, &[]);
    for index in 0..300 {
        client.get(numbered(2 * index), "/");
        client.await_frame(DATA, numbered(2 * index));
        client.get(numbered(2 * index + 1), "/?wait=10s");
        client.reset(numbered(2 * index + 1));
        client.settle();
    }
}

#[test]
fn as_many_requests_as_streams_are_upstream_however_they_are_taken_back() {
    const STREAMS: u32 = 5;
    let crowd = Crowd::gather();
    let proxy = crowd.proxy(&format!("max_concurrent_streams: {STREAMS}"));
    let mut client = Frames::connect(&proxy, &[]);
    for round in 0..15 {
        let streams = (0..STREAMS).map(|index| numbered(round * STREAMS + index));
        for stream in streams.clone() {
            client.get(stream, "/");
        }
        // As many may be left of the round before, whose end wasn't seen yet.
        crowd.await_seen(((round + 1) * STREAMS) as usize);
        crowd.await_requests(STREAMS as usize);
        streams.for_each(|stream| client.reset(stream));
    }
    crowd.await_requests(0);
    // The next round's connections may be seen before the last one's have been seen to end.
    let most = crowd.most.load(Ordering::SeqCst);
    assert!(most <= 2 * STREAMS as usize, "{most}");
}

#[test]
fn streams_the_client_has_us_reset_end_the_connection_and_stop_upstream() {
    let crowd = Crowd::gather();
    let proxy = crowd.proxy("max_concurrent_streams: 5");
    let mut client = Frames::connect(&proxy, &[]);
    for stream in (0..=100).map(numbered) {
        client.get(stream, "/");
        client.settle();
        // More than a window can hold (RFC 9113 §6.9.1).
        client.send(frame(
            WINDOW_UPDATE,
            0,
            stream,
            &(u32::MAX >> 1).to_be_bytes(),
        ));
        if stream < numbered(100) {
            client.await_frame(RST_STREAM, stream);
        }
    }
    assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM));
    crowd.await_requests(0);
    assert!(crowd.most.load(Ordering::SeqCst) <= 5);
}

/// Sends so many of a frame, reading what comes back, and returns the code of the GOAWAY.
fn flooded(one: &[u8], count: usize) -> Option<u32> {
    let proxy = Proxy::to_whoami();
    let mut client = Frames::connect(&proxy, &[]);
    client.post(1, "/");
    client.settle();
    for _ in 0..count / 100 {
        client.offer(one.repeat(100));
    }
    client.goodbye()
}

#[test]
fn frames_that_carry_nothing_end_the_connection() {
    for (name, one, count) in [
        ("PING", frame(PING, 0, 0, &[0; 8]), 10_100),
        ("PING answered", frame(PING, 1, 0, &[0; 8]), 10_100),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[]), 600),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1]), 10_100),
        ("empty DATA", frame(DATA, 0, 1, &[]), 200),
        ("unknown", frame(0x77, 0, 0, &[]), 10_100),
    ] {
        assert_eq!(flooded(&one, count), Some(ENHANCE_YOUR_CALM), "{name}");
    }
}

#[test]
fn fields_without_an_end_end_the_connection() {
    let proxy = Proxy::to_whoami();
    let mut client = Frames::connect(&proxy, &[]);
    client.send(frame(HEADERS, END_STREAM, 1, &fields("GET", "/")));
    for _ in 0..100 {
        client.offer(frame(CONTINUATION, 0, 1, &[]));
    }
    assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM));
}

/// A field of 4 000 bytes, and `count` more of it, for one byte each (RFC 7541 §6.1).
fn bomb(count: usize) -> Vec<u8> {
    let mut indexed = Vec::new();
    field(&mut indexed, "x", &"y".repeat(3_900));
    indexed[0] = 0x40;
    [fields("GET", "/"), indexed, vec![0xbe; count]].concat()
}

#[test]
fn fields_that_are_too_large_when_they_are_read_are_refused() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb(9)));
    assert_eq!(client.await_frame(HEADERS, 1).status(), 431);
    client.settle();
    upstream.assert_untouched();
}

#[test]
fn fields_that_grow_without_end_end_the_connection() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    Frames::connect(&proxy, &[]).settle();
    let before = proxy.resident_kib();
    for _ in 0..20 {
        let mut client = Frames::connect(&proxy, &[]);
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb(10_000)));
        assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM));
    }
    let after = proxy.resident_kib();
    assert!(after < before + 8 * 1024, "{before} KiB, then {after} KiB");
    upstream.assert_untouched();
}
