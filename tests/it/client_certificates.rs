//! Clients with certificates: who is let in, and what endpoints are told about them.

use std::net::TcpStream;
use std::sync::Arc;

use http::Request;
use http_body_util::Full;
use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::{AlertDescription, ClientConfig};
use tempfile::TempDir;

use crate::support::{
    Authority, Certificate, GET, Issued, Message, OK, Proxy, TlsClient, Upstream, exchange,
    for_client, refusal,
};

/// The field under test, and what some backends take for it.
const FIELD: &str = "X-Client-Cert-Subject";
const SPELLINGS: [&str; 4] = [
    FIELD,
    "x_client_cert_subject",
    "X.Client.Cert.Subject",
    "X-CLIENT_CERT.SUBJECT",
];

/// A proxy with a TLS listener for each of these modes, and a plain one.
struct Site {
    server: Certificate,
    clients: Authority,
    proxy: Proxy,
}

impl Site {
    fn new(rest: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let server = Certificate::for_names(&["site.test"]);
        server.write(directory.path(), "site");
        let clients = Authority::new();
        clients.write(directory.path(), "clients.pem");
        let proxy = Proxy::start_in(directory, &config(rest));
        Self {
            server,
            clients,
            proxy,
        }
    }

    fn stream(&self, listener: &str) -> TcpStream {
        TcpStream::connect(self.proxy.address(listener)).unwrap()
    }

    fn try_client(&self, listener: &str, own: Option<&Issued>) -> std::io::Result<TlsClient> {
        let config = self.server.client_config_as(own, &["http/1.1"]);
        TlsClient::connect(Arc::new(config), "site.test", self.stream(listener))
    }

    fn client(&self, listener: &str, own: Option<&Issued>) -> TlsClient {
        self.try_client(listener, own).expect("a handshake")
    }

    fn ada(&self) -> Issued {
        self.clients.issue_to(&ADA)
    }
}

fn config(rest: &str) -> String {
    let https = |name: &str, more: &str| {
        format!(
            "  {name}:\n    address: \"127.0.0.1:0\"\n    tls:\n      \
             certificates: [{{ cert: site.crt, key: site.key }}]\n      {more}\n"
        )
    };
    let asking = |mode: &str| {
        let more =
            format!("client_auth: {{ mode: {mode}, ca: clients.pem, subject_header: {FIELD} }}");
        https(mode, &more)
    };
    format!(
        "listeners:\n  http: {{ address: \"127.0.0.1:0\" }}\n{}{}{}{}limits: {{ underscore_headers: allow }}\n{rest}",
        https("silent", ""),
        asking("off").replace("  off:", "  \"off\":"),
        asking("optional"),
        asking("required")
    )
}

const LISTENERS_WITH_TLS: [&str; 4] = ["silent", "off", "optional", "required"];

const ADA: [(DnType, &str); 2] = [
    (DnType::OrganizationName, "Example, Inc."),
    (DnType::CommonName, "ada"),
];
const SUBJECT_OF_ADA: &str = r"CN=ada,O=Example\, Inc.";

/// An answer behind which the endpoint closes: a request that isn't sent twice needs a connection of its own.
const LAST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";

/// What an endpoint was told about the client in a field by this name, whatever its spelling.
fn told(request: &Message) -> Vec<&str> {
    let fields = request.fields.iter().chain(&request.trailers);
    let folded = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    fields
        .filter(|(name, _)| folded(name) == folded(FIELD))
        .map(|(_, value)| value.as_str())
        .collect()
}

#[test]
fn a_verified_subject_reaches_the_endpoint() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    let ada = site.ada();
    for versions in [rustls::DEFAULT_VERSIONS, &[&rustls::version::TLS12]] {
        for listener in ["optional", "required"] {
            let config = site.server.client_config_of(versions, Some(&ada), &[]);
            let stream = site.stream(listener);
            let mut client = TlsClient::connect(Arc::new(config), "site.test", stream).unwrap();
            client.send(GET);
            let (request, _connection) = upstream.answer(OK);
            assert_eq!(told(&request), [SUBJECT_OF_ADA], "{listener}");
            assert_eq!(client.response().text(), "ok");
        }
    }
}

#[test]
fn a_subject_fits_its_field_whatever_it_says() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    for (subject, text) in [
        (
            "J\u{f6}rg\r\nX-Real-IP: 6.6.6.6",
            Some(r"CN=J\C3\B6rg\0D\0AX-Real-IP: 6.6.6.6"),
        ),
        (" ", Some(r"CN=\20")),
    ] {
        let issued = site.clients.issue_to(&[(DnType::CommonName, subject)]);
        let mut client = site.client("required", Some(&issued));
        client.send(GET);
        let (request, _connection) = upstream.answer(OK);
        assert_eq!(request.field(FIELD), text);
        assert_eq!(request.field("x-real-ip"), Some("127.0.0.1"));
    }
    // One without a subject has nothing to be told.
    let issued = site.clients.issue_to(&[]);
    let mut client = site.client("required", Some(&issued));
    client.send(GET);
    let (request, _connection) = upstream.answer(OK);
    assert_eq!(told(&request), [""; 0]);
}

