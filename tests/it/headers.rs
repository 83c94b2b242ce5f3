//! Fields: what belongs to one connection stays on it, what says who the client is is ours.

use crate::support::{Message, OK, Proxy, Upstream};

/// What the upstream gets for these field lines.
fn forwarded(fields: &str) -> Message {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\nhost: app.test\r\n{fields}\r\n"));
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(client.response().status(), 200);
    request
}

/// What the client gets for these field lines.
fn returned(fields: &str) -> Message {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(crate::support::GET);
    let (_, _connection) = upstream.answer(format!(
        "HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok"
    ));
    client.response()
}

#[test]
fn connection_scoped_request_fields_stop_here() {
    let request = forwarded(
        "Connection: keep-alive, X-Hop\r\nConnection: x-other\r\nX-Hop: 1\r\nX-Other: 2\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\nProxy-Authorization: Basic eA==\r\nX-End: 3\r\n",
    );
    for name in [
        "connection",
        "x-hop",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-end"), Some("3"));
}

#[test]
fn connection_scoped_response_fields_stop_here() {
    let response = returned(
        "Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nUpgrade: h2c\r\nX-End: 3\r\n",
    );
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(response.field(name), None, "{name}");
    }
    assert_eq!(response.field("x-end"), Some("3"));
}

#[test]
fn forwarding_fields_tell_what_the_connection_shows() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client_from("127.66.0.9".parse().unwrap());
    client.send("GET / HTTP/1.1\r\nhost: app.test:81\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    let port = proxy.address("http").port().to_string();
    for (name, value) in [
        ("host", "app.test:81"),
        ("x-forwarded-for", "127.66.0.9"),
        ("x-real-ip", "127.66.0.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.test:81"),
        ("x-forwarded-port", port.as_str()),
    ] {
        assert_eq!(request.field(name), Some(value), "{name}");
    }
    assert_eq!(request.field("forwarded"), None);
    client.response();
}

#[test]
fn repeated_fields_keep_their_lines_and_order() {
    let request = forwarded("Cookie: a=1\r\nX-A: 1\r\nX-A: 2\r\nX-A: 1\r\nCookie: b=2\r\n");
    assert_eq!(request.values("x-a"), ["1", "2", "1"]);
    assert_eq!(request.values("cookie"), ["a=1", "b=2"]);
    let response = returned("Set-Cookie: a=1\r\nVary: x\r\nSet-Cookie: b=2\r\nVary: y\r\n");
    assert_eq!(response.values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.values("vary"), ["x", "y"]);
}

#[test]
fn values_pass_byte_for_byte() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(b"GET / HTTP/1.1\r\nhost: h\r\nx-a: caf\xe9\tx \"y\"\r\nx-empty:\r\n\r\n");
    let mut connection = upstream.accept();
    let seen = connection.raw_head();
    let line = b"\r\nx-a: caf\xe9\tx \"y\"\r\n";
    assert!(seen.windows(line.len()).any(|part| part == line));
    connection.send(b"HTTP/1.1 200 OK\r\nx-b: \xe9\xff\r\ncontent-length: 0\r\n\r\n");
    let seen = client.raw_head();
    assert!(seen.windows(7).any(|part| part == b"x-b: \xe9\xff"));
}

#[test]
fn an_answer_has_one_date() {
    let theirs = "Sun, 06 Nov 1994 08:49:37 GMT";
    let kept = returned(&format!("Date: {theirs}\r\n"));
    assert_eq!(kept.field("date"), Some(theirs));
    let added = returned("");
    assert!(
        added
            .field("date")
            .is_some_and(|date| date.ends_with(" GMT"))
    );
}

#[test]
fn the_answer_does_not_say_who_made_it() {
    let response = returned("");
    assert_eq!(response.field("server"), None);
    assert_eq!(response.field("via"), None);
    assert_eq!(response.field("x-powered-by"), None);
}

#[test]
fn response_fields_keep_their_spelling_and_order() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(crate::support::GET);
    let (_, _connection) = upstream.answer(
        "HTTP/1.1 200 OK\r\nX-b: 1\r\nKEEP-alive: timeout=5\r\nETag:2\r\nconnection: x-OWN\r\nX-own: 3\r\nx-A: 4\r\n\
         DATE: Thu, 26 Nov 2026 20:00:00 GMT\r\nContent-Length: 2\r\nX-b: 5\r\n\r\nok",
    );
    assert_eq!(
        String::from_utf8(client.raw_head()).unwrap(),
        "HTTP/1.1 200 OK\r\nX-b: 1\r\nETag: 2\r\nx-A: 4\r\nDATE: Thu, 26 Nov 2026 20:00:00 GMT\r\nX-b: 5\r\n\
         content-length: 2\r\n\r\n"
    );
}

#[test]
fn request_fields_keep_their_spelling_and_order() {
    let request = forwarded(
        "X-b: 1\r\nKEEP-alive: timeout=5\r\nX-FORWARDED-for: 6.6.6.6\r\nX_Real_iP: 6.6.6.6\r\nACCEPT:*/*\r\n\
         connection: x-OWN\r\nX-own: 3\r\npRoXy: http://6.6.6.6\r\nUnder_score: 1\r\nx-A:  4 \r\nTRUE-client-ip: 6.6.6.6\r\n\
         eXpect: nothing\r\nX-b: 5\r\n",
    );
    let fields: Vec<_> = request
        .fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    let (theirs, ours) = fields.split_at(5);
    assert_eq!(
        theirs,
        [
            "host: app.test",
            "X-b: 1",
            "ACCEPT: */*",
            "x-A: 4",
            "X-b: 5"
        ]
    );
    let mut names: Vec<_> = ours
        .iter()
        .filter_map(|line| line.split(':').next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X-Forwarded-Port",
            "X-Forwarded-Proto",
            "X-Real-IP"
        ]
    );
    assert!(!fields.concat().contains("6.6.6.6"));
}
