//! What is where.

use std::sync::Arc;

use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};

use crate::telemetry::metrics::Format;

use super::answer::{Body, Refusal, line_of, of};
use super::changes::Change;
use super::page::File;
use super::query::{Query, decoded};
use super::requests::{form, json_of, page_of};
use super::{Readiness, Settings, Shared, events};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The process is there.
    Health,
    /// Traffic is welcome.
    Ready,
    Metrics,
    /// A file of the live page.
    Page(&'static File),
    /// Who the client of a request would be.
    Explain,
    /// Part of the API.
    Api(Api),
}

/// What is under `/api/v1/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Api {
    Requests,
    /// Of this id.
    ExplainRequest(String),
    Events,
    Listeners,
    Upstreams,
    Routes,
    Certificates,
    Origins,
    Suspicions,
    Config,
    Status,
    Reload,
    /// Of an upstream, by its address.
    Endpoint(String, String, Change),
}

impl Api {
    fn find(path: &str) -> Option<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        match *segments {
            ["requests"] => Some(Self::Requests),
            ["requests", id, "explain"] => decoded(id).map(Self::ExplainRequest),
            ["events"] => Some(Self::Events),
            ["listeners"] => Some(Self::Listeners),
            ["upstreams"] => Some(Self::Upstreams),
            ["routes"] => Some(Self::Routes),
            ["certificates"] => Some(Self::Certificates),
            ["origins"] => Some(Self::Origins),
            ["suspicions"] => Some(Self::Suspicions),
            ["config"] => Some(Self::Config),
            ["status"] => Some(Self::Status),
            ["reload"] => Some(Self::Reload),
            ["upstreams", name, "endpoints", address, change] => {
                let change = match change {
                    "drain" => Change::Drain,
                    "resume" => Change::Resume,
                    _ => return None,
                };
                Some(Self::Endpoint(decoded(name)?, decoded(address)?, change))
            }
            _ => None,
        }
    }
}

impl Target {
    pub(super) fn find(path: &str, settings: &Settings) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            "/explain" => Some(Self::Explain),
            path if path == settings.metrics_path => Some(Self::Metrics),
            path => match path.strip_prefix("/api/v1/") {
                Some(path) => Api::find(path).map(Self::Api),
                None if settings.ui => File::find(path).map(Self::Page),
                None => None,
            },
        }
    }

    /// Whether anybody may ask, under any name.
    pub(super) fn is_probe(&self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// Whether it is the same for everybody, so that no token is needed.
    pub(super) fn is_page(&self) -> bool {
        matches!(self, Self::Page(_))
    }

    pub(super) fn check_method(&self, method: &Method) -> Result<(), Refusal> {
        let allowed = match self {
            // There is no head of what doesn't end.
            Self::Api(Api::Events) => "GET",
            Self::Api(Api::Reload | Api::Endpoint(..)) => "POST",
            _ => READ,
        };
        if allowed
            .split(", ")
            .any(|allowed| allowed == method.as_str())
        {
            Ok(())
        } else {
            Err(Refusal::Method(allowed))
        }
    }
}

const READ: &str = "GET, HEAD";

impl Shared {
    pub(super) async fn serve(
        self: &Arc<Self>,
        target: &Target,
        parts: &Parts,
    ) -> Result<Response<Body>, Refusal> {
        let query = || Query::parse(parts.uri.query().unwrap_or_default());
        Ok(match target {
            Target::Health => line_of(StatusCode::OK, "ok"),
            Target::Ready => match self.readiness() {
                Readiness::Starting => line_of(StatusCode::SERVICE_UNAVAILABLE, "starting"),
                Readiness::Ready => line_of(StatusCode::OK, "ready"),
                Readiness::Draining => line_of(StatusCode::SERVICE_UNAVAILABLE, "draining"),
            },
            Target::Metrics => {
                let format = format_for(&parts.headers);
                of(format.content_type(), self.metrics.text(format))
            }
            Target::Page(file) => of(file.content_type, file.text),
            Target::Explain => {
                let query = query()?;
                query.knows(&["peer", "header", "proxy_protocol", "listener", "format"])?;
                page_of(&self.explain_query(&query)?, form(&query)?)
            }
            Target::Api(api) => self.serve_api(api, &query()?).await?,
        })
    }

    async fn serve_api(
        self: &Arc<Self>,
        api: &Api,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        query.knows(match api {
            Api::Requests => &["last", "explain"],
            Api::ExplainRequest(_) => &["format"],
            _ => &[],
        })?;
        match api {
            Api::Requests => self
                .last_requests(query)
                .await
                .map(|requests| json_of(&requests)),
            Api::ExplainRequest(id) => {
                let form = form(query)?;
                self.explain_request(id)
                    .await
                    .map(|why| page_of(&why, form))
            }
            Api::Events => events::subscribe(self),
            Api::Listeners => Ok(json_of(&self.listeners())),
            Api::Upstreams => Ok(json_of(&self.upstreams())),
            Api::Routes => Ok(json_of(&self.routes())),
            Api::Certificates => Ok(json_of(&self.certificates())),
            Api::Origins => Ok(json_of(&self.origins().await)),
            Api::Suspicions => Ok(json_of(&self.suspicions())),
            Api::Config => Ok(json_of(&self.figures.config())),
            Api::Status => Ok(json_of(&self.status())),
            Api::Reload => self.reload().await,
            Api::Endpoint(upstream, address, change) => self
                .change_endpoint(upstream, address, *change)
                .map(|changed| json_of(&changed)),
        }
    }
}

/// What a scraper understands: the plain form, unless it asks for the other.
fn format_for(headers: &HeaderMap) -> Format {
    let mut accepted = headers
        .get_all(ACCEPT)
        .iter()
        .flat_map(|value| value.to_str());
    if accepted.any(|value| value.contains("application/openmetrics-text")) {
        Format::OpenMetrics
    } else {
        Format::Plain
    }
}
