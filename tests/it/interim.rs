//! What an endpoint says before its final response, and what a client waits for before its body.

use crate::support::{GET, OK, Proxy, Upstream, exchange, requests};

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

/// Asks before it sends two bytes.
const ASKING: &str =
    "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";

#[test]
fn early_hints_arrive_before_the_response() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let mut connection = upstream.accept();
    connection.request();
    connection.send(HINTS);
    let hints = client.response();
    assert_eq!(hints.start, "HTTP/1.1 103 Early Hints");
    assert_eq!(hints.fields.len(), 1, "{hints:?}");
    assert_eq!(hints.field("link"), Some("</a.css>; rel=preload"));
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
    // The connections are none the worse for it.
    client.send(GET);
    connection.request();
    connection.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn interim_responses_keep_their_order_before_a_response_sent_with_them() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, _connection) = upstream.answer(format!(
        "HTTP/1.1 102 Processing\r\n\r\n{HINTS}HTTP/1.1 199 Other\r\nx: y\r\n\r\n{OK}"
    ));
    let statuses = [102, 103, 199, 200].map(|_| client.response().status());
    assert_eq!(statuses, [102, 103, 199, 200]);
}

#[test]
fn interim_responses_of_pipelined_requests_stand_before_their_own_response() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET.repeat(2));
    let (_, mut connection) = upstream.answer(format!("{HINTS}{OK}"));
    connection.request();
    connection.send(format!("{HINTS}{OK}"));
    let statuses = [103, 200, 103, 200].map(|_| client.response().status());
    assert_eq!(statuses, [103, 200, 103, 200]);
}

#[test]
fn fields_of_a_connection_and_of_forwarding_stay_out_of_interim_responses() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, _connection) = upstream.answer(format!(
        "HTTP/1.1 103 Early Hints\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\n\
         upgrade: h2c\r\nx-forwarded-for: 1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nlink: </a>\r\n\r\n{OK}"
    ));
    let hints = client.response();
    assert_eq!(hints.fields, [("link".to_owned(), "</a>".to_owned())]);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_http_1_0_client_gets_no_interim_response() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.0\r\nhost: app.test\r\n\r\n");
    let (_, _connection) = upstream.answer(format!("{HINTS}{OK}"));
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_http_2_client_gets_the_response_alone() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let address = proxy.address("http");
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(|| exchange(address, None, requests(&["http://app.test/"])));
        let (_, _connection) = upstream.answer(format!("{HINTS}{OK}"));
        asked.join().unwrap()
    });
    assert_eq!(answers[0].status(), 200);
    assert!(answers[0].headers().get("link").is_none());
}

#[test]
fn hints_come_before_the_go_ahead() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(ASKING);
    let mut connection = upstream.accept();
    connection.head();
    connection.send(HINTS);
    assert_eq!(client.response().status(), 103);
    connection.send("HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.response().status(), 100);
    client.send("hi");
    assert_eq!(connection.take(2), b"hi");
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_go_ahead_and_a_response_at_once_leave_the_body_unread() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(ASKING);
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n");
    let mut status = client.response().status();
    if status == 100 {
        status = client.response().status();
    }
    assert_eq!(status, 403);
    // The endpoint is owed two bytes.
    connection.until_closed();
}

#[test]
fn an_endpoint_that_ignores_the_question_gets_the_body_all_the_same() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(ASKING);
    let mut connection = upstream.accept();
    connection.head();
    assert_eq!(client.response().status(), 100);
    client.send("hi");
    assert_eq!(connection.take(2), b"hi");
    connection.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn a_client_may_send_its_body_without_waiting() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    for go_ahead in ["", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let mut client = proxy.client();
        client.send(format!("{ASKING}hi"));
        let mut connection = upstream.accept();
        connection.head();
        connection.send(go_ahead);
        assert_eq!(connection.take(2), b"hi");
        connection.send(OK.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
        let mut response = client.response();
        if response.status() == 100 {
            response = client.response();
        }
        assert_eq!(response.text(), "ok");
    }
}

#[test]
fn a_body_that_nobody_asked_for_is_never_taken_for_a_request() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    let body = "GET /smuggled HTTP/1.1\r\nhost: app.test\r\n\r\n";
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    ));
    let mut connection = upstream.accept();
    connection.head();
    connection.send("HTTP/1.1 417 No\r\ncontent-length: 2\r\n\r\nno");
    assert_eq!(client.response().status(), 417);
    client.offer(body);
    client.assert_closed();
    connection.until_closed();
    upstream.assert_untouched();
}

#[test]
fn an_answer_to_a_large_upload_arrives_though_nobody_reads_it() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: app.test\r\ncontent-length: 100000000\r\n\r\n");
    let mut sender = client.sender();
    let mut connection = upstream.accept();
    connection.head();
    let sending = std::thread::spawn(move || {
        for _ in 0..100 {
            sender.offer(vec![b'x'; 64 * 1024]);
        }
    });
    connection.take(64 * 1024);
    connection
        .send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno");
    drop(connection);
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "no"));
    sending.join().unwrap();
}
