//! `client_ip.explain_header`: trusted peers are told why their client is who it is, and nobody else is.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::support::{Proxy, Upstream, Wire, exchange};

const NAME: &str = "x-client-ip-explained";

/// Clients come from 127.0.0.1, whom one listener trusts and the other doesn't.
fn config(routes: &str) -> String {
    let block = |trusted: &str| {
        format!(
            "{{ address: \"127.0.0.1:0\", client_ip: {{ trusted_proxies: [{trusted}], explain_header: X-Client-IP-Explained }} }}"
        )
    };
    format!(
        "listeners:\n  trusted: {}\n  stranger: {}\n  silent: {{ address: \"127.0.0.1:0\" }}\n\
         client_ip: {{ trusted_proxies: [127.0.0.1] }}\n{routes}",
        block("127.0.0.1"),
        block("127.0.0.9"),
    )
}

fn http1(address: SocketAddr, fields: &str) -> (u16, Vec<String>) {
    let mut client = Wire::tcp(std::net::TcpStream::connect(address).unwrap());
    let answer = client.ask(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    let values = answer.values(NAME).into_iter().map(str::to_owned);
    (answer.status(), values.collect())
}

fn http2(address: SocketAddr, chain: &str) -> Vec<String> {
    let request = Request::get("http://a/")
        .header("x-forwarded-for", chain)
        .body(Full::<Bytes>::default())
        .unwrap();
    let answers = exchange(address, None, vec![request]);
    let values = answers[0].headers().get_all(NAME).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn only_a_trusted_peer_is_told() {
    let proxy = Proxy::start(&config(
        "upstreams: { whoami: { builtin: whoami } }\nroutes: [{ upstream: whoami }]\n",
    ));
    let expected = "198.51.100.7 (first_untrusted, header:x-forwarded-for); \
                    127.0.0.1: peer of the TCP connection, trusted: 127.0.0.1; \
                    198.51.100.7: entry 2, added by 127.0.0.1, not trusted -> this is the client; \
                    6.6.6.6: entry 1, claimed by the client, ignored: nobody trusted vouches for it";
    let chain = "6.6.6.6, 198.51.100.7";
    let field = format!("x-forwarded-for: {chain}\r\n");
    for (listener, told) in [
        ("trusted", vec![expected.to_owned()]),
        ("stranger", vec![]),
        ("silent", vec![]),
    ] {
        let address = proxy.address(listener);
        assert_eq!(http1(address, &field), (200, told.clone()), "{listener}");
        assert_eq!(http2(address, chain), told, "{listener}");
    }
}

#[test]
fn errors_are_explained_too_and_whatever_was_sent_stays_on_one_line() {
    let proxy = Proxy::start(&config(
        "routes: [{ match: { hosts: [b] }, respond: {} }]\n",
    ));
    let chain = format!("x-forwarded-for: {}\u{e9}\t\"\\\r\n", "z, ".repeat(500));
    let (status, told) = http1(proxy.address("trusted"), &chain);
    assert_eq!((status, told.len()), (404, 1));
    assert!(
        told[0].starts_with("127.0.0.1 (malformed, peer); "),
        "{}",
        told[0]
    );
    assert!(told[0].len() <= 1024, "{}", told[0].len());
    assert!(told[0].bytes().all(|byte| matches!(byte, b' '..=b'~')));
    assert_eq!(http1(proxy.address("stranger"), &chain), (404, vec![]));
}

#[test]
fn an_endpoints_own_explanation_goes_no_further() {
    let upstream = Upstream::bind();
    let proxy = Proxy::start(&config(&upstream.as_only_route()));
    let theirs = "HTTP/1.1 200 OK\r\nx-client-ip-explained: theirs\r\ncontent-length: 0\r\n\r\n";
    for (listener, theirs_stay, ours) in [
        ("trusted", false, true),
        ("stranger", false, false),
        ("silent", true, false),
    ] {
        let address = proxy.address(listener);
        let told = std::thread::scope(|scope| {
            let asked = scope.spawn(|| http1(address, "connection: close\r\n").1);
            let _connection =
                upstream.answer(theirs.replace("content", "connection: close\r\ncontent"));
            asked.join().unwrap()
        });
        assert_eq!(
            told.iter().any(|told| told == "theirs"),
            theirs_stay,
            "{listener}"
        );
        assert_eq!(
            told.iter().any(|told| told.contains("peer of")),
            ours,
            "{listener}"
        );
    }
}
