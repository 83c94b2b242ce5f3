//! Instructions and allocations of each part, counted by Valgrind. `benches/instructions.py` compares them with the
//! committed ones.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that can't be made ready has failed"
)]
#![allow(missing_docs, reason = "gungraun's macros write public items")]
#![allow(clippy::exit, reason = "gungraun's main ends so")]

mod parts;

use gungraun::Dhat;
use gungraun::prelude::*;
use parts::Part;

#[library_benchmark]
#[bench::resolve_direct(parts::resolve_direct())]
#[bench::resolve_one_hop(parts::resolve_one_hop())]
#[bench::resolve_three_hops(parts::resolve_three_hops())]
#[bench::resolve_forwarded(parts::resolve_forwarded())]
#[bench::count_peer(parts::count_peer())]
#[bench::emit_direct(parts::emit_direct())]
#[bench::emit_two_hops(parts::emit_two_hops())]
#[bench::ip_set_10(parts::ip_set_10())]
#[bench::ip_set_1_000(parts::ip_set_1_000())]
#[bench::ip_set_100_000(parts::ip_set_100_000())]
#[bench::router_10(parts::router_10())]
#[bench::router_10_000(parts::router_10_000())]
#[bench::request_head(parts::request_head())]
#[bench::response_head(parts::response_head())]
#[bench::client_head(parts::client_head())]
#[bench::client_chunks(parts::client_chunks())]
#[bench::client_answer(parts::client_answer())]
fn part(mut part: Part) -> Part {
    part();
    part
}

library_benchmark_group!(name = parts_of_a_request, benchmarks = part);

main!(
    config = LibraryBenchmarkConfig::default().tool(Dhat::default()),
    library_benchmark_groups = parts_of_a_request
);
