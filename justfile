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

# Every system call of walctl fails in turn, and walctl is killed at each: needs strace.
syscalls:
    cargo test -p wal-tests --test real_syscalls -- --ignored --nocapture --test-threads 1

# walctl append, killed with SIGKILL again and again: `just kill 2000`.
kill CYCLES="200":
    KILL_CYCLES={{CYCLES}} cargo test -p wal-tests --test real_kill -- --ignored --nocapture

# Small, read-only and odd file systems: needs root, and bindfs.
mounts:
    cargo test -p wal-tests --test real_mounts -- --ignored

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
