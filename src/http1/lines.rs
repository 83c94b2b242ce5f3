//! Finds the lines of a head, from however many reads it comes in.

use std::ops::Range;

use memchr::memchr_iter;

/// Few heads have more.
const USUAL_LINES: usize = 16;

/// Where the lines of the head at hand end.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Behind each LF. Kept for its room.
    ends: Vec<usize>,
    /// Bytes that were looked at, and hold no other line end.
    scanned: usize,
}

impl Lines {
    /// Whether nothing of the head at hand has been looked at.
    pub(super) fn is_untouched(&self) -> bool {
        self.scanned == 0
    }

    /// The length of the head that `window` begins with, up to the empty line and with it.
    ///
    /// # Errors
    /// The empty line is still to come: what wasn't there when this was asked before.
    pub(super) fn find_end<'a>(&mut self, window: &'a [u8]) -> Result<usize, &'a [u8]> {
        if self.is_untouched() {
            self.ends.clear();
            self.ends.reserve(USUAL_LINES);
        }
        let new = window.get(self.scanned..).unwrap_or_default();
        let mut begin = self.ends.last().copied().unwrap_or_default();
        for lf in memchr_iter(b'\n', new) {
            let lf = self.scanned + lf;
            let end = lf + 1;
            self.ends.push(end);
            if lf == begin || (lf == begin + 1 && window.get(begin) == Some(&b'\r')) {
                self.scanned = 0;
                return Ok(end);
            }
            begin = end;
        }
        self.scanned = window.len();
        Err(new)
    }

    /// The first line of `head`, once its end was found.
    pub(super) fn first<'a>(&self, head: &'a [u8]) -> Option<&'a [u8]> {
        head.get(..*self.ends.first()?).map(without_end)
    }

    /// Where the field lines of a whole head are: all but its first line and the empty one.
    pub(super) fn fields(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let fields = self.ends.len().saturating_sub(2);
        let begins = self.ends.iter().take(fields);
        let ends = self.ends.iter().skip(1);
        begins.zip(ends).map(|(begin, end)| *begin..*end)
    }
}

/// A line without its CRLF, or its bare LF (RFC 9112 §2.2).
pub(super) fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}
