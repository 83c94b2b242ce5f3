//! What operators want to know about a certificate: whom it is for, who issued it, and how long it is good for.

use rustls::pki_types::CertificateDer;

use super::subject::{self, Der, Error, SEQUENCE};

/// A leaf certificate, as its chain begins with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// As RFC 4514 has it; may be empty.
    pub subject: String,
    /// As RFC 4514 has it.
    pub issuer: String,
    /// DNS names it covers.
    pub names: Vec<String>,
    /// In seconds since 1970.
    pub not_before: i64,
    /// In seconds since 1970.
    pub not_after: i64,
}

const CONTEXT_0: u8 = 0xa0;
const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

impl Facts {
    /// RFC 5280 §4.1.
    pub(super) fn of(leaf: &CertificateDer<'_>) -> Result<Self, Error> {
        let mut certificate = Der(Der(leaf).expect(SEQUENCE)?);
        let mut signed = Der(certificate.expect(SEQUENCE)?);
        // The version, unless it is the first.
        let number = match signed.element()? {
            version if version.tag == CONTEXT_0 => signed.element()?,
            number => number,
        };
        if number.tag != INTEGER {
            return Err(Error::Malformed);
        }
        signed.expect(SEQUENCE)?;
        let issuer = signed.expect(SEQUENCE)?;
        let mut validity = Der(signed.expect(SEQUENCE)?);
        let subject = signed.expect(SEQUENCE)?;
        Ok(Self {
            subject: subject::render(subject)?,
            issuer: subject::render(issuer)?,
            names: super::names::of(leaf),
            not_before: time(&mut validity)?,
            not_after: time(&mut validity)?,
        })
    }
}

/// RFC 5280 §4.1.2.5: in UTC, to the second.
fn time(validity: &mut Der<'_>) -> Result<i64, Error> {
    let time = validity.element()?;
    let text = str::from_utf8(time.contents).map_err(|_| Error::Malformed)?;
    let digits = text.strip_suffix('Z').ok_or(Error::Malformed)?;
    let full = match time.tag {
        GENERALIZED_TIME => digits.to_owned(),
        UTC_TIME if digits < "50" => format!("20{digits}"),
        UTC_TIME => format!("19{digits}"),
        _ => return Err(Error::Malformed),
    };
    if full.len() != 14 || !full.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::Malformed);
    }
    let (date, time) = full.split_at(8);
    let civil: jiff::civil::DateTime = format!("{date}T{time}")
        .parse()
        .map_err(|_| Error::Malformed)?;
    let zoned = civil
        .to_zoned(jiff::tz::TimeZone::UTC)
        .map_err(|_| Error::Malformed)?;
    Ok(zoned.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_says_whom_it_is_for_and_how_long() {
        for (until, seconds) in [(2049, 2_493_072_000), (2051, 2_556_144_000)] {
            let mut params =
                CertificateParams::new(["a.test".to_owned(), "*.b.test".to_owned()]).unwrap();
            params.not_before = date_time_ymd(1999, 12, 31);
            params.not_after = date_time_ymd(until, 1, 1);
            params
                .distinguished_name
                .push(DnType::CommonName, "A, and B");
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let facts = Facts::of(certificate.der()).unwrap();
            assert_eq!(facts.names, ["a.test", "*.b.test"]);
            assert_eq!(facts.not_before, 946_598_400);
            assert_eq!(facts.not_after, seconds, "{until}");
            assert_eq!(facts.subject, facts.issuer);
            assert!(facts.subject.contains("A\\, and B"), "{}", facts.subject);
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_facts() {
        for bytes in [
            &b""[..],
            b"\x30\x00",
            b"\x30\x02\x30\x00",
            b"not a certificate",
        ] {
            assert_eq!(
                Facts::of(&CertificateDer::from(bytes)),
                Err(Error::Malformed)
            );
        }
    }
}
