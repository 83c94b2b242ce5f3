//! Requests and answers, one after the other: connections kept, reused and closed.

use crate::support::{GET, OK, Proxy, Upstream};

#[test]
fn a_request_reaches_the_upstream_and_its_answer_the_client() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET /a?b=c HTTP/1.1\r\nHost: app.test\r\nX-A: 1\r\n\r\n");
    let (request, _connection) =
        upstream.answer("HTTP/1.1 201 Created\r\ncontent-length: 3\r\nx-b: 2\r\n\r\nyes");
    assert_eq!(request.start, "GET /a?b=c HTTP/1.1");
    assert_eq!(request.field("host"), Some("app.test"));
    assert_eq!(request.field("x-a"), Some("1"));
    assert_eq!(request.field("content-length"), None);
    assert_eq!(request.field("transfer-encoding"), None);
    let response = client.response();
    assert_eq!(response.status(), 201);
    assert_eq!(response.field("x-b"), Some("2"));
    assert_eq!(response.text(), "yes");
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    assert_eq!(client.response().text(), "ok");
    for _ in 0..3 {
        client.send(GET);
        connection.request();
        connection.send(OK);
        assert_eq!(client.response().text(), "ok");
    }
    upstream.assert_untouched();
}

#[test]
fn an_idle_upstream_connection_serves_another_client() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: 1 }}\n{}",
        upstream.as_only_route()
    ));
    let mut first = proxy.client();
    first.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    first.response();
    let mut second = proxy.client();
    second.send(GET);
    connection.request();
    connection.send(OK);
    assert_eq!(second.response().text(), "ok");
    upstream.assert_untouched();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(
        "GET /1 HTTP/1.1\r\nhost: h\r\n\r\n\
         POST /2 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc\
         GET /3 HTTP/1.1\r\nhost: h\r\n\r\n",
    );
    let mut connection = upstream.accept();
    for (start, body) in [
        ("GET /1 HTTP/1.1", ""),
        ("POST /2 HTTP/1.1", "abc"),
        ("GET /3 HTTP/1.1", ""),
    ] {
        let request = connection.request();
        assert_eq!((request.start.as_str(), request.text()), (start, body));
        let length = start.len();
        connection.send(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{start}"
        ));
    }
    for expected in ["GET /1 HTTP/1.1", "POST /2 HTTP/1.1", "GET /3 HTTP/1.1"] {
        assert_eq!(client.response().text(), expected);
    }
}

#[test]
fn closes_when_the_client_asks_to() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.field("connection"), None);
    let response = client.response();
    assert_eq!(response.field("connection"), Some("close"));
    client.assert_closed();
}

/// A connection that is closed over unread bytes is reset, and what the client hasn't read yet is lost.
#[test]
fn a_connection_whose_client_goes_on_ends_orderly() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let surplus = GET.repeat(3_000);
    let mut client = proxy.client();
    let last = GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n");
    client.send(last + &surplus);
    let (_, _connection) = upstream.answer(OK);
    assert_eq!(client.response().text(), "ok");
    assert!(client.ends_orderly());

    let mut client = proxy.client();
    client.send(format!("GET / HTTP/1.1\r\n\r\n{surplus}"));
    assert_eq!(client.response().status(), 400);
    assert!(client.ends_orderly());
    upstream.assert_untouched();
}

#[test]
fn an_upstream_that_closes_does_not_close_the_client() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send(GET);
        let (_, connection) =
            upstream.answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        drop(connection);
        let response = client.response();
        assert_eq!(response.text(), "ok");
        assert_eq!(response.field("connection"), None);
    }
}

#[test]
fn an_http_1_0_client_gets_one_answer_and_the_end() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nHost: old.test\r\n\r\n");
    let (request, _connection) = upstream
        .answer("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    assert_eq!(request.start, "GET / HTTP/1.1");
    assert_eq!(request.field("host"), Some("old.test"));
    let response = client.response();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "ok");
    client.assert_closed();
}

#[test]
fn http_1_0_without_host_sends_the_endpoint_as_host() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    let endpoint = upstream.address().to_string();
    assert_eq!(request.field("host"), Some(endpoint.as_str()));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn an_absolute_target_goes_up_in_origin_form_with_its_own_host() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for (target, sent, host) in [
        ("http://target.test/a?b", "/a?b", "target.test"),
        ("http://target.test:81/a", "/a", "target.test:81"),
        ("http://target.test", "/", "target.test"),
        ("http://target.test?b", "/?b", "target.test"),
    ] {
        let mut client = proxy.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: field.test\r\n\r\n"));
        let (request, _connection) = upstream.answer(OK);
        assert_eq!(request.start, format!("GET {sent} HTTP/1.1"), "{target}");
        assert_eq!(request.field("host"), Some(host), "{target}");
        client.response();
    }
}

#[test]
fn targets_pass_unchanged() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    let mut connection = None;
    for target in [
        "/",
        "/a//b/../c/./d",
        "/%41%2f%2e%2e%5c%00",
        "/a;b=c,d?e=f&g[]=%20+h",
        "/?",
        "/~user/!$&'()*+,;=:@",
        "/a%zz",
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let connection = connection.get_or_insert_with(|| upstream.accept());
        assert_eq!(connection.request().start, format!("GET {target} HTTP/1.1"));
        connection.send(OK);
        assert_eq!(client.response().status(), 200, "{target}");
    }
}

#[test]
fn methods_pass_unchanged() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for method in [
        "DELETE", "OPTIONS", "PATCH", "PROPFIND", "PURGE", "M-SEARCH", "get",
    ] {
        let mut client = proxy.client();
        client.send(format!("{method} / HTTP/1.1\r\nhost: h\r\n\r\n"));
        // Not to be used again: a method that must not be repeated can't survive a close that comes late.
        let last = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        let (request, _connection) = upstream.answer(last);
        assert_eq!(request.start, format!("{method} / HTTP/1.1"));
        assert_eq!(client.response().status(), 200, "{method}");
    }
}

#[test]
fn options_for_the_whole_server_keeps_its_asterisk() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.start, "OPTIONS * HTTP/1.1");
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_head_may_come_byte_by_byte_on_either_side() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    for byte in GET.as_bytes() {
        client.send([*byte]);
    }
    let mut connection = upstream.accept();
    connection.request();
    for byte in OK.as_bytes() {
        connection.send([*byte]);
    }
    assert_eq!(client.response().text(), "ok");
}
