//! Durations and sizes: how they are written, and back.

use std::fmt;
use std::time::Duration;

/// Why a duration or a size can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    #[error("a number without a unit")]
    NoUnit,
    #[error("an unknown unit")]
    UnknownUnit,
    #[error("too large")]
    TooLarge,
    #[error("not a number with a unit")]
    NotANumber,
}

const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads `30s`, `1m 30s`, `500ms`: whole numbers with a unit of `d h m s ms`, the largest first, none twice.
pub(super) fn duration(text: &str) -> Result<Duration, ParseError> {
    let mut total = 0_u64;
    let mut smallest = u64::MAX;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(ParseError::NotANumber);
    }
    while !rest.is_empty() {
        let (number, after) = leading_number(rest)?;
        let end = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end).unwrap_or((after, ""));
        let millis = unit_of(unit, &DURATION_UNITS)?;
        if millis >= smallest {
            return Err(ParseError::NotANumber);
        }
        smallest = millis;
        total = number
            .checked_mul(millis)
            .and_then(|part| total.checked_add(part))
            .ok_or(ParseError::TooLarge)?;
        rest = after.trim_start();
    }
    Ok(Duration::from_millis(total))
}

/// Reads `32KiB`, `10 MiB`, `512B`. A plain number is bytes, and comes here as a number.
pub(super) fn size(text: &str) -> Result<u64, ParseError> {
    let (number, unit) = leading_number(text.trim())?;
    if unit.is_empty() {
        return Ok(number);
    }
    number
        .checked_mul(unit_of(unit, &SIZE_UNITS)?)
        .ok_or(ParseError::TooLarge)
}

fn leading_number(text: &str) -> Result<(u64, &str), ParseError> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    if digits.is_empty() {
        return Err(ParseError::NotANumber);
    }
    let number = digits.parse().map_err(|_| ParseError::TooLarge)?;
    Ok((number, rest.trim_start()))
}

fn unit_of(unit: &str, units: &[(&str, u64)]) -> Result<u64, ParseError> {
    if unit.is_empty() {
        return Err(ParseError::NoUnit);
    }
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or(ParseError::UnknownUnit)
}

/// Prints a duration as [`duration`] reads it; what is below a millisecond is left out.
pub(super) struct ShowDuration(pub(super) Duration);

impl fmt::Display for ShowDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return formatter.write_str("0s");
        }
        let mut space = "";
        for (unit, millis) in DURATION_UNITS {
            let number = rest / millis;
            rest %= millis;
            if number > 0 {
                write!(formatter, "{space}{number}{unit}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

/// Prints a size as [`size`] reads it, in the largest unit that divides it.
pub(super) struct ShowSize(pub(super) u64);

impl fmt::Display for ShowSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = SIZE_UNITS
            .iter()
            .find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        let (name, factor) = unit.copied().unwrap_or(("B", 1));
        write!(formatter, "{}{name}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_with_units() {
        for (text, millis) in [
            ("30s", 30_000),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1d 1h 1m 1s 1ms", 90_061_001),
            (" 2 h ", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn refuses_durations_that_are_unclear() {
        for (text, error) in [
            ("30", ParseError::NoUnit),
            ("1m 30", ParseError::NoUnit),
            ("30 sec", ParseError::UnknownUnit),
            ("30S", ParseError::UnknownUnit),
            ("", ParseError::NotANumber),
            ("s", ParseError::NotANumber),
            ("-1s", ParseError::NotANumber),
            ("1.5s", ParseError::NoUnit),
            ("30s 1m", ParseError::NotANumber),
            ("1s 1s", ParseError::NotANumber),
            ("99999999999999999999s", ParseError::TooLarge),
            ("999999999999999999d", ParseError::TooLarge),
        ] {
            assert_eq!(duration(text), Err(error), "{text}");
        }
    }

    #[test]
    fn reads_sizes_with_binary_units_or_none() {
        for (text, bytes) in [
            ("32KiB", 32_768),
            ("10 MiB", 10_485_760),
            ("1GiB", 1 << 30),
            ("512B", 512),
            ("512", 512),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_sizes_in_other_units() {
        for (text, error) in [
            ("32KB", ParseError::UnknownUnit),
            ("32k", ParseError::UnknownUnit),
            ("KiB", ParseError::NotANumber),
            ("-1B", ParseError::NotANumber),
            ("99999999999GiB", ParseError::TooLarge),
        ] {
            assert_eq!(size(text), Err(error), "{text}");
        }
    }

    #[test]
    fn prints_what_it_reads() {
        for text in ["0s", "30s", "1m 30s", "1d 1h 1m 1s 1ms", "250ms"] {
            assert_eq!(ShowDuration(duration(text).unwrap()).to_string(), text);
        }
        for text in ["0B", "1B", "1025B", "32KiB", "10MiB", "1GiB"] {
            assert_eq!(ShowSize(size(text).unwrap()).to_string(), text);
        }
    }
}
