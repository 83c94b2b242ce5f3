//! HTTP/2 towards upstreams: what a stream says, how it fails, and what is tried again.

use std::future::poll_fn;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::support::websocket::converse;
use crate::support::{Frame, GET, Http2Wire, Proxy, Upstream, exchange, frames, requests};

fn proxy_with(upstream: &Upstream, settings: &str) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c, {settings} }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ))
}

fn proxy(upstream: &Upstream) -> Proxy {
    proxy_with(upstream, "timeouts: {}")
}

fn accept(upstream: &Upstream) -> Http2Wire {
    Http2Wire::accept(upstream.accept(), &[])
}

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

/// Takes all DATA of a stream up to its end.
fn body_of(endpoint: &mut Http2Wire) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let data = endpoint.next(Frame::DATA);
        body.extend(&data.payload);
        if data.ends_stream() {
            return body;
        }
    }
}

#[test]
fn the_request_is_the_one_http_1_would_have() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    converse(async {
        let upstream = upstream.into_async();
        let client = tokio::task::spawn_blocking({
            let mut client = proxy.client();
            move || {
                client.ask(
                    "GET /a/b?c=d HTTP/1.1\r\nHost: App.Test:81\r\nX-Forwarded-For: 6.6.6.6\r\nX-Own: 1\r\n\
                     Connection: x-hop\r\nX-Hop: 1\r\nTE: trailers\r\nUpgrade: h2c\r\n\r\n",
                )
            }
        });
        let (stream, _) = upstream.accept().await.unwrap();
        let mut endpoint = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = endpoint.accept().await.unwrap().unwrap();
        assert_eq!(request.method(), "GET");
        assert_eq!(request.uri().to_string(), "http://App.Test:81/a/b?c=d");
        let mut fields: Vec<_> = request
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .filter(|field| !field.starts_with("x-forwarded-port"))
            .collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                "te: trailers",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: App.Test:81",
                "x-forwarded-proto: http",
                "x-own: 1",
                "x-real-ip: 127.0.0.1",
            ]
        );
        assert!(request.body().is_end_stream());
        let response = Response::builder()
            .status(404)
            .header("x-answer", "yes")
            .body(())
            .unwrap();
        respond.send_response(response, true).unwrap();
        let (_, answer) = tokio::join!(poll_fn(|cx| endpoint.poll_closed(cx)), async {
            let answer = client.await.unwrap();
            drop(proxy);
            answer
        });
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.field("x-answer"), Some("yes"));
    });
}

#[test]
fn a_body_goes_up_with_its_length() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(POST);
    let mut endpoint = accept(&upstream);
    let request = endpoint.next(Frame::HEADERS);
    assert!(!request.ends_stream());
    assert_eq!(body_of(&mut endpoint), b"hello");
    endpoint.respond(request.stream, 0, &[("content-length", "2")]);
    endpoint.data(request.stream, Frame::END_STREAM, b"ok");
    let answer = client.response();
    assert_eq!(answer.field("content-length"), Some("2"));
    assert_eq!(answer.text(), "ok");
}

/// gRPC as it is: HTTP/2 at both ends, messages both ways while both streams are open, the status in trailers.
#[test]
fn messages_stream_both_ways_and_trailers_follow() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    converse(async {
        let upstream = upstream.into_async();
        let stream = tokio::net::TcpStream::connect(proxy.address("http"))
            .await
            .unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = Request::post("http://grpc.test/Echo/Chat")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut up) = client.send_request(request, false).unwrap();
        let (stream, _) = upstream.accept().await.unwrap();
        let mut endpoint = h2::server::handshake(stream).await.unwrap();
        let (request, mut respond) = endpoint.accept().await.unwrap().unwrap();
        tokio::spawn(async move { while endpoint.accept().await.is_some() {} });
        assert_eq!(request.headers()["te"], "trailers");
        assert_eq!(request.uri().path(), "/Echo/Chat");
        let mut from_client = request.into_body();
        let mut down = respond
            .send_response(
                Response::builder()
                    .header("content-type", "application/grpc")
                    .body(())
                    .unwrap(),
                false,
            )
            .unwrap();
        let mut from_endpoint = response.await.unwrap().into_body();
        for message in ["one", "two", "three"] {
            up.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(from_client.data().await.unwrap().unwrap(), message);
            down.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(from_endpoint.data().await.unwrap().unwrap(), message);
        }
        up.send_trailers(field("x-checksum", "abc")).unwrap();
        assert!(from_client.data().await.is_none());
        let trailers = from_client.trailers().await.unwrap().unwrap();
        assert_eq!(trailers, field("x-checksum", "abc"));
        down.send_trailers(field("grpc-status", "0")).unwrap();
        assert!(from_endpoint.data().await.is_none());
        let trailers = from_endpoint.trailers().await.unwrap().unwrap();
        assert_eq!(trailers, field("grpc-status", "0"));
    });
}

