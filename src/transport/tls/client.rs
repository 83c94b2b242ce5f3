//! TLS towards endpoints: which certificates are believed there, and as whom we present ourselves.
//!
//! Promises that a file that can't be used is found before anything is bound, and that nothing is believed unverified
//! unless the configuration says so, which is logged each time. The handshake itself is `dial`'s.

use std::cell::OnceCell;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::{Fault, FaultKind, SelfSigned, load_certificate, read_roots};
use crate::config::{Upstream, UpstreamProtocol, UpstreamTls, Verify};

/// How the endpoints of one upstream are spoken to over TLS.
///
/// Two are equal when they would behave alike: the same settings, authorities and certificate, wherever those were read
/// from. Sessions are resumed within one of them only.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// The same, for HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    settings: UpstreamTls,
    protocol: UpstreamProtocol,
    roots: Arc<RootCertStore>,
    identity: Option<Arc<CertifiedKey>>,
}

/// The authorities of the system, read when they are first needed.
#[derive(Debug, Default)]
pub struct SystemRoots(OnceCell<Arc<RootCertStore>>);

/// Loads what an upstream needs; `None` when it doesn't speak TLS.
///
/// # Errors
/// Every file that can't be used, with the reason.
pub fn load(upstream: &Upstream, system: &SystemRoots) -> Result<Option<Arc<Client>>, Vec<Fault>> {
    let Some(settings) = &upstream.tls else {
        return Ok(None);
    };
    let field = format!("upstreams.{}.tls", upstream.name);
    let roots = match (settings.verify, &settings.ca) {
        (Verify::Nothing, _) => {
            tracing::warn!(
                upstream = upstream.name,
                "certificates are not verified (tls.verify is false)"
            );
            Ok(Arc::new(RootCertStore::empty()))
        }
        (Verify::Authority, Some(path)) => read_roots(path, &format!("{field}.ca")).map(Arc::new),
        (Verify::Authority, None) => Ok(system.load()),
    };
    let identity = settings.identity.as_ref().map_or(Ok(None), |certificate| {
        load_certificate(certificate, &field, SelfSigned::Assume)
    });
    let (roots, identity) = match (roots, identity) {
        (Ok(roots), Ok(identity)) => (roots, identity),
        (roots, identity) => {
            let identity = identity.err().into_iter().flatten();
            return Err(roots.err().into_iter().chain(identity).collect());
        }
    };
    let config = client_config(settings, &roots, identity.as_ref()).map_err(|error| {
        vec![Fault {
            field,
            kind: FaultKind::Invalid,
            message: error.to_string(),
            help: None,
        }]
    })?;
    Ok(Some(Arc::new(Client {
        config: Arc::new(with_alpn(config.clone(), upstream.protocol)),
        http1: Arc::new(with_alpn(config, UpstreamProtocol::Http1)),
        settings: settings.clone(),
        protocol: upstream.protocol,
        roots,
        identity,
    })))
}

impl Client {
    /// What a handshake needs that is to end in `protocol`: HTTP/1.1, or whatever the upstream is configured for.
    pub fn config(&self, protocol: UpstreamProtocol) -> &Arc<ClientConfig> {
        match protocol {
            UpstreamProtocol::Http1 => &self.http1,
            UpstreamProtocol::Http2 | UpstreamProtocol::Negotiated => &self.config,
        }
    }

    /// What the certificate of an endpoint on `host` must be valid for; `None` when no certificate can be.
    pub fn server_name(&self, host: &str) -> Option<ServerName<'static>> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned()).ok()
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Self) -> bool {
        let chain = |client: &Self| client.identity.as_ref().map(|own| own.cert.clone());
        self.settings == other.settings
            && self.protocol == other.protocol
            && self.roots.roots == other.roots.roots
            && chain(self) == chain(other)
    }
}

impl Eq for Client {}

