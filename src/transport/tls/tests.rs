use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use tempfile::TempDir;

use super::server::{Server, load};
use super::*;
use crate::config::{DefaultCertificate, Protocols, Tls};

const PROTOCOLS: Protocols = Protocols {
    http1: true,
    http2: true,
};

/// A directory with certificate files in it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// A certificate for `names`, and its key, as `NAME.crt` and `NAME.key`.
    fn certificate(&self, file: &str, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        Certificate {
            cert: self.write(&format!("{file}.crt"), &certificate_pem(&key, names)),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
            self_signed: Vec::new(),
        }
    }
}

fn certificate_pem(key: &KeyPair, names: &[&str]) -> String {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let params = CertificateParams::new(names).unwrap();
    params.self_signed(key).unwrap().pem()
}

fn tls(certificates: Vec<Certificate>, default_certificate: DefaultCertificate) -> Tls {
    Tls {
        certificates,
        default_certificate,
        tls12: true,
        client_auth: None,
        subject_header: None,
        strict_sni: false,
    }
}

fn load_only(certificate: Certificate) -> Result<Server, Vec<Fault>> {
    let tls = tls(vec![certificate], DefaultCertificate::First);
    load(&tls, PROTOCOLS, "listeners.x.tls", SelfSigned::Assume)
}

fn only_fault(certificate: Certificate) -> Fault {
    let mut faults = load_only(certificate).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn a_named_default_must_be_covered_and_the_message_lists_what_is() {
    let files = Files::new();
    let certificate = files.certificate("a", &["a.test", "*.b.test"]);
    let named = |name: &str| {
        let default = DefaultCertificate::Named(name.to_owned());
        let tls = tls(vec![certificate.clone()], default);
        load(&tls, PROTOCOLS, "listeners.x.tls", SelfSigned::Assume)
    };
    assert!(named("c.b.test").is_ok());
    let faults = named("other.test").unwrap_err();
    assert_eq!(faults[0].field, "listeners.x.tls.default_certificate");
    assert_eq!(
        faults[0].help.as_deref(),
        Some("they cover: *.b.test, a.test")
    );
}

#[test]
fn a_foreign_key_is_refused_with_both_fingerprints() {
    let files = Files::new();
    let mut certificate = files.certificate("a", &["a.test"]);
    certificate.key = files.certificate("b", &["b.test"]).key;
    let fault = only_fault(certificate.clone());
    assert_eq!(fault.field, "listeners.x.tls.certificates[0].key");
    assert_eq!(fault.kind, FaultKind::Invalid);
    let help = fault.help.unwrap();
    assert!(help.contains(certificate.cert.to_str().unwrap()), "{help}");
    assert!(help.contains(certificate.key.to_str().unwrap()), "{help}");
}

#[test]
fn every_missing_file_is_named() {
    let files = Files::new();
    let certificate = Certificate {
        cert: files.path("no.crt"),
        key: files.path("no.key"),
        self_signed: Vec::new(),
    };
    let faults = load_only(certificate).unwrap_err();
    let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "listeners.x.tls.certificates[0].cert",
            "listeners.x.tls.certificates[0].key"
        ]
    );
    assert!(faults.iter().all(|fault| fault.kind == FaultKind::Missing));
    assert!(
        faults[0].message.ends_with("no.crt"),
        "{}",
        faults[0].message
    );
}

#[test]
fn files_that_are_not_what_they_should_be_are_told_apart() {
    let files = Files::new();
    let good = files.certificate("a", &["a.test"]);
    let swapped = Certificate {
        cert: good.key.clone(),
        ..good.clone()
    };
    assert!(only_fault(swapped).message.starts_with("no certificate in"));
    let keyless = Certificate {
        key: good.cert.clone(),
        ..good.clone()
    };
    assert!(only_fault(keyless).message.starts_with("no private key in"));
    let encrypted = Certificate {
        key: files.write(
            "e.key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        ),
        ..good
    };
    assert!(only_fault(encrypted).message.contains("encrypted"));
}

/// The octet string at the end of a PKCS#8 key: a PKCS#1 or SEC1 key (RFC 5208 §5).
fn inner_key(pkcs8: &[u8]) -> Vec<u8> {
    fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
        let (length, start) = match der[1] {
            short @ 0..=0x7f => (usize::from(short), 2),
            0x81 => (usize::from(der[2]), 3),
            _ => (usize::from(u16::from_be_bytes([der[2], der[3]])), 4),
        };
        (der[0], &der[start..start + length], &der[start + length..])
    }
    let (_, mut fields, _) = element(pkcs8);
    loop {
        let (tag, value, rest) = element(fields);
        if tag == 4 {
            return value.to_vec();
        }
        fields = rest;
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write;
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bytes);
        for place in 0..4 {
            let sextet = bits >> (18 - 6 * place) & 63;
            let padding = place > group.len();
            text.push(if padding {
                '='
            } else {
                char::from(ALPHABET[sextet as usize])
            });
        }
    }
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        writeln!(pem, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    pem + &format!("-----END {label}-----\n")
}

#[test]
fn keys_are_read_in_all_three_encodings() {
    let files = Files::new();
    let ec = KeyPair::generate().unwrap();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    for (name, key, encoded) in [
        ("pkcs8", &ec, ec.serialize_pem()),
        (
            "sec1",
            &ec,
            pem("EC PRIVATE KEY", &inner_key(ec.serialized_der())),
        ),
        (
            "pkcs1",
            &rsa,
            pem("RSA PRIVATE KEY", &inner_key(rsa.serialized_der())),
        ),
    ] {
        let certificate = Certificate {
            cert: files.write(&format!("{name}.crt"), &certificate_pem(key, &["a.test"])),
            key: files.write(&format!("{name}.key"), &encoded),
            self_signed: Vec::new(),
        };
        load_only(certificate).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
    }
}

#[test]
fn a_self_signed_pair_is_made_once_and_its_key_is_private() {
    let files = Files::new();
    let certificate = Certificate {
        cert: files.path("certs/dev.crt"),
        key: files.path("certs/dev.key"),
        self_signed: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let tls = tls(vec![certificate.clone()], DefaultCertificate::First);
    load(&tls, PROTOCOLS, "x", SelfSigned::Make).unwrap();
    let mode = fs::metadata(&certificate.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = fs::read(&certificate.cert).unwrap();
    load(&tls, PROTOCOLS, "x", SelfSigned::Make).unwrap();
    assert_eq!(fs::read(&certificate.cert).unwrap(), first);
}

#[test]
fn checking_makes_nothing() {
    let files = Files::new();
    let certificate = Certificate {
        cert: files.path("dev.crt"),
        key: files.path("dev.key"),
        self_signed: vec!["localhost".to_owned()],
    };
    load_only(certificate.clone()).unwrap();
    assert!(!certificate.cert.exists() && !certificate.key.exists());
}

#[test]
fn half_a_self_signed_pair_is_an_error_and_not_overwritten() {
    let files = Files::new();
    let mut certificate = files.certificate("dev", &["localhost"]);
    certificate.key = files.path("gone.key");
    certificate.self_signed = vec!["localhost".to_owned()];
    let before = fs::read(&certificate.cert).unwrap();
    assert_eq!(only_fault(certificate.clone()).kind, FaultKind::Missing);
    assert_eq!(fs::read(&certificate.cert).unwrap(), before);
}
