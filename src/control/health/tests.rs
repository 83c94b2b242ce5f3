use super::*;

use std::path::Path;

use rustls::pki_types::PrivateKeyDer;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::config::Config;
use crate::transport::tls::{self, client::SystemRoots};

fn how(path: Option<&str>) -> HealthCheck {
    HealthCheck {
        path: path.map(str::to_owned),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        expect_status: Vec::new(),
        unhealthy_after: 3,
        healthy_after: 2,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn snapshot(upstreams: &str, previous: Option<&Snapshot>) -> Snapshot {
    snapshot_in(Path::new(""), upstreams, previous)
}

/// With files in this directory.
fn snapshot_in(directory: &Path, upstreams: &str, previous: Option<&Snapshot>) -> Snapshot {
    let text = format!(
        "listeners: {{ http: {{ address: \":80\" }} }}\nupstreams: {upstreams}\n\
         routes: [{{ upstream: app }}]\n"
    );
    let nothing = |_: &str| None;
    let loaded = Config::parse(&text, "proxy.yaml", directory, &nothing).unwrap();
    let system = SystemRoots::default();
    let upstreams = loaded.config.upstreams.iter();
    let tls = upstreams.map(|upstream| tls::client::load(upstream, &system).unwrap());
    let tls = tls.collect();
    Snapshot::build(loaded.config, tls, &HashMap::new(), previous)
}

fn endpoint(snapshot: &Snapshot) -> &Arc<Endpoint> {
    match &snapshot.clusters[0].target {
        Target::Endpoints(endpoints) => &endpoints[0],
        Target::Whoami(_) => unreachable!("the tests have endpoints"),
    }
}

/// What a check makes of an endpoint that answers with these bytes, and what the endpoint was asked.
fn outcome(answer: &'static [u8], how: &HealthCheck) -> (Result<(), String>, String) {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = vec![0; 1024];
            let length = stream.read(&mut asked).await.unwrap();
            stream.write_all(answer).await.unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let snapshot = snapshot(
            &format!("{{ app: {{ endpoints: [\"{address}\"] }} }}"),
            None,
        );
        let result = check(endpoint(&snapshot), how).await;
        let asked = server
            .await
            .unwrap()
            .replace(&address.to_string(), "ADDRESS");
        (result.map_err(|failure| failure.to_string()), asked)
    })
}

#[test]
fn the_status_decides() {
    let mut strict = how(Some("/"));
    strict.expect_status = vec![StatusCode::NO_CONTENT];
    let lenient = how(Some("/"));
    for (answer, how, expected) in [
        (&b"HTTP/1.1 200 OK\r\n\r\n"[..], &lenient, Ok(())),
        (b"HTTP/1.1 299 Fine\r\n\r\n", &lenient, Ok(())),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            &lenient,
            Ok(()),
        ),
        (b"HTTP/1.1 302 Found\r\n\r\n", &lenient, Err("status 302")),
        (b"HTTP/1.1 503 Busy\r\n\r\n", &lenient, Err("status 503")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", &strict, Ok(())),
        (b"HTTP/1.1 200 OK\r\n\r\n", &strict, Err("status 200")),
        (b"hello\r\n\r\n", &lenient, Err("not an HTTP/1 response")),
        (
            b"HTTP/1.1 200 OK\r\n",
            &lenient,
            Err("closed without an answer"),
        ),
    ] {
        let expected = expected.map_err(str::to_owned);
        assert_eq!(
            outcome(answer, how).0,
            expected,
            "{}",
            answer.escape_ascii()
        );
    }
}

#[test]
fn an_endpoint_that_speaks_http2_is_asked_in_http2() {
    for (status, expected) in [(204, Ok(())), (503, Err("status 503".to_owned()))] {
        let (result, asked) = block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (request, mut respond) = connection.accept().await.unwrap().unwrap();
                let response = http::Response::builder().status(status).body(()).unwrap();
                respond.send_response(response, true).unwrap();
                // Until the other end has what it wanted.
                while connection.accept().await.is_some() {}
                request.uri().path().to_owned()
            });
            let upstream = format!("{{ app: {{ endpoints: [\"{address}\"], protocol: h2c }} }}");
            let snapshot = snapshot(&upstream, None);
            let result = check(endpoint(&snapshot), &how(Some("/up"))).await;
            (
                result.map_err(|failure| failure.to_string()),
                server.await.unwrap(),
            )
        });
        assert_eq!((result, asked.as_str()), (expected, "/up"));
    }
}

