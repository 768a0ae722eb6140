# Every task that a developer repeats. Each recipe is one line that also works without `just`.

# What CI checks first: format, lints, documentation.
check:
    cargo fmt --all --check && cargo clippy --workspace --all-targets --all-features -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Every test.
test:
    cargo test --workspace

# Random lives of a log on the crashable disk: `just crash 0..100000`.
crash SEEDS="0..20000":
    CRASH_SEEDS={{SEEDS}} cargo test -p wal-tests --test crash -- --nocapture

# Every short life of a log, cut anywhere and again inside recovery: `just explore 10` lives on from ten times as many states.
explore SCALE="1":
    EXPLORE={{SCALE}} cargo test -p wal-tests --test explore -- --nocapture

# Every deliberate bug must be caught by the layer that answers for it; `just bugs all` lets every layer face every bug and prints the table.
bugs WHICH="":
    GATE={{WHICH}} cargo test -p wal-tests --test gate -- --ignored --nocapture

# Short random lives against a model: `just model 200000`.
model CASES="20000":
    PROPTEST_CASES={{CASES}} cargo test -p wal-tests --test model -- --nocapture

# Every bit, byte, cut and sector of a directory of 64 KiB.
sweep:
    SWEEP_STRIDE=1 cargo test -p wal-tests --test sweep t7 -- --nocapture

# A fuzz target of tests/fuzz for so many seconds: `just fuzz recover_dir 600`. Needs cargo-fuzz, but no nightly toolchain and no sanitizer:
# what is fuzzed has no unsafe code. What it finds beside the committed corpus goes to target/fuzz.
fuzz TARGET SECONDS="60":
    mkdir -p target/fuzz/{{TARGET}} && RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz -s none {{TARGET}} target/fuzz/{{TARGET}} tests/fuzz/corpus/{{TARGET}} -- -max_total_time={{SECONDS}} -timeout=20 -rss_limit_mb=1024 -max_len=8192

# Make the committed inputs of the fuzz targets again, one for each outcome.
corpus:
    REGENERATE=1 cargo test -p wal-tests --test fuzz_smoke

# Few threads, few calls, many schedules: `just interleavings 1000000`.
interleavings N="100000":
    INTERLEAVINGS={{N}} RUSTFLAGS="--cfg wal_shuttle" cargo test -p wal-interleavings --target-dir target/shuttle --test interleavings -- --nocapture

# Runs one schedule again, which a failed interleaving has printed: `just replay t9_full_group SCHEDULE`.
replay TEST SCHEDULE:
    INTERLEAVINGS_REPLAY={{SCHEDULE}} RUSTFLAGS="--cfg wal_shuttle" cargo test -p wal-interleavings --target-dir target/shuttle --test interleavings -- --nocapture --exact {{TEST}}

# cargo-mutants over the codec, recovery and deletion, a part at a time: `just mutants 3/40`.
mutants SHARD="0/40":
    cargo mutants --shard {{SHARD}}

# Random lives with many writers, of the log and of the engine: `just simulate 0..100000`.
simulate SEEDS="0..2000":
    SIMULATE_SEEDS={{SEEDS}} SIMULATE_ENGINE_SEEDS={{SEEDS}} RUSTFLAGS="--cfg wal_shuttle" cargo test -p wal-interleavings --target-dir target/shuttle --test simulation -- --nocapture

# The main job: an engine, killed again and again.
drill *ARGS:
    cargo run --release -p walctl -- drill {{ARGS}}

# Every system call of walctl fails in turn, and walctl is killed at each: needs strace.
syscalls:
    cargo test -p wal-tests --test real_syscalls --test real_parents -- --ignored --nocapture --test-threads 1

# walctl append, killed with SIGKILL again and again: `just kill 2000`.
kill CYCLES="200":
    KILL_CYCLES={{CYCLES}} cargo test -p wal-tests --test real_kill -- --ignored --nocapture

# Small, read-only and odd file systems: needs root, and bindfs.
mounts:
    cargo test -p wal-tests --test real_mounts -- --ignored

# The parts, with Criterion: format, append, replay, each beside the raw operation.
bench:
    cargo bench -p wal-benches

# The ratios of docs/benchmarks.md: `just report --only group-8 --size 128`.
report *ARGS:
    cargo run --release -p wal-benches --features io-uring --bin whole -- {{ARGS}}

# What the metrics cost: the same appends with no recorder, one that does nothing, and one that counts.
series:
    cargo run --release -p wal-benches --bin series

# A page with plots about the disk of a directory that holds no log, and its numbers: bench-report.html and bench-report.csv.
bench-report DIR:
    WALCTL_COMMIT=$(git describe --always --dirty) cargo run --release -p walctl -- bench {{DIR}} --report bench-report.html

# Other crates under the same workloads; with an installed librocksdb, RocksDB too: `just peers --only lone`.
peers *ARGS:
    cd benches/peers && cargo run --release $(ldconfig -p | grep -q 'librocksdb.so ' && echo --features rocksdb) -- {{ARGS}}

# Write the golden files of the format, of the order of operations and of the dashboard again, after a deliberate change; the diff is what is
# reviewed. Those of tests/golden/v1 never change.
golden:
    REGENERATE=1 cargo test -p wal-tests --test format_golden --test op_traces --test monitoring

# docs/monitoring on a real Prometheus, which scrapes the drill: needs Debian's prometheus and prometheus-node-exporter.
monitoring:
    cargo test -p wal-tests --test monitoring -- --include-ignored

# Write the lists of the public API again, after a deliberate change; the diff is what is reviewed.
api:
    REGENERATE=1 cargo test -p wal-tests --test public_api -- --ignored

# Each feature alone and in pairs: needs cargo-hack.
features:
    cargo hack check --feature-powerset --depth 2 --ignore-private

# Licences, sources, and crates that are not wanted: needs cargo-deny.
deny:
    cargo deny check licenses bans sources

# The packages as they would be published, each built from what is in it; nothing is published. In a new place each time, because cargo keeps
# what it has unpacked of a crate's number and place.
package:
    mkdir -p target && cargo package --target-dir "$(mktemp -d -p target packages.XXXXXX)" -p wal-format -p wal-io -p wal-manager -p toy-memtable -p walctl

# The documentation of every crate.
docs:
    cargo doc --workspace --no-deps --all-features --open
