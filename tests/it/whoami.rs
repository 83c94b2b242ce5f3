//! The built-in echo service, behind the proxy.

use crate::support::{GET, Proxy};

#[test]
fn shows_the_request_and_the_client() {
    let proxy = Proxy::to_whoami();
    let mut client = proxy.client();
    let address = proxy.address("http");
    let text = client.ask(format!(
        "GET /a?b HTTP/1.1\r\nHost: {address}\r\nUser-Agent: test\r\n\r\n"
    ));
    let lines: Vec<_> = text.text().lines().collect();
    assert!(lines[0].starts_with("Hostname: "), "{lines:?}");
    let after_addresses: Vec<_> = lines[1..]
        .iter()
        .skip_while(|line| line.starts_with("IP: "))
        .map(|line| line.trim_end().to_owned())
        .collect();
    assert_eq!(
        after_addresses,
        [
            "ClientIP: 127.0.0.1".to_owned(),
            "ClientIPSource: peer".to_owned(),
            format!("RemoteAddr: 127.0.0.1:{}", client.local_port()),
            "GET /a?b HTTP/1.1".to_owned(),
            format!("Host: {address}"),
            "User-Agent: test".to_owned(),
            "X-Forwarded-For: 127.0.0.1".to_owned(),
            format!("X-Forwarded-Host: {address}"),
            format!("X-Forwarded-Port: {}", address.port()),
            "X-Forwarded-Proto: http".to_owned(),
            "X-Real-Ip: 127.0.0.1".to_owned(),
            String::new(),
        ]
    );
}

#[test]
fn says_what_was_forged() {
    let proxy = Proxy::to_whoami();
    let answer = proxy
        .client()
        .ask("GET / HTTP/1.1\r\nhost: h\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n\r\n");
    assert!(
        answer.text().contains(
            "\nForged: x-forwarded-for x-real-ip (removed, 127.0.0.1 is not a trusted proxy)\n"
        ),
        "{}",
        answer.text()
    );
    assert!(!answer.text().contains("6.6.6.6"), "{}", answer.text());
}

#[test]
fn names_every_hop_that_was_believed() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\" } }\n\
         client_ip: { trusted_proxies: [127.0.0.0/8, 10.0.0.0/8] }\n\
         upstreams: { whoami: { builtin: whoami } }\nroutes: [{ upstream: whoami }]\n",
    );
    let answer = proxy.client().ask(
        "GET / HTTP/1.1\r\nhost: h\r\nX-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.5\r\n\r\n",
    );
    let text = answer.text();
    assert!(text.contains("\nClientIP: 203.0.113.7\n"), "{text}");
    assert!(
        text.contains("\nClientIPSource: header:x-forwarded-for\n"),
        "{text}"
    );
    assert_eq!(text.matches("\nHop: ").count(), 2, "{text}");
    assert!(text.contains("\nHop: 10.0.0.5"), "{text}");
}

#[test]
fn answers_in_json() {
    let proxy = Proxy::to_whoami();
    let answer = proxy.client().ask("GET /api HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(answer.field("content-type"), Some("application/json"));
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["clientIP"], "127.0.0.1");
    assert_eq!(json["host"], "h");
    assert_eq!(json["headers"]["X-Forwarded-For"][0], "127.0.0.1");
}

#[test]
fn sends_data_of_any_size() {
    let proxy = Proxy::to_whoami();
    let mut client = proxy.client();
    for (query, length) in [("size=0", 0), ("size=1", 1), ("size=3&unit=MB", 3 << 20)] {
        let answer = client.ask(format!("GET /data?{query} HTTP/1.1\r\nhost: h\r\n\r\n"));
        assert_eq!(answer.body.len(), length, "{query}");
    }
}

#[test]
fn repeats_the_body() {
    let proxy = Proxy::to_whoami();
    let mut client = proxy.client();
    let answer = client.ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhello");
    assert!(
        answer.text().ends_with("\r\n\r\nhello"),
        "{}",
        answer.text()
    );
    assert_eq!(client.ask(GET).status(), 200);
}

#[test]
fn health_is_what_was_last_posted() {
    let proxy = Proxy::to_whoami();
    let mut client = proxy.client();
    let get = "GET /health HTTP/1.1\r\nhost: h\r\n\r\n";
    assert_eq!(client.ask(get).status(), 200);
    let set = "POST /health HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n503";
    assert_eq!(client.ask(set).status(), 200);
    assert_eq!(client.ask(get).status(), 503);
}

#[test]
fn head_has_no_body() {
    let proxy = Proxy::to_whoami();
    let mut client = proxy.client();
    client.send("HEAD /data?size=1000 HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(client.head().field("content-length"), Some("1000"));
    assert_eq!(client.ask(GET).status(), 200);
}
