//! What an operator wants upstreams to be told.

use http::HeaderName;

use super::super::x_forwarded::X_FORWARDED_FOR;
use super::super::{ForwardingField, Resolution, TrustPolicy};
use super::names::{self, NameSet};

/// So many forged names are told apart: to tell apart all that fit a head would take too long.
const FEW_NAMES: usize = 32;

/// Which forwarding fields go upstream, and which are removed.
#[derive(Debug, Clone)]
pub struct EmitPolicy {
    pub(super) x_forwarded_for: XForwardedFor,
    pub(super) forwarded: Forwarded,
    pub(super) sent: Vec<SentField>,
    pub(super) upstream_host: UpstreamHost,
    removed: NameSet,
    /// Managed, and nobody's claim about a client.
    renewed: Option<HeaderName>,
    /// What `X-Original-Forwarded-For` repeats for a peer that no rule names.
    pub(super) original_field: HeaderName,
}

impl EmitPolicy {
    /// Puts an operator's choices together with the trust policies of all listeners: what a rule names as its field must
    /// not come from anybody else.
    pub fn new<'t>(options: EmitOptions, trust: impl IntoIterator<Item = &'t TrustPolicy>) -> Self {
        let fields: Vec<&HeaderName> = trust
            .into_iter()
            .flat_map(TrustPolicy::fields)
            .map(ForwardingField::name)
            .collect();
        let sent = options.sent.iter().map(|field| field.title());
        let ours = options.managed.iter().chain(&options.renewed);
        let ours = ours.map(HeaderName::as_str);
        let strip = options.strip.iter().chain(fields.iter().copied());
        Self {
            removed: NameSet::new(sent.chain(ours), strip.map(HeaderName::as_str)),
            original_field: fields.first().copied().unwrap_or(&X_FORWARDED_FOR).clone(),
            x_forwarded_for: options.x_forwarded_for,
            forwarded: options.forwarded,
            sent: options.sent,
            renewed: options.renewed,
            upstream_host: options.upstream_host,
        }
    }

    /// Whether the client's copy of this field must not reach the upstream, in a request's head or in its trailers.
    ///
    /// Managed names always go, and so does a name that differs from a managed or stripped one only by `_` or `.` in the
    /// place of `-`; stripped names go when the peer is untrusted. Doesn't allocate.
    pub fn removes(&self, name: impl AsRef<[u8]>, from_trusted_peer: bool) -> bool {
        self.removed.removes(name.as_ref(), from_trusted_peer)
    }

    /// The names, as they are spelt, of what an untrusted peer sent in vain, each once as long as there are few; none for a
    /// trusted peer. For logs and `whoami`.
    pub fn forged<'h>(&self, resolution: &Resolution<'h>) -> Vec<&'h [u8]> {
        let is_forged = |name: &[u8]| self.removes(name, false) && !self.renews(name);
        let fields = resolution.fields();
        let mut forged = Vec::new();
        // Hardly any request has one, which is quickly known.
        if resolution.peer_is_trusted() || !fields.iter().any(|(name, _)| is_forged(name)) {
            return forged;
        }
        for (name, _) in fields.iter().filter(|(name, _)| is_forged(name)) {
            let mut few = forged.iter().take(FEW_NAMES);
            if !few.any(|known: &&[u8]| known.eq_ignore_ascii_case(name)) {
                forged.push(name);
            }
        }
        forged
    }

    fn renews(&self, name: &[u8]) -> bool {
        let renewed = self.renewed.as_ref().map(HeaderName::as_str);
        renewed.is_some_and(|renewed| renewed.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Whether the upstream gets this field. [`SentField::XOriginalUri`] is the caller's to write: only it has the target.
    pub fn sends(&self, field: SentField) -> bool {
        self.sent.contains(&field)
    }

    /// Whether an untrusted peer's chain is passed on.
    pub(super) fn keeps_untrusted(&self) -> bool {
        self.x_forwarded_for == XForwardedFor::Append(Prior::Full(UntrustedPrior::Keep))
    }

    pub(super) fn needs_scheme(&self) -> bool {
        use SentField::{XForwardedProto, XForwardedScheme, XScheme};
        let mut carriers = [XForwardedProto, XForwardedScheme, XScheme].into_iter();
        self.forwarded != Forwarded::Off || carriers.any(|field| self.sends(field))
    }

    pub(super) fn needs_host(&self) -> bool {
        self.forwarded != Forwarded::Off || self.sends(SentField::XForwardedHost)
    }
}

impl Default for EmitPolicy {
    fn default() -> Self {
        Self::new(EmitOptions::default(), [])
    }
}

/// An operator's choices about forwarding fields; the default is the safe one.
#[derive(Debug, Clone)]
pub struct EmitOptions {
    /// `X-Forwarded-For`.
    pub x_forwarded_for: XForwardedFor,
    /// `Forwarded`.
    pub forwarded: Forwarded,
    /// The other fields to write.
    pub sent: Vec<SentField>,
    /// Names removed when the peer is untrusted, beside the managed ones and those that trust rules name.
    pub strip: Vec<HeaderName>,
    /// More names that nobody else may use, for fields written elsewhere.
    pub managed: Vec<HeaderName>,
    /// One that everybody may send for purposes of their own: to do so isn't forgery.
    pub renewed: Option<HeaderName>,
    /// What `Host` says upstream.
    pub upstream_host: UpstreamHost,
}

impl Default for EmitOptions {
    fn default() -> Self {
        Self {
            x_forwarded_for: XForwardedFor::Append(Prior::Verified),
            forwarded: Forwarded::Off,
            sent: vec![
                SentField::XRealIp,
                SentField::XForwardedProto,
                SentField::XForwardedHost,
                SentField::XForwardedPort,
            ],
            strip: names::STRIPPED
                .iter()
                .copied()
                .map(HeaderName::from_static)
                .collect(),
            managed: Vec::new(),
            renewed: None,
            upstream_host: UpstreamHost::AsReceived,
        }
    }
}

/// What `X-Forwarded-For` says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XForwardedFor {
    /// Earlier entries and the peer.
    Append(Prior),
    /// The client alone.
    Replace,
    /// What a trusted peer sent, on one line; nothing from others.
    Preserve,
    /// Nothing.
    Off,
}