fn field(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))])
}

#[test]
fn an_answer_of_fields_alone_keeps_them() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"])));
        let mut endpoint = accept(&upstream);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, Frame::END_STREAM, &[("grpc-status", "12")]);
        asked.join().unwrap()
    });
    assert_eq!(answers[0].headers()["grpc-status"], "12");
    assert!(answers[0].headers().get("content-length").is_none());
}

#[test]
fn trailers_that_could_change_the_message_are_dropped() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://a/"])));
        let mut endpoint = accept(&upstream);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, 0, &[]);
        endpoint.data(stream, 0, b"x");
        endpoint.trailers(stream, &[("set-cookie", "a=b"), ("x-sum", "1")]);
        asked.join().unwrap()
    });
    let trailers = answers[0].body().trailers().unwrap();
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    assert_eq!(trailers["x-sum"], "1");
}

#[test]
fn a_hundred_streams_share_a_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let urls: Vec<_> = (0..100).map(|at| format!("http://a/{at}")).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&urls)));
        let mut endpoint = accept(&upstream);
        // None is answered before all are there.
        let streams: Vec<_> = (0..100)
            .map(|_| endpoint.next(Frame::HEADERS).stream)
            .collect();
        for stream in streams {
            endpoint.respond(stream, Frame::END_STREAM, &[]);
        }
        asked.join().unwrap()
    });
    assert!(answers.iter().all(|answer| answer.status() == 200));
    upstream.assert_untouched();
}

