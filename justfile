# What must hold before a commit.
check:
    bash .ci/run fmt clippy test doc deny typos build examples

# headwater among real peers (nginx, HAProxy, Envoy, nghttp2, OpenSSL, grpc-go, GoAccess, Chromium) and in a cluster network of namespaces.
lanes:
    bash .ci/run tools build whoami nginx haproxy compare netns h2 h2spec openssl sslyze prometheus schemathesis dns websocket grpc limits soak drain sse page goaccess otlp

# Everything at once for ten minutes, and what it left behind.
soak:
    SOAK_SECONDS=600 bash .ci/run build soak

# Everything that CI runs.
ci:
    bash .ci/run

# What a request costs, beside other proxies: benches/compare/README.md. With --peers all: whoever `just peers` got, and Caddy.
compare *OPTIONS:
    cargo build --release --locked
    benches/compare/compare.py --targets {{OPTIONS}}

# How that grows with routes, ranges, endpoints, connections and workers.
growth *OPTIONS:
    cargo build --release --locked
    benches/compare/growth.py --targets {{OPTIONS}}

# Envoy, pingora and the relay, for the comparison.
peers:
    benches/compare/get-peers.sh

# The time of each part of a request; .ci/run compares instructions and allocations (benches/instructions.py).
bench *OPTIONS:
    cargo bench --bench time -- {{OPTIONS}}

# A release that profiles of the comparison have optimised: target/pgo/headwater.
release-pgo:
    benches/compare/release-pgo.sh

# A target of tests/fuzz, for a minute unless told otherwise.
fuzz TARGET SECONDS="60":
    mkdir -p tests/fuzz/corpus/{{TARGET}}
    cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none {{TARGET}} tests/fuzz/corpus/{{TARGET}} tests/fuzz/seeds/{{TARGET}} -- -max_total_time={{SECONDS}}
