//! A second process takes over while the first one drains.

use crate::support::{Load, Origin, Proxy};

#[test]
fn nobody_is_refused_while_one_process_follows_another() {
    let origin = Origin::start();
    let with = |port: u16| {
        format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:{port}\", reuse_port: true }} }}\n\
             runtime: {{ worker_threads: 2 }}\n{}",
            origin.as_only_route()
        )
    };
    let mut running = Proxy::start(&with(0));
    let address = running.address("http");
    let load = Load::on(address);
    for _ in 0..5 {
        load.goes_on(100);
        let next = Proxy::start(&with(address.port()));
        assert_eq!(next.address("http"), address);
        running.signal("TERM");
        assert_eq!(running.ended().code(), Some(0));
        running = next;
    }
    load.goes_on(100);
    load.stop().assert_complete(600);
}

#[test]
fn without_reuse_port_a_second_process_is_refused() {
    let origin = Origin::start();
    let with = |port: u16| {
        format!(
            "listeners: {{ http: {{ address: \"127.0.0.1:{port}\" }} }}\n{}",
            origin.as_only_route()
        )
    };
    let first = Proxy::start(&with(0));
    assert_eq!(Proxy::fails(&with(first.address("http").port())), Some(69));
}
