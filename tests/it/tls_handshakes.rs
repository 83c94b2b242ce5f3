//! Handshakes as hostile or odd clients make them: in pieces, too slowly, of versions long gone, or not at all.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, NamedGroup, StreamOwned, version,
};
use tempfile::TempDir;

use crate::support::{Certificate, DEADLINE, GET, OK, Proxy, TlsClient, Upstream, Wire, refusal};

struct Site {
    certificate: Certificate,
    upstream: Upstream,
    proxy: Proxy,
}

impl Site {
    /// One TLS listener with these settings, beside its certificate and beside its `tls` key.
    fn new(tls: &str, listener: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let certificate = Certificate::for_names(&["site.test"]);
        certificate.write(directory.path(), "site");
        let upstream = Upstream::bind();
        let config = format!(
            "listeners:\n  https:\n    address: \"127.0.0.1:0\"\n    \
             tls: {{ certificates: [{{ cert: site.crt, key: site.key }}], {tls} }}\n    {listener}\n{}",
            upstream.as_only_route()
        );
        Self {
            certificate,
            upstream,
            proxy: Proxy::start_in(directory, &config),
        }
    }

    fn stream(&self) -> TcpStream {
        TcpStream::connect(self.proxy.address("https")).unwrap()
    }

    fn wire(&self) -> Wire<TcpStream> {
        Wire::tcp(self.stream())
    }

    fn connect(&self, config: ClientConfig) -> io::Result<TlsClient> {
        TlsClient::connect(Arc::new(config), "site.test", self.stream())
    }

    /// Asks over TLS, and answers as the endpoint.
    fn serves<S: Read + Write>(&self, client: &mut Wire<S>) {
        client.send(GET);
        let (_, _connection) = self.upstream.answer(OK);
        assert_eq!(client.response().text(), "ok");
    }
}

/// A client's connection whose hello leaves in other pieces than the client made of it.
struct Cutting {
    stream: TcpStream,
    bytes_per_record: usize,
    /// Of that and of whatever follows.
    bytes_per_write: usize,
    hello: Hello,
}

enum Hello {
    Unsent(Vec<u8>),
    Sent,
}

impl Read for Cutting {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buf)
    }
}

