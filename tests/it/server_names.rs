//! Names in handshakes and in requests: which certificate is shown, and what is refused.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use http::Request;
use http_body_util::Full;
use rustls::AlertDescription;
use tempfile::TempDir;

use crate::support::{Certificate, OK, Proxy, TlsClient, Upstream, exchange, refusal, requests};

/// `a` is for `a.test` and an address, `b` for `b.test` and a wildcard, `c` for one name below that wildcard.
struct Site {
    a: Certificate,
    b: Certificate,
    c: Certificate,
    proxy: Proxy,
}

fn config(settings: &str, rest: &str) -> String {
    format!(
        "listeners:\n  https:\n    address: \"127.0.0.1:0\"\n    tls:\n      certificates:\n        \
         - {{ cert: a.crt, key: a.key }}\n        - {{ cert: b.crt, key: b.key }}\n        \
         - {{ cert: c.crt, key: c.key }}\n      {settings}\n{rest}"
    )
}

const ANSWERS: &str = "routes: [{ respond: { status: 200, body: x } }]\n";

impl Site {
    fn new(settings: &str, rest: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let certificate = |file: &str, names: &[&str]| {
            let certificate = Certificate::for_names(names);
            certificate.write(directory.path(), file);
            certificate
        };
        let (a, b, c) = (
            certificate("a", &["a.test", "127.0.0.1"]),
            certificate("b", &["b.test", "*.b.test"]),
            certificate("c", &["c.b.test"]),
        );
        let proxy = Proxy::start_in(directory, &config(settings, rest));
        Self { a, b, c, proxy }
    }

    fn stream(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address("https")).unwrap()
    }

    fn client(&self, certificate: &Certificate, name: &str) -> TlsClient {
        certificate.client(name, &["http/1.1"], self.stream())
    }
}