#[test]
fn a_client_without_a_certificate_is_let_in_where_it_is_optional() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    for listener in ["silent", "off", "optional"] {
        let mut client = site.client(listener, None);
        client.send(GET);
        let (request, _connection) = upstream.answer(OK);
        assert_eq!(told(&request), [""; 0], "{listener}");
        assert_eq!(client.response().text(), "ok");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_where_it_is_required() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    for versions in [rustls::DEFAULT_VERSIONS, &[&rustls::version::TLS12]] {
        let config = site.server.client_config_of(versions, None, &[]);
        let stream = site.stream("required");
        let refused = TlsClient::connect(Arc::new(config), "site.test", stream);
        assert_eq!(refusal(refused), AlertDescription::CertificateRequired);
    }
    upstream.assert_untouched();
}

#[test]
fn a_certificate_that_is_no_good_is_refused_in_either_mode() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    let (mut expired, mut early, mut of_a_server) =
        (for_client(&ADA), for_client(&ADA), for_client(&ADA));
    expired.not_before = date_time_ymd(2000, 1, 1);
    expired.not_after = date_time_ymd(2001, 1, 1);
    early.not_before = date_time_ymd(2200, 1, 1);
    early.not_after = date_time_ymd(2201, 1, 1);
    of_a_server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Its subject can't be told in a field.
    let long = "x".repeat(5000);
    for (issued, alert) in [
        // By an authority of the same name.
        (
            Authority::new().issue_to(&ADA),
            Some(AlertDescription::DecryptError),
        ),
        (
            site.clients.sign(&expired),
            Some(AlertDescription::CertificateExpired),
        ),
        (
            site.clients.sign(&early),
            Some(AlertDescription::CertificateExpired),
        ),
        (site.clients.sign(&of_a_server), None),
        (site.clients.issue_to(&[(DnType::CommonName, &long)]), None),
    ] {
        for listener in ["optional", "required"] {
            let refused = site.try_client(listener, Some(&issued));
            match alert {
                Some(alert) => assert_eq!(refusal(refused), alert, "{listener}"),
                None => assert!(refused.is_err() || refused.unwrap().until_closed().is_empty()),
            }
        }
    }
    upstream.assert_untouched();
}

/// A request with forgeries in its head, in `Connection` and in its trailers.
fn forgery() -> String {
    let fields: String = SPELLINGS
        .map(|name| format!("{name}: CN=root\r\n"))
        .concat();
    format!(
        "POST / HTTP/1.1\r\nhost: site.test\r\nconnection: {FIELD}, x_client_cert_subject\r\n{fields}\
         transfer-encoding: chunked\r\ntrailer: {FIELD}\r\n\r\n1\r\nx\r\n0\r\n{fields}x-good: 1\r\n\r\n"
    )
}

#[test]
fn nobody_else_can_name_a_client_on_any_listener() {
    let upstream = Upstream::bind();
    // The peer is trusted to speak for others, which is about addresses alone.
    for trust in ["", "client_ip: { trusted_proxies: [127.0.0.0/8] }\n"] {
        let site = Site::new(&format!("{trust}{}", upstream.as_only_route()));
        let ada = site.ada();
        let mut plain = site.proxy.client();
        plain.send(forgery());
        let (request, _connection) = upstream.answer(LAST);
        assert_eq!(told(&request), [""; 0]);
        assert_eq!(request.trailers, [("x-good".to_owned(), "1".to_owned())]);
        for listener in LISTENERS_WITH_TLS {
            let mut client = site.client(listener, Some(&ada));
            client.send(forgery());
            let (request, _connection) = upstream.answer(LAST);
            let asked = ["optional", "required"].contains(&listener);
            let expected: &[&str] = if asked { &[SUBJECT_OF_ADA] } else { &[] };
            assert_eq!(told(&request), expected, "{listener}");
        }
        let mut stranger = site.client("optional", None);
        stranger.send(forgery());
        let (request, _connection) = upstream.answer(LAST);
        assert_eq!(told(&request), [""; 0]);
    }
}

#[test]
fn nobody_else_can_name_a_client_over_http_2() {
    let upstream = Upstream::bind();
    let site = Site::new(&upstream.as_only_route());
    let ada = site.ada();
    let forged = || {
        let mut request = Request::get("https://site.test/");
        for name in SPELLINGS {
            request = request.header(name.to_ascii_lowercase(), "CN=root");
        }
        vec![request.body(Full::default()).unwrap()]
    };
    let (h2, plain) = (&["h2"], None);
    for (listener, own, expected) in [
        ("http", plain, &[][..]),
        ("silent", Some(&ada), &[]),
        ("off", Some(&ada), &[]),
        ("optional", None, &[]),
        ("optional", Some(&ada), &[SUBJECT_OF_ADA]),
        ("required", Some(&ada), &[SUBJECT_OF_ADA]),
    ] {
        let tls = (listener != "http").then(|| {
            let config: ClientConfig = site.server.client_config_as(own, h2);
            (config, "site.test")
        });
        let address = site.proxy.address(listener);
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| exchange(address, tls, forged()));
            let (request, _connection) = upstream.answer(LAST);
            assert_eq!(told(&request), expected, "{listener}");
            assert_eq!(asked.join().unwrap()[0].status(), 200);
        });
    }
}