/// Which earlier entries stand before the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    /// Those that were believed: the leftmost is the client.
    Verified,
    /// All that a trusted peer sent; those in front of the client are an attacker's to choose.
    Full(UntrustedPrior),
}

/// What becomes of an untrusted peer's `X-Forwarded-For`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UntrustedPrior {
    /// It is dropped.
    Drop,
    /// It is passed on, as ingress-nginx does.
    Keep,
}

/// What `Forwarded` (RFC 7239) says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing.
    Off,
    /// The entries that were believed, then our own element.
    Append,
    /// One element, about the client.
    Replace,
}

/// What `Host` says upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client asked for.
    AsReceived,
    /// What a trusted peer's X-Forwarded-Host says, as in the X-Forwarded-Host we send; else what the client asked for.
    Forwarded,
}

/// A field that `forwarded.headers` may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentField {
    /// The client's address.
    XRealIp,
    /// The scheme the client used.
    XForwardedProto,
    /// The authority the client asked for.
    XForwardedHost,
    /// The port the client connected to.
    XForwardedPort,
    /// As `X-Forwarded-Proto`.
    XForwardedScheme,
    /// As `X-Forwarded-Proto`.
    XScheme,
    /// The field that is walked, as received: unverified.
    XOriginalForwardedFor,
    /// `X-Forwarded-Host` as received: unverified.
    XOriginalForwardedHost,
    /// The request's target as received.
    XOriginalUri,
}

impl SentField {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::XRealIp,
        Self::XForwardedProto,
        Self::XForwardedHost,
        Self::XForwardedPort,
        Self::XForwardedScheme,
        Self::XScheme,
        Self::XOriginalForwardedFor,
        Self::XOriginalForwardedHost,
        Self::XOriginalUri,
    ];

    /// The one of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|field| field.title().eq_ignore_ascii_case(name))
    }

    /// Its name in the usual case.
    pub fn title(self) -> &'static str {
        match self {
            Self::XRealIp => "X-Real-IP",
            Self::XForwardedProto => "X-Forwarded-Proto",
            Self::XForwardedHost => "X-Forwarded-Host",
            Self::XForwardedPort => "X-Forwarded-Port",
            Self::XForwardedScheme => "X-Forwarded-Scheme",
            Self::XScheme => "X-Scheme",
            Self::XOriginalForwardedFor => "X-Original-Forwarded-For",
            Self::XOriginalForwardedHost => "X-Original-Forwarded-Host",
            Self::XOriginalUri => "X-Original-URI",
        }
    }
}
