//! TLS: certificates and keys from PEM files, and what is done with them towards clients and endpoints.
//!
//! Promises that a key which doesn't belong to its certificate, or a file that can't be used, is found before anything
//! is bound.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::config::Certificate;

pub mod client;
pub mod facts;
mod names;
pub mod server;
mod sessions;
pub mod subject;
mod tickets;

/// A configured value that turned out to be unfit when it was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, as a path: `listeners.https.tls.certificates[0].cert`.
    pub field: String,
    /// What a supervisor can tell from it.
    pub kind: FaultKind,
    /// What is wrong, naming the file.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// Classes of [`Fault`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// It is there and doesn't fit.
    Invalid,
    /// A file isn't there.
    Missing,
    /// A file is there and may not be read.
    Unreadable,
}

/// Whether self-signed certificates are made where a listener asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelfSigned {
    /// Write both files when both are missing.
    Make,
    /// Write nothing: missing files that could be made are passed over.
    Assume,
}

/// `Ok(None)`: both files are missing and would be made.
fn load_certificate(
    certificate: &Certificate,
    field: &str,
    self_signed: SelfSigned,
) -> Result<Option<Arc<CertifiedKey>>, Vec<Fault>> {
    let missing = !certificate.cert.exists() && !certificate.key.exists();
    if missing && !certificate.self_signed.is_empty() {
        match self_signed {
            SelfSigned::Assume => return Ok(None),
            SelfSigned::Make => make_self_signed(certificate).map_err(|(path, error)| {
                vec![unusable(
                    &format!("{field}.self_signed"),
                    "write",
                    path,
                    &error,
                )]
            })?,
        }
    }
    let chain = read_chain(&certificate.cert, &format!("{field}.cert"));
    let key = read_key(&certificate.key, &format!("{field}.key"));
    match (chain, key) {
        (Ok(chain), Ok(key)) => pair(certificate, field, chain, &key).map(Some),
        (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
    }
}

fn read_chain(path: &Path, field: &str) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let pem = fs::read(path).map_err(|error| unusable(field, "read", path, &error))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(invalid(
            field,
            format!("no certificate in {}", path.display()),
            "a PEM file with a line -----BEGIN CERTIFICATE----- is needed, the leaf first",
        )),
        Err(error) => Err(invalid(
            field,
            format!("{}: {error}", path.display()),
            "the file must be PEM",
        )),
    }
}

fn read_roots(path: &Path, field: &str) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path, field)? {
        roots.add(certificate).map_err(|error| {
            invalid(
                field,
                format!("{}: {error}", path.display()),
                "X.509 version 3 certificates of authorities are needed",
            )
        })?;
    }
    Ok(roots)
}

fn read_key(path: &Path, field: &str) -> Result<PrivateKeyDer<'static>, Fault> {
    const HELP: &str = "a PEM key is needed: PKCS#8 (PRIVATE KEY), PKCS#1 (RSA PRIVATE KEY) or SEC1 (EC PRIVATE KEY)";
    let pem = fs::read(path).map_err(|error| unusable(field, "read", path, &error))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let encrypted = pem
            .windows(b"ENCRYPTED".len())
            .any(|window| window == b"ENCRYPTED");
        match error {
            pem::Error::NoItemsFound if encrypted => invalid(
                field,
                format!("the key in {} is encrypted", path.display()),
                "decrypt it first:  openssl pkey -in KEY -out KEY.plain",
            ),
            pem::Error::NoItemsFound => {
                invalid(field, format!("no private key in {}", path.display()), HELP)
            }
            error => invalid(field, format!("{}: {error}", path.display()), HELP),
        }
    })
}

fn pair(
    certificate: &Certificate,
    field: &str,
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, Vec<Fault>> {
    let signing = aws_lc_rs::sign::any_supported_type(key).map_err(|error| {
        vec![invalid(
            &format!("{field}.key"),
            format!("{}: {error}", certificate.key.display()),
            "RSA (2048 bits or more), ECDSA P-256, P-384, P-521 and Ed25519 keys are supported",
        )]
    })?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(vec![mismatch(certificate, field, &certified)])
        }
        Err(error) => Err(vec![invalid(
            &format!("{field}.cert"),
            format!("{}: {error}", certificate.cert.display()),
            "an X.509 version 3 certificate is needed",
        )]),
    }
}

