//! TLS towards upstreams: who is believed, who we are, and what becomes of a request when that fails.

use std::process::Command;

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use crate::support::websocket::{connect, converse};
use crate::support::{Authority, GET, OK, Proxy, TlsWire, Upstream, exchange, requests};

/// Everything to an endpoint named `localhost`, so that a certificate can be valid for it.
fn config(upstream: &Upstream, settings: &str) -> String {
    config_for(
        &format!("localhost:{}", upstream.address().port()),
        settings,
    )
}

fn config_for(endpoint: &str, settings: &str) -> String {
    format!(
        "runtime: {{ worker_threads: 1 }}\n\
         listeners: {{ http: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ app: {{ endpoints: [\"{endpoint}\"], {settings} }} }}\n\
         routes: [{{ upstream: app }}]\n"
    )
}

struct Site {
    authority: Authority,
    upstream: Upstream,
    proxy: Proxy,
}

/// A proxy that believes `ca.pem`.
fn site(settings: &str) -> Site {
    let (authority, directory) = authority();
    let upstream = Upstream::bind();
    let proxy = Proxy::start_in(directory, &config(&upstream, settings));
    Site {
        authority,
        upstream,
        proxy,
    }
}

fn authority() -> (Authority, TempDir) {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new();
    authority.write(directory.path(), "ca.pem");
    (authority, directory)
}

const OWN: &str = "tls: { ca: ca.pem }";

impl Site {
    /// The next connection, with a certificate for these names.
    fn accept(&self, names: &[&str], alpn: &[&str]) -> std::io::Result<TlsWire> {
        let issued = self.authority.issue(names);
        self.upstream.accept().accept_tls(issued.server(alpn))
    }
}

/// What the client gets when each of our three tries meets this server.
fn status_with(site: &Site, server: impl Fn() -> rustls::ServerConfig) -> u16 {
    let mut client = site.proxy.client();
    client.send(GET);
    for _ in 0..3 {
        let mut refused = site.upstream.accept().accept_tls(server());
        if let Ok(connection) = &mut refused {
            // TLS 1.3: the handshake is over for the server before the client has judged it.
            connection.assert_closed();
        }
    }
    client.response().status()
}

