//! `listeners.*.tls`.

use std::net::IpAddr;
use std::path::Path;

use http::HeaderName;

use super::super::problem::code;
use super::super::reader::{At, Choice, Reader, Section};
use super::super::{Certificate, ClientAuth, DefaultCertificate, Tls, address, keys};
use super::file;
use super::own_header::own_header;

/// Reads the section, whose presence says that TLS is spoken.
pub(super) fn tls(reader: &mut Reader<'_>, listener: &Section<'_>, dir: &Path) -> Option<Tls> {
    let at = listener.get("tls")?;
    let section = reader.section(&at, &keys::TLS)?;
    let items = section.items("certificates");
    reader.require_entry(
        &section,
        "certificates",
        "write  certificates: [{ cert: certs/site.crt, key: certs/site.key }]",
    );
    let certificates = items
        .iter()
        .filter_map(|at| certificate(reader, at, dir))
        .collect();
    let versions = [("1.2", true), ("1.3", false)];
    let (client_auth, subject_header) = client_auth(reader, &section, dir);
    Some(Tls {
        certificates,
        default_certificate: default_certificate(reader, &section),
        tls12: reader.choice(&section, "min_version", &Choice::of(&versions), true),
        client_auth,
        subject_header,
        strict_sni: reader.flag(&section, "strict_sni", false),
    })
}

fn certificate(reader: &mut Reader<'_>, at: &At<'_>, dir: &Path) -> Option<Certificate> {
    let section = reader.section(at, &keys::CERTIFICATE)?;
    let mut half = |key: &str| {
        reader.require(
            &section,
            key,
            "a certificate is a pair:  { cert: certs/site.crt, key: certs/site.key }",
        );
        file(reader, &section, key, dir)
    };
    let (cert, key) = (half("cert"), half("key"));
    let mut self_signed = Vec::new();
    for (at, name) in reader.recorded_texts(&section, "self_signed") {
        if name.parse::<IpAddr>().is_ok()
            || address::is_host_name(name.strip_prefix("*.").unwrap_or(name))
        {
            self_signed.push(name.to_owned());
        } else {
            let message = format!("a certificate can't be made for `{name}`");
            let problem = reader.on_value(&at.place, code::BAD_NAME, message);
            reader.report(
                problem.help("a name is a host name, `*.` and a host name, or an IP address"),
            );
        }
    }
    Some(Certificate {
        cert: cert?,
        key: key?,
        self_signed,
    })
}

fn default_certificate(reader: &mut Reader<'_>, section: &Section<'_>) -> DefaultCertificate {
    let Some((at, text)) = reader.optional_text(section, "default_certificate") else {
        return DefaultCertificate::First;
    };
    reader.record_text(&at.place, text);
    if text == "reject" {
        return DefaultCertificate::Reject;
    }
    if !address::is_host_name(text) {
        let message = format!("`default_certificate` can't be `{text}`");
        let problem = reader.on_value(&at.place, code::BAD_NAME, message);
        reader.report(
            problem.help("write a host name that one of the certificates covers, or `reject`"),
        );
    }
    DefaultCertificate::Named(text.to_ascii_lowercase())
}

/// What clients are asked for, and the field that tells endpoints who they are.
fn client_auth(
    reader: &mut Reader<'_>,
    tls: &Section<'_>,
    dir: &Path,
) -> (Option<ClientAuth>, Option<HeaderName>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Mode {
        Off,
        Optional,
        Required,
    }
    if !tls.has("client_auth") {
        return (None, None);
    }
    let words = [
        ("off", Mode::Off),
        ("optional", Mode::Optional),
        ("required", Mode::Required),
    ];
    let section = reader.subsection(tls, "client_auth", &keys::CLIENT_AUTH);
    reader.require(
        &section,
        "mode",
        "write  mode: optional  or  mode: required",
    );
    let mode = reader.choice(&section, "mode", &Choice::of(&words), Mode::Off);
    let ca = file(reader, &section, "ca", dir);
    // Endpoints that believe the field do so while nobody is asked for a certificate as well.
    let subject_header = own_header(
        reader,
        &section,
        "subject_header",
        "a certificate's subject",
        "X-Client-Cert-Subject",
    );
    if mode == Mode::Off {
        return (None, subject_header);
    }
    reader.require(
        &section,
        "ca",
        "name the authorities that issue certificates to clients:  ca: certs/clients-ca.pem",
    );
    let client_auth = ca.map(|ca| ClientAuth {
        required: mode == Mode::Required,
        ca,
    });
    (client_auth, subject_header)
}
