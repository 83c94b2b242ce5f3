//! The token that clients of the admin interface show.

use std::fmt;
use std::io;
use std::path::Path;

use aws_lc_rs::constant_time;

/// More is some other file.
const MAX_BYTES: u64 = 4096;

/// Fewer can be guessed.
const MIN_BYTES: usize = 16;

/// A secret word. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Why a file gives no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It holds something else.
    #[error("not one word of {MIN_BYTES} to {MAX_BYTES} letters, digits and `-._~+/=`")]
    Unfit,
}

impl Token {
    /// Reads it from a file; white space around it doesn't count.
    ///
    /// # Errors
    /// [`Error`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        if std::fs::metadata(path)?.len() > MAX_BYTES {
            return Err(Error::Unfit);
        }
        let bytes = std::fs::read(path)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::Unfit)?;
        Self::parse(text.trim()).ok_or(Error::Unfit)
    }

    /// RFC 6750 §2.1: `b64token`.
    fn parse(word: &str) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        let is_word = word.len() >= MIN_BYTES && word.bytes().all(fits);
        is_word.then(|| Self(word.to_owned()))
    }

    /// Whether that is it. How long that takes says nothing about the token but its length.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), shown).is_ok()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_of_some_length() {
        for (text, fits) in [
            ("0123456789abcdef", true),
            ("YWJjZGVmZ2hpamtsbW5vcA==", true),
            ("0123456789abcde", false),
            ("", false),
            ("0123456789 abcdef", false),
            ("0123456789abcd\u{e9}f", false),
        ] {
            assert_eq!(Token::parse(text).is_some(), fits, "{text}");
        }
    }

    #[test]
    fn nothing_but_the_token_itself_is_it() {
        let token = Token::parse("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in [
            "0123456789abcdeF",
            "0123456789abcde",
            "0123456789abcdef0",
            "",
        ] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn files_that_hold_no_token_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(matches!(Token::load(&path), Err(Error::Io(_))));
        for (text, fits) in [
            ("\n 0123456789abcdef\n".to_owned(), true),
            ("secret\n".to_owned(), false),
            ("a".repeat(5000), false),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(Token::load(&path).is_ok(), fits, "{text}");
        }
    }
}
