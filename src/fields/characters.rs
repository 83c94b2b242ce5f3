//! Which bytes may stand where: a look at a table is the quickest way to tell.

const TOKEN: u8 = 1;
const NAME_OF_HOST: u8 = 2;

/// The kinds each byte belongs to.
static KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let mut kind = 0;
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            kind = TOKEN | NAME_OF_HOST;
        } else if matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'^' | b'`' | b'|' | b'~'
        ) {
            kind = TOKEN;
        }
        #[expect(clippy::indexing_slicing, reason = "any byte has a place in it")]
        {
            kinds[byte as usize] = kind;
        }
        byte += 1;
    }
    kinds
};

fn is(byte: u8, kind: u8) -> bool {
    let kinds = KINDS.get(usize::from(byte)).copied().unwrap_or_default();
    kinds & kind != 0
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Whether the registered name of a host may hold it, as far as such names are taken here: not all of RFC 3986 §3.2.2.
pub(crate) fn is_in_name(byte: u8) -> bool {
    is(byte, NAME_OF_HOST)
}

/// Whether a name holds `_`. Looks at eight bytes at a time.
pub(crate) fn has_underscore(name: &[u8]) -> bool {
    let Some(last) = name.last_chunk::<8>() else {
        return name.contains(&b'_');
    };
    let (eights, _) = name.as_chunks();
    // The last eight may begin in those before.
    eights.iter().chain([last]).any(|eight| {
        const ONES: u64 = 0x0101_0101_0101_0101;
        let differences = u64::from_ne_bytes(*eight) ^ u64::from_ne_bytes([b'_'; 8]);
        // A byte of zero is the one that borrows although its high bit isn't set.
        differences.wrapping_sub(ONES) & !differences & (ONES << 7) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_byte_is_what_the_rfcs_say() {
        for byte in 0..=255_u8 {
            let is_of_host = byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            assert_eq!(is_in_name(byte), is_of_host, "{byte}");
            let is_of_token = is_of_host || b"!#$%&'*+^`|~".contains(&byte);
            assert_eq!(is_token(byte), is_of_token, "{byte}");
        }
    }

    proptest! {
        #[test]
        fn an_underscore_is_seen_wherever_it_is(name in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'_'), Just(b'^'), Just(b'`')], 0..30)) {
            prop_assert_eq!(has_underscore(&name), name.contains(&b'_'));
        }
    }
}
