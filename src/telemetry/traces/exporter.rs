//! Spans of requests, in batches to a collector by a thread of their own.

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::Trace;
use super::collector::HttpCollector;
use crate::client_ip::SocketPeer;
use crate::config::{RedactIp, Tracing};
use crate::telemetry::access_log::{Facts, Field, redact};

/// Spans that wait to be sent; more than these are dropped.
const MAX_QUEUED: usize = 4096;

/// In one message.
const MAX_BATCH: usize = 512;

/// A span waits so long for others.
const DELAY: Duration = Duration::from_secs(1);

/// For a message and its answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans. Ends with its last owner, or when it is told to.
#[derive(Debug)]
pub struct Exporter {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Exporter {
    pub(super) fn start(config: &Tracing) -> io::Result<Self> {
        let collector = &config.collector;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(HttpCollector::new(collector, TIMEOUT))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(collector.to_string())
            .with_timeout(TIMEOUT)
            .build()
            .map_err(io::Error::other)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MAX_QUEUED)
            .with_max_export_batch_size(MAX_BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder_empty().with_service_name(config.service_name.clone());
        processor.set_resource(&resource.build());
        Ok(Self {
            processor,
            scope: InstrumentationScope::builder("headwater")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        })
    }

    /// Sends what is left, though for no longer than `limit`. Waits.
    pub fn end(&self, limit: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "not all spans could be sent");
        }
    }

    /// Takes the span of a request that has ended, or drops it; never waits.
    pub(in crate::telemetry) fn take(&self, trace: &Trace, facts: &Facts, redact_ip: RedactIp) {
        let context = SpanContext::new(
            TraceId::from(trace.id),
            SpanId::from(trace.span),
            TraceFlags::SAMPLED,
            false,
            TraceState::NONE,
        );
        let now = SystemTime::now();
        self.processor.on_end(SpanData {
            span_context: context,
            parent_span_id: trace.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: !trace.is_root(),
            span_kind: SpanKind::Server,
            name: name(facts),
            start_time: now.checked_sub(facts.duration).unwrap_or(now),
            end_time: now,
            attributes: attributes(facts, redact_ip),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: status(facts),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// The method and the route: names of a fixed number.
fn name(facts: &Facts) -> Cow<'static, str> {
    let method = text(facts, Field::Method);
    let method = method.as_deref().unwrap_or("HTTP");
    match text(facts, Field::Route) {
        Some(route) => format!("{method} {route}").into(),
        None => method.to_owned().into(),
    }
}

/// What is ours, or an endpoint's, to answer for.
fn status(facts: &Facts) -> Status {
    let is_server_error = facts.status.is_some_and(|status| status.is_server_error());
    match facts.error {
        Some(error) if is_server_error || facts.status.is_none() => Status::error(error),
        _ if is_server_error => Status::error(""),
        _ => Status::Unset,
    }
}

/// Under the names of OpenTelemetry's conventions where there are any.
fn attributes(facts: &Facts, redact_ip: RedactIp) -> Vec<KeyValue> {
    let mut attributes = Vec::with_capacity(20);
    for (name, field) in [
        ("http.request.method", Field::Method),
        ("url.path", Field::Path),
        ("url.query", Field::Query),
        ("user_agent.original", Field::UserAgent),
        ("headwater.request_id", Field::RequestId),
        ("headwater.listener", Field::Listener),
        ("headwater.route", Field::Route),
        ("headwater.upstream", Field::Upstream),
        ("headwater.endpoint", Field::Endpoint),
        ("headwater.client_ip_source", Field::ClientIpSource),
    ] {
        attributes.extend(text(facts, field).map(|text| KeyValue::new(name, text)));
    }
    let host = text(facts, Field::Host);
    let mut add = |name: &'static str, value: Value| attributes.push(KeyValue::new(name, value));
    if let Some((host, port)) = host.as_deref().map(split_port) {
        add("server.address", host.to_owned().into());
        if let Some(port) = port {
            add("server.port", i64::from(port).into());
        }
    }
    if let Some(client) = facts.client_ip {
        add("client.address", address(client, redact_ip).into());
        add("headwater.client_ip_reason", facts.client_ip_reason.into());
    }
    if let Some(SocketPeer::Ip(addr, port)) = facts.peer {
        add("network.peer.address", address(addr.ip(), redact_ip).into());
        add("network.peer.port", i64::from(port).into());
    }
    if let Some(status) = facts.status {
        let code = i64::from(status.as_u16());
        add("http.response.status_code", code.into());
    }
    if let Some(error) = facts.error {
        add("error.type", error.into());
    }
    if let Some(upstream) = facts.upstream {
        add(
            "headwater.upstream_ms",
            (upstream.as_secs_f64() * 1000.0).into(),
        );
    }
    for (name, bytes) in [
        ("http.request.body.size", facts.bytes_in),
        ("http.response.body.size", facts.bytes_out),
    ] {
        add(name, i64::try_from(bytes).unwrap_or(i64::MAX).into());
    }
    attributes
}

fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

fn text(facts: &Facts, field: Field) -> Option<String> {
    let (text, _) = facts.get(field)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn address(ip: IpAddr, redact_ip: RedactIp) -> String {
    let mut text = Vec::new();
    redact::ip(&mut text, ip, redact_ip);
    String::from_utf8(text).unwrap_or_default()
}
