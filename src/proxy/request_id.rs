//! What a request goes by: in logs and errors, and in a field that endpoints and clients get where that is configured.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use http::{HeaderName, HeaderValue};

use crate::client_ip::Resolution;
use crate::config::{self, Config};
use crate::fields::Fields;
use crate::telemetry::recent;

/// What a trusted peer may call a request at most.
const MAX_BYTES: usize = 128;

/// The field of an error's id, where no other is configured.
static USUAL: HeaderName = HeaderName::from_static("x-request-id");

/// Numbers requests so that no two of this process, nor of the one before it, share a number.
#[derive(Debug)]
pub(super) struct RequestIds {
    boot: u32,
    worker: usize,
    next: Cell<u64>,
}

/// Written `BOOT-WORKER-NUMBER`, unless a trusted peer has a name for the request.
#[derive(Debug)]
pub(super) struct Id {
    boot: u32,
    worker: usize,
    number: u64,
    /// As a field has it; only when somebody gets it in one.
    value: Option<HeaderValue>,
}

impl RequestIds {
    pub(super) fn new(worker: usize) -> Self {
        // The standard library's random keys: no need for another source of randomness.
        let random = RandomState::new().hash_one(worker);
        Self {
            boot: (random >> 32) as u32,
            worker,
            next: Cell::new(1),
        }
    }

    pub(super) fn next(&self, config: &Config) -> Id {
        let number = self.next.get();
        self.next.set(number + 1);
        let mut id = Id {
            boot: self.boot,
            worker: self.worker,
            number,
            value: None,
        };
        if config.request_id.is_some() {
            id.value = HeaderValue::try_from(id.to_string()).ok();
        }
        id
    }
}

impl Id {
    /// Takes over what the request was called by a peer that may speak for others. Says whether it did.
    pub(super) fn adopt(
        &mut self,
        config: Option<&config::RequestId>,
        resolution: &Resolution<'_>,
        fields: &Fields,
    ) -> bool {
        let Some(config) = config.filter(|config| config.trust_incoming) else {
            return false;
        };
        if !resolution.peer_is_trusted() {
            return false;
        }
        let name = fields.only(&config.header).filter(|name| is_id(name));
        let Some(Ok(value)) = name.map(HeaderValue::from_bytes) else {
            return false;
        };
        self.value = Some(value);
        true
    }

    /// The field that endpoints and clients get.
    pub(super) fn field<'a>(
        &'a self,
        config: &'a Config,
    ) -> Option<(&'a HeaderName, &'a HeaderValue)> {
        let name = &config.request_id.as_ref()?.header;
        Some((name, self.value.as_ref()?))
    }
}

impl From<&Id> for recent::Id {
    fn from(id: &Id) -> Self {
        match &id.value {
            Some(value) => Self::Given(value.clone()),
            None => Self::Own {
                boot: id.boot,
                worker: id.worker,
                number: id.number,
            },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value.as_ref().and_then(|value| value.to_str().ok()) {
            Some(adopted) => f.write_str(adopted),
            None => write!(f, "{:08x}-{}-{}", self.boot, self.worker, self.number),
        }
    }
}

/// The field in which a client is told the id of its request when that has failed.
pub(super) fn name_in_errors(config: &Config) -> &HeaderName {
    config.request_id.as_ref().map_or(&USUAL, |id| &id.header)
}

/// Short visible ASCII, whoever it comes from: it goes into logs and error pages.
fn is_id(value: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_visible() {
        for (text, wanted) in [
            ("0af7651916cd43dd8448eb211c80319c", true),
            ("a", true),
            ("", false),
            ("a b", false),
            ("a\tb", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_id(text.as_bytes()), wanted, "{text:?}");
        }
        let of = |len: usize| is_id("a".repeat(len).as_bytes());
        assert!(of(MAX_BYTES) && !of(MAX_BYTES + 1));
    }
}
