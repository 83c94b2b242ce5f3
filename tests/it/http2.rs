//! HTTP/2 towards the client, by prior knowledge.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, field, frame};
use crate::support::{OK, Proxy, Upstream, exchange, requests};

#[test]
fn many_streams_are_served_at_once() {
    let proxy = Proxy::to_whoami();
    let urls: Vec<_> = (0..50).map(|at| format!("http://app.test/{at}")).collect();
    let urls: Vec<_> = urls.iter().map(String::as_str).collect();
    let answers = exchange(proxy.address("http"), None, requests(&urls));
    for (at, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.status(), 200);
        let text = String::from_utf8(answer.into_body().to_bytes().to_vec()).unwrap();
        assert!(text.contains(&format!("GET /{at} HTTP/")), "{text}");
        assert!(text.contains("Host: app.test\r\n"), "{text}");
        assert!(text.contains("ClientIP: 127.0.0.1\n"), "{text}");
    }
}

#[test]
fn a_request_goes_up_as_http_1() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let request = Request::post("http://app.test:81/a?b")
                .header("cookie", "a=1")
                .header("cookie", "b=2")
                .header("x-forwarded-for", "6.6.6.6")
                .body(Full::new(Bytes::from_static(b"hello")))
                .unwrap();
            exchange(address, None, vec![request])
        });
        let (request, _connection) = upstream.answer(
            "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: 2\r\n\r\nok",
        );
        assert_eq!(request.start, "POST /a?b HTTP/1.1");
        assert_eq!(request.field("host"), Some("app.test:81"));
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.field("x-forwarded-host"), Some("app.test:81"));
        // RFC 9113 §8.2.3: crumbs become one field before they leave HTTP/2.
        assert_eq!(request.field("cookie"), Some("a=1; b=2"));
        assert_eq!(request.text(), "hello");
        asked.join().unwrap()
    });
    assert_eq!(answers[0].status(), 200);
    assert!(answers[0].headers().get("x-hop").is_none());
    assert!(answers[0].headers().get("connection").is_none());
}

#[test]
fn an_error_on_one_stream_leaves_the_others() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ match: {{ path: /app }}, upstream: app }}]\n",
        upstream.address()
    ));
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let urls = ["http://h/none", "http://h/app", "http://h/none"];
            exchange(address, None, requests(&urls))
        });
        upstream.answer(OK);
        asked.join().unwrap()
    });
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status().as_u16())
        .collect();
    assert_eq!(statuses, [404, 200, 404]);
}

/// RFC 9113 §8.3.1 allows none, and HTTP/1.1 clients get 400 for it. Here it can't be seen: h2 makes a `http::Uri` of the
/// path, which leaves it out and keeps no trace of it. So nobody behind us can read another target than we routed by.
#[test]
fn a_fragment_is_left_out_before_it_is_seen() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.get(1, "/a?b#c");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.start, "GET /a?b HTTP/1.1");
    assert_eq!(client.await_frame(HEADERS, 1).status(), 200);
}

/// RFC 9113 §8.1 makes such a request malformed, to be reset. Here it can't be seen: h2 hands on what stands beside them,
/// and keeps no trace of them. So they are never forwarded, nor do they change the request.
#[test]
fn pseudo_fields_among_trailers_are_left_out_before_they_are_seen() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = Frames::connect(&proxy, &[]);
    client.post(1, "/a");
    client.send(frame(DATA, 0, 1, b"body"));
    let mut trailers = Vec::new();
    field(&mut trailers, ":path", "/b");
    field(&mut trailers, "x", "y");
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.start, "POST /a HTTP/1.1");
    assert_eq!(request.text(), "body");
    assert_eq!(request.trailers, [("x".into(), "y".into())]);
    assert_eq!(client.await_frame(HEADERS, 1).status(), 200);
}
