//! Connections to HTTP/2 upstreams: when there is one, how many requests share it, and what ends it.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::frames::{self, Frames};
use crate::support::{DEADLINE, Frame, GET, Http2Wire, Proxy, Upstream, exchange, requests};

const MAX_CONCURRENT_STREAMS: u16 = 3;

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";

fn proxy_to(upstreams: &[&Upstream], settings: &str) -> Proxy {
    let endpoints: Vec<_> = upstreams
        .iter()
        .map(|upstream| format!("\"{}\"", upstream.address()))
        .collect();
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [{}], protocol: h2c, {settings} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        endpoints.join(", ")
    ))
}

fn proxy(upstream: &Upstream) -> Proxy {
    proxy_to(&[upstream], "timeouts: {}")
}

/// Answers the next request.
fn serve(endpoint: &mut Http2Wire) -> u32 {
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    stream
}

#[test]
fn nothing_of_a_request_is_sent_before_the_endpoint_has_spoken() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy_to(&[&first, &second], "timeouts: {}");
    let mut client = proxy.client();
    client.send(POST);
    // Accepts, and closes: what a balancer without a server behind it does.
    let mut silent = first.accept();
    assert_eq!(silent.take(24), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    drop(silent);
    let mut endpoint = Http2Wire::accept(second.accept(), &[]);
    serve(&mut endpoint);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_endpoint_that_never_speaks_is_a_timeout() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&[&upstream], "timeouts: { connect: 300ms }");
    let mut client = proxy.client();
    client.send(POST);
    let _silent: Vec<_> = (0..3).map(|_| upstream.accept()).collect();
    assert_eq!(client.response().status(), 504);
}

#[test]
fn no_connection_ever_has_more_streams_than_its_endpoint_takes() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let address = proxy.address("http");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"; 10])));
        let mut left = 10;
        let mut endpoints = Vec::new();
        while left > 0 {
            // All are there at once, and nobody is answered before the connection is as full as it may be.
            let settings = [(MAX_CONCURRENT_STREAMS, 2)];
            let mut endpoint = Http2Wire::accept(upstream.accept(), &settings);
            let streams: Vec<_> = (0..left.min(2))
                .map(|_| endpoint.next(Frame::HEADERS).stream)
                .collect();
            left -= streams.len();
            endpoints.push((endpoint, streams));
        }
        for (endpoint, streams) in &mut endpoints {
            assert!(
                endpoint
                    .frame_within(Duration::from_millis(1))
                    .is_none_or(|frame| frame.kind != Frame::HEADERS)
            );
            for stream in streams {
                endpoint.respond(*stream, Frame::END_STREAM, &[]);
            }
        }
        let answers = asked.join().unwrap();
        assert!(answers.iter().all(|answer| answer.status() == 200));
    });
    upstream.assert_untouched();
}

#[test]
fn requests_that_wait_for_one_connection_count_as_one() {
    let upstream = Upstream::bind();
    let settings = "max_connections_per_endpoint: 1, queue_timeout: 0s";
    let proxy = proxy_to(&[&upstream], settings);
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"; 20])));
        let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
        for _ in 0..20 {
            serve(&mut endpoint);
        }
        asked.join().unwrap()
    });
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status().as_u16())
        .collect();
    assert_eq!(statuses, [200; 20]);
    upstream.assert_untouched();
}

#[test]
fn connections_end_at_the_most_there_may_be_and_requests_wait_for_streams() {
    let upstream = Upstream::bind();
    let proxy = proxy_to(&[&upstream], "max_connections_per_endpoint: 2");
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    let mut endpoints = Vec::new();
    for client in &mut clients[..2] {
        client.send(GET);
        let settings = [(MAX_CONCURRENT_STREAMS, 1)];
        let mut endpoint = Http2Wire::accept(upstream.accept(), &settings);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoints.push((endpoint, stream));
    }
    clients[2].send(GET);
    let (second, stream) = &mut endpoints[1];
    second.respond(*stream, Frame::END_STREAM, &[]);
    assert_eq!(clients[1].response().status(), 200);
    assert_ne!(serve(second), *stream);
    assert_eq!(clients[2].response().status(), 200);
    upstream.assert_untouched();
}

#[test]
fn no_worker_keeps_the_only_connection_to_itself() {
    const CLIENTS: usize = 12;
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "runtime: {{ worker_threads: 4 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c, max_connections_per_endpoint: 1,\n\
         queue_timeout: 10s }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    let answered = [0; CLIENTS].map(|_| AtomicUsize::new(0));
    let all_have = |least| answered.iter().all(|count| count.load(Relaxed) >= least);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            loop {
                let endpoint = upstream.accept();
                if over.load(Relaxed) {
                    return;
                }
                scope.spawn(|| Http2Wire::accept(endpoint, &[]).serve_until_closed());
            }
        });
        let asking = answered.each_ref().map(|count| {
            let mut client = proxy.client();
            scope.spawn(move || {
                let began = Instant::now();
                while !all_have(5) && began.elapsed() < DEADLINE {
                    assert_eq!(client.ask(GET).status(), 200);
                    count.fetch_add(1, Relaxed);
                }
            })
        });
        for client in asking {
            client.join().unwrap();
        }
        over.store(true, Relaxed);
        // Ends the wait in `accept`, and then the connections.
        drop(TcpStream::connect(upstream.address()));
        proxy.signal("KILL");
    });
    assert!(all_have(5), "{answered:?}");
}