#[test]
fn an_endpoint_that_takes_no_more_streams_gets_another_connection() {
    const MAX_CONCURRENT_STREAMS: u16 = 3;
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut clients: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    clients[0].send(GET);
    let mut first = Http2Wire::accept(upstream.accept(), &[(MAX_CONCURRENT_STREAMS, 2)]);
    let stream = first.next(Frame::HEADERS).stream;
    first.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(clients[0].response().status(), 200);
    for client in &mut clients {
        client.send(GET);
    }
    let streams = [0, 1].map(|_| first.next(Frame::HEADERS).stream);
    let mut second = accept(&upstream);
    let stream = second.next(Frame::HEADERS).stream;
    second.respond(stream, Frame::END_STREAM, &[]);
    for stream in streams {
        first.respond(stream, Frame::END_STREAM, &[]);
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn after_goaway_there_is_a_new_connection() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let mut first = accept(&upstream);
    let stream = first.next(Frame::HEADERS).stream;
    first.go_away(stream, Frame::NO_ERROR);
    // What was begun is finished.
    first.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
    client.send(GET);
    let mut second = accept(&upstream);
    let stream = second.next(Frame::HEADERS).stream;
    second.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn what_goaway_leaves_out_is_sent_again_whatever_it_is() {
    for request in [GET, POST] {
        let upstream = Upstream::bind();
        let proxy = proxy(&upstream);
        let mut client = proxy.client();
        client.send(request);
        let mut first = accept(&upstream);
        first.next(Frame::HEADERS);
        first.go_away(0, Frame::NO_ERROR);
        let mut second = accept(&upstream);
        let stream = second.next(Frame::HEADERS).stream;
        if request == POST {
            assert_eq!(body_of(&mut second), b"hello");
        }
        second.respond(stream, Frame::END_STREAM, &[]);
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn a_refused_stream_is_sent_again_whatever_it_is() {
    for request in [GET, POST] {
        let upstream = Upstream::bind();
        let proxy = proxy(&upstream);
        let mut client = proxy.client();
        client.send(request);
        let mut endpoint = accept(&upstream);
        let refused = endpoint.next(Frame::HEADERS).stream;
        if request == POST {
            assert_eq!(body_of(&mut endpoint), b"hello");
        }
        endpoint.reset(refused, Frame::REFUSED_STREAM);
        let stream = endpoint.next(Frame::HEADERS).stream;
        assert_ne!(stream, refused);
        if request == POST {
            assert_eq!(body_of(&mut endpoint), b"hello");
        }
        endpoint.respond(stream, Frame::END_STREAM, &[]);
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn a_body_too_long_to_keep_is_not_sent_again() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 70000\r\n\r\n");
    client.send(vec![b'x'; 65_000]);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    let mut read = 0;
    while read < 65_000 {
        read += endpoint.next(Frame::DATA).payload.len();
    }
    client.send(vec![b'x'; 5_000]);
    // The first 65,535 bytes fill the stream's window; all of it has been taken from the client by now.
    while read < 65_535 {
        read += endpoint.next(Frame::DATA).payload.len();
    }
    endpoint.reset(stream, Frame::REFUSED_STREAM);
    assert_eq!(client.response().status(), 502);
}

#[test]
fn a_reset_is_tried_again_only_where_nothing_can_happen_twice() {
    for (request, tries, status) in [(GET, 3, 502), (POST, 1, 502)] {
        let upstream = Upstream::bind();
        let proxy = proxy(&upstream);
        let mut client = proxy.client();
        client.send(request);
        let mut endpoint = accept(&upstream);
        for _ in 0..tries {
            let stream = endpoint.next(Frame::HEADERS).stream;
            endpoint.reset(stream, Frame::INTERNAL_ERROR);
        }
        assert_eq!(client.response().status(), status);
    }
}

#[test]
fn what_goaway_includes_may_have_happened() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(POST);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.go_away(stream, Frame::NO_ERROR);
    drop(endpoint);
    assert_eq!(client.response().status(), 502);
    upstream.assert_untouched();
}

#[test]
fn a_response_that_is_cut_never_looks_complete() {
    let cuts: [fn(Http2Wire, u32); 4] = [
        |mut endpoint, stream| endpoint.reset(stream, Frame::INTERNAL_ERROR),
        // Allowed only behind a complete response, and so a cut like any other.
        |mut endpoint, stream| endpoint.reset(stream, Frame::NO_ERROR),
        |mut endpoint, _| endpoint.go_away(0, Frame::INTERNAL_ERROR),
        |endpoint, _| drop(endpoint),
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let upstream = Upstream::bind();
        let proxy = proxy(&upstream);
        let mut client = proxy.client();
        client.send(GET);
        let mut endpoint = accept(&upstream);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, 0, &[]);
        endpoint.data(stream, 0, b"half");
        assert_eq!(client.head().field("transfer-encoding"), Some("chunked"));
        assert_eq!(client.chunk().as_deref(), Some(&b"half"[..]));
        cut(endpoint, stream);
        assert_eq!(client.until_closed(), b"", "cut {number}");
    }
}

#[test]
fn a_client_learns_that_its_response_was_given_up_and_of_no_other_reason() {
    for (reason, told) in [
        (Frame::CANCEL, Frame::CANCEL),
        (Frame::NO_ERROR, Frame::INTERNAL_ERROR),
        (Frame::REFUSED_STREAM, Frame::INTERNAL_ERROR),
    ] {
        let upstream = Upstream::bind();
        let proxy = proxy(&upstream);
        let mut client = frames::Frames::connect(&proxy, &[]);
        client.get(1, "/");
        let mut endpoint = accept(&upstream);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, 0, &[]);
        endpoint.data(stream, 0, b"half");
        assert_eq!(client.await_frame(frames::DATA, 1).payload, b"half");
        endpoint.reset(stream, reason);
        let reset = client.await_frame(frames::RST_STREAM, 1);
        assert_eq!(reset.code(), told, "of {reason}");
    }
}

#[test]
fn a_complete_response_may_come_before_the_end_of_the_request() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nbegin");
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    endpoint.data(stream, Frame::END_STREAM, b"enough");
    endpoint.reset(stream, Frame::NO_ERROR);
    let answer = client.response();
    assert_eq!(answer.text(), "enough");
}

#[test]
fn a_client_that_leaves_resets_its_stream() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    // Waiting for the head; in the middle of the response; in the middle of the request.
    for (request, answered) in [
        (GET, false),
        (GET, true),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf",
            false,
        ),
    ] {
        let mut client = proxy.client();
        client.send(request);
        let mut endpoint = accept(&upstream);
        let head = endpoint.next(Frame::HEADERS);
        if answered {
            endpoint.respond(head.stream, 0, &[]);
            client.head();
        }
        client.reset();
        let reset = endpoint.next(Frame::RST_STREAM);
        assert_eq!(reset.stream, head.stream);
        assert_eq!(reset.reason(), Frame::CANCEL);
        endpoint.go_away(head.stream, Frame::NO_ERROR);
    }
}

