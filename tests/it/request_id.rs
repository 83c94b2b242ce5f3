//! What a request is called on its way, and the trace it belongs to.

use crate::support::{Message, OK, Proxy, Upstream};

/// One listener named `http` that trusts 127.0.0.1, and this section.
fn config(request_id: &str, upstream: &Upstream) -> String {
    format!(
        "listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.1] }}\n{request_id}\n{}",
        upstream.as_only_route()
    )
}

/// What the endpoint got and what the client did, for a request from this address with these field lines.
fn passed(proxy: &Proxy, upstream: &Upstream, source: &str, fields: &str) -> (Message, Message) {
    let mut client = proxy.client_from(source.parse().unwrap());
    client.send(format!(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{fields}\r\n"
    ));
    let (request, _connection) = upstream.answer(OK);
    (request, client.response())
}

#[test]
fn endpoint_and_client_get_the_same_id_and_nobody_elses() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config("request_id: { header: X-Request-ID }", &upstream));
    let mut seen = Vec::new();
    for fields in [
        "",
        "x-request-id: theirs\r\nx_request_id: theirs\r\nconnection: x-request-id\r\n",
    ] {
        let (request, response) = passed(&proxy, &upstream, "127.0.0.1", fields);
        let id = request.field("x-request-id").unwrap();
        assert_eq!(response.field("x-request-id"), Some(id));
        assert_ne!(id, "theirs");
        assert_eq!(request.field("x_request_id"), None);
        assert!(!seen.contains(&id.to_owned()));
        seen.push(id.to_owned());
    }
}

#[test]
fn a_trusted_peers_id_is_kept_if_it_is_one() {
    let upstream = Upstream::bind();
    let section = "request_id: { header: X-Request-ID, trust_incoming: true }";
    let proxy = Proxy::start(&config(section, &upstream));
    let long = "a".repeat(129);
    for (source, sent, kept) in [
        ("127.0.0.1", "x-request-id: abc-1\r\n", true),
        ("127.0.0.2", "x-request-id: abc-1\r\n", false),
        (
            "127.0.0.1",
            "x-request-id: abc-1\r\nx-request-id: abc-2\r\n",
            false,
        ),
        ("127.0.0.1", "x-request-id: a b\r\n", false),
        ("127.0.0.1", &format!("x-request-id: {long}\r\n"), false),
        ("127.0.0.1", "x-request-id:\r\n", false),
    ] {
        let (request, response) = passed(&proxy, &upstream, source, sent);
        let id = request.field("x-request-id").unwrap();
        assert_eq!(id == "abc-1", kept, "{source} {sent}: {id}");
        assert!(!id.is_empty() && id.len() <= 128, "{id}");
        assert_eq!(response.field("x-request-id"), Some(id));
    }
}

#[test]
fn the_endpoints_own_answer_has_no_say() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config("request_id: { header: X-Request-ID }", &upstream));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = "HTTP/1.1 200 OK\r\nx-request-id: other\r\ncontent-length: 0\r\n\r\n";
    let (request, _connection) = upstream.answer(answer);
    assert_eq!(
        client.response().field("x-request-id"),
        request.field("x-request-id")
    );
}

#[test]
fn errors_tell_it_in_the_same_field_and_it_is_recorded() {
    let upstream = Upstream::bind();
    let section = "request_id: { header: X-Trace, trust_incoming: true }\n\
                   access_log: { output: log.json, format: json }\naccess: { deny: [127.0.0.1] }";
    let proxy = Proxy::start(&config(section, &upstream));
    let mut client = proxy.client();
    let refused = client.ask("GET / HTTP/1.1\r\nhost: a\r\nx-trace: theirs\r\n\r\n");
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.field("x-trace"), Some("theirs"));
    assert!(
        refused.text().contains("(request theirs)"),
        "{}",
        refused.text()
    );
    assert_eq!(refused.field("x-request-id"), None);
    // One whose head can't be read.
    let unread = client.ask("GET / HTTP/1.1\r\nhost: a\r\nb c: d\r\nx-trace: theirs\r\n\r\n");
    let id = unread.field("x-trace").unwrap();
    assert_ne!(id, "theirs");
    let directory = proxy.end_and_keep();
    let text = std::fs::read_to_string(directory.path().join("log.json")).unwrap();
    for id in ["theirs", id] {
        assert!(text.contains(&format!("\"request_id\":\"{id}\"")), "{text}");
    }
}

#[test]
fn without_it_a_clients_field_is_a_field_as_any_other() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config("", &upstream));
    let (request, response) = passed(&proxy, &upstream, "127.0.0.2", "x-request-id: theirs\r\n");
    assert_eq!(request.field("x-request-id"), Some("theirs"));
    assert_eq!(response.field("x-request-id"), None);
}

#[test]
fn to_send_one_is_no_forgery() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\nrequest_id: { header: X-Request-ID }\n\
         upstreams: { whoami: { builtin: whoami } }\nroutes: [{ upstream: whoami }]\n",
    );
    let mut client = proxy.client();
    let answer = client.ask("GET / HTTP/1.1\r\nhost: a\r\nx-request-id: theirs\r\n\r\n");
    assert!(!answer.text().contains("Forged"), "{}", answer.text());
    let id = answer.field("x-request-id").unwrap();
    assert!(
        answer.text().contains(&format!("X-Request-Id: {id}")),
        "{}",
        answer.text()
    );
}

#[test]
fn trace_context_passes_untouched() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const STATE: &str = "congo=t61rcWkgMzE,rojo=1";
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config("request_id: { header: X-Request-ID }", &upstream));
    for source in ["127.0.0.1", "127.0.0.2"] {
        let fields = format!("traceparent: {PARENT}\r\ntracestate: {STATE}\r\n");
        let (request, _) = passed(&proxy, &upstream, source, &fields);
        assert_eq!(request.field("traceparent"), Some(PARENT));
        assert_eq!(request.field("tracestate"), Some(STATE));
    }
}
