//! The handshake of RFC 6455: which upgrade is one, and the key that proves both ends mean it.
//!
//! Frames are no business of this module: a proxy carries them unread.

use std::hash::{BuildHasher, RandomState};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};

use crate::fields::Fields;

/// The one protocol there is an upgrade to.
pub const PROTOCOL: &str = "websocket";

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Key` of our own, for a client whose HTTP version has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// Sixteen random bytes. They keep caches out of the way and guard no secret, so the standard library's will do.
    pub fn random() -> Self {
        let [first, second] = [0, 1].map(|half: u64| RandomState::new().hash_one(half));
        let bytes = (u128::from(first) << 64) | u128::from(second);
        Self(base64(&bytes.to_be_bytes()))
    }

    /// As it stands in the field.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the endpoint read this key as a WebSocket server does.
    pub fn is_answered_by(&self, fields: &Fields) -> bool {
        let answer = fields.only(&SEC_WEBSOCKET_ACCEPT);
        answer.is_some_and(|answer| answer == accept(self.0.as_bytes()).as_bytes())
    }
}

/// Whether there is a key as a WebSocket server wants it: sixteen bytes in base64 (RFC 6455 §4.2.1).
pub fn has_key(fields: &Fields) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let key = fields.only(&SEC_WEBSOCKET_KEY);
    key.and_then(|key| key.strip_suffix(b"=="))
        .is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// What `Sec-WebSocket-Accept` says to a `Sec-WebSocket-Key`.
pub fn accept(key: &[u8]) -> String {
    let text = [key, GUID].concat();
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text).as_ref())
}

/// Whether a WebSocket is among the protocols that `Upgrade` offers.
pub fn is_named(fields: &Fields) -> bool {
    fields
        .get_all(&UPGRADE)
        .flat_map(|line| line.split(|byte| *byte == b','))
        .any(is_protocol)
}

/// Whether `Upgrade` says WebSocket and nothing else: the only 101 that answers our requests.
pub fn is_named_alone(fields: &Fields) -> bool {
    fields.only(&UPGRADE).is_some_and(is_protocol)
}

fn is_protocol(name: &[u8]) -> bool {
    name.trim_ascii().eq_ignore_ascii_case(PROTOCOL.as_bytes())
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let letter = ALPHABET.get(value as usize).copied().unwrap_or_default();
            let is_padding = digit > group.len();
            text.push(if is_padding { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn upgrade(lines: &[&'static str]) -> Fields {
        lines
            .iter()
            .map(|line| (UPGRADE, HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xbf]), "+/+/");
    }

    #[test]
    fn a_key_is_answered_as_in_the_rfc() {
        assert_eq!(
            accept(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn keys_are_sixteen_bytes_and_differ() {
        let (one, other) = (Key::random(), Key::random());
        assert_ne!(one, other);
        assert_eq!(one.as_str().len(), 24);
        assert!(one.as_str().ends_with("=="));
    }

    #[test]
    fn only_its_own_answer_fits_a_key() {
        let key = Key::random();
        let answer = |key: &Key| HeaderValue::try_from(accept(key.as_str().as_bytes())).unwrap();
        let fits = |answers: &[&Key]| {
            let answers = answers.iter().map(|of| (SEC_WEBSOCKET_ACCEPT, answer(of)));
            key.is_answered_by(&answers.collect())
        };
        assert!(!fits(&[]));
        assert!(!fits(&[&Key::random()]));
        assert!(fits(&[&key]));
        assert!(!fits(&[&key, &key]));
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_there_is_one() {
        let keys = |keys: &[&'static str]| -> Fields {
            let values = keys.iter().map(|key| HeaderValue::from_static(key));
            values.map(|value| (SEC_WEBSOCKET_KEY, value)).collect()
        };
        let good = "dGhlIHNhbXBsZSBub25jZQ==";
        assert!(has_key(&keys(&[good])));
        for bad in [
            &[][..],
            &[good, good],
            &[""],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZSBub25j"],
            &["dGhlIHNhbXBsZSBub25jZ=Q="],
            &["dGhlIHNhbXBsZSBub25j ZQ=="],
        ] {
            assert!(!has_key(&keys(bad)), "{bad:?}");
        }
    }

    #[test]
    fn a_websocket_is_found_among_the_protocols_offered() {
        for (lines, named, alone) in [
            (&["websocket"][..], true, true),
            (&["WebSocket"], true, true),
            (&["h2c, websocket"], true, false),
            (&["h2c", "websocket"], true, false),
            (&["websocket", "websocket"], true, false),
            (&["h2c"], false, false),
            (&["websocket/13"], false, false),
            (&["websockets"], false, false),
            (&[""], false, false),
            (&[], false, false),
        ] {
            let fields = upgrade(lines);
            assert_eq!(is_named(&fields), named, "{lines:?}");
            assert_eq!(is_named_alone(&fields), alone, "{lines:?}");
        }
    }
}