#[test]
fn an_authority_of_its_own_is_believed() {
    let site = site(OWN);
    let mut client = site.proxy.client();
    client.send(GET);
    let mut endpoint = site.accept(&["localhost"], &[]).unwrap();
    assert_eq!(
        endpoint.request().field("x-forwarded-for"),
        Some("127.0.0.1")
    );
    assert_eq!(endpoint.server_name(), Some("localhost"));
    endpoint.send(OK);
    assert_eq!(client.response().text(), "ok");
    // The connection is kept, as a plain one is.
    client.send(GET);
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn the_systems_authorities_are_believed_without_one() {
    let (authority, directory) = authority();
    let upstream = Upstream::bind();
    let config = config(&upstream, "tls: true");
    let proxy = Proxy::start_with(("SSL_CERT_FILE", "ca.pem"), directory, &config);
    let mut client = proxy.client();
    client.send(GET);
    let server = authority.issue(&["localhost"]).server(&[]);
    let mut endpoint = upstream.accept().accept_tls(server).unwrap();
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn an_unknown_authority_is_refused() {
    for settings in [OWN, "tls: true"] {
        let site = site(settings);
        let other = Authority::new();
        let status = status_with(&site, || other.issue(&["localhost"]).server(&[]));
        assert_eq!(status, 502, "{settings}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let site = site(OWN);
    let status = status_with(&site, || site.authority.issue(&["other.test"]).server(&[]));
    assert_eq!(status, 502);
}

#[test]
fn the_server_name_can_be_set() {
    let site = site("tls: { ca: ca.pem, server_name: api.internal }");
    let mut client = site.proxy.client();
    client.send(GET);
    let mut endpoint = site.accept(&["api.internal"], &[]).unwrap();
    assert_eq!(endpoint.server_name(), Some("api.internal"));
    // Host is the client's all the same.
    assert_eq!(endpoint.request().field("host"), Some("app.test"));
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_address_is_verified_as_one() {
    let (authority, directory) = authority();
    let upstream = Upstream::bind();
    let config = config_for(&upstream.address().to_string(), OWN);
    let proxy = Proxy::start_in(directory, &config);
    let mut client = proxy.client();
    client.send(GET);
    let server = authority.issue(&["127.0.0.1"]).server(&[]);
    let mut endpoint = upstream.accept().accept_tls(server).unwrap();
    assert_eq!(endpoint.server_name(), None);
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn our_certificate_is_shown_to_whoever_asks() {
    let (authority, directory) = authority();
    let clients = Authority::new();
    clients.issue(&["proxy.test"]).write(directory.path(), "me");
    let upstream = Upstream::bind();
    let settings = "tls: { ca: ca.pem, cert: me.crt, key: me.key }";
    let proxy = Proxy::start_in(directory, &config(&upstream, settings));
    let mut client = proxy.client();
    client.send(GET);
    let server = authority.issue(&["localhost"]).server_for(&clients);
    let mut endpoint = upstream.accept().accept_tls(server).unwrap();
    endpoint.request();
    assert_eq!(endpoint.client_certificates(), 1);
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}

#[test]
fn an_endpoint_that_misses_our_certificate_is_a_bad_gateway() {
    let site = site(OWN);
    let clients = Authority::new();
    let status = status_with(&site, || {
        site.authority.issue(&["localhost"]).server_for(&clients)
    });
    assert_eq!(status, 502);
}

#[test]
fn verification_is_never_switched_off_in_silence() {
    let site = site("tls: { verify: false }");
    let said = site.proxy.announced();
    assert!(said.contains("warning[W106]"), "{said}");
    assert!(said.contains("not verified"), "{said}");
    let mut client = site.proxy.client();
    client.send(GET);
    let server = Authority::new().issue(&["other.test"]).server(&[]);
    let mut endpoint = site.upstream.accept().accept_tls(server).unwrap();
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
    let check = headwater_check(&site.proxy.path("proxy.yaml"));
    assert!(
        check.contains("W106") && check.contains("1 warning"),
        "{check}"
    );
}

fn headwater_check(file: &std::path::Path) -> String {
    let check = Command::new(env!("CARGO_BIN_EXE_headwater"))
        .args(["check", "--color", "never", "--config"])
        .arg(file)
        .output()
        .unwrap();
    let both = [check.stdout, check.stderr].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn check_reads_the_files_of_upstreams() {
    let (authority, directory) = authority();
    for name in ["one", "two"] {
        authority.issue(&["me"]).write(directory.path(), name);
    }
    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    for (settings, expected) in [
        ("tls: { ca: none.pem }", "no such file"),
        ("tls: { ca: empty.pem }", "no certificate in"),
        ("tls: { cert: one.crt, key: none.key }", "no such file"),
        (
            "tls: { cert: one.crt, key: two.key }",
            "this key does not belong to the certificate",
        ),
    ] {
        let file = directory.path().join("proxy.yaml");
        std::fs::write(&file, config_for("localhost:1", settings)).unwrap();
        let said = headwater_check(&file);
        assert!(said.contains(expected), "{settings}: {said}");
        assert!(said.contains("proxy.yaml:3:"), "{settings}: {said}");
    }
}

#[test]
fn a_handshake_that_takes_too_long_is_a_timeout() {
    let site = site("tls: { ca: ca.pem }, timeouts: { connect: 200ms }");
    let mut client = site.proxy.client();
    client.send(GET);
    let silent: Vec<_> = (0..3).map(|_| site.upstream.accept()).collect();
    assert_eq!(client.response().status(), 504);
    drop(silent);
}

#[test]
fn requests_share_one_handshake_and_its_failure() {
    let site = site("tls: { ca: ca.pem }, protocol: h2, timeouts: { connect: 1s }");
    let answers = exchange(
        site.proxy.address("http"),
        None,
        requests(&["http://a/"; 20]),
    );
    assert!(answers.iter().all(|answer| answer.status() == 504));
    // One for each of the three tries of all of them.
    for _ in 0..3 {
        site.upstream.accept();
    }
    site.upstream.assert_untouched();
}

#[test]
fn a_request_whose_handshake_failed_goes_elsewhere_whole() {
    let (authority, directory) = authority();
    let (bad, good) = (Upstream::bind(), Upstream::bind());
    let endpoints = format!(
        "localhost:{}\", \"localhost:{}",
        bad.address().port(),
        good.address().port()
    );
    let proxy = Proxy::start_in(directory, &config_for(&endpoints, OWN));
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let server = Authority::new().issue(&["localhost"]).server(&[]);
            let connection = bad.accept();
            // Whoever comes again is refused.
            drop(bad);
            let _ = connection.accept_tls(server);
        });
        let served = scope.spawn(|| {
            let mut bodies = Vec::new();
            let mut endpoint = good
                .accept()
                .accept_tls(authority.issue(&["localhost"]).server(&[]))
                .unwrap();
            for _ in 0..2 {
                bodies.push(endpoint.request().text().to_owned());
                endpoint.send(OK);
            }
            bodies
        });
        let mut client = proxy.client();
        // One of the two begins with the bad endpoint.
        for body in ["first", "other"] {
            let answer = client.ask(format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n{body}"
            ));
            assert_eq!(answer.status(), 200);
        }
        assert_eq!(served.join().unwrap(), ["first", "other"]);
    });
}

#[test]
fn large_bodies_pass_both_ways() {
    let Site {
        authority,
        upstream,
        proxy,
    } = site(OWN);
    let body: Vec<u8> = (0..3 << 20).map(|at: u32| (at % 251) as u8).collect();
    let mut client = proxy.client();
    let mut sender = client.sender();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sender.send(format!(
                "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
                body.len()
            ));
            sender.send(&body);
        });
        scope.spawn(|| {
            let server = authority.issue(&["localhost"]).server(&[]);
            let mut endpoint = upstream.accept().accept_tls(server).unwrap();
            assert!(endpoint.request().body == body);
            endpoint.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                body.len()
            ));
            endpoint.send(&body);
        });
        assert!(client.response().body == body);
    });
}

