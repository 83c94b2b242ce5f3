#!/usr/bin/env bash
# A release that is optimised for what it does most: built once to count, run under the comparison's workloads, built again
# with the counts. It needs an llvm-profdata that reads what this rustc writes, and what compare.py needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin

rustc_says() { rustc --version --verbose | sed -n "s/^$1: //p"; }
host=$(rustc_says host)
llvm=$(rustc_says 'LLVM version')

# The toolchain's own, else that of the same LLVM; an older one refuses the format.
profdata() {
  local tool
  for tool in "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" "llvm-profdata-${llvm%%.*}" llvm-profdata; do
    if command -v "$tool" >/dev/null && "$tool" show --version 2>/dev/null | grep -q "LLVM version ${llvm%%.*}\."; then
      echo "$tool"
      return
    fi
  done
  cat >&2 <<END
release-pgo needs llvm-profdata of LLVM ${llvm%%.*}, which $(rustc --version) is built on. One of these brings it:
  rustup component add llvm-tools
  apt-get install llvm-${llvm%%.*}
END
  return 1
}

profdata=$(profdata)
counts=$PWD/target/pgo/counts
workloads=(a b16 b1m c d d1m e e16 f g)

rm -rf "$counts"
build() { RUSTFLAGS="${RUSTFLAGS-} $1" cargo build --release --locked --target "$host" --target-dir "target/pgo/$2"; }

build "-Cprofile-generate=$counts" counting
benches/compare/compare.py --headwater "target/pgo/counting/$host/release/headwater" --peers headwater --rounds 1 --scale 0.25 --no-calls "${workloads[@]}"
"$profdata" merge -o target/pgo/counts.profdata "$counts"
build "-Cprofile-use=$PWD/target/pgo/counts.profdata" optimised
cp "target/pgo/optimised/$host/release/headwater" target/pgo/headwater
echo "target/pgo/headwater"
