//! TLS towards clients: what the handshakes of a listener need.
//!
//! Suites, groups and versions are rustls' defaults: ECDHE with AEAD only, no renegotiation, no early data.

use std::io;
use std::sync::Arc;

use http::HeaderValue;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::facts::Facts;
use super::names::{Certificates, Shown};
use super::sessions::Sessions;
use super::tickets::Tickets;
use super::{Fault, FaultKind, SelfSigned, load_certificate, read_roots, subject};
use crate::config::{ClientAuth, Protocols, Tls};

/// How one listener speaks TLS.
#[derive(Debug)]
pub struct Server {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
    clients: Option<Clients>,
    strict_sni: bool,
}

/// What a handshake told that requests ask for.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The subject of the client's certificate, which was verified (RFC 4514).
    pub subject: Option<HeaderValue>,
    /// Where hosts are held to it.
    shown: Option<Shown>,
}

/// Which clients are let in by their certificates.
#[derive(Debug)]
struct Clients {
    verifier: Arc<dyn ClientCertVerifier>,
    roots: Arc<RootCertStore>,
}

/// The alert that ends a handshake for want of a certificate (RFC 6066 §3); rustls has another one for that.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Why a handshake is refused that TLS has nothing against.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no certificate is for the name that was asked for")]
    Name,
    #[error("the client's certificate can't be accepted")]
    Certificate(#[source] rustls::Error),
    #[error("the client can't be named")]
    Subject(#[source] subject::Error),
}

/// Loads what a listener's `tls` key names. `field` is the path of that key.
///
/// # Errors
/// Every file that can't be used, each with the reason.
pub fn load(
    tls: &Tls,
    protocols: Protocols,
    field: &str,
    self_signed: SelfSigned,
) -> Result<Server, Vec<Fault>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certificates = certificates(tls, field, self_signed);
    let clients = tls.client_auth.as_ref();
    let clients = clients.map(|asked| Clients::load(asked, &provider, field));
    let (certificates, clients) = match (certificates, clients.transpose()) {
        (Ok(certificates), Ok(clients)) => (certificates, clients),
        (certificates, clients) => {
            let certificates = certificates.err().into_iter().flatten();
            return Err(certificates.chain(clients.err()).collect());
        }
    };
    let certificates = Arc::new(certificates);
    let config = server_config(tls, protocols, &certificates, clients.as_ref(), provider);
    let config = config.map_err(|error| vec![unfit(field, &error)])?;
    Ok(Server {
        config: Arc::new(config),
        certificates,
        clients,
        strict_sni: tls.strict_sni,
    })
}

impl Server {
    /// Goes on with the sessions of `before`, so that clients resume them across a renewed certificate; not where other
    /// clients are let in than before: who resumes a session doesn't show a certificate again.
    #[must_use]
    pub fn resuming(mut self, before: &Self) -> Self {
        if self.clients == before.clients {
            let config = Arc::make_mut(&mut self.config);
            config.ticketer = Arc::clone(&before.config.ticketer);
            config.session_storage = Arc::clone(&before.config.session_storage);
        }
        self
    }

    /// What its certificates say, in the order of the configuration; `None` for one that says it in a way we don't know.
    pub fn certificates(&self) -> impl Iterator<Item = Option<Facts>> {
        let leaves = self.certificates.all().iter().map(|key| key.cert.first());
        leaves.map(|leaf| Facts::of(leaf?).ok())
    }

    /// Whether clients resume here what they began there.
    #[cfg(test)]
    pub(crate) fn resumes_those_of(&self, other: &Self) -> bool {
        let ticket = other.config.ticketer.encrypt(b"session").unwrap();
        self.config.ticketer.decrypt(&ticket).as_deref() == Some(b"session")
    }

