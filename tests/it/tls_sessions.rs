//! Sessions that are resumed: by any worker, and by nobody who would not be let in otherwise.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::DnType;
use rustls::client::{Resumption, Tls12Resumption};
use rustls::{AlertDescription, ClientConfig, SupportedProtocolVersion, version};
use tempfile::TempDir;

use crate::support::{Authority, Certificate, GET, Proxy, TlsClient, refusal};

struct Site {
    server: Certificate,
    clients: Authority,
    proxy: Proxy,
}

impl Site {
    /// Two listeners that ask for no certificate, one that may be shown one, and one that must.
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let server = Certificate::for_names(&["site.test"]);
        server.write(directory.path(), "site");
        let clients = Authority::new();
        clients.write(directory.path(), "clients.pem");
        let listener = |name: &str, more: &str| {
            format!(
                "  {name}: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert: site.crt, key: site.key }}]{more} }} }}\n"
            )
        };
        let asking = |name: &str| {
            listener(
                name,
                &format!(", client_auth: {{ mode: {name}, ca: clients.pem }}"),
            )
        };
        // What our own answers are refused with names the worker.
        let config = format!(
            "runtime: {{ worker_threads: 2 }}\nlisteners:\n{}{}{}{}routes: [{{ match: {{ path: /none }}, respond: {{}} }}]\n",
            listener("first", ""),
            listener("second", ""),
            asking("optional"),
            asking("required")
        );
        let proxy = Proxy::start_in(directory, &config);
        Self {
            server,
            clients,
            proxy,
        }
    }

    fn connect(&self, listener: &str, config: &Arc<ClientConfig>) -> std::io::Result<TlsClient> {
        let stream = TcpStream::connect(self.proxy.address(listener)).unwrap();
        TlsClient::connect(Arc::clone(config), "site.test", stream)
    }

    /// Asks on a new connection. Returns whether it resumed a session, and the number of the worker that answered.
    fn ask(&self, listener: &str, config: &Arc<ClientConfig>) -> (bool, String) {
        let mut client = self.connect(listener, config).unwrap();
        let answer = client.ask(GET);
        assert_eq!(answer.status(), 404);
        let id = answer.field("x-request-id").unwrap();
        (
            client.is_resumed(),
            id.split('-').nth(1).unwrap().to_owned(),
        )
    }

    fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.server.client_config_of(&[version], None, &[])
    }
}

/// The ways to resume a session that there are.
fn ways(site: &Site) -> [(&'static str, ClientConfig); 3] {
    let mut stateful = site.client(&version::TLS12);
    stateful.resumption =
        Resumption::in_memory_sessions(8).tls12_resumption(Tls12Resumption::SessionIdOnly);
    [
        ("tickets of TLS 1.3", site.client(&version::TLS13)),
        ("tickets of TLS 1.2", site.client(&version::TLS12)),
        ("sessions of TLS 1.2", stateful),
    ]
}

#[test]
fn any_worker_resumes_what_another_began() {
    let site = Site::new();
    for (way, config) in ways(&site) {
        let config = Arc::new(config);
        assert!(!site.ask("first", &config).0, "{way}");
        let mut workers = BTreeMap::new();
        // The kernel deals connections out by their ports.
        for _ in 0..200 {
            let (is_resumed, worker) = site.ask("first", &config);
            assert!(is_resumed, "{way}, worker {worker}");
            *workers.entry(worker).or_insert(0) += 1;
            if workers.len() == 2 {
                break;
            }
        }
        assert_eq!(workers.len(), 2, "{way}: {workers:?}");
    }
}

#[test]
fn a_session_is_good_for_the_listener_it_was_begun_on() {
    let site = Site::new();
    for (way, config) in ways(&site) {
        let config = Arc::new(config);
        site.ask("first", &config);
        assert!(!site.ask("second", &config).0, "{way}");
        assert!(!site.ask("optional", &config).0, "{way}");
        // One that asks for nothing doesn't let in where something is asked for.
        let refused = site.connect("required", &config);
        assert_eq!(
            refusal(refused),
            AlertDescription::CertificateRequired,
            "{way}"
        );
    }
}

#[test]
fn a_session_without_a_certificate_does_not_do_where_one_is_required_from_now_on() {
    let mut site = Site::new();
    let text = std::fs::read_to_string(site.proxy.path("proxy.yaml")).unwrap();
    let ada = site.clients.issue_to(&[(DnType::CommonName, "ada")]);
    for (way, config) in ways(&site) {
        let config = Arc::new(config);
        site.ask("optional", &config);
        assert!(site.ask("optional", &config).0, "{way}");
        site.proxy
            .reload(&text.replace("mode: optional", "mode: required"));
        let refused = site.connect("optional", &config);
        let alert = AlertDescription::CertificateRequired;
        assert_eq!(refusal(refused), alert, "{way}");
        let known = Arc::new(site.server.client_config_as(Some(&ada), &[]));
        site.ask("optional", &known);
        site.proxy.reload(&text);
        assert!(!site.ask("optional", &config).0, "{way}");
    }
}

#[test]
fn a_session_goes_on_under_a_renewed_certificate() {
    let mut site = Site::new();
    let config = Arc::new(site.client(&version::TLS13));
    site.ask("first", &config);
    Certificate::for_names(&["site.test"]).write(&site.proxy.path(""), "site");
    site.proxy.says("reload applied");
    assert!(site.ask("first", &config).0);
    // Who has none isn't content with a certificate it doesn't know.
    let stranger = Arc::new(site.client(&version::TLS13));
    assert!(site.connect("first", &stranger).is_err());
}

#[test]
fn early_data_is_neither_offered_nor_taken() {
    let site = Site::new();
    let mut config = site.client(&version::TLS13);
    config.enable_early_data = true;
    let config = Arc::new(config);
    site.ask("first", &config);
    let name = rustls::pki_types::ServerName::try_from("site.test").unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    // What is offered stands in the ticket.
    assert!(client.early_data().is_none());
    let mut stream = TcpStream::connect(site.proxy.address("first")).unwrap();
    while client.is_handshaking() {
        client.complete_io(&mut stream).unwrap();
    }
    assert!(!client.is_early_data_accepted());
    assert_eq!(
        client.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
}

#[test]
fn a_session_from_elsewhere_is_worth_nothing() {
    let (site, other) = (Site::new(), Site::new());
    for (way, config) in ways(&site) {
        // The same name elsewhere, and another key under the tickets.
        let config = Arc::new(config);
        site.ask("first", &config);
        let refused = other.connect("first", &config);
        let error = refused.and_then(|client| client.into_inner().read(&mut [0]));
        let error = error.unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate"), "{way}: {error}");
    }
}
