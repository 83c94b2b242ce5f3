//! What a service manager is told, and the listening sockets it hands over; systemd's protocol, without which nothing
//! happens here.

/// Where the process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Ready,
    Reloading,
    Stopping,
}

#[cfg(feature = "systemd")]
pub(super) use systemd::{inherited, tell};

#[cfg(feature = "systemd")]
mod systemd {
    use listenfd::ListenFd;
    use sd_notify::NotifyState;

    use crate::transport::listener::ListeningSocket;

    use super::super::listening::Inherited;
    use super::Stage;

    /// Tells the service manager, if there is one, where the process stands.
    pub(crate) fn tell(stage: Stage) {
        let told = match stage {
            Stage::Ready => sd_notify::notify(&[NotifyState::Ready]),
            // For `Type=notify-reload`, which wants to know that it isn't an old message.
            Stage::Reloading => NotifyState::monotonic_usec_now()
                .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
            Stage::Stopping => sd_notify::notify(&[NotifyState::Stopping]),
        };
        if let Err(error) = told {
            tracing::warn!(%error, ?stage, "the service manager can't be told");
        }
    }

    /// The listening sockets the process was started with. To be called once, while there is one thread.
    pub(crate) fn inherited() -> Vec<Inherited> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut descriptors = ListenFd::from_env();
        let mut inherited = Vec::new();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default();
            // What isn't a TCP socket is left where it is.
            let socket = match descriptors.take_tcp_listener(index) {
                Ok(socket) => Ok(socket.map(ListeningSocket::Tcp)),
                Err(_) => descriptors
                    .take_unix_listener(index)
                    .map(|socket| socket.map(ListeningSocket::Unix)),
            };
            match socket {
                Ok(Some(socket)) => inherited.push(Inherited { name, socket }),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(name, %error, "an inherited descriptor can't be used");
                }
            }
        }
        inherited
    }
}

#[cfg(not(feature = "systemd"))]
pub(super) fn tell(_: Stage) {}

#[cfg(not(feature = "systemd"))]
pub(super) fn inherited() -> Vec<super::listening::Inherited> {
    Vec::new()
}