#[test]
fn silence_is_a_timeout_and_raises_doubt() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "timeouts: { response_header: 1s }");
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    assert_eq!(client.response().status(), 504);
    assert_eq!(endpoint.next(Frame::RST_STREAM).stream, stream);
    let ping = endpoint.next(Frame::PING);
    // Until it has answered, it gets no more requests.
    client.send(GET);
    let mut second = accept(&upstream);
    let stream = second.next(Frame::HEADERS).stream;
    second.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
    endpoint.send(Frame::PING, Frame::ACK, 0, &ping.payload);
}

#[test]
fn a_stalled_body_is_cut() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "timeouts: { idle: 200ms }");
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    endpoint.data(stream, 0, b"half");
    client.head();
    assert_eq!(client.chunk().as_deref(), Some(&b"half"[..]));
    assert_eq!(client.until_closed(), b"");
    assert_eq!(endpoint.next(Frame::RST_STREAM).stream, stream);
}

#[test]
fn an_idle_connection_is_closed() {
    let upstream = Upstream::bind();
    let proxy = proxy_with(&upstream, "pool: { idle_timeout: 100ms }");
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
    endpoint.until_closed();
}

#[test]
fn a_slow_client_holds_the_endpoint_back() {
    const WINDOW_UPDATE: u8 = 8;
    const MOST: usize = 64 << 20;
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, 0, &[]);
    // The window that our SETTINGS and WINDOW_UPDATE allow is never overrun, so this is all there may be on the way.
    let mut window = 128 * 1024_usize;
    let mut sent = 0_usize;
    let piece = [b'x'; 16 * 1024];
    while window >= piece.len() && sent < MOST {
        endpoint.data(stream, 0, &piece);
        sent += piece.len();
        window -= piece.len();
        while window < piece.len() {
            match endpoint.frame_within(std::time::Duration::from_millis(500)) {
                None => break,
                Some(frame) if frame.kind == WINDOW_UPDATE && frame.stream == stream => {
                    window += u32::from_be_bytes(frame.payload.try_into().unwrap()) as usize;
                }
                Some(_) => {}
            }
        }
    }
    // The sockets' buffers of this machine hold a few MiB by themselves.
    assert!(sent < MOST, "{sent} bytes and no end");
    endpoint.data(stream, Frame::END_STREAM, b"");
    client.head();
    let mut read = 0;
    while let Some(chunk) = client.chunk() {
        read += chunk.len();
    }
    assert_eq!(read, sent);
}

#[test]
fn a_client_that_waits_is_told_to_continue() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.interim(stream, "100");
    assert_eq!(client.response().status(), 100);
    client.send("hello");
    assert_eq!(body_of(&mut endpoint), b"hello");
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_client_that_waits_for_continue_gets_a_final_answer_as_well() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n");
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    endpoint.respond(stream, Frame::END_STREAM, &[]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn two_lengths_are_a_bad_gateway() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(POST);
    let mut endpoint = accept(&upstream);
    let stream = endpoint.next(Frame::HEADERS).stream;
    let fields = [("content-length", "2"), ("content-length", "2")];
    endpoint.respond(stream, 0, &fields);
    assert_eq!(client.response().status(), 502);
}

#[test]
fn a_head_beyond_the_limit_is_a_bad_gateway() {
    for (length, status) in [(200, 200), (4000, 502)] {
        let upstream = Upstream::bind();
        let proxy = Proxy::start(&format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
             limits: {{ max_response_header_bytes: 2KiB }}\n\
             upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c }} }}\n\
             routes: [{{ upstream: app }}]\n",
            upstream.address()
        ));
        let mut client = proxy.client();
        client.send(POST);
        let mut endpoint = accept(&upstream);
        let stream = endpoint.next(Frame::HEADERS).stream;
        let value = "x".repeat(100);
        let fields = vec![("x-long", value.as_str()); length / 100];
        endpoint.respond(stream, Frame::END_STREAM, &fields);
        assert_eq!(client.response().status(), status, "{length}");
    }
}

#[test]
fn an_endpoint_that_speaks_http_1_is_a_bad_gateway() {
    let upstream = Upstream::bind();
    let proxy = proxy(&upstream);
    let mut client = proxy.client();
    client.send(POST);
    // Nothing of the request was sent, so there are three tries.
    for _ in 0..3 {
        let mut endpoint = upstream.accept();
        endpoint.send("HTTP/1.1 400 Bad Request\r\n\r\n");
        endpoint.until_closed();
    }
    assert_eq!(client.response().status(), 502);
}
