//! A certificate's subject as text, fit for a header field: RFC 4514, of printable ASCII, without a space at either end.
//!
//! The subject's bytes come from the parser that verified the certificate: nobody reads another subject than was judged.
//! Different names make different texts. Attributes that RFC 4514 §3 has no name for, and values that aren't text beyond
//! doubt, stand there as numbers: nothing is guessed.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::HeaderValue;
use rustls::pki_types::CertificateDer;

/// Why a certificate's subject can't be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It isn't a distinguished name in DER.
    #[error("malformed subject")]
    Malformed,
    /// Its text is longer than [`MAX_BYTES`].
    #[error("the subject is too long")]
    TooLong,
}

/// What servers take for a single field without complaint.
pub const MAX_BYTES: usize = 4096;

/// The subject of a certificate that was verified; `None` when it is empty.
///
/// # Errors
/// [`Error`]: such a certificate is as good as a wrong one.
pub fn of(certificate: &CertificateDer<'_>) -> Result<Option<HeaderValue>, Error> {
    let certificate = webpki::EndEntityCert::try_from(certificate).map_err(|_| Error::Malformed)?;
    let text = render(certificate.subject())?;
    if text.is_empty() {
        return Ok(None);
    }
    let value = HeaderValue::try_from(text).map_err(|_| Error::Malformed)?;
    Ok(Some(value))
}

/// The text of a distinguished name, whose DER is given without the tag and length of the outermost SEQUENCE.
///
/// # Errors
/// [`Error`].
pub fn render(name: &[u8]) -> Result<String, Error> {
    let mut sets = Vec::new();
    let mut rest = Der(name);
    while !rest.0.is_empty() {
        sets.push(rest.expect(SET)?);
    }
    let mut text = String::new();
    // The most specific part comes first (§2.1).
    for set in sets.into_iter().rev() {
        if !text.is_empty() {
            text.push(',');
        }
        write_set(&mut text, set)?;
    }
    if text.len() > MAX_BYTES {
        return Err(Error::TooLong);
    }
    Ok(text)
}

/// One or several attributes that are one part of the name.
fn write_set(text: &mut String, set: &[u8]) -> Result<(), Error> {
    let mut attributes = Der(set);
    loop {
        let mut attribute = Der(attributes.expect(SEQUENCE)?);
        let kind = attribute.expect(OBJECT_IDENTIFIER)?;
        let value = attribute.element()?;
        if !attribute.0.is_empty() {
            return Err(Error::Malformed);
        }
        write_attribute(text, kind, &value)?;
        if attributes.0.is_empty() {
            return Ok(());
        }
        text.push('+');
    }
}

fn write_attribute(text: &mut String, kind: &[u8], value: &Element<'_>) -> Result<(), Error> {
    let name = NAMES.iter().find(|(known, _)| *known == kind);
    let string = name.and_then(|_| value.string());
    match name {
        Some((_, name)) => text.push_str(name),
        None => write_number(text, kind)?,
    }
    text.push('=');
    if let Some(string) = string {
        write_escaped(text, &string);
    } else {
        // §2.4
        text.push('#');
        for byte in value.encoding {
            write_hex(text, *byte);
        }
    }
    Ok(())
}

/// Escapes what §2.4 says, and whatever has no place in a header field, by the hexadecimal digits of its UTF-8.
fn write_escaped(text: &mut String, string: &str) {
    for (at, character) in string.char_indices() {
        let is_at_an_end = at == 0 || at + 1 == string.len();
        match character {
            // Written `\ ` it would be lost at the end of a field.
            ' ' if is_at_an_end => text.push_str("\\20"),
            '#' if at == 0 => text.push_str("\\#"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            ' '..='~' => text.push(character),
            _ => {
                for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                    text.push('\\');
                    write_hex(text, byte);
                }
            }
        }
    }
}

fn write_hex(text: &mut String, byte: u8) {
    for nibble in [byte >> 4, byte & 0xf] {
        text.extend(char::from_digit(nibble.into(), 16).map(|digit| digit.to_ascii_uppercase()));
    }
}

