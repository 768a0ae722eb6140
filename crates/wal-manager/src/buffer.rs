//! The bytes of a group, at such a place in memory that direct I/O need not copy them.

/// Whole records and statements, one behind the other. They begin as far into a block of memory as they will into one of the file: a direct
/// sink then writes them from where they are. A buffer that has to grow loses that, and is copied.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// Bytes in front that are none of the group's, less than a block.
    lead: usize,
}

impl Buffer {
    /// An empty one in `memory`, for bytes that begin at `offset` of a file that is written in blocks of `block` bytes.
    pub(crate) fn begin(mut memory: Vec<u8>, offset: u64, block: usize) -> Self {
        memory.clear();
        let mut lead = 0;
        if block > 1 && memory.capacity() > block {
            // Less than the block.
            let wanted = usize::try_from(offset % block as u64).unwrap_or_default();
            lead = (wanted + block - memory.as_ptr().addr() % block) % block;
            memory.resize(lead, 0);
        }
        Self { bytes: memory, lead }
    }

    /// The group's bytes.
    pub(crate) fn get(&self) -> &[u8] {
        self.bytes.get(self.lead..).unwrap_or_default()
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.lead)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For who appends to them.
    pub(crate) fn vec(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// How many more fit without growing.
    pub(crate) fn room(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// The memory, to be used again.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.bytes
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, lead: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_begins_as_far_into_a_block_of_memory_as_of_the_file() {
        for offset in [0, 1, 4095, 4096, 5000, 123_456_789] {
            let mut buffer = Buffer::begin(Vec::with_capacity(20_000), offset, 4096);
            assert!(buffer.is_empty());
            buffer.vec().extend_from_slice(b"group");
            assert_eq!((buffer.get(), buffer.len()), (&b"group"[..], 5));
            assert_eq!(buffer.get().as_ptr().addr() as u64 % 4096, offset % 4096);
        }
        assert_eq!(
            Buffer::begin(Vec::with_capacity(100), 7, 1).room(),
            100,
            "nothing in front where nobody asks"
        );
    }
}
