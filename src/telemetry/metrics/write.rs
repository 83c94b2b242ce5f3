//! Families of metrics, from rows of labels and numbers.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

/// Labels of a metric: names and values.
pub type Labels<'a, const N: usize> = [(&'static str, Cow<'a, str>); N];

/// A label's value, with what would end it escaped.
pub fn value(text: &str) -> Cow<'_, str> {
    if text.contains(['\\', '"', '\n']) {
        Cow::Owned(
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n"),
        )
    } else {
        Cow::Borrowed(text)
    }
}

/// Writes one family of counters.
///
/// # Errors
/// Those of the writer behind `encoder`.
pub fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    rows: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, number) in rows {
        family
            .encode_family(&labels)?
            .encode_counter::<[(&str, &str); 0], _, u64>(&number, None)?;
    }
    Ok(())
}

/// Writes a counter without labels.
///
/// # Errors
/// Those of the writer behind `encoder`.
pub fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    number: u64,
) -> fmt::Result {
    let counter = ConstCounter::new(number);
    counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)
}

/// Writes one family of gauges.
///
/// # Errors
/// Those of the writer behind `encoder`.
pub fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    rows: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, number) in rows {
        family.encode_family(&labels)?.encode_gauge(&number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_value_ends_it() {
        assert_eq!(value("unix:/run/a.sock"), "unix:/run/a.sock");
        assert_eq!(value("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
