//! Which certificate is for which server name.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{Fault, FaultKind};
use crate::config::DefaultCertificate;

/// Certificates by the DNS names they cover.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`: a wildcard covers exactly one label (RFC 9525 §6.3).
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// In the order of the configuration.
    all: Vec<Arc<CertifiedKey>>,
    default: Option<Arc<CertifiedKey>>,
}

impl Certificates {
    /// Where two certificates cover a name, the one added first keeps it.
    pub(super) fn add(&mut self, certificate: Arc<CertifiedKey>) {
        for name in dns_names(&certificate) {
            let (names, key) = match name.strip_prefix("*.") {
                Some(suffix) => (&mut self.wildcard, suffix.to_owned()),
                None => (&mut self.exact, name),
            };
            names.entry(key).or_insert_with(|| Arc::clone(&certificate));
        }
        self.all.push(certificate);
    }

    /// Decides what clients get that ask for no name, or for one that nothing covers. To be called when all are added;
    /// `field` is the path of the `tls` key.
    ///
    /// # Errors
    /// No certificate covers the name that was configured.
    pub(super) fn set_default(
        &mut self,
        default: &DefaultCertificate,
        field: &str,
    ) -> Result<(), Fault> {
        self.default = match default {
            DefaultCertificate::First => self.all.first().cloned(),
            DefaultCertificate::Reject => None,
            DefaultCertificate::Named(name) => {
                let found = self.find(name).cloned();
                // One that is yet to be made may cover it.
                if found.is_none() && !self.all.is_empty() {
                    return Err(self.no_such_default(name, field));
                }
                found
            }
        };
        Ok(())
    }

    /// All of them, in the order in which they were added.
    pub(super) fn all(&self) -> &[Arc<CertifiedKey>] {
        &self.all
    }

    /// The certificate that covers a name.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.exact.get(&name).or_else(|| {
            let (label, suffix) = name.split_once('.')?;
            let covering = self.wildcard.get(suffix);
            covering.filter(|_| !label.is_empty())
        })
    }

    /// The certificate that a handshake shows; `None`: there is none to be shown.
    pub(super) fn choose(&self, server_name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let covering = server_name.and_then(|name| self.find(name));
        covering.or(self.default.as_ref())
    }

    fn no_such_default(&self, name: &str, field: &str) -> Fault {
        let mut names: Vec<String> = self.exact.keys().cloned().collect();
        names.extend(self.wildcard.keys().map(|suffix| format!("*.{suffix}")));
        names.sort_unstable();
        Fault {
            field: format!("{field}.default_certificate"),
            kind: FaultKind::Invalid,
            message: format!("no certificate here covers `{name}`"),
            help: Some(format!("they cover: {}", names.join(", "))),
        }
    }
}

/// The certificate that a connection is shown, among all that it could have been.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    certificates: Arc<Certificates>,
    certificate: Arc<CertifiedKey>,
    server_name: Option<Box<str>>,
}

impl Shown {
    /// What the handshake of a client shows that asks for this name; `None`: there is nothing to be shown.
    pub(super) fn new(certificates: &Arc<Certificates>, server_name: Option<&str>) -> Option<Self> {
        let certificate = certificates.choose(server_name)?;
        Some(Self {
            certificates: Arc::clone(certificates),
            certificate: Arc::clone(certificate),
            server_name: server_name.map(Box::from),
        })
    }

    /// Whether a handshake for `host` shows another certificate, one that covers it.
    ///
    /// Addresses aren't covered by any: no client asks for one (RFC 6066 §3), and sent away it would but come back.
    pub(super) fn is_not_for(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        let is_asked_for = |name: &str| name.eq_ignore_ascii_case(host);
        if self.server_name.as_deref().is_some_and(is_asked_for) {
            return false;
        }
        let covering = self.certificates.find(host);
        covering.is_some_and(|covering| !Arc::ptr_eq(covering, &self.certificate))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name()).cloned()
    }
}

fn dns_names(certificate: &CertifiedKey) -> Vec<String> {
    certificate.cert.first().map(of).unwrap_or_default()
}

/// The DNS names that a certificate covers, in lower case.
pub(super) fn of(leaf: &CertificateDer<'_>) -> Vec<String> {
    webpki::EndEntityCert::try_from(leaf)
        .map(|leaf| {
            leaf.valid_dns_names()
                .map(str::to_ascii_lowercase)
                .collect()
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;
    use rustls::crypto::aws_lc_rs::sign::any_supported_type;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn certificate(names: &[&str]) -> Arc<CertifiedKey> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(names).unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Arc::new(CertifiedKey::new(
            vec![der],
            any_supported_type(&key).unwrap(),
        ))
    }

    fn certificates(of_names: &[&[&str]]) -> Certificates {
        let mut certificates = Certificates::default();
        for names in of_names {
            certificates.add(certificate(names));
        }
        certificates
    }

    fn covers(certificates: &Certificates, name: &str, expected: &str) -> bool {
        certificates
            .find(name)
            .is_some_and(|found| dns_names(found).contains(&expected.to_owned()))
    }

    #[test]
    fn a_name_finds_its_own_certificate_before_a_wildcard() {
        let certificates = certificates(&[&["*.example.net"], &["a.example.net"]]);
        assert!(covers(&certificates, "A.Example.NET", "a.example.net"));
        assert!(covers(&certificates, "b.example.net", "*.example.net"));
    }

    #[test]
    fn a_wildcard_covers_one_label_and_not_its_own_domain() {
        let certificates = certificates(&[&["*.example.net"]]);
        for name in ["example.net", "a.b.example.net", ".example.net"] {
            assert!(certificates.find(name).is_none(), "{name}");
        }
    }
}
