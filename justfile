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

# The main job: an engine, killed again and again.
drill *ARGS:
    cargo run --release -p walctl -- drill {{ARGS}}

# Criterion, each measurement beside the raw operation.
bench:
    cargo bench -p wal-benches

# The ratios of docs/benchmarks.md.
report:
    cargo run --release -p wal-benches --bin ratios

# Write the golden files of the format and of the order of operations again, after a deliberate change; the diff is what is reviewed.
golden:
    REGENERATE=1 cargo test -p wal-tests --test format_golden --test op_traces

# The documentation of every crate.
docs:
    cargo doc --workspace --no-deps --all-features --open