impl Write for Cutting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut bytes = buf.to_vec();
        if let Hello::Unsent(hello) = &mut self.hello {
            hello.extend_from_slice(buf);
            let [kind, major, minor, high, low, contents @ ..] = &hello[..] else {
                return Ok(buf.len());
            };
            if contents.len() < usize::from(u16::from_be_bytes([*high, *low])) {
                return Ok(buf.len());
            }
            bytes.clear();
            for piece in contents.chunks(self.bytes_per_record) {
                bytes.extend([*kind, *major, *minor]);
                bytes.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
                bytes.extend(piece);
            }
            self.hello = Hello::Sent;
        }
        for piece in bytes.chunks(self.bytes_per_write) {
            self.stream.write_all(piece)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn a_hello_in_pieces_is_put_together() {
    const WHOLE: usize = 1 << 14;
    let site = Site::new("", "");
    for versions in [rustls::DEFAULT_VERSIONS, &[&version::TLS12]] {
        for (bytes_per_record, bytes_per_write) in [
            (WHOLE, 1),
            (1, WHOLE),
            (1, 1),
            (3, 2),
            // The header of the message by itself, and a byte more.
            (4, WHOLE),
            (5, WHOLE),
            (100, 7),
            (WHOLE, 5),
        ] {
            let stream = site.wire().into_stream();
            let mut cutting = Cutting {
                stream,
                bytes_per_record,
                bytes_per_write,
                hello: Hello::Unsent(Vec::new()),
            };
            let config = site
                .certificate
                .client_config_of(versions, None, &["http/1.1"]);
            let name = ServerName::try_from("site.test").unwrap();
            let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
            while connection.is_handshaking() {
                let outcome = connection.complete_io(&mut cutting);
                outcome.unwrap_or_else(|error| {
                    panic!("{bytes_per_record} {bytes_per_write}: {error}")
                });
            }
            site.serves(&mut Wire::new(StreamOwned::new(connection, cutting)));
        }
    }
}

#[test]
fn a_hello_that_is_announced_too_large_is_refused() {
    let site = Site::new("", "");
    let mut client = site.wire();
    // A record of 16 KiB, with a message of 16 MiB in it.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + (1 << 14), 0);
    client.send(&record);
    for _ in 0..100 {
        client.offer(&record);
    }
    client.until_closed();
    site.upstream.assert_untouched();
}

#[test]
fn the_deadline_of_a_handshake_is_one_for_all_of_it() {
    let site = Site::new("", "timeouts: { handshake: 500ms }");
    let config = Arc::new(site.certificate.client_config(&[]));
    let name = ServerName::try_from("site.test").unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let begun = Instant::now();
    let mut client = site.wire();
    let mut sent = 0;
    // There is always another byte, well before any deadline between two of them.
    for byte in &hello {
        let is_taken = client.stream_mut().write_all(&[*byte]).is_ok();
        if !is_taken || client.arrives_within(Duration::from_millis(20)) {
            break;
        }
        sent += 1;
    }
    client.until_closed();
    assert!(sent > 3 && sent < hello.len(), "{sent} of {}", hello.len());
    assert!(begun.elapsed() < DEADLINE);
}

#[test]
fn a_handshake_may_take_almost_all_its_time() {
    let site = Site::new("", "timeouts: { handshake: 1s }");
    let config = Arc::new(site.certificate.client_config(&[]));
    let name = ServerName::try_from("site.test").unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let (begin, rest) = hello.split_at(10);
    let mut client = site.wire();
    client.send(begin);
    // Half its time passes.
    assert!(!client.arrives_within(Duration::from_millis(500)));
    client.send(rest);
    let mut client = Wire::new(StreamOwned::new(connection, client.into_stream()));
    site.serves(&mut client);
    let begun = Instant::now();
    let mut stuck = site.wire();
    stuck.send(begin);
    stuck.until_closed();
    // The clock here starts a moment after the proxy's.
    assert!(begun.elapsed() >= Duration::from_millis(950));
}

#[test]
fn what_is_no_tls_is_closed_and_goes_nowhere() {
    let site = Site::new("", "");
    for bytes in [
        GET,
        "GET /\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "SSH-2.0-x\r\n",
        // A record, and a message that isn't the first of a handshake.
        "\x16\x03\x01\0\x04\x02\0\0\0",
        "\x17\x03\x03\0\x01x",
        "\x14\x03\x03\0\x01\x01",
    ] {
        let mut client = site.wire();
        client.offer(bytes);
        let answer = client.until_closed();
        let is_alert = answer.is_empty() || answer.starts_with(&[21, 3]);
        assert!(is_alert, "{bytes:?}: {}", answer.escape_ascii());
    }
    site.upstream.assert_untouched();
}

#[test]
fn tls_where_it_is_not_spoken_is_refused_and_goes_nowhere() {
    for protocols in ["[h1, h2]", "[h1]", "[h2]"] {
        let upstream = Upstream::bind();
        let proxy = Proxy::start(&format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:0\", protocols: {protocols} }} }}\n{}",
            upstream.as_only_route()
        ));
        let certificate = Certificate::for_names(&["site.test"]);
        let name = ServerName::try_from("site.test").unwrap();
        let config = Arc::new(certificate.client_config(&[]));
        let mut hello = Vec::new();
        let mut connection = ClientConnection::new(config, name).unwrap();
        connection.write_tls(&mut hello).unwrap();
        let mut client = proxy.client();
        client.offer(&hello);
        let answer = String::from_utf8_lossy(&client.until_closed()).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{answer}"
        );
        upstream.assert_untouched();
    }
}

#[test]
fn a_protocol_that_nobody_speaks_is_refused_by_name() {
    for (protocols, offered, expected) in [
        ("[h1, h2]", &["spdy/3", "http/1.0"][..], None),
        ("[h1]", &["h2"], None),
        ("[h2]", &["http/1.1"], None),
        ("[h1]", &["h2", "http/1.1"], Some("http/1.1")),
        // What we like best, whatever the client's order.
        ("[h1, h2]", &["http/1.1", "h2"], Some("h2")),
    ] {
        let site = Site::new("", &format!("protocols: {protocols}"));
        for versions in [rustls::DEFAULT_VERSIONS, &[&version::TLS12]] {
            let config = site.certificate.client_config_of(versions, None, offered);
            let connected = site.connect(config);
            let Some(expected) = expected else {
                assert_eq!(refusal(connected), AlertDescription::NoApplicationProtocol);
                continue;
            };
            let client = connected.unwrap();
            let agreed = client.stream().conn.alpn_protocol();
            assert_eq!(agreed, Some(expected.as_bytes()), "{protocols}");
        }
    }
    // Who offers nothing speaks HTTP/1.1.
    let site = Site::new("", "");
    site.serves(&mut site.connect(site.certificate.client_config(&[])).unwrap());
}

