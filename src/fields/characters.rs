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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_what_the_rfcs_say() {
        for byte in 0..=255_u8 {
            let is_of_host = byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            assert_eq!(is_in_name(byte), is_of_host, "{byte}");
            let is_of_token = is_of_host || b"!#$%&'*+^`|~".contains(&byte);
            assert_eq!(is_token(byte), is_of_token, "{byte}");
        }
    }
}
