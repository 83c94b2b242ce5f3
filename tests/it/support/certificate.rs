//! A self-signed certificate, and clients that trust it.

use std::io::{self, Read};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ALL_VERSIONS, AlertDescription, ClientConfig, ClientConnection, HandshakeKind, RootCertStore,
    StreamOwned, SupportedProtocolVersion,
};

use super::{DEADLINE, Issued, Wire};

/// A certificate for the names it was made with.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    pem: String,
    key_pem: String,
}

impl Certificate {
    pub(crate) fn for_names(names: &[&str]) -> Self {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self {
            der: made.cert.der().clone(),
            pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        }
    }

    /// One for this name whose time begins and ends with these years.
    pub(crate) fn of_years(name: &str, from: i32, to: i32) -> Self {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        Self {
            der: made.der().clone(),
            pem: made.pem(),
            key_pem: key.serialize_pem(),
        }
    }

    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        std::fs::write(directory.join(format!("{name}.crt")), &self.pem).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), &self.key_pem).unwrap();
    }

    /// What a client needs to trust this certificate, and nothing else.
    pub(crate) fn client_config(&self, alpn: &[&str]) -> ClientConfig {
        self.client_config_as(None, alpn)
    }

    /// The same for a client that has a certificate itself.
    pub(crate) fn client_config_as(&self, own: Option<&Issued>, alpn: &[&str]) -> ClientConfig {
        self.client_config_of(ALL_VERSIONS, own, alpn)
    }

    /// The same for one that speaks these versions of TLS alone.
    pub(crate) fn client_config_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        own: Option<&Issued>,
        alpn: &[&str],
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_protocol_versions(versions);
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match own.map(Issued::identity) {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|&name| name.into()).collect();
        config
    }

    /// The same for one that can only what `provider` can, in this version of TLS.
    pub(crate) fn client_config_with(
        &self,
        provider: CryptoProvider,
        version: &'static SupportedProtocolVersion,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        builder.with_no_client_auth()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    /// A client that speaks TLS over `stream`; panics when the handshake fails.
    pub(crate) fn client(&self, server_name: &str, alpn: &[&str], stream: TcpStream) -> TlsClient {
        self.try_client(server_name, alpn, stream)
            .expect("a handshake")
    }

    pub(crate) fn try_client(
        &self,
        server_name: &str,
        alpn: &[&str],
        stream: TcpStream,
    ) -> io::Result<TlsClient> {
        TlsClient::connect(Arc::new(self.client_config(alpn)), server_name, stream)
    }
}

/// A client's end of a TLS connection.
pub(crate) type TlsClient = Wire<StreamOwned<ClientConnection, TcpStream>>;

impl TlsClient {
    /// Takes the part of the client in a handshake. Clients of one configuration resume each other's sessions.
    pub(crate) fn connect(
        config: Arc<ClientConfig>,
        server_name: &str,
        mut stream: TcpStream,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let mut connection = ClientConnection::new(config, name).unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Self::new(StreamOwned::new(connection, stream)))
    }

    /// Whether the handshake went on with a session of before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.stream().conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

/// The alert with which a client was refused. In TLS 1.3 that is known only after its handshake.
pub(crate) fn refusal(connected: io::Result<TlsClient>) -> AlertDescription {
    let error = match connected.and_then(|client| client.into_inner().read(&mut [0])) {
        Err(error) => error,
        Ok(came) => panic!("not refused: {came} bytes came"),
    };
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert: {error} ({other:?})"),
    }
}
