//! Bodies: framed anew, streamed both ways, and never completed when they were cut.

use crate::support::{GET, OK, Proxy, Upstream};

fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

#[test]
fn a_body_of_known_length_keeps_it() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.field("content-length"), Some("5"));
    assert_eq!(request.field("transfer-encoding"), None);
    assert_eq!(request.text(), "hello");
    assert_eq!(client.response().field("content-length"), Some("2"));
}

#[test]
fn an_empty_body_is_still_announced() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    let (request, _connection) = upstream.answer("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(request.field("content-length"), Some("0"));
    let response = client.response();
    assert_eq!(response.field("content-length"), Some("0"));
    assert_eq!(response.field("transfer-encoding"), None);
}

#[test]
fn a_chunked_body_stays_chunked_both_ways() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
         5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    );
    let (request, _connection) = upstream.answer(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n003\r\ndef\r\n0\r\n\r\n",
    );
    assert_eq!(request.field("transfer-encoding"), Some("chunked"));
    assert_eq!(request.field("content-length"), None);
    assert_eq!(request.text(), "hello!");
    let response = client.response();
    assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    assert_eq!(response.field("content-length"), None);
    assert_eq!(response.text(), "abcdef");
}

#[test]
fn request_trailers_pass_unless_they_could_be_believed() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X_Real_IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let (request, mut connection) = upstream.answer(OK);
    assert_eq!(request.text(), "a");
    let trailers: Vec<_> = request
        .trailers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    assert_eq!(trailers, [("x-sum".to_owned(), "1")]);
    client.response();
    client.send(GET);
    connection.request();
}

#[test]
fn response_trailers_reach_a_client_that_wants_them() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\nte: trailers\r\n\r\n");
    let (_, _connection) = upstream.answer(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
         1\r\na\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.text(), "a");
    let trailers: Vec<_> = response
        .trailers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    assert_eq!(trailers, [("x-sum".to_owned(), "1")]);
}

#[test]
fn a_body_until_close_gets_an_end_the_client_can_see() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, connection) = upstream.answer("HTTP/1.1 200 OK\r\n\r\nuntil close");
    drop(connection);
    assert_eq!(client.response().text(), "until close");
    client.send(GET);
    upstream.answer(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    let mut connection = None;
    for (request, response, length) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
            Some("1000"),
        ),
        ("HEAD", "HTTP/1.1 404 Not Found\r\n\r\n", None),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: \"x\"\r\n\r\n",
            // What a GET would get (RFC 9110 §8.6).
            Some("9"),
        ),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
    ] {
        client.send(format!("{request} / HTTP/1.1\r\nhost: h\r\n\r\n"));
        let connection = connection.get_or_insert_with(|| upstream.accept());
        connection.request();
        connection.send(response);
        let head = client.head();
        assert_eq!(head.field("content-length"), length, "{response:?}");
        assert_eq!(head.field("transfer-encoding"), None, "{response:?}");
    }
    client.send(GET);
    let connection = connection.as_mut().unwrap();
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_megabyte_goes_both_ways_unchanged() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let body = pattern(1 << 20);
    let head = format!("content-length: {}\r\n\r\n", body.len());
    let mut client = proxy.client();
    let mut sender = client.sender();
    let (request, response) = std::thread::scope(|scope| {
        scope.spawn(|| {
            sender.send(format!("POST / HTTP/1.1\r\nhost: h\r\n{head}"));
            sender.send(&body);
        });
        let request = scope.spawn(|| {
            let mut connection = upstream.accept();
            let request = connection.request();
            connection.send(format!("HTTP/1.1 200 OK\r\n{head}"));
            connection.send(&body);
            request
        });
        let response = client.response();
        (request.join().unwrap(), response)
    });
    assert!(request.body == body, "the upload changed");
    assert!(response.body == body, "the download changed");
}

