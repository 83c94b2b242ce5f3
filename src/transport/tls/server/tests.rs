use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use super::*;
use crate::config::{Certificate, DefaultCertificate};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A directory with a server's certificate, and two authorities of clients: `ours.pem` and `others.pem`.
struct Site {
    directory: TempDir,
    server: rcgen::CertifiedKey<KeyPair>,
    ours: Authority,
}

fn authority(file: &Path) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(file, authority.pem()).unwrap();
    authority
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |file: &str| directory.path().join(file);
        let server = rcgen::generate_simple_self_signed(["site.test".to_owned()]).unwrap();
        std::fs::write(path("site.crt"), server.cert.pem()).unwrap();
        std::fs::write(path("site.key"), server.signing_key.serialize_pem()).unwrap();
        authority(&path("others.pem"));
        Self {
            ours: authority(&path("ours.pem")),
            server,
            directory,
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    fn server(&self, client_auth: Option<ClientAuth>) -> Server {
        let tls = Tls {
            certificates: vec![Certificate {
                cert: self.path("site.crt"),
                key: self.path("site.key"),
                self_signed: Vec::new(),
            }],
            default_certificate: DefaultCertificate::First,
            tls12: true,
            client_auth,
            subject_header: None,
            strict_sni: false,
        };
        let protocols = Protocols {
            http1: true,
            http2: true,
        };
        load(&tls, protocols, "tls", SelfSigned::Assume).unwrap()
    }

    fn requiring(&self, ca: &str) -> Server {
        self.server(Some(ClientAuth {
            required: true,
            ca: self.path(ca),
        }))
    }

    fn admitting(&self, ca: &str) -> Server {
        self.server(Some(ClientAuth {
            required: false,
            ca: self.path(ca),
        }))
    }

    /// A client with a certificate of our authority, which it shows when asked.
    fn client(&self, version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(Vec::new()).unwrap();
        let chain = vec![params.signed_by(&key, &self.ours).unwrap().der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.server.cert.der().clone()).unwrap();
        let config = ClientConfig::builder_with_protocol_versions(&[version])
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key);
        Arc::new(config.unwrap())
    }
}

/// What the server makes of a client, and whether that came with a session.
fn meet(server: &Server, client: &Arc<ClientConfig>) -> (Result<bool, String>, bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let (near, far) = tokio::io::duplex(1 << 16);
        let connector = TlsConnector::from(Arc::clone(client));
        let name = ServerName::try_from("site.test").unwrap();
        let connect = async {
            let mut stream = connector.connect(name, far).await.unwrap();
            // Tickets come before what is sent first.
            let _ = stream.read(&mut [0]).await;
            stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
        };
        let accept = async {
            match server.accept(near).await {
                Ok((mut stream, info)) => {
                    stream.write_all(b"x").await.unwrap();
                    stream.flush().await.unwrap();
                    Ok(info.is_some())
                }
                Err(error) => Err(error.into_inner().unwrap().to_string()),
            }
        };
        tokio::join!(accept, connect)
    })
}

/// Makes `server` resume what was begun with `other`, as nothing here ever does.
fn share_sessions(server: &mut Server, other: &Server) {
    let config = Arc::make_mut(&mut server.config);
    config.ticketer = Arc::clone(&other.config.ticketer);
    config.session_storage = Arc::clone(&other.config.session_storage);
}

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

#[test]
fn a_session_goes_on_with_its_subject() {
    let site = Site::new();
    for version in VERSIONS {
        let (server, client) = (site.requiring("ours.pem"), site.client(version));
        assert_eq!(meet(&server, &client), (Ok(true), false), "{version:?}");
        assert_eq!(meet(&server, &client), (Ok(true), true), "{version:?}");
    }
}

/// Whatever sessions would be shared by mistake: who resumes one is looked at as everybody else is.
#[test]
fn a_session_lets_nobody_in_who_would_not_be() {
    let site = Site::new();
    let refused = Err("the client's certificate can't be accepted".to_owned());
    for version in VERSIONS {
        for (before, mut server, outcome) in [
            (
                site.requiring("ours.pem"),
                site.requiring("others.pem"),
                refused.clone(),
            ),
            (
                site.requiring("ours.pem"),
                site.admitting("others.pem"),
                refused.clone(),
            ),
            (
                site.server(None),
                site.requiring("ours.pem"),
                refused.clone(),
            ),
            (site.server(None), site.admitting("ours.pem"), Ok(false)),
            (
                site.admitting("ours.pem"),
                site.requiring("ours.pem"),
                Ok(true),
            ),
            // Nobody is asked, so nobody is named.
            (site.requiring("ours.pem"), site.server(None), Ok(false)),
        ] {
            let client = site.client(version);
            meet(&before, &client).0.unwrap();
            share_sessions(&mut server, &before);
            assert_eq!(meet(&server, &client), (outcome, true), "{version:?}");
        }
    }
}

#[test]
fn sessions_are_shared_by_those_who_ask_the_same_alone() {
    let site = Site::new();
    for (before, server, shared) in [
        (site.server(None), site.server(None), true),
        (site.requiring("ours.pem"), site.requiring("ours.pem"), true),
        (
            site.requiring("ours.pem"),
            site.requiring("others.pem"),
            false,
        ),
        (
            site.admitting("ours.pem"),
            site.requiring("ours.pem"),
            false,
        ),
        (site.server(None), site.admitting("ours.pem"), false),
        (site.admitting("ours.pem"), site.server(None), false),
    ] {
        assert_eq!(server.resuming(&before).resumes_those_of(&before), shared);
    }
}

#[test]
fn an_authority_that_can_not_be_read_is_a_fault_of_its_key() {
    let site = Site::new();
    std::fs::write(site.path("none.pem"), "").unwrap();
    let asked = ClientAuth {
        required: true,
        ca: site.path("none.pem"),
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let fault = Clients::load(&asked, &provider, "listeners.a.tls").unwrap_err();
    assert_eq!(fault.field, "listeners.a.tls.client_auth.ca");
    assert!(fault.message.starts_with("no certificate in"), "{fault:?}");
}

/// Mozilla's intermediate profile without its DHE suites, and with a group that quantum computers don't break.
#[test]
fn suites_and_groups_are_those_of_the_profile() {
    use rustls::{CipherSuite::*, NamedGroup::*};
    let config = Site::new().server(None).config;
    let provider = config.crypto_provider();
    let suites = provider.cipher_suites.iter();
    let suites: Vec<_> = suites.map(rustls::SupportedCipherSuite::suite).collect();
    assert_eq!(
        suites,
        [
            TLS13_AES_256_GCM_SHA384,
            TLS13_AES_128_GCM_SHA256,
            TLS13_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]
    );
    let groups: Vec<_> = provider.kx_groups.iter().map(|it| it.name()).collect();
    assert_eq!(groups, [X25519MLKEM768, X25519, secp256r1, secp384r1]);
}

#[test]
fn tickets_are_sealed_for_half_a_day_and_carry_no_early_data() {
    let config = Site::new().server(None).config;
    assert!(config.ticketer.enabled());
    // Two spans of a key: the one in which it seals, and the one in which it only opens.
    assert_eq!(config.ticketer.lifetime(), 2 * 6 * 60 * 60);
    assert_eq!(config.max_early_data_size, 0);
}
