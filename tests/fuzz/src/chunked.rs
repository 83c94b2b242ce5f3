//! A chunked body read as a whole, slice by slice, as RFC 9112 §7.1 has it, and as strictly as our decoder says it is.

/// A field behind the body: its name in small letters, and its value.
pub type Field = (String, Vec<u8>);

/// What a body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// It ends, and so many bytes follow.
    Complete { left: usize, trailers: Vec<Field> },
    /// More must come.
    Cut,
    /// It is none.
    Refused,
    /// Its trailers have no end yet: whether they may have one is seen earlier or later.
    Undecided,
}

/// Bounds that the decoder documents.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub extension_bytes: usize,
    pub trailer_bytes: usize,
    pub trailers: usize,
}

/// The data up to where the body ends, is cut or is refused, and which of these.
pub fn read(mut rest: &[u8], bounds: Bounds) -> (Vec<u8>, Body) {
    let mut data = Vec::new();
    let mut extension_bytes = 0;
    loop {
        let size = match size_line(&mut rest, &mut extension_bytes, bounds) {
            Ok(size) => size,
            Err(end) => return (data, end),
        };
        if size == 0 {
            return (data, trailers(rest, bounds));
        }
        let length = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        let (piece, behind) = rest.split_at(length);
        data.extend_from_slice(piece);
        rest = behind;
        if let Err(end) = line_end(&mut rest) {
            return (data, end);
        }
    }
}

/// `chunk-size [ BWS ";" chunk-ext ] CRLF`
fn size_line(rest: &mut &[u8], extension_bytes: &mut usize, bounds: Bounds) -> Result<u64, Body> {
    let digits = take_while(rest, |byte| byte.is_ascii_hexdigit());
    if digits.len() > 16 {
        return Err(Body::Refused);
    }
    let white = take_while(rest, |byte| matches!(byte, b' ' | b'\t'));
    if digits.is_empty() && !(white.is_empty() && rest.is_empty()) {
        return Err(Body::Refused);
    }
    let mut extension: &[u8] = b"";
    if let Some(behind) = rest.strip_prefix(b";") {
        *rest = behind;
        extension = take_while(rest, |byte| byte != b'\r');
    } else if !white.is_empty() && !rest.is_empty() {
        return Err(Body::Refused);
    }
    *extension_bytes += white.len() + extension.len();
    if *extension_bytes > bounds.extension_bytes || !extension.iter().all(|byte| is_text(*byte)) {
        return Err(Body::Refused);
    }
    line_end(rest)?;
    let digits = std::str::from_utf8(digits).unwrap();
    Ok(u64::from_str_radix(digits, 16).unwrap())
}

fn line_end(rest: &mut &[u8]) -> Result<(), Body> {
    match *rest {
        [b'\r', b'\n', behind @ ..] => *rest = behind,
        [] | [b'\r'] => return Err(Body::Cut),
        _ => return Err(Body::Refused),
    }
    Ok(())
}

/// `*( field-line CRLF ) CRLF`
fn trailers(section: &[u8], bounds: Bounds) -> Body {
    let mut fields = Vec::new();
    let mut rest = section;
    loop {
        let taken = section.len() - rest.len();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let is_too_long = section.len() >= bounds.trailer_bytes + 2;
            return if is_too_long {
                Body::Refused
            } else {
                Body::Undecided
            };
        };
        let (line, behind) = rest.split_at(end + 1);
        let Some(line) = line.strip_suffix(b"\r\n") else {
            // Another reader may take it for the end of a line.
            return if has_end(rest) {
                Body::Refused
            } else {
                Body::Undecided
            };
        };
        rest = behind;
        if line.is_empty() {
            let is_too_much = taken > bounds.trailer_bytes || fields.len() > bounds.trailers;
            if is_too_much {
                return Body::Refused;
            }
            return Body::Complete {
                left: rest.len(),
                trailers: fields,
            };
        }
        match field(line) {
            Some(field) => fields.push(field),
            None => {
                return if has_end(rest) {
                    Body::Refused
                } else {
                    Body::Undecided
                };
            }
        }
    }
}

/// Whether an empty line stands somewhere, whatever ends it.
fn has_end(section: &[u8]) -> bool {
    let ends = |end: &[u8]| section.windows(end.len()).any(|part| part == end);
    section.starts_with(b"\n") || ends(b"\r\n\r\n") || ends(b"\n\n") || ends(b"\n\r\n")
}

/// `field-name ":" OWS field-value OWS`
fn field(line: &[u8]) -> Option<Field> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) || !value.iter().all(|byte| is_text(*byte)) {
        return None;
    }
    let name = String::from_utf8(name.to_ascii_lowercase()).unwrap();
    Some((name, value.trim_ascii().to_vec()))
}

/// HTAB, SP, VCHAR or obs-text.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

fn take_while<'a>(rest: &mut &'a [u8], is_wanted: impl Fn(u8) -> bool) -> &'a [u8] {
    let end = rest.iter().position(|byte| !is_wanted(*byte));
    let (taken, behind) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = behind;
    taken
}