/// Writes an object identifier as numbers with dots between.
fn write_number(text: &mut String, encoding: &[u8]) -> Result<(), Error> {
    let mut arc: Option<u128> = None;
    let mut is_first = true;
    for byte in encoding {
        // X.690 §8.19.2: no arc begins with zeroes.
        if arc.is_none() && *byte == 0x80 {
            return Err(Error::Malformed);
        }
        let before = arc.unwrap_or(0);
        let so_far = before.checked_mul(128).ok_or(Error::Malformed)? | u128::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            arc = Some(so_far);
            continue;
        }
        arc = None;
        // The first two arcs are in one number (§8.19.4). Writing to a string doesn't fail.
        let _ = if is_first {
            let top = (so_far / 40).min(2);
            write!(text, "{top}.{}", so_far - 40 * top)
        } else {
            write!(text, ".{so_far}")
        };
        is_first = false;
    }
    if is_first || arc.is_some() {
        return Err(Error::Malformed);
    }
    Ok(())
}

/// Encoded elements, one after the other.
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One of them.
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) contents: &'a [u8],
    /// With tag and length.
    encoding: &'a [u8],
}

impl<'a> Der<'a> {
    /// Takes the next element. Lengths must be written as shortly as they can be; those above 64 KiB aren't known here.
    pub(super) fn element(&mut self) -> Result<Element<'a>, Error> {
        let whole = self.0;
        let (tag, length, rest) = match *whole {
            // Tags of several bytes don't occur in names.
            [tag, ..] if tag & 0x1f == 0x1f => return Err(Error::Malformed),
            [tag, length @ ..=0x7f, ref rest @ ..] => (tag, usize::from(length), rest),
            [tag, 0x81, length, ref rest @ ..] if length > 0x7f => (tag, usize::from(length), rest),
            [tag, 0x82, high, low, ref rest @ ..] if high > 0 => {
                (tag, usize::from(u16::from_be_bytes([high, low])), rest)
            }
            _ => return Err(Error::Malformed),
        };
        let (contents, after) = rest.split_at_checked(length).ok_or(Error::Malformed)?;
        let (encoding, after) = whole.split_at(whole.len() - after.len());
        self.0 = after;
        Ok(Element {
            tag,
            contents,
            encoding,
        })
    }

    /// Takes the contents of the next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<&'a [u8], Error> {
        let element = self.element()?;
        if element.tag == tag {
            Ok(element.contents)
        } else {
            Err(Error::Malformed)
        }
    }
}

impl<'a> Element<'a> {
    /// The text that it is; `None` for what isn't a string, and for one with characters that its kind doesn't have.
    fn string(&self) -> Option<Cow<'a, str>> {
        let contents = self.contents;
        match self.tag {
            UTF8_STRING => str::from_utf8(contents).ok().map(Cow::from),
            // What lies beyond ASCII in a TeletexString is read in more than one way.
            NUMERIC_STRING | PRINTABLE_STRING | TELETEX_STRING | IA5_STRING | VISIBLE_STRING => {
                let ascii = contents.is_ascii().then_some(contents)?;
                str::from_utf8(ascii).ok().map(Cow::from)
            }
            BMP_STRING => {
                let (units, []) = contents.as_chunks() else {
                    return None;
                };
                let codes = units.iter().map(|unit| u16::from_be_bytes(*unit).into());
                codes.map(char::from_u32).collect()
            }
            UNIVERSAL_STRING => {
                let (units, []) = contents.as_chunks() else {
                    return None;
                };
                let codes = units.iter().map(|unit| u32::from_be_bytes(*unit));
                codes.map(char::from_u32).collect()
            }
            _ => None,
        }
    }
}

/// The attributes of RFC 4514 §3, which whoever reads such text has to know.
const NAMES: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 9], "STREET"),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        "DC",
    ),
    (
        &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1],
        "UID",
    ),
];

const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const UTF8_STRING: u8 = 12;
const NUMERIC_STRING: u8 = 18;
const PRINTABLE_STRING: u8 = 19;
const TELETEX_STRING: u8 = 20;
const IA5_STRING: u8 = 22;
const VISIBLE_STRING: u8 = 26;
const UNIVERSAL_STRING: u8 = 28;
const BMP_STRING: u8 = 30;

#[cfg(test)]
mod tests;