fn status_for(client: &mut TlsClient, host: &str) -> u16 {
    let answer = client.ask(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    assert_eq!(answer.field("connection"), None, "{host}");
    answer.status()
}

#[test]
fn a_host_that_has_another_certificate_is_sent_away() {
    let site = Site::new("strict_sni: true", ANSWERS);
    for (certificate, name, hosts) in [
        (
            &site.a,
            "a.test",
            &[
                ("a.test", 200),
                ("A.Test:8443", 200),
                ("a.test.", 200),
                ("b.test", 421),
                ("B.TEST.", 421),
                ("www.b.test:443", 421),
                ("c.b.test", 421),
                // Nobody has a certificate for these.
                ("other.test", 200),
                ("x.www.b.test", 200),
                (".b.test", 200),
                ("192.0.2.1", 200),
                ("[::1]:443", 200),
                // Connections are used for more than one request.
                ("a.test", 200),
            ][..],
        ),
        (
            &site.b,
            "www.b.test",
            &[
                ("www.b.test", 200),
                // Covered by what was shown, as are the names that share an address in a browser.
                ("b.test", 200),
                ("ftp.b.test", 200),
                // So is this one, but in a handshake of its own it has another.
                ("c.b.test", 421),
                ("a.test", 421),
            ],
        ),
        (&site.c, "c.b.test", &[("c.b.test", 200), ("b.test", 421)]),
        // A client that asks for no name is shown the first.
        (
            &site.a,
            "127.0.0.1",
            &[("127.0.0.1", 200), ("a.test", 200), ("b.test", 421)],
        ),
    ] {
        let mut client = site.client(certificate, name);
        for (host, status) in hosts {
            assert_eq!(status_for(&mut client, host), *status, "{name} {host}");
        }
    }
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let site = Site::new("strict_sni: true", ANSWERS);
    let mut client = site.client(&site.a, "a.test");
    for (target, host, status) in [("b.test", "a.test", 421), ("a.test", "b.test", 200)] {
        let request = format!("GET https://{target}/ HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(client.ask(request).status(), status, "{target}");
    }
    // Who names no host can't mean another.
    assert_eq!(client.ask("GET / HTTP/1.0\r\n\r\n").status(), 200);
}

#[test]
fn what_is_sent_away_reaches_nobody() {
    let upstream = Upstream::bind();
    let site = Site::new("strict_sni: true", &upstream.as_only_route());
    let mut client = site.client(&site.a, "a.test");
    let body = "content-length: 2\r\n\r\nhi";
    let sent_away = client.ask(format!("POST / HTTP/1.1\r\nhost: b.test\r\n{body}"));
    assert_eq!(sent_away.status(), 421);
    upstream.assert_untouched();
    client.send(format!("POST / HTTP/1.1\r\nhost: a.test\r\n{body}"));
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(request.body, b"hi");
}

#[test]
fn http_2_clients_may_share_a_connection_as_far_as_its_certificate_goes() {
    let site = Site::new("strict_sni: true", ANSWERS);
    let client = site.b.client_config(&["h2"]);
    let urls = [
        "https://www.b.test/",
        "https://b.test/",
        "https://a.test/",
        "https://c.b.test/",
        "https://other.test/",
        "https://ftp.b.test/",
    ];
    let mut requests = requests(&urls);
    // Some send both; they agree.
    let request = Request::get("https://a.test/").header("host", "A.test");
    requests.push(request.body(Full::default()).unwrap());
    let address = site.proxy.address("https");
    let answers = exchange(address, Some((client, "www.b.test")), requests);
    let statuses: Vec<u16> = answers.iter().map(|a| a.status().as_u16()).collect();
    assert_eq!(statuses, [200, 200, 421, 421, 200, 200, 421]);
}

#[test]
fn hosts_and_server_names_may_differ_unless_told_otherwise() {
    for settings in ["", "strict_sni: false"] {
        let site = Site::new(settings, ANSWERS);
        let mut client = site.client(&site.a, "a.test");
        for host in ["a.test", "b.test", "other.test"] {
            assert_eq!(status_for(&mut client, host), 200, "{host}");
        }
    }
}

#[test]
fn a_connection_outlives_the_certificate_it_was_shown() {
    let mut site = Site::new("strict_sni: true", ANSWERS);
    let mut client = site.client(&site.b, "www.b.test");
    for round in ["", "again"] {
        for (host, status) in [("www.b.test", 200), ("b.test", 200), ("a.test", 421)] {
            assert_eq!(status_for(&mut client, host), status, "{host} {round}");
        }
        if round.is_empty() {
            let renewed = Certificate::for_names(&["b.test", "*.b.test"]);
            renewed.write(&site.proxy.path(""), "b");
            site.proxy.says("reload applied");
        }
    }
}

#[test]
fn an_unknown_name_is_shown_the_default() {
    for (default, shown) in [("", "a"), ("default_certificate: ftp.b.test", "b")] {
        let site = Site::new(default, ANSWERS);
        let (right, wrong) = match shown {
            "a" => (&site.a, &site.b),
            _ => (&site.b, &site.a),
        };
        // The name doesn't fit, so a client can't but refuse; whose certificate it is makes the difference.
        let error = |certificate: &Certificate| {
            let client = certificate.try_client("other.test", &[], site.stream());
            client.err().unwrap().to_string()
        };
        assert!(
            error(right).contains("not valid for name"),
            "{}",
            error(right)
        );
        assert!(
            !error(wrong).contains("not valid for name"),
            "{}",
            error(wrong)
        );
    }
}

#[test]
fn an_unknown_name_is_refused_where_there_is_no_default() {
    let site = Site::new("default_certificate: reject", ANSWERS);
    for versions in [rustls::DEFAULT_VERSIONS, &[&rustls::version::TLS12]] {
        for (name, expected) in [
            ("other.test", Err(AlertDescription::UnrecognisedName)),
            ("x.www.b.test", Err(AlertDescription::UnrecognisedName)),
            // No name at all.
            ("127.0.0.1", Err(AlertDescription::UnrecognisedName)),
            ("a.test", Ok(())),
        ] {
            let config = Arc::new(site.a.client_config_of(versions, None, &[]));
            let connected = TlsClient::connect(config, name, site.stream());
            match expected {
                Ok(()) => assert_eq!(status_for(&mut connected.unwrap(), name), 200),
                Err(alert) => assert_eq!(refusal(connected), alert, "{name}"),
            }
        }
    }
}

#[test]
fn who_leaves_before_asking_for_a_name_is_no_trouble() {
    let site = Site::new("default_certificate: reject", ANSWERS);
    site.stream().shutdown(Shutdown::Both).unwrap();
    assert_eq!(
        status_for(&mut site.client(&site.a, "a.test"), "a.test"),
        200
    );
}
