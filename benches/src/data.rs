//! The bytes that are written.

use std::env;
use std::path::PathBuf;

use tempfile::TempDir;

/// Lengths of the payloads that are measured, in bytes: a small row, a document, a page.
pub const SIZES: [usize; 3] = [128, 1024, 16 * 1024];

/// Payloads of one length.
#[derive(Clone, Debug)]
pub struct Payloads {
    size: usize,
    bytes: Vec<u8>,
}

impl Payloads {
    /// How many bytes there are of them: they fit into a second-level cache, as the batch that an engine has just built does.
    pub const POOL_BYTES: usize = 256 * 1024;

    /// Payloads of `size` bytes that no compression would shrink, the same at every run.
    pub fn new(size: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bytes = Vec::with_capacity(Self::POOL_BYTES);
        while bytes.len() < Self::POOL_BYTES {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        Self { size, bytes }
    }

    /// Length of each in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.bytes.len() / self.size
    }

    /// Each once.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.size)
    }

    /// The one with this number, counted around.
    pub fn get(&self, number: usize) -> &[u8] {
        let start = number % self.count() * self.size;
        &self.bytes[start..start + self.size]
    }
}

/// Where the files go: `WAL_BENCH_DIR`, or the system's directory for temporary files. On a file system in memory a sync costs nothing,
/// and the numbers about syncs mean nothing.
pub fn base() -> PathBuf {
    env::var_os("WAL_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from)
}

/// A new directory there, removed when dropped.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("wal-bench-").tempdir_in(base()).expect("WAL_BENCH_DIR is writable")
}

/// Whether this is a smoke run of the benches (`cargo bench -- --test`, `cargo test --benches`): small inputs will do.
pub fn is_smoke() -> bool {
    let arguments: Vec<String> = env::args().collect();
    let has = |wanted: &str| arguments.iter().any(|argument| argument == wanted);
    has("--test") || !has("--bench")
}