#[test]
fn a_megabyte_in_chunks_goes_both_ways_unchanged() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let body = pattern(1 << 20);
    let mut chunked = Vec::new();
    for chunk in body.chunks(10_007) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    let mut client = proxy.client();
    let mut sender = client.sender();
    let (request, response) = std::thread::scope(|scope| {
        scope.spawn(|| {
            sender.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
            sender.send(&chunked);
        });
        let request = scope.spawn(|| {
            let mut connection = upstream.accept();
            let request = connection.request();
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            connection.send(&chunked);
            request
        });
        let response = client.response();
        (request.join().unwrap(), response)
    });
    assert!(request.body == body, "the upload changed");
    assert!(response.body == body, "the download changed");
}

#[test]
fn a_download_is_seen_as_it_comes() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    client.head();
    assert_eq!(client.chunk().as_deref(), Some(&b"first"[..]));
    connection.send("4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(client.chunk().as_deref(), Some(&b"last"[..]));
    assert_eq!(client.chunk(), None);
}

#[test]
fn an_upload_is_seen_as_it_comes() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n");
    let mut connection = upstream.accept();
    connection.head();
    assert_eq!(connection.chunk().as_deref(), Some(&b"first"[..]));
    client.send("4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(connection.chunk().as_deref(), Some(&b"last"[..]));
    assert_eq!(connection.chunk(), None);
    connection.trailers();
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn expect_continue_is_relayed() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    let mut connection = upstream.accept();
    let head = connection.head();
    assert_eq!(head.field("expect"), Some("100-continue"));
    connection.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.response().status(), 100);
    client.send("hi");
    assert_eq!(connection.take(2), b"hi");
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_refused_expectation_ends_the_upstream_connection() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 417 No\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.response().status(), 417);
    // The upstream is owed two bytes: whatever came next would be taken for them.
    assert_eq!(connection.until_closed(), b"");
}

#[test]
fn an_answer_during_the_upload_reaches_the_client() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\nbeginning");
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (403, "no"));
}

#[test]
fn a_chunk_size_is_written_anew_not_copied() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    // Two spellings that the client's side understands and another reader might not.
    client.send(
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n\
         0005\r\nhello\r\n1;a=\"b\"\r\n!\r\n000\r\n\r\n",
    );
    let mut connection = upstream.accept();
    connection.head();
    assert_eq!(
        connection.raw_until("0\r\n\r\n"),
        "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
    );
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_broken_download_is_seen_as_cut() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for broken in [
        "x\r\n",
        "5\nhello\r\n",
        "5 \r\nhello\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut client = proxy.client();
        client.send(GET);
        let mut connection = upstream.accept();
        connection.request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n");
        client.head();
        assert_eq!(client.chunk().as_deref(), Some(&b"ok"[..]));
        connection.offer(broken);
        assert_eq!(client.until_closed(), b"", "{broken:?}");
        connection.assert_closed();
    }
}

#[test]
fn a_client_that_leaves_ends_the_upstream_connection() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"] {
        let mut client = proxy.client();
        client.send(GET);
        let (_, mut connection) = upstream.answer(answer);
        if !answer.is_empty() {
            client.head();
        }
        drop(client);
        connection.assert_closed();
    }
}

#[test]
fn our_own_answer_leaves_no_body_bytes_for_the_next_request() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\"] }} }}\n\
         routes: [{{ match: {{ path: /app }}, upstream: app }}]\n",
        upstream.address()
    ));
    let mut client = proxy.client();
    client.send(
        "POST /none HTTP/1.1\r\nhost: h\r\ncontent-length: 31\r\n\r\n\
         GET /app HTTP/1.1\r\nhost: h\r\n\r\n\
         GET /none2 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    );
    let first = client.response();
    assert_eq!(first.status(), 404);
    if first.field("connection") != Some("close") {
        assert_eq!(client.response().status(), 404);
    }
    client.until_closed();
    upstream.assert_untouched();
}
