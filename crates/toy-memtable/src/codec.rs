//! Little-endian fields, read with every length checked before it is used.

use bytes::Bytes;
use wal_manager::FamilyId;

use crate::entry::Key;
use crate::error::EngineError;

/// Fields from the front of some bytes; `None` where they end too early.
#[derive(Debug)]
pub(crate) struct Fields(pub(crate) Bytes);

impl Fields {
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Shares the bytes; copies nothing.
    pub(crate) fn bytes(&mut self, length: u32) -> Option<Bytes> {
        let length = usize::try_from(length).ok()?;
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    pub(crate) fn key(&mut self) -> Option<Key> {
        let family = FamilyId::new(self.u32()?);
        let length = self.u32()?;
        Some(Key { family, user: self.bytes(length)? })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk::<N>()?;
        let _ = self.0.split_to(N);
        Some(array)
    }
}

pub(crate) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), EngineError> {
    put_u32(out, length(bytes.len())?);
    out.extend_from_slice(bytes);
    Ok(())
}

pub(crate) fn put_key(out: &mut Vec<u8>, key: &Key) -> Result<(), EngineError> {
    put_u32(out, key.family.get());
    put_bytes(out, &key.user)
}

/// A length as it is stored.
pub(crate) fn length(bytes: usize) -> Result<u32, EngineError> {
    u32::try_from(bytes).map_err(|_| EngineError::TooLong { bytes })
}
