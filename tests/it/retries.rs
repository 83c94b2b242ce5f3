//! A second attempt: only where it can't do anything twice.

use crate::support::{GET, OK, Proxy, Upstream, Wire, closed_port};

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn a_kept_connection_closed_under_a_get_is_replaced() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    client.response();
    client.send(GET);
    connection.request();
    drop(connection);
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.start, "GET / HTTP/1.1");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_kept_connection_closed_under_a_get_is_no_reason_for_a_backup() {
    let primary = Upstream::bind();
    let backup = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nruntime: {{ worker_threads: 1 }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\", {{ address: \"{}\", backup: true }}] }} }}\n\
         routes: [{{ upstream: app }}]\n",
        primary.address(),
        backup.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = primary.answer(OK);
    client.response();
    client.send(GET);
    connection.request();
    drop(connection);
    let (_, _connection) = primary.answer(OK);
    assert_eq!(client.response().text(), "ok");
    backup.assert_untouched();
}

#[test]
fn a_kept_connection_closed_under_a_post_is_502() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    client.response();
    client.send(POST);
    connection.request();
    drop(connection);
    assert_eq!(client.response().status(), 502);
    upstream.assert_untouched();
}

/// Between the end of a kept connection and the request there is no time for the proxy to notice.
#[test]
fn a_kept_connection_that_ended_just_before_a_post_hurts_nobody() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: 1 }}\n{}",
        upstream.as_only_route()
    ));
    let chunked =
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for request in [POST, chunked] {
        for end in [Wire::reset, drop] {
            let mut clients = [0; 20].map(|_| proxy.client());
            for client in &mut clients {
                client.send(GET);
            }
            let kept = [0; 20].map(|_| upstream.answer(OK).1);
            for client in &mut clients {
                client.response();
            }
            kept.into_iter().for_each(end);
            for client in &mut clients {
                client.send(request);
            }
            for _ in &clients {
                let (request, connection) = upstream
                    .answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
                drop(connection);
                assert_eq!(request.text(), "hi");
            }
            for client in &mut clients {
                assert_eq!(client.response().text(), "ok");
            }
        }
    }
}

#[test]
fn a_connection_closed_while_idle_hurts_nobody() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, mut connection) = upstream.answer(OK);
    client.response();
    connection.finish_sending();
    // The proxy has seen the end once it closed its own side.
    connection.assert_closed();
    client.send(POST);
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.text(), "hi");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn a_dead_endpoint_is_passed_over_with_any_method() {
    let upstream = Upstream::bind();
    let dead = closed_port();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{dead}\", \"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
        upstream.address()
    ));
    for _ in 0..4 {
        let mut client = proxy.client();
        client
            .send("POST / HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi");
        let (request, connection) =
            upstream.answer("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        drop(connection);
        assert_eq!(request.text(), "hi");
        assert_eq!(client.response().text(), "ok");
    }
}

#[test]
fn endpoints_take_turns() {
    let first = Upstream::bind();
    let second = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         runtime: {{ worker_threads: 1 }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"] }} }}\nroutes: [{{ upstream: app }}]\n",
        first.address(),
        second.address()
    ));
    let mut client = proxy.client();
    client.send(GET);
    std::thread::scope(|scope| {
        for endpoint in [&first, &second] {
            scope.spawn(|| endpoint.answer(OK));
        }
        assert_eq!(client.response().text(), "ok");
        client.send(GET);
        assert_eq!(client.response().text(), "ok");
    });
}

#[test]
fn an_upstream_that_answers_with_an_error_is_not_asked_again() {
    let upstream = Upstream::bind();
    let proxy = Proxy::to(&upstream);
    let mut client = proxy.client();
    client.send(GET);
    let (_, _connection) =
        upstream.answer("HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (503, "busy"));
    assert_eq!(response.field("retry-after"), Some("1"));
    upstream.assert_untouched();
}

/// A retry wants another endpoint than the one that failed, and waits for it; those behind may go where it won't.
#[test]
fn a_retry_that_waits_for_a_busy_endpoint_keeps_nobody_from_another() {
    let busy = Upstream::bind();
    let failing = Upstream::bind();
    let proxy = Proxy::start(&format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\nruntime: {{ worker_threads: 1 }}\n\
         upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"], max_connections_per_endpoint: 1, \
         queue_timeout: 10s }} }}\n\
         routes: [{{ upstream: app }}]\n",
        busy.address(),
        failing.address()
    ));
    let mut first = proxy.client();
    first.send(GET);
    let mut held = busy.accept();
    held.request();
    let mut retried = proxy.client();
    retried.send(GET);
    let mut connection = failing.accept();
    connection.request();
    drop(connection);
    retried.assert_silent();
    let mut other = proxy.client();
    other.send(GET);
    let (_, _connection) = failing.answer(OK);
    assert_eq!(other.response().text(), "ok");
    retried.assert_silent();
    held.send(OK);
    held.request();
    held.send(OK);
    assert_eq!(first.response().text(), "ok");
    assert_eq!(retried.response().text(), "ok");
}
