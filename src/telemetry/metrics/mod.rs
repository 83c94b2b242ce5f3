//! Metrics: counted where things happen, summed up when somebody asks.
//!
//! Labels come from the configuration or from fixed lists, never from a request: no client can make their number grow.

mod counter;
mod ledger;
mod plain;
mod process;
mod status;
pub mod write;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::{access_log, panics};

pub use counter::Counter;
pub use ledger::{Counts, Ledger, Measured, Names, OfListener, OfUpstream, ProxyHeaderError};

use write::{Labels, counter, counters, gauges, value};

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

/// How metrics are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The older text form of Prometheus, which every scraper and tool reads.
    Plain,
}

impl Format {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Of what workers count in `ledger`, of this process, and of what `others` know.
    pub fn new(ledger: Arc<Ledger>, others: impl Collector) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Workers(ledger)));
        registry.register_collector(Box::new(others));
        registry.register_collector(Box::new(Own));
        registry.register_collector(Box::new(process::Process));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("headwater_build", "What runs", build);
        Self { registry }
    }

    /// All of them, as they are now.
    pub fn text(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = text::encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Plain => plain::of(&text),
        }
    }
}

/// What other parts of the process count for themselves.
#[derive(Debug)]
struct Own;

impl Collector for Own {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (named, number) in [
            (
                ("headwater_panics", "Panics, each a defect"),
                panics::count(),
            ),
            (
                (
                    "headwater_access_log_dropped",
                    "Records that the output of the access log couldn't take in time",
                ),
                access_log::dropped(),
            ),
        ] {
            counter(&mut encoder, named, number)?;
        }
        Ok(())
    }
}

/// What the workers count.
#[derive(Debug)]
struct Workers(Arc<Ledger>);

impl Collector for Workers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let ledger = &self.0;
        let encoder = &mut encoder;
        encode_requests(ledger, encoder)?;
        let rows = ledger.connections();
        let named = (
            "headwater_connections",
            "Connections of clients that are open",
        );
        gauges(
            encoder,
            named,
            rows.iter()
                .map(|(name, number)| ([("listener", value(name))], *number)),
        )?;
        let rows = ledger.sources();
        let named = (
            "headwater_client_ip_source",
            "Requests, by where the client's address was found",
        );
        counters(
            encoder,
            named,
            rows.iter()
                .map(|(name, number)| ([("source", value(name))], *number)),
        )?;
        let rows = ledger.forged();
        let named = (
            "headwater_forged_headers",
            "Forwarding fields that strangers sent in vain",
        );
        counters(
            encoder,
            named,
            rows.iter()
                .map(|(name, number)| ([("listener", value(name))], *number)),
        )?;
        let rows = ledger.proxy_header_errors();
        let named = (
            "headwater_proxy_protocol_errors",
            "Connections closed for want of a PROXY header to believe",
        );
        counters(
            encoder,
            named,
            rows.iter().map(|row| pair(["listener", "reason"], row)),
        )?;
        let rows = ledger.sent();
        let named = (
            "headwater_upstream_requests",
            "Requests sent to endpoints, retries included",
        );
        counters(
            encoder,
            named,
            rows.iter().map(|row| pair(["upstream", "endpoint"], row)),
        )?;
        let rows = ledger.retries();
        let named = (
            "headwater_upstream_retries",
            "Tries after the first, those included that found no connection",
        );
        counters(
            encoder,
            named,
            rows.iter()
                .map(|(name, number)| ([("upstream", value(name))], *number)),
        )
    }
}

fn pair<'a>(
    names: [&'static str; 2],
    ((first, second), number): &'a ((String, String), u64),
) -> (Labels<'a, 2>, u64) {
    let [one, other] = names;
    ([(one, value(first)), (other, value(second))], *number)
}

/// By route where one was found: `route=""` are requests that were refused before, `listener=""` those of connections whose
/// listener has been removed.
fn encode_requests(ledger: &Ledger, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let all = ledger.requests();
    let rows = all.iter().flat_map(|((listener, route), totals)| {
        totals.statuses.iter().map(move |(status, number)| {
            let labels = [
                ("listener", value(listener)),
                ("route", value(route)),
                ("status", (*status).into()),
            ];
            (labels, *number)
        })
    });
    let help = "Requests by listener, route and status; 499: the client left before its answer";
    counters(encoder, ("headwater_requests", help), rows)?;
    let name = "headwater_request_duration_seconds";
    let help =
        "From a request's head to the last byte of its response, or to the beginning of a tunnel";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for ((listener, route), totals) in &all {
        let count = totals.durations.iter().map(|(_, number)| number).sum();
        let labels = [("listener", value(listener)), ("route", value(route))];
        family
            .encode_family(&labels)?
            .encode_histogram::<[(&str, &str); 0]>(
                totals.seconds,
                count,
                &totals.durations,
                None,
            )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing beside.
    #[derive(Debug)]
    struct Nothing;

    impl Collector for Nothing {
        fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
            Ok(())
        }
    }

    #[test]
    fn both_forms_hold_the_same_values() {
        let ledger = Arc::new(Ledger::default());
        ledger.listener("http", 1).forged.add(3);
        let metrics = Metrics::new(ledger, Nothing);
        let open = metrics.text(Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n"), "{open}");
        let row = "headwater_forged_headers_total{listener=\"http\"} 3\n";
        assert!(
            open.contains("# TYPE headwater_forged_headers counter\n"),
            "{open}"
        );
        assert!(open.contains(row), "{open}");
        let plain = metrics.text(Format::Plain);
        assert!(!plain.contains("EOF"), "{plain}");
        assert!(
            plain.contains(&format!(
                "# TYPE headwater_forged_headers_total counter\n{row}"
            )),
            "{plain}"
        );
    }
}
