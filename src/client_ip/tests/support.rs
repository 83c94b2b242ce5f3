//! What these tests share: short ways to write peers, fields and policies down.

use crate::client_ip::{
    Addr, Depth, EmitPolicy, FieldSink, ForwardingField, LocalEnd, Peer, PeerSet, ProxySource,
    Resolution, Scheme, SocketPeer, TrustPolicy, TrustRule, emit,
};
use crate::fields::Fields;
use crate::fields::tests::received;

pub(in crate::client_ip) fn addr(text: &str) -> Addr {
    Addr::new(text.parse().expect(text)).expect(text)
}

/// A peer by its address, or `unix`.
pub(in crate::client_ip) fn peer(text: &str) -> Peer {
    let socket = match text {
        "unix" => SocketPeer::Unix,
        ip => SocketPeer::Ip(
            Addr::from_socket((ip.parse::<std::net::IpAddr>().expect(ip), 40000).into()),
            40000,
        ),
    };
    Peer {
        socket,
        proxied: None,
    }
}

/// The same behind a balancer that sent a PROXY header.
pub(in crate::client_ip) fn proxied(balancer: &str, source: &str) -> Peer {
    let proxied = Some(ProxySource {
        addr: addr(source),
        port: 40001,
        version: 2,
    });
    Peer {
        proxied,
        ..peer(balancer)
    }
}

pub(in crate::client_ip) fn fields<'f>(
    fields: impl IntoIterator<Item = (&'f str, &'f [u8])>,
) -> Fields {
    received(fields)
}

/// Lines of one field.
pub(in crate::client_ip) fn lines<'f>(
    name: &str,
    values: impl IntoIterator<Item = &'f str>,
) -> Fields {
    fields(values.into_iter().map(|value| (name, value.as_bytes())))
}

pub(in crate::client_ip) fn rule(from: &[&str], field: &str) -> TrustRule {
    TrustRule {
        from: PeerSet::parse(from).expect("a from list"),
        field: ForwardingField::parse(field).expect("a field"),
    }
}

pub(in crate::client_ip) fn trusting(from: &[&str], field: &str) -> TrustPolicy {
    TrustPolicy::by_rules(vec![rule(from, field)], Depth::Full)
}

/// Collects what is written.
#[derive(Default)]
pub(in crate::client_ip) struct Sent(pub(in crate::client_ip) Vec<(&'static str, String)>);

impl Sent {
    pub(in crate::client_ip) fn value(&self, name: &str) -> Option<&str> {
        let mut values = self
            .0
            .iter()
            .filter(|(field, _)| *field == name)
            .map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is written once");
        value
    }
}

impl FieldSink for Sent {
    fn field(&mut self, name: &'static str, value: &[u8]) {
        assert!(!value.is_empty(), "{name} is written without a value");
        assert!(
            !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
            "{name} holds a line end"
        );
        self.0
            .push((name, value.iter().map(|byte| char::from(*byte)).collect()));
    }
}

/// Our end of a connection in the clear to port 8080.
pub(in crate::client_ip) fn local() -> LocalEnd {
    LocalEnd {
        scheme: Scheme::Http,
        port: Some(8080),
        address: Some(([127, 0, 0, 1], 8080).into()),
    }
}

pub(in crate::client_ip) fn sent(
    resolution: &Resolution<'_>,
    fields: &Fields,
    policy: &EmitPolicy,
) -> Sent {
    let mut sent = Sent::default();
    emit(
        resolution,
        fields,
        Some(b"app.example.test"),
        &local(),
        policy,
        &mut sent,
    );
    sent
}
