use super::*;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::transport::wire::tests::on_a_worker;
use crate::upstream::link::{Purpose, Reuse, Wanted};
use crate::upstream::turn::tests::endpoint_at;

const SECOND: Duration = Duration::from_secs(1);

const BOUNDS: Bounds = Bounds {
    head: response::Limits {
        max_bytes: 1024,
        max_fields: 10,
    },
    response_header: SECOND,
    idle: SECOND,
    is_queued: false,
};

const WANTED: Wanted = Wanted {
    purpose: Purpose::Exchange,
    reuse: Reuse::Welcome,
    announced: None,
    max_head_bytes: 1024,
};

struct Nobody;

impl Sender for Nobody {
    fn asks_for_websocket(&self) -> bool {
        false
    }

    fn interim(&self, _head: &response::Head) {}
}

/// How a POST fails on a connection that had served before, and that ends in this way just before.
async fn post_after(end: impl FnOnce(UnixStream)) -> Failed {
    let local = endpoint_at(([127, 0, 0, 1], 0).into());
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let near = tokio::net::UnixStream::from_std(near).unwrap();
    // SETTINGS without a setting.
    far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let (permit, deadline) = (local.reserve().unwrap(), local.clock.register());
    let sessions = &local.sessions;
    let first = sessions.begin(near.into(), permit, WANTED, SECOND, deadline);
    drop(first.await.unwrap());
    let slot = sessions.checkout(WANTED).unwrap();
    // Nothing waits between: the runtime hears of it no earlier than the request is on its way.
    end(far);
    let mut request = Request::post("http://a/").body(()).unwrap();
    *request.version_mut() = http::Version::HTTP_2;
    let outcome = exchange(slot, request, Upload::none(), BOUNDS, &Nobody).await;
    outcome.unwrap_err()
}

#[test]
fn a_connection_that_took_no_byte_of_a_request_did_nothing_with_it() {
    on_a_worker(async {
        let failed = post_after(drop).await;
        assert!(matches!(failed.error, Error::Closed(_)), "{failed:?}");
        assert!(failed.reused && !failed.written, "{failed:?}");
        assert!(failed.upload.is_some());
    });
}

#[test]
fn a_connection_that_took_some_may_have_done_it() {
    on_a_worker(async {
        let mut taken = None;
        let failed = post_after(|far| {
            // Its end waits to be read, and it still takes what it is sent.
            far.shutdown(std::net::Shutdown::Write).unwrap();
            taken = Some(far);
        })
        .await;
        assert!(matches!(failed.error, Error::Closed(_)), "{failed:?}");
        assert!(failed.written, "{failed:?}");
    });
}
