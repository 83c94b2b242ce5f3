//! Where messages of HTTP/1 end; lenient, for whoever isn't judged by it.

use std::ops::Range;

/// A response, so far as it is there.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Range<usize>,
    pub(crate) end: End,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum End {
    /// After so many bytes.
    At(usize),
    /// Further on.
    Later,
    /// Where the connection has it.
    Close,
}

/// The length of the request in front; `None`: it has no end yet.
pub(crate) fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = head_length(bytes)?;
    match body_end(bytes, head) {
        End::At(end) => Some(end),
        End::Later => None,
        End::Close => Some(head),
    }
}

/// The response in front; `None`: not even its head is there.
pub(crate) fn response(bytes: &[u8], to_head: bool) -> Option<Response> {
    let head = head_length(bytes)?;
    let text = String::from_utf8_lossy(&bytes[..head]);
    let status = text.split(' ').nth(1)?.get(..3)?.parse().ok()?;
    let end = match status {
        100..=199 | 204 | 304 => End::At(head),
        _ if to_head => End::At(head),
        _ => body_end(bytes, head),
    };
    let body_end = match end {
        End::At(end) => end,
        End::Later | End::Close => bytes.len(),
    };
    Some(Response {
        status,
        body: head..body_end,
        end,
    })
}

pub(crate) fn head_length(bytes: &[u8]) -> Option<usize> {
    let end = b"\r\n\r\n";
    Some(bytes.windows(4).position(|part| part == end)? + end.len())
}

fn body_end(bytes: &[u8], head: usize) -> End {
    let fields = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let value = |name: &str| {
        let line = fields.split("\r\n").find(|line| line.starts_with(name))?;
        Some(line[name.len()..].trim().to_owned())
    };
    if value("transfer-encoding:").is_some() {
        return chunks_end(bytes, head).map_or(End::Later, End::At);
    }
    match value("content-length:").map(|length| length.parse::<usize>()) {
        None => End::Close,
        Some(Ok(length)) if head + length <= bytes.len() => End::At(head + length),
        Some(_) => End::Later,
    }
}

fn chunks_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = line(bytes, at)?;
        let size = line.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(size)?.checked_add(2)?;
    }
    loop {
        let length = line(bytes, at)?.len();
        at += length + 2;
        if length == 0 {
            return Some(at);
        }
    }
}

/// The line that begins there, if it has its end.
fn line(bytes: &[u8], at: usize) -> Option<String> {
    let rest = bytes.get(at..)?;
    let end = rest.windows(2).position(|part| part == b"\r\n")?;
    // Of as many characters as it has bytes.
    Some(
        rest[..end]
            .iter()
            .map(|byte| char::from(*byte))
            .collect::<String>(),
    )
    .filter(|line| line.len() == end)
}
