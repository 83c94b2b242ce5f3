//! How many file descriptors the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process needs for itself: event loops, listening sockets, files it reads again.
const OWN: u64 = 32;

/// Raises the soft limit to the hard one, and returns how many descriptors client connections may take of that: nine
/// tenths of what the process doesn't need itself.
///
/// The soft limit is low (1 024 as a rule) for the sake of programs that use `select`; this one doesn't.
pub(super) fn for_clients() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit on file descriptors stays");
            current
        }
    };
    limit.map_or(usize::MAX, share_of_clients)
}

fn share_of_clients(limit: u64) -> usize {
    let share = limit.saturating_sub(OWN).saturating_mul(9) / 10;
    usize::try_from(share.max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_nine_tenths_of_what_is_not_needed_here() {
        assert_eq!(share_of_clients(1032), 900);
        assert_eq!(share_of_clients(1 << 20), 943_689);
    }

    #[test]
    fn there_is_a_client_under_any_limit() {
        assert_eq!(share_of_clients(16), 1);
    }
}