    /// Takes the part of the server in a handshake. The caller sees to its deadline.
    ///
    /// # Errors
    /// The handshake failed, of which the client was told if it could be, or the client isn't let in.
    pub async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Option<Box<TlsInfo>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut begun = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let hello = begun.client_hello();
        let name = hello.server_name();
        if self.certificates.choose(name).is_none() {
            begun.io.write_all(&UNRECOGNIZED_NAME).await?;
            return Err(io::Error::other(Refused::Name));
        }
        let held_to = self.strict_sni.then_some(name);
        let shown = held_to.and_then(|name| Shown::new(&self.certificates, name));
        let stream = begun.into_stream(Arc::clone(&self.config)).await?;
        let info = self.inspect(stream.get_ref().1, shown);
        Ok((stream, info.map_err(io::Error::other)?))
    }

    /// `None`: there is nothing that a request would ask for.
    fn inspect(
        &self,
        connection: &ServerConnection,
        shown: Option<Shown>,
    ) -> Result<Option<Box<TlsInfo>>, Refused> {
        let subject = match &self.clients {
            Some(clients) => clients.subject(connection)?,
            None => None,
        };
        let is_of_use = subject.is_some() || shown.is_some();
        Ok(is_of_use.then(|| Box::new(TlsInfo { subject, shown })))
    }
}

impl TlsInfo {
    /// Whether a request for `host` belongs on another connection: `strict_sni`, and what a handshake for that host
    /// would have shown is another certificate. `host` comes without its port.
    pub fn misdirects(&self, host: &str) -> bool {
        let shown = self.shown.as_ref();
        shown.is_some_and(|shown| shown.is_not_for(host))
    }
}

impl Clients {
    fn load(
        asked: &ClientAuth,
        provider: &Arc<CryptoProvider>,
        field: &str,
    ) -> Result<Self, Fault> {
        let field = format!("{field}.client_auth.ca");
        let roots = Arc::new(read_roots(&asked.ca, &field)?);
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
        let builder = if asked.required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let verifier = builder.build().map_err(|error| unfit(&field, &error))?;
        Ok(Self { verifier, roots })
    }

    /// The verified subject of the client; `None` when it has none, or showed no certificate and need not.
    fn subject(&self, connection: &ServerConnection) -> Result<Option<HeaderValue>, Refused> {
        let shown = connection.peer_certificates().unwrap_or_default();
        let Some((certificate, intermediates)) = shown.split_first() else {
            // A session that was begun where nobody was asked for one.
            return if self.verifier.client_auth_mandatory() {
                Err(Refused::Certificate(rustls::Error::NoCertificatesPresented))
            } else {
                Ok(None)
            };
        };
        // What was verified when the session began may have expired since.
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.verifier
                .verify_client_cert(certificate, intermediates, UnixTime::now())
                .map_err(Refused::Certificate)?;
        }
        subject::of(certificate).map_err(Refused::Subject)
    }
}

impl PartialEq for Clients {
    fn eq(&self, other: &Self) -> bool {
        self.verifier.client_auth_mandatory() == other.verifier.client_auth_mandatory()
            && self.roots.roots == other.roots.roots
    }
}

fn unfit(field: &str, error: &dyn std::error::Error) -> Fault {
    Fault {
        field: field.to_owned(),
        kind: FaultKind::Invalid,
        message: error.to_string(),
        help: None,
    }
}

fn certificates(
    tls: &Tls,
    field: &str,
    self_signed: SelfSigned,
) -> Result<Certificates, Vec<Fault>> {
    let mut certificates = Certificates::default();
    let mut faults = Vec::new();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        let field = format!("{field}.certificates[{index}]");
        match load_certificate(certificate, &field, self_signed) {
            Ok(Some(loaded)) => certificates.add(loaded),
            Ok(None) => {}
            Err(mut found) => faults.append(&mut found),
        }
    }
    if faults.is_empty() {
        let default = certificates.set_default(&tls.default_certificate, field);
        faults.extend(default.err());
    }
    if faults.is_empty() {
        Ok(certificates)
    } else {
        Err(faults)
    }
}

fn server_config(
    tls: &Tls,
    protocols: Protocols,
    certificates: &Arc<Certificates>,
    clients: Option<&Clients>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[&rustls::SupportedProtocolVersion] = if tls.tls12 {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    } else {
        &[&rustls::version::TLS13]
    };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(&clients.verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::<Certificates>::clone(certificates));
    config.ticketer = Arc::new(Tickets::default());
    config.session_storage = Arc::new(Sessions::new());
    if protocols.http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    if protocols.http1 {
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    Ok(config)
}

#[cfg(test)]
mod tests;
