//! What survives a power cut.

use super::Broken;
use crate::Sink;

/// Writes to an empty file and tells what must survive.
type Write = fn(&dyn Sink) -> Result<Vec<u8>, Broken>;

/// Each rule of durability with its words.
pub(super) const DURABLE_RULES: [(&str, Write); 5] = [
    ("synced bytes survive", synced_bytes_survive),
    ("what is written and synced in one survives", write_synced_survives),
    ("what is written and synced in one covers what was written before", write_synced_covers),
    ("what is written and synced in one leaves what was synced before", write_synced_leaves),
    ("synced zeros survive", filled_zeros_survive),
];

fn synced_bytes_survive(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.write_at(0, &[1; 700])?;
    sink.write_at(700, &[2; 2_000])?;
    sink.sync_data()?;
    Ok([[1; 700].as_slice(), &[2; 2_000]].concat())
}

fn write_synced_survives(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.write_synced_at(0, &[1; 5_000])?;
    Ok(vec![1; 5_000])
}

fn write_synced_covers(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    // In a block of its own, so that no tail takes it along.
    sink.write_at(0, &[1; 64 * 1024])?;
    sink.write_synced_at(64 * 1024, &[2; 100])?;
    Ok([[1; 64 * 1024].as_slice(), &[2; 100]].concat())
}

fn write_synced_leaves(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    let mut expected = Vec::new();
    for (number, length) in (1_u8..).zip([10, 1_000, 3, 6_000, 1]) {
        let bytes = vec![number; length];
        sink.write_synced_at(expected.len() as u64, &bytes)?;
        expected.extend(bytes);
    }
    // Whatever becomes of this.
    sink.write_at(expected.len() as u64, b"not synced")?;
    Ok(expected)
}

fn filled_zeros_survive(sink: &dyn Sink) -> Result<Vec<u8>, Broken> {
    sink.fill(10_000)?;
    sink.sync_all()?;
    sink.write_synced_at(0, b"overwrites")?;
    Ok([b"overwrites".as_slice(), &[0; 9_990]].concat())
}