#[test]
fn the_echo_service_shows_what_an_endpoint_would_get() {
    let site = Site::new("upstreams: { w: { builtin: whoami } }\nroutes: [{ upstream: w }]\n");
    let ada = site.ada();
    let shown = |listener: &str| {
        let mut client = site.client(listener, Some(&ada));
        let request = forgery().replace("POST", "PUT");
        client.ask(request).text().to_ascii_lowercase()
    };
    let text = shown("required");
    let line = format!("{FIELD}: {SUBJECT_OF_ADA}").to_ascii_lowercase();
    assert!(text.lines().any(|shown| shown == line), "{text}");
    for listener in LISTENERS_WITH_TLS {
        let text = shown(listener);
        assert!(!text.contains("cn=root"), "{text}");
        assert!(text.contains("forged: x-client-cert-subject"), "{text}");
    }
}

#[test]
fn routes_look_at_the_verified_subject_alone() {
    let routes = |name: &str| {
        format!(
            "routes:\n  - match: {{ headers: {{ {name}: 'CN=root' }} }}\n    respond: {{ status: 201 }}\n  \
             - match: {{ headers: {{ {FIELD}: '{SUBJECT_OF_ADA}' }} }}\n    respond: {{ status: 202 }}\n  \
             - respond: {{ status: 203 }}\n"
        )
    };
    for name in SPELLINGS {
        let site = Site::new(&routes(name));
        let ada = site.ada();
        assert_eq!(site.proxy.client().ask(forgery()).status(), 203);
        for listener in ["silent", "off"] {
            let mut client = site.client(listener, Some(&ada));
            assert_eq!(client.ask(forgery()).status(), 203, "{listener}");
        }
        assert_eq!(site.client("optional", None).ask(forgery()).status(), 203);
        let mut client = site.client("required", Some(&ada));
        assert_eq!(client.ask(forgery()).status(), 202);
    }
}

#[test]
fn a_renewed_authority_is_believed_and_the_old_one_no_more() {
    let upstream = Upstream::bind();
    let mut site = Site::new(&upstream.as_only_route());
    let ada = site.ada();
    // Sessions of the old authority's clients come back for a while.
    let old = Arc::new(site.server.client_config_as(Some(&ada), &["http/1.1"]));
    let connect =
        |site: &Site| TlsClient::connect(Arc::clone(&old), "site.test", site.stream("required"));
    let answered = |client: &mut TlsClient| {
        client.send(GET);
        let (request, _connection) = upstream.answer(OK);
        assert_eq!(told(&request), [SUBJECT_OF_ADA]);
        assert_eq!(client.response().text(), "ok");
    };
    let mut kept = connect(&site).unwrap();
    answered(&mut kept);
    let mut resumed = connect(&site).unwrap();
    assert!(resumed.is_resumed());
    answered(&mut resumed);

    std::fs::write(site.proxy.path("clients.pem"), "no certificate").unwrap();
    site.proxy.says("reload rejected");
    let said = site.proxy.says("no certificate in");
    assert!(said.contains("clients.pem"), "{said}");
    answered(&mut site.client("required", Some(&ada)));

    let renewed = Authority::new();
    renewed.write(&site.proxy.path(""), "clients.pem");
    let said = site.proxy.says("reload applied");
    assert!(said.contains("tls.client_auth.ca"), "{said}");
    for _ in 0..2 {
        assert_eq!(refusal(connect(&site)), AlertDescription::DecryptError);
    }
    let grace = renewed.issue_to(&ADA);
    answered(&mut site.client("required", Some(&grace)));
}

#[test]
fn a_field_of_another_name_is_ours_from_the_next_request_on() {
    let upstream = Upstream::bind();
    let mut site = Site::new(&upstream.as_only_route());
    let mut client = site.client("required", Some(&site.ada()));
    let mut ask = |fields: &str| {
        client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
        let (request, _connection) = upstream.answer(OK);
        client.response();
        (
            request.field(FIELD).map(str::to_owned),
            request.field("X-Who").map(str::to_owned),
        )
    };
    let forged = format!("{FIELD}: CN=root\r\nX-Who: CN=root\r\n");
    let (ada, root) = (Some(SUBJECT_OF_ADA.to_owned()), Some("CN=root".to_owned()));
    assert_eq!(ask(&forged), (ada.clone(), root.clone()));
    let renamed = config(&upstream.as_only_route()).replace(FIELD, "X-Who");
    site.proxy.reload(&renamed);
    // The old name is anybody's now.
    assert_eq!(ask(&forged), (root.clone(), ada));
    let without =
        config(&upstream.as_only_route()).replace(&format!(", subject_header: {FIELD}"), "");
    site.proxy.reload(&without);
    assert_eq!(ask(&forged), (root.clone(), root));
}