/// An endpoint's TLS with a certificate that `ca.pem` in the directory makes believable.
fn tls_in(directory: &Path, alpn: &[&str]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(directory.join("ca.pem"), made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

async fn answer_in_http2(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut connection = h2::server::handshake(stream).await.unwrap();
    let (_, mut respond) = connection.accept().await.unwrap().unwrap();
    let response = http::Response::builder().status(204).body(()).unwrap();
    respond.send_response(response, true).unwrap();
    while connection.accept().await.is_some() {}
}

#[test]
fn an_endpoint_over_tls_is_asked_in_the_version_that_it_chooses() {
    for alpn in [&["h2"][..], &["http/1.1"], &["h2", "http/1.1"], &[]] {
        block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let acceptor = tls_in(directory.path(), alpn);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let server = tokio::spawn(async move {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = acceptor.accept(stream).await.unwrap();
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return answer_in_http2(stream).await;
                }
                let asked = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(asked > 0);
                let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
                stream.write_all(answer).await.unwrap();
            });
            let upstream =
                format!("{{ app: {{ endpoints: [\"{address}\"], tls: {{ ca: ca.pem }} }} }}");
            let snapshot = snapshot_in(directory.path(), &upstream, None);
            let result = check(endpoint(&snapshot), &how(Some("/up"))).await;
            assert!(result.is_ok(), "{alpn:?}: {result:?}");
            server.await.unwrap();
        });
    }
}

/// What a check without a path says to an endpoint that closes when it has read something.
async fn said_without_a_path(directory: &Path, settings: &str) -> (bool, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut said = vec![0; 1024];
        let length = stream.read(&mut said).await.unwrap();
        said.truncate(length);
        said
    });
    let upstream = format!("{{ app: {{ endpoints: [\"{address}\"], {settings} }} }}");
    let snapshot = snapshot_in(directory, &upstream, None);
    let result = check(endpoint(&snapshot), &how(None)).await;
    (result.is_ok(), heard.await.unwrap())
}

#[test]
fn a_check_without_a_path_reaches_the_endpoint_as_requests_do() {
    block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        tls_in(directory, &[]);
        let (passes, said) = said_without_a_path(directory, "send_proxy_protocol: v1").await;
        assert_eq!((passes, &said[..]), (true, &b"PROXY UNKNOWN\r\n"[..]));
        // A handshake, and no answer to it.
        let (passes, said) = said_without_a_path(directory, "tls: { ca: ca.pem }").await;
        assert_eq!((passes, said.first()), (false, Some(&22)));
    });
}

#[test]
fn a_check_is_a_get_that_says_who_asks() {
    let (_, asked) = outcome(b"HTTP/1.1 200 OK\r\n\r\n", &how(Some("/healthz?deep=1")));
    assert_eq!(
        asked,
        "GET /healthz?deep=1 HTTP/1.1\r\nhost: ADDRESS\r\nuser-agent: headwater-health-check\r\n\
         connection: close\r\n\r\n"
    );
}

#[test]
fn without_a_path_a_connect_is_enough() {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let snapshot = snapshot(
            &format!("{{ app: {{ endpoints: [\"{address}\"] }} }}"),
            None,
        );
        assert!(check(endpoint(&snapshot), &how(None)).await.is_ok());
        drop(listener);
        assert!(check(endpoint(&snapshot), &how(None)).await.is_err());
    });
}

#[test]
fn a_verdict_needs_outcomes_in_a_row() {
    let mut row = Row::default();
    let how = how(None);
    let verdicts = [
        false, false, true, false, false, false, false, true, true, true,
    ]
    .map(|passed| row.add(passed, &how));
    let (up, down) = (Some(Verdict::Healthy), Some(Verdict::Unhealthy));
    assert_eq!(
        verdicts,
        [None, None, None, None, None, down, down, None, up, up]
    );
}

const CHECKED: &str = "{ app: { endpoints: [\"127.0.0.1:1\"], health_check: {} } }";

#[test]
fn a_new_snapshot_keeps_the_checks_it_still_wants() {
    block_on(async {
        let first = snapshot(CHECKED, None);
        let tasks =
            |checks: &Checks| -> Vec<_> { checks.values().map(|check| check.task.id()).collect() };
        let checks = follow(&first, Checks::new());
        let task = tasks(&checks)[0];
        let second = snapshot(CHECKED, Some(&first));
        let checks = follow(&second, checks);
        assert_eq!(tasks(&checks), [task]);
        let third = snapshot(
            &CHECKED.replace("{} }", "{ interval: 1s } }"),
            Some(&second),
        );
        let checks = follow(&third, checks);
        assert_eq!(checks.len(), 1);
        assert_ne!(tasks(&checks), [task]);
    });
}

#[test]
fn an_endpoint_that_is_no_longer_checked_is_healthy() {
    block_on(async {
        let first = snapshot(CHECKED, None);
        let checks = follow(&first, Checks::new());
        endpoint(&first).state.health.judge(Verdict::Unhealthy, 1);
        let changed = snapshot(&CHECKED.replace("{} }", "{ timeout: 1s } }"), Some(&first));
        let checks = follow(&changed, checks);
        assert!(!endpoint(&changed).is_sound());
        let second = snapshot(&CHECKED.replace(", health_check: {}", ""), Some(&changed));
        assert!(follow(&second, checks).is_empty());
        assert!(endpoint(&second).is_sound());
    });
}

#[test]
fn an_endpoint_that_two_names_lead_to_is_checked_once() {
    block_on(async {
        let twice = CHECKED.replace("[\"127.0.0.1:1\"]", "[\"127.0.0.1:1\", \"127.0.0.1:1\"]");
        let first = snapshot(&twice, None);
        let second = snapshot(&twice, Some(&first));
        let checks = follow(&second, follow(&first, Checks::new()));
        assert_eq!(checks.len(), 1);
    });
}
