//! A response that its endpoint doesn't finish: no client may take what it has for the whole.

use tempfile::TempDir;

use crate::support::frames::{self, Frames};
use crate::support::{Certificate, Frame, Http2Wire, Proxy, Upstream};

/// Why a stream is reset whose response can't be finished.
const INTERNAL_ERROR: u32 = 2;

const GET_1_0: &str = "GET / HTTP/1.0\r\nhost: app.test\r\n\r\n";

/// Responses that end too early, by how they were to end.
const CUT: [(&str, &str); 4] = [
    ("content-length: 10", "hello"),
    ("transfer-encoding: chunked", "5\r\nhello\r\n"),
    ("transfer-encoding: chunked", "a\r\nhello"),
    ("transfer-encoding: chunked", "5\r\nhello\r\nx\r\n"),
];

/// Everything to an endpoint that speaks HTTP/2.
fn proxy_to_http2(upstream: &Upstream) -> Proxy {
    Proxy::start(&format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"], protocol: h2c }} }}\n\
         routes: [{{ upstream: app }}]\n",
        upstream.address()
    ))
}

/// The reason for which the client's stream is reset after it got `hello`.
fn reset_after_hello(client: &mut Frames) -> u32 {
    let mut data = Vec::new();
    loop {
        let frame = client.next().expect("the stream to be reset");
        assert_ne!(frame.kind, frames::GOAWAY, "{frame:?}");
        if frame.stream != 1 {
            continue;
        }
        match frame.kind {
            frames::DATA => {
                assert_eq!(frame.flags & frames::END_STREAM, 0, "{frame:?}");
                data.extend(frame.payload);
            }
            frames::RST_STREAM => {
                assert!(b"hello".starts_with(&data), "{data:?}");
                return frame.code();
            }
            _ => assert_eq!(frame.flags & frames::END_STREAM, 0, "{frame:?}"),
        }
    }
}

#[test]
fn an_http_2_client_has_its_stream_reset() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for (framing, sent) in CUT {
        let mut client = Frames::connect(&proxy, &[]);
        client.get(1, "/");
        let (_, connection) =
            upstream.answer(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{sent}"));
        drop(connection);
        assert_eq!(reset_after_hello(&mut client), INTERNAL_ERROR, "{sent:?}");
    }
}

#[test]
fn so_it_is_when_the_endpoint_speaks_http_2() {
    let cuts: [fn(Http2Wire, u32); 4] = [
        |mut endpoint, stream| endpoint.reset(stream, Frame::INTERNAL_ERROR),
        |mut endpoint, stream| endpoint.reset(stream, Frame::NO_ERROR),
        |mut endpoint, _| endpoint.go_away(0, Frame::INTERNAL_ERROR),
        |endpoint, _| drop(endpoint),
    ];
    for (number, cut) in cuts.into_iter().enumerate() {
        let upstream = Upstream::bind();
        let proxy = proxy_to_http2(&upstream);
        let mut client = Frames::connect(&proxy, &[]);
        client.get(1, "/");
        let mut endpoint = Http2Wire::accept(upstream.accept(), &[]);
        let stream = endpoint.next(Frame::HEADERS).stream;
        endpoint.respond(stream, 0, &[]);
        endpoint.data(stream, 0, b"hello");
        client.await_frame(frames::DATA, 1);
        cut(endpoint, stream);
        let reset = client.await_frame(frames::RST_STREAM, 1);
        assert_eq!(reset.code(), INTERNAL_ERROR, "cut {number}");
    }
}

/// HTTP/1.0 has no other end than that of the connection.
#[test]
fn an_http_1_0_client_is_cut_off() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET_1_0);
    let (_, connection) =
        upstream.answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    assert_eq!(client.head().field("content-length"), None);
    assert_eq!(client.take(5), b"hello");
    drop(connection);
    assert!(!client.ends_orderly());
}

#[test]
fn over_tls_there_is_no_orderly_end() {
    let upstream = Upstream::bind();
    let certificate = Certificate::for_names(&["app.test"]);
    let directory = TempDir::new().unwrap();
    certificate.write(directory.path(), "app");
    let proxy = Proxy::start_in(
        directory,
        &format!(
            "listeners: {{ https: {{ address: \"127.0.0.1:0\", \
             tls: {{ certificates: [{{ cert: app.crt, key: app.key }}] }} }} }}\n{}",
            upstream.as_only_route()
        ),
    );
    for (rest, orderly) in [("", false), ("0\r\n\r\n", true)] {
        let stream = std::net::TcpStream::connect(proxy.address("https")).unwrap();
        let mut client = certificate.client("app.test", &["http/1.1"], stream);
        client.send(GET_1_0);
        let (_, connection) = upstream.answer(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n{rest}"
        ));
        client.head();
        assert_eq!(client.take(5), b"hello");
        drop(connection);
        assert_eq!(client.ends_orderly(), orderly, "{rest:?}");
    }
}