#[test]
fn a_body_without_the_end_that_tls_has_is_cut() {
    type End = fn(TlsWire);
    let ends: [(End, &str); 2] = [
        (|mut endpoint| endpoint.close_notify(), "0\r\n\r\n"),
        (TlsWire::cut, ""),
    ];
    for (end, rest) in ends {
        let site = site(OWN);
        let mut client = site.proxy.client();
        client.send("GET / HTTP/1.1\r\nhost: app.test\r\nconnection: close\r\n\r\n");
        let mut endpoint = site.accept(&["localhost"], &[]).unwrap();
        endpoint.request();
        endpoint.send("HTTP/1.1 200 OK\r\n\r\nhalf");
        client.head();
        assert_eq!(client.chunk().as_deref(), Some(&b"half"[..]));
        end(endpoint);
        assert_eq!(client.until_closed(), rest.as_bytes());
    }
}

#[test]
fn the_endpoint_chooses_the_version_unless_it_is_set() {
    for (protocol, offered, expected) in [
        ("auto", &["http/1.1"][..], Some(&b"http/1.1"[..])),
        ("auto", &["http/1.1", "h2"], Some(b"http/1.1")),
        ("auto", &["h2", "http/1.1"], Some(b"h2")),
        ("auto", &[], None),
        ("h1", &["h2", "http/1.1"], Some(b"http/1.1")),
        ("h2", &["http/1.1", "h2"], Some(b"h2")),
    ] {
        let site = site(&format!("{OWN}, protocol: {protocol}"));
        let mut client = site.proxy.client();
        client.send(GET);
        let mut endpoint = site.accept(&["localhost"], offered).unwrap();
        let first = endpoint.take(3);
        assert_eq!(endpoint.alpn(), expected, "{protocol} {offered:?}");
        let http2 = expected == Some(b"h2");
        assert_eq!(first == b"PRI", http2, "{protocol} {offered:?}");
    }
}

#[test]
fn an_endpoint_without_the_version_that_is_set_is_a_bad_gateway() {
    for offered in [&["http/1.1"][..], &[]] {
        let site = site(&format!("{OWN}, protocol: h2"));
        let status = status_with(&site, || {
            site.authority.issue(&["localhost"]).server(offered)
        });
        assert_eq!(status, 502, "{offered:?}");
    }
}

#[test]
fn a_websocket_goes_over_tls() {
    let (authority, directory) = authority();
    let upstream = Upstream::bind();
    let proxy = Proxy::start_in(directory, &config(&upstream, OWN));
    let server = authority.issue(&["localhost"]).server(&["http/1.1"]);
    converse(async {
        let upstream = upstream.into_async();
        let endpoint = async {
            let (stream, _) = upstream.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
            let stream = acceptor.accept(stream).await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        };
        let stream = tokio::net::TcpStream::connect(proxy.address("http"))
            .await
            .unwrap();
        let (mut client, mut endpoint) = tokio::join!(connect(stream), endpoint);
        client.send(Message::text("up")).await.unwrap();
        assert_eq!(endpoint.next().await.unwrap().unwrap(), Message::text("up"));
        endpoint.send(Message::text("down")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("down"));
    });
}

#[test]
fn files_are_taken_up_when_they_change_and_kept_when_they_are_wrong() {
    let (first, directory) = authority();
    let clients = Authority::new();
    clients.issue(&["one.test"]).write(directory.path(), "me");
    let upstream = Upstream::bind();
    let settings = "tls: { ca: ca.pem, cert: me.crt, key: me.key }";
    let config = format!(
        "{}reload: {{ debounce: 100ms }}\n",
        config(&upstream, settings)
    );
    let mut proxy = Proxy::start_in(directory, &config);
    let mut client = proxy.client();
    client.send(GET);
    let server = first.issue(&["localhost"]).server_for(&clients);
    let mut endpoint = upstream.accept().accept_tls(server).unwrap();
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
    // Another authority on both sides, and nobody says so.
    let (second, other_clients) = (Authority::new(), Authority::new());
    other_clients
        .issue(&["two.test"])
        .write(&proxy.path(""), "me");
    second.write(&proxy.path(""), "ca.pem");
    let said = proxy.says("reload applied");
    assert!(said.contains("upstreams.app.tls.ca"), "{said}");
    client.send(GET);
    let server = second.issue(&["localhost"]).server_for(&other_clients);
    let mut endpoint = upstream.accept().accept_tls(server).unwrap();
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
    std::fs::write(proxy.path("ca.pem"), "nothing of use").unwrap();
    proxy.says("reload rejected");
    client.send(GET);
    endpoint.request();
    endpoint.send(OK);
    assert_eq!(client.response().status(), 200);
}