fn mismatch(certificate: &Certificate, field: &str, certified: &CertifiedKey) -> Fault {
    let of_certificate = certified
        .cert
        .first()
        .and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok())
        .map_or_else(String::new, |leaf| {
            fingerprint(&leaf.subject_public_key_info())
        });
    let of_key = certified
        .key
        .public_key()
        .map_or_else(String::new, |key| fingerprint(&key));
    Fault {
        field: format!("{field}.key"),
        kind: FaultKind::Invalid,
        message: "this key does not belong to the certificate".to_owned(),
        help: Some(format!(
            "public keys, SHA-256:\n{of_certificate}  {}\n{of_key}  {}",
            certificate.cert.display(),
            certificate.key.display()
        )),
    }
}

/// The first eight bytes tell two keys apart, and fit a line.
fn fingerprint(public_key: &[u8]) -> String {
    use rustls::crypto::hash::HashAlgorithm;
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let rustls::SupportedCipherSuite::Tls13(suite) = suite else {
        return String::new();
    };
    let hash = suite.common.hash_provider;
    debug_assert_eq!(hash.algorithm(), HashAlgorithm::SHA256);
    let digest = hash.hash(public_key);
    let hex: Vec<String> = digest
        .as_ref()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.join(":")
}

fn invalid(field: &str, message: String, help: &str) -> Fault {
    Fault {
        field: field.to_owned(),
        kind: FaultKind::Invalid,
        message,
        help: Some(help.to_owned()),
    }
}

fn unusable(field: &str, verb: &str, path: &Path, error: &io::Error) -> Fault {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (
            FaultKind::Missing,
            format!("no such file: {}", path.display()),
        ),
        io::ErrorKind::PermissionDenied => (
            FaultKind::Unreadable,
            format!("cannot {verb} {}: permission denied", path.display()),
        ),
        _ => (
            FaultKind::Invalid,
            format!("cannot {verb} {}: {error}", path.display()),
        ),
    };
    Fault {
        field: field.to_owned(),
        kind,
        message,
        help: None,
    }
}

#[cfg(feature = "dev-certs")]
fn make_self_signed(certificate: &Certificate) -> Result<(), (&Path, io::Error)> {
    const VALID: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 60 * 60);
    let cert_path = certificate.cert.as_path();
    let unfit = |error: rcgen::Error| (cert_path, io::Error::other(error));

    let mut params =
        rcgen::CertificateParams::new(certificate.self_signed.clone()).map_err(unfit)?;
    let now = std::time::SystemTime::now();
    params.not_before = now.into();
    params.not_after = (now + VALID).into();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "headwater self-signed");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate().map_err(unfit)?;
    let cert = params.self_signed(&key).map_err(unfit)?;
    // The key first: a crash in between leaves no certificate that looks complete.
    write_new(&certificate.key, &key.serialize_pem(), 0o600)
        .map_err(|error| (certificate.key.as_path(), error))?;
    write_new(&certificate.cert, &cert.pem(), 0o644).map_err(|error| (cert_path, error))
}

#[cfg(not(feature = "dev-certs"))]
fn make_self_signed(certificate: &Certificate) -> Result<(), (&Path, io::Error)> {
    Err((
        certificate.cert.as_path(),
        io::Error::other("this build can't make certificates (feature dev-certs)"),
    ))
}

#[cfg(feature = "dev-certs")]
fn write_new(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Has the cryptography library gather its first randomness, for some 40 ms, so that no handshake has to wait for it.
pub fn gather_randomness() {
    // What can't be had now is asked for again by whoever needs it.
    let _ = aws_lc_rs::default_provider().secure_random.fill(&mut [0]);
}

#[cfg(test)]
mod tests;
