//! HTTPS: certificates by name, both protocols, and nothing in the clear.

use tempfile::TempDir;

use crate::support::{Certificate, GET, OK, Proxy, Upstream, Wire, exchange, headwater, requests};

const LISTENER: &str = "https:\n    address: \"127.0.0.1:0\"\n    tls: { certificates: [{ cert: a.crt, key: a.key }, { cert: b.crt, key: b.key }] }\n";

struct Site {
    a: Certificate,
    b: Certificate,
    proxy: Proxy,
}

fn site(rest: &str) -> Site {
    let directory = TempDir::new().unwrap();
    let a = Certificate::for_names(&["a.test"]);
    let b = Certificate::for_names(&["b.test", "*.b.test"]);
    a.write(directory.path(), "a");
    b.write(directory.path(), "b");
    let config = format!("listeners:\n  {LISTENER}{rest}");
    let proxy = Proxy::start_in(directory, &config);
    Site { a, b, proxy }
}

impl Site {
    fn connect(&self) -> std::net::TcpStream {
        std::net::TcpStream::connect(self.proxy.address("https")).unwrap()
    }
}

#[test]
fn https_requests_are_forwarded_as_such() {
    let upstream = Upstream::bind();
    let site = site(&upstream.as_only_route());
    let mut client = site.a.client("a.test", &["http/1.1"], site.connect());
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let (request, _connection) = upstream.answer(OK);
    let port = site.proxy.address("https").port().to_string();
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(request.field("x-forwarded-port"), Some(port.as_str()));
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let site = site("routes: [{ respond: { status: 200, body: x } }]\n");
    for (certificate, name) in [
        (&site.a, "a.test"),
        (&site.b, "b.test"),
        (&site.b, "www.b.test"),
    ] {
        let mut client = certificate.client(name, &[], site.connect());
        assert_eq!(client.ask(GET).text(), "x", "{name}");
    }
    // An unknown name gets the first certificate, which this client rightly doesn't take for it.
    assert!(
        site.a
            .try_client("other.test", &[], site.connect())
            .is_err()
    );
}

#[test]
fn http_2_is_negotiated() {
    let upstream = Upstream::bind();
    let site = site(&upstream.as_only_route());
    let address = site.proxy.address("https");
    let client = site.a.client_config(&["h2", "http/1.1"]);
    let answers = std::thread::scope(|scope| {
        let asked = scope.spawn(move || {
            let requests = requests(&["https://a.test/x?y"]);
            exchange(address, Some((client, "a.test")), requests)
        });
        let (request, _connection) = upstream.answer(OK);
        assert_eq!(request.start, "GET /x?y HTTP/1.1");
        assert_eq!(request.field("host"), Some("a.test"));
        assert_eq!(request.field("x-forwarded-proto"), Some("https"));
        asked.join().unwrap()
    });
    assert_eq!(answers[0].status(), 200);
}

#[test]
fn a_slow_handshake_is_ended() {
    let directory = TempDir::new().unwrap();
    Certificate::for_names(&["a.test"]).write(directory.path(), "a");
    let proxy = Proxy::start_in(
        directory,
        "listeners:\n  https:\n    address: \"127.0.0.1:0\"\n    \
         tls: { certificates: [{ cert: a.crt, key: a.key }] }\n    timeouts: { handshake: 200ms }\n\
         routes: [{ respond: { status: 200 } }]\n",
    );
    let stream = std::net::TcpStream::connect(proxy.address("https")).unwrap();
    let mut client = Wire::tcp(stream);
    // The beginning of a record that never ends.
    client.send([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]);
    client.until_closed();
}

#[test]
fn plain_http_is_sent_to_https() {
    let proxy = Proxy::start(
        "listeners: { http: { address: \"127.0.0.1:0\", redirect_to_https: { status: 308, port: 8443 } } }\n\
         routes: [{ respond: { status: 200, body: x } }]\n",
    );
    let mut client = proxy.client();
    let answer = client.ask("GET /a?b=c HTTP/1.1\r\nhost: a.test:80\r\n\r\n");
    assert_eq!(answer.status(), 308);
    assert_eq!(answer.field("location"), Some("https://a.test:8443/a?b=c"));
    let answer = client.ask("GET /.well-known/acme-challenge/x HTTP/1.1\r\nhost: a.test\r\n\r\n");
    assert_eq!(answer.text(), "x");
}

#[test]
fn certificates_that_are_not_valid_now_are_told() {
    let directory = TempDir::new().unwrap();
    Certificate::of_years("a.test", 2019, 2020).write(directory.path(), "a");
    Certificate::of_years("b.test", 2999, 3000).write(directory.path(), "b");
    let config = format!("listeners:\n  {LISTENER}routes: [{{ respond: {{}} }}]\n");
    let proxy = Proxy::start_in(directory, &config);
    let said = proxy.announced();
    let directory = proxy.end_and_keep();
    let (status, checked) = headwater(&directory, &["check", "proxy.yaml"]);
    assert_eq!(status, 0, "{checked}");
    for said in [said, checked] {
        assert!(said.contains("warning[W112]"), "{said}");
        for says in [
            "a.crt ended on 2020-01-01",
            "b.crt begins on 2999-01-01",
            "proxy.yaml:4:",
        ] {
            assert!(said.contains(says), "{says}: {said}");
        }
    }
    let (status, _) = headwater(&directory, &["check", "--deny-warnings", "proxy.yaml"]);
    assert_eq!(status, 78);
}