impl SystemRoots {
    fn load(&self) -> Arc<RootCertStore> {
        let roots = self.0.get_or_init(|| {
            let found = rustls_native_certs::load_native_certs();
            for error in &found.errors {
                tracing::warn!(%error, "system certificates");
            }
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() {
                tracing::info!("the system has no root certificates: using those built in");
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            Arc::new(roots)
        });
        Arc::clone(roots)
    }
}

fn with_alpn(mut config: ClientConfig, protocol: UpstreamProtocol) -> ClientConfig {
    let names: &[&[u8]] = match protocol {
        UpstreamProtocol::Http1 => &[b"http/1.1"],
        UpstreamProtocol::Http2 => &[b"h2"],
        UpstreamProtocol::Negotiated => &[b"h2", b"http/1.1"],
    };
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    config
}

fn client_config(
    settings: &UpstreamTls,
    roots: &Arc<RootCertStore>,
    identity: Option<&Arc<CertifiedKey>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match settings.verify {
        Verify::Authority => {
            let verifier = WebPkiServerVerifier::builder_with_provider(
                Arc::clone(roots),
                Arc::clone(&provider),
            );
            verifier
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?
        }
        Verify::Nothing => Arc::new(AnyCertificate(Arc::clone(&provider))),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        Some(own) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(own))))
        }
        None => builder.with_no_client_auth(),
    })
}

/// Accepts every certificate, of whose key the peer must still prove possession.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    fn authority(directory: &Path, file: &str) {
        let made = rcgen::generate_simple_self_signed(vec!["ca.test".to_owned()]).unwrap();
        std::fs::write(directory.join(file), made.cert.pem()).unwrap();
    }

    fn load_in(directory: &Path, settings: &str) -> Client {
        let text = format!(
            "listeners: {{ a: {{ address: \":80\" }} }}\n\
             upstreams: {{ app: {{ endpoints: [\"app:1\"], {settings} }} }}\n\
             routes: [{{ upstream: app }}]\n"
        );
        let loaded = Config::parse(&text, "proxy.yaml", directory, &|_| None).unwrap();
        let upstream = &loaded.config.upstreams[0];
        let client = load(upstream, &SystemRoots::default()).unwrap().unwrap();
        Arc::into_inner(client).unwrap()
    }

    #[test]
    fn clients_are_alike_while_their_files_hold_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        authority(directory, "ca.pem");
        let settings = "tls: { ca: ca.pem }";
        let first = load_in(directory, settings);
        assert!(first == load_in(directory, settings));
        for other in [
            "tls: { ca: ca.pem }, protocol: h1",
            "tls: { ca: ca.pem, server_name: other.test }",
            "tls: { verify: false }",
        ] {
            assert!(first != load_in(directory, other), "{other}");
        }
        authority(directory, "ca.pem");
        assert!(first != load_in(directory, settings));
    }

    #[test]
    fn the_name_is_the_hosts_unless_it_is_set() {
        let directory = tempfile::tempdir().unwrap();
        let own = load_in(directory.path(), "tls: { verify: false }");
        let set = load_in(
            directory.path(),
            "tls: { verify: false, server_name: api.internal }",
        );
        for (client, host, expected) in [
            (&own, "app.test", "app.test"),
            (&own, "10.0.0.1", "10.0.0.1"),
            (&own, "2001:db8::7", "2001:db8::7"),
            (&set, "10.0.0.1", "api.internal"),
        ] {
            assert_eq!(client.server_name(host).unwrap().to_str(), expected);
        }
    }

    #[test]
    fn offered_versions_follow_the_protocol() {
        let directory = tempfile::tempdir().unwrap();
        for (settings, offered) in [
            ("tls: { verify: false }", &["h2", "http/1.1"][..]),
            ("tls: { verify: false }, protocol: h1", &["http/1.1"]),
            ("tls: { verify: false }, protocol: h2", &["h2"]),
        ] {
            let client = load_in(directory.path(), settings);
            let names = |protocol| -> Vec<_> {
                let names = client.config(protocol).alpn_protocols.iter();
                names.map(|name| str::from_utf8(name).unwrap()).collect()
            };
            assert_eq!(names(UpstreamProtocol::Negotiated), offered, "{settings}");
            assert_eq!(names(UpstreamProtocol::Http1), ["http/1.1"], "{settings}");
        }
    }
}