/// With fewer connections than workers somebody may have to wait; streams that last don't make everybody.
#[test]
fn a_worker_without_a_connection_does_not_take_that_of_another_for_long() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "runtime: {{ worker_threads: 2 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c, max_connections_per_endpoint: 1,\n\
         queue_timeout: 3s }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    let mut long = proxy.client();
    long.send(GET);
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
    endpoint.next(Frame::HEADERS);
    std::thread::scope(|scope| {
        scope.spawn(move || endpoint.serve_until_closed());
        // Of both workers; the first time those of the one with the connection may be faster.
        for _ in 0..2 {
            let asking = [0; 16].map(|_| {
                let mut client = proxy.client();
                scope.spawn(move || client.ask(GET).status())
            });
            let answers = asking.map(|client| client.join().unwrap());
            assert!(answers.contains(&200), "{answers:?}");
        }
        long.assert_silent();
        proxy.signal("KILL");
    });
}

#[test]
fn clients_that_take_nothing_do_not_hold_back_the_others() {
    const STALLED: u32 = 12;
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = Frames::connect(&proxy, &[(frames::INITIAL_WINDOW, 0)]);
    client.get(1, "/stalled");
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
    // Each may send us this much before anybody has taken a byte of it.
    let piece = [b'x'; 16 * 1024];
    for number in 0..STALLED {
        if number > 0 {
            client.get(2 * number + 1, "/stalled");
        }
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, 0, &[]);
        for _ in 0..8 {
            endpoint.data(stream, 0, &piece);
        }
        client.await_frame(frames::HEADERS, 2 * number + 1);
    }
    let last = 2 * STALLED + 1;
    client.get(last, "/");
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    endpoint.data(stream, Frame::END_STREAM, b"ok");
    let grant = 1024_u32.to_be_bytes();
    client.send(frames::frame(frames::WINDOW_UPDATE, 0, last, &grant));
    assert_eq!(client.await_frame(frames::DATA, last).payload, b"ok");
}

#[test]
fn late_frames_of_clients_that_left_are_no_reason_to_end_a_connection() {
    // h2 by itself remembers fifty such streams, and ends the connection after a thousand others.
    const STREAMS: u32 = 1_200;
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.get(1, "/");
    let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
    let mut abandoned = Vec::new();
    serve(&mut endpoint);
    let mut next = 3;
    while next < 2 * STREAMS {
        // Answered requests in between, or the client would be one that only resets.
        for (number, stays) in [(next, false), (next + 2, true), (next + 4, true)] {
            client.get(number, "/");
            let stream = endpoint.next(Frame::HEADERS).stream;
            if stays {
                endpoint.respond(stream, Frame::END_STREAM, &[]);
                client.await_frame(frames::HEADERS, number);
            } else {
                client.reset(number);
                assert_eq!(endpoint.next(Frame::RST_STREAM).stream, stream);
                abandoned.push(stream);
            }
        }
        next += 6;
    }
    for _ in 0..4 {
        for stream in &abandoned {
            endpoint.data(*stream, 0, b"late");
        }
        // Until all of it has been looked at.
        endpoint.send(Frame::PING, 0, 0, b"settled?");
        assert_eq!(endpoint.next(Frame::PING).flags, Frame::ACK);
    }
    client.get(next, "/");
    // On the same connection, which reads over what is said of the streams that are gone.
    let stream = loop {
        let frame = endpoint.frame();
        assert_ne!(frame.kind, Frame::GOAWAY, "{frame:?}");
        if frame.kind == Frame::HEADERS {
            break frame.stream;
        }
    };
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    client.await_frame(frames::HEADERS, next);
}

#[test]
fn a_connection_that_dies_costs_none_of_its_gets() {
    let (first, second) = (Upstream::bind(), Upstream::bind());
    let proxy = proxy_to(&[&first, &second], "timeouts: {}");
    let address = proxy.address("http");
    let mut client = proxy.client();
    let mut endpoints = [&first, &second].map(|upstream| {
        client.send(GET);
        let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
        serve(&mut endpoint);
        assert_eq!(client.response().status(), 200);
        endpoint
    });
    // Far more than the budget of a proxy that has only begun.
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"; 80])));
        for endpoint in &mut endpoints {
            for _ in 0..40 {
                endpoint.next(Frame::HEADERS);
            }
        }
        let [dying, mut other] = endpoints;
        drop(dying);
        drop(first);
        // Those that it had come again; every one of both halves is answered here.
        for stream in (0..40).map(|number| 3 + 2 * number) {
            other.respond(stream, Frame::END_STREAM, &[]);
        }
        for _ in 0..40 {
            serve(&mut other);
        }
        asked.join().unwrap()
    });
    assert!(answers.iter().all(|answer| answer.status() == 200));
}

#[test]
fn what_a_goaway_sends_back_is_forgiven_however_much_it_is() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let address = proxy.address("http");
    let mut client = proxy.client();
    client.send(GET);
    let mut first = Http2Wire::accept(upstream.accept(), &[]);
    let last = serve(&mut first);
    assert_eq!(client.response().status(), 200);
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"; 60])));
        for _ in 0..60 {
            first.next(Frame::HEADERS);
        }
        first.go_away(last, Frame::NO_ERROR);
        let mut second = Http2Wire::accept(upstream.accept(), &[]);
        for _ in 0..60 {
            serve(&mut second);
        }
        asked.join().unwrap()
    });
    assert!(answers.iter().all(|answer| answer.status() == 200));
}
