//! The time of each part: `cargo bench --bench time`.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that can't be made ready has failed"
)]

mod parts;

use criterion::Criterion;
use parts::Part;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, make) in ALL {
        criterion.bench_function(name, |bencher| {
            let mut part = make();
            bencher.iter(&mut part);
        });
    }
    criterion.final_summary();
}

type Named = (&'static str, fn() -> Part);

/// A part that is left out here, or in `instructions.rs`, is dead code there.
const ALL: [Named; 17] = [
    ("resolve_direct", parts::resolve_direct),
    ("resolve_one_hop", parts::resolve_one_hop),
    ("resolve_three_hops", parts::resolve_three_hops),
    ("resolve_forwarded", parts::resolve_forwarded),
    ("count_peer", parts::count_peer),
    ("emit_direct", parts::emit_direct),
    ("emit_two_hops", parts::emit_two_hops),
    ("ip_set_10", parts::ip_set_10),
    ("ip_set_1_000", parts::ip_set_1_000),
    ("ip_set_100_000", parts::ip_set_100_000),
    ("router_10", parts::router_10),
    ("router_10_000", parts::router_10_000),
    ("request_head", parts::request_head),
    ("response_head", parts::response_head),
    ("client_head", parts::client_head),
    ("client_chunks", parts::client_chunks),
    ("client_answer", parts::client_answer),
];
