//! Tickets of TLS sessions, whose keys are made when the first of them is sealed.
//!
//! Not before: the cryptography library gathers its first randomness for some 40 ms, which is longer than all the rest
//! of a start takes.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs;
use rustls::server::ProducesTickets;

/// Sealed with keys that rotate every six hours, so that any worker resumes what another began.
#[derive(Debug, Default)]
pub(super) struct Tickets(OnceLock<Option<Arc<dyn ProducesTickets>>>);

impl Tickets {
    /// `None` where the system has no randomness to give: clients then make a full handshake each time.
    fn keys(&self) -> Option<&dyn ProducesTickets> {
        let keys = self.0.get_or_init(|| aws_lc_rs::Ticketer::new().ok());
        keys.as_deref()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.keys().map_or(0, ProducesTickets::lifetime)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.keys()?.decrypt(cipher)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let (tickets, others) = (Tickets::default(), Tickets::default());
        let sealed = tickets.encrypt(b"session").unwrap();
        assert_eq!(tickets.decrypt(&sealed).as_deref(), Some(&b"session"[..]));
        assert_eq!(others.decrypt(&sealed), None);
        assert!(tickets.enabled() && tickets.lifetime() > 0);
    }
}