/// A hello of a client that knows no extension for versions, and these suites.
fn old_hello(minor: u8, suites: &[u16]) -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // groups: P-256
        0, 11, 0, 2, 1, 0, // points: uncompressed
        0, 13, 0, 6, 0, 4, 4, 3, 4, 1, // signatures: ECDSA and RSA, with SHA-256
    ];
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    body.push(0);
    body.extend(u16::try_from(2 * suites.len()).unwrap().to_be_bytes());
    body.extend(suites.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let mut record = vec![22, 3, minor.min(1)];
    record.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
    record.extend(message);
    record
}

/// The first record that answers a hello: an alert, or the beginning of a handshake.
fn answer_to(site: &Site, hello: &[u8]) -> Result<u8, AlertDescription> {
    let mut client = site.wire();
    client.send(hello);
    let record = client.take(7);
    match record[..] {
        [21, .., 2, description] => Err(AlertDescription::from(description)),
        [22, _, minor, ..] => Ok(minor),
        _ => panic!("{record:?}"),
    }
}

const GOOD: [u16; 2] = [0xc02b, 0xc02f];

#[test]
fn versions_that_are_gone_are_refused() {
    let site = Site::new("", "");
    assert_eq!(answer_to(&site, &old_hello(3, &GOOD)), Ok(3));
    for minor in [0, 1, 2] {
        let refused = answer_to(&site, &old_hello(minor, &GOOD));
        assert_eq!(refused, Err(AlertDescription::ProtocolVersion), "3.{minor}");
    }
    // SSL 2 had another form.
    let mut client = site.wire();
    client.send([0x80, 0x1c, 1, 0, 2, 0, 3, 0, 0, 0, 16, 1, 0, 0x80]);
    client.offer([7; 16]);
    client.until_closed();
}

#[test]
fn the_least_version_can_be_the_newest() {
    let site = Site::new("min_version: \"1.3\"", "");
    let with = |version| site.connect(site.certificate.client_config_of(&[version], None, &[]));
    assert_eq!(
        refusal(with(&version::TLS12)),
        AlertDescription::ProtocolVersion
    );
    site.serves(&mut with(&version::TLS13).unwrap());
}

#[test]
fn suites_without_forward_secrecy_or_authentication_are_refused() {
    let site = Site::new("", "");
    for suite in [
        0x002f, // RSA, AES-128-CBC
        0x009c, // RSA, AES-128-GCM
        0x009e, // DHE, AES-128-GCM
        0xc013, // ECDHE, AES-128-CBC, SHA-1
        0xc027, // ECDHE, AES-128-CBC, SHA-256
        0x000a, // RSA, 3DES
        0x0005, // RSA, RC4
        0xc018, // nobody's key
        0x0001, // nothing encrypted
    ] {
        let refused = answer_to(&site, &old_hello(3, &[suite]));
        assert_eq!(
            refused,
            Err(AlertDescription::HandshakeFailure),
            "{suite:#x}"
        );
    }
}

#[test]
fn every_suite_and_group_of_the_profile_is_spoken() {
    let site = Site::new("", "");
    let all = aws_lc_rs::default_provider();
    let mut spoken = Vec::new();
    for version in [&version::TLS13, &version::TLS12] {
        for suite in &all.cipher_suites {
            for group in &all.kx_groups {
                let provider = rustls::crypto::CryptoProvider {
                    cipher_suites: vec![*suite],
                    kx_groups: vec![*group],
                    ..all.clone()
                };
                let is_of_version = suite.version().version == version.version;
                let is_ecdsa = !format!("{:?}", suite.suite()).contains("_RSA_");
                if !is_of_version || !is_ecdsa || !group.usable_for_version(version.version) {
                    continue;
                }
                let config = site.certificate.client_config_with(provider, version);
                let client = site.connect(config).unwrap();
                let connection = &client.stream().conn;
                spoken.push((
                    connection.negotiated_cipher_suite().unwrap().suite(),
                    connection.negotiated_key_exchange_group().unwrap().name(),
                ));
            }
        }
    }
    // Three suites with four groups, and three with the three groups that TLS 1.2 knows.
    assert_eq!(spoken.len(), 3 * 4 + 3 * 3, "{spoken:?}");
    for expected in [
        (
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            NamedGroup::X25519MLKEM768,
        ),
        (CipherSuite::TLS13_AES_128_GCM_SHA256, NamedGroup::X25519),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            NamedGroup::secp256r1,
        ),
        (
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            NamedGroup::secp384r1,
        ),
    ] {
        assert!(spoken.contains(&expected), "{expected:?}: {spoken:?}");
    }
}
