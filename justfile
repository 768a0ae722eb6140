# Every task that a developer repeats. Each recipe is one line that also works without `just`.

# What CI checks first: format, lints, documentation.
check:
    cargo fmt --all --check && cargo clippy --workspace --all-targets --all-features -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

# Every test.
test:
    cargo test --workspace

# Random lives of a log on the crashable disk: `just crash 0..100000`.
crash SEEDS="0..20000":
    CRASH_SEEDS={{SEEDS}} cargo test --release -p wal-tests --test crash -- --nocapture

# Few threads, few calls, many schedules: `just interleavings 1000000`.
interleavings N="100000":
    INTERLEAVINGS={{N}} RUSTFLAGS="--cfg wal_shuttle" cargo test --release -p wal-interleavings --target-dir target/shuttle --test interleavings -- --nocapture

# Runs one schedule again, which a failed interleaving has printed: `just replay t9_full_group SCHEDULE`.
replay TEST SCHEDULE:
    INTERLEAVINGS_REPLAY={{SCHEDULE}} RUSTFLAGS="--cfg wal_shuttle" cargo test --release -p wal-interleavings --target-dir target/shuttle --test interleavings -- --nocapture --exact {{TEST}}

# Random lives with many writers, of the log and of the engine: `just simulate 0..100000`.
simulate SEEDS="0..2000":
    SIMULATE_SEEDS={{SEEDS}} SIMULATE_ENGINE_SEEDS={{SEEDS}} RUSTFLAGS="--cfg wal_shuttle" cargo test --release -p wal-interleavings --target-dir target/shuttle --test simulation -- --nocapture

# The main job: an engine, killed again and again.
drill *ARGS:
    cargo run --release -p walctl -- drill {{ARGS}}

# Criterion, each measurement beside the raw operation.
bench:
    cargo bench -p wal-benches

# The ratios of docs/benchmarks.md.
report:
    cargo run --release -p wal-benches --bin ratios

# Write the golden files of the format again, after a deliberate change of it.
golden:
    REGENERATE=1 cargo test -p wal-tests --test format_golden

# The documentation of every crate.
docs:
    cargo doc --workspace --no-deps --all-features --open
