//! An authority of our own, what it issues, and endpoints that present it.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::Wire;

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
pub(crate) struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// An endpoint's end of a TLS connection.
pub(crate) type TlsWire = Wire<StreamOwned<ServerConnection, TcpStream>>;

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn issue(&self, names: &[&str]) -> Issued {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        self.sign(&CertificateParams::new(names).unwrap())
    }

    /// A certificate for a client, whose subject has these parts and nothing else.
    pub(crate) fn issue_to(&self, subject: &[(DnType, &str)]) -> Issued {
        self.sign(&for_client(subject))
    }

    pub(crate) fn sign(&self, params: &CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued { certificate, key }
    }

    /// Writes the authority's certificate.
    pub(crate) fn write(&self, directory: &Path, file: &str) {
        std::fs::write(directory.join(file), self.0.pem()).unwrap();
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }
}

/// What a client's certificate says.
pub(crate) fn for_client(subject: &[(DnType, &str)]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in subject {
        params.distinguished_name.push(kind.clone(), *value);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key`.
    pub(crate) fn write(&self, directory: &Path, name: &str) {
        std::fs::write(
            directory.join(format!("{name}.crt")),
            self.certificate.pem(),
        )
        .unwrap();
        std::fs::write(
            directory.join(format!("{name}.key")),
            self.key.serialize_pem(),
        )
        .unwrap();
    }

    /// A server with this certificate.
    pub(crate) fn server(&self, alpn: &[&str]) -> ServerConfig {
        self.configured(alpn, ServerConfig::builder().with_no_client_auth())
    }

    /// One that talks only to those whom `clients` has issued a certificate.
    pub(crate) fn server_for(&self, clients: &Authority) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder(clients.roots());
        let verifier = verifier.build().unwrap();
        self.configured(
            &[],
            ServerConfig::builder().with_client_cert_verifier(verifier),
        )
    }

    /// What whoever has been issued it presents.
    pub(crate) fn identity(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        (vec![self.certificate.der().clone()], key)
    }

    fn configured(
        &self,
        alpn: &[&str],
        builder: rustls::ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>,
    ) -> ServerConfig {
        let (chain, key) = self.identity();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = alpn.iter().map(|&name| name.into()).collect();
        config
    }
}

impl Wire<TcpStream> {
    /// Takes the part of the server in a handshake.
    pub(crate) fn accept_tls(self, config: ServerConfig) -> std::io::Result<TlsWire> {
        let (ahead, mut stream) = self.into_parts();
        let mut connection = ServerConnection::new(Arc::new(config)).unwrap();
        // The hello may have come with what went before it.
        let mut ahead = &ahead[..];
        while !ahead.is_empty() {
            connection.read_tls(&mut ahead)?;
            connection
                .process_new_packets()
                .map_err(std::io::Error::other)?;
        }
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(Wire::new(StreamOwned::new(connection, stream)))
    }
}

impl TlsWire {
    /// What the client asked for in its hello.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.stream().conn.server_name()
    }

    /// How many certificates the client presented.
    pub(crate) fn client_certificates(&self) -> usize {
        self.stream().conn.peer_certificates().map_or(0, <[_]>::len)
    }

    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.stream().conn.alpn_protocol()
    }

    /// Ends the TCP connection without the end that TLS has.
    pub(crate) fn cut(self) {
        drop(self.into_inner().sock);
    }

    /// Says that no more will be sent, as TLS does.
    pub(crate) fn close_notify(&mut self) {
        self.stream_mut().conn.send_close_notify();
        std::io::Write::flush(self.stream_mut()).unwrap();
    }
}
