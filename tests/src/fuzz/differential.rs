//! Two decoders that share no code, and the manager above one of them, on the same bytes.

use std::sync::Arc;

use arbitrary::{Arbitrary, Result, Unstructured};
use wal_format::Epoch;
use wal_format::checkpoint::{Checkpoint, SLOT_BYTES, Slot};
use wal_io::mem::MemStorage;
use wal_manager::{ErrorKind, Verdict, Wal};

use super::LOG;
use super::directories::{Files, Stopped};
use super::mutate::{self, Edit};
use super::steps::{self, Step};
use crate::logs::{self, LogBuilder, WAL_ID};
use crate::naive::{self, Decoded, End, Item};

/// Reads a log, or CHECKPOINT, in every way there is; they must agree.
pub fn differential(input: &[u8]) -> String {
    let mut bytes = Unstructured::new(input);
    match bytes.int_in_range(0..=3).unwrap_or_default() {
        0 => log("any bytes", bytes.take_rest(), None),
        1 => edited(&mut bytes).unwrap_or_default(),
        2 => in_any_order(&mut bytes).unwrap_or_default(),
        _ => checkpoint(bytes.take_rest()),
    }
}

/// A log that a writer wrote, changed.
fn edited(bytes: &mut Unstructured<'_>) -> Result<String> {
    let (steps, seal, edits) = <(Vec<Step>, bool, Vec<Edit>)>::arbitrary(bytes)?;
    let built = steps::build(&steps::header(), &steps::affordable(steps), seal, 0);
    let mut file = built.bytes.clone();
    for edit in &edits {
        edit.apply(Some(LOG), &mut file);
    }
    let lies = edits.iter().any(|edit| matches!(edit, Edit::Lie { .. }));
    Ok(log(if lies { "lies" } else { "edited" }, &file, (!lies).then_some(&built)))
}

/// Right checksums, senseless content.
fn in_any_order(bytes: &mut Unstructured<'_>) -> Result<String> {
    let chunks: Vec<(u8, u8, Vec<u8>)> = Arbitrary::arbitrary(bytes)?;
    let mut file = LogBuilder::new(1);
    for (kind, envelope, payload) in &chunks {
        let kind = if *kind > 200 {
            1 + kind % 9
        } else if *kind > 128 {
            *kind
        } else {
            kind % 12
        };
        // Most often the beginning of a record, now and then behind a hole.
        let index = file.next_index + u64::from(envelope >> 7);
        let start = [0, 1, 0, index as u8, file.next_seq as u8, 1];
        let payload = [&start[..usize::from(*envelope) % (start.len() + 1)], payload].concat();
        let length = match kind {
            6 => 16,
            7 => 36,
            _ => payload.len(),
        };
        if length > 0 {
            let all: Vec<u8> = payload.iter().copied().chain(std::iter::repeat(0)).take(length).collect();
            file.raw(kind, &all);
            if kind == 1 {
                (file.next_index, file.next_seq) = (index + 1, file.next_seq + 1);
            }
        }
    }
    Ok(log("any order", &file.bytes, None))
}

/// The same bytes as log 1: the two decoders, and what the manager hands out of a directory with this log.
fn log(what: &str, file: &[u8], built: Option<&LogBuilder>) -> String {
    let naive = super::both_decoders(file);
    if let Some(built) = built {
        assert!(built.items.starts_with(&naive.items), "content that was never written");
    }
    let honest = naive::audit(&naive).is_ok();
    let end = match naive.end {
        End::Sealed(_) => "sealed",
        End::Open(_) => "open",
        End::Fault(_) => "fault",
        End::Newer(_) => "newer",
    };
    format!("{what}: {end}, honest {honest}, {}", manager(file, &naive, honest))
}

/// The manager hands out what the second decoder reads, up to the first lie.
fn manager(file: &[u8], naive: &Decoded, honest: bool) -> String {
    let mut content = Checkpoint::new(WAL_ID);
    (content.version, content.epoch) = (1, Epoch::new(1));
    (content.highest, content.lowest, content.active) = (LOG, LOG, LOG);
    let slot = content.encode(Slot::A);
    let files = Files::from([("CHECKPOINT".to_owned(), slot), ("000001.wal".to_owned(), file.to_vec())]);
    let options = Wal::options_on(Arc::new(MemStorage::from_files(files))).clock(Arc::new(Stopped));
    let inspection = match options.inspect() {
        Ok(inspection) => inspection,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Damage | ErrorKind::NewerFormat), "{error}");
            return format!("refused: {:?}", error.kind());
        }
    };
    let wanted: Vec<_> = naive
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Record(offset, record) => Some((*offset, record)),
            _ => None,
        })
        .collect();
    let (mut found, mut last_seq) = (0, None);
    let mut error = None;
    for record in inspection.records() {
        match record {
            Ok(record) => {
                let (offset, naive) =
                    wanted.get(found).expect("a record that the second decoder does not see");
                let last = naive.first_seq + u64::from(naive.count) - 1;
                assert_eq!(
                    (record.offset, record.index.get(), record.kind.get()),
                    (*offset, naive.index, naive.kind)
                );
                assert_eq!((record.seqs.first().get(), record.seqs.last().get()), (naive.first_seq, last));
                assert!(record.families.iter().map(|family| family.get()).eq(naive.families.iter().copied()));
                assert!(record.payload == naive.payload[..], "record {found} has other bytes");
                assert_eq!(
                    record.index.get(),
                    found as u64 + 1,
                    "a hole in the index is damage, not a record"
                );
                assert!(last_seq < Some(record.seqs.first()), "sequence numbers grow");
                last_seq = Some(record.seqs.last());
                assert_eq!(record.time_micros, naive.time_micros);
                found += 1;
            }
            Err(failure) => error = Some(failure),
        }
    }
    let header = matches!(naive.items.first(), Some(Item::Header(header)) if acceptable(header));
    if honest && header && !matches!(naive.end, End::Newer(_)) {
        assert_eq!(found, wanted.len(), "{:?}: {error:?}", inspection.report());
    }
    let verdict = inspection.report().verdict;
    if header && matches!(naive.end, End::Fault(_)) {
        assert_ne!(verdict, Verdict::Clean, "bytes that cannot be read are not clean");
    }
    format!("{verdict:?}")
}

/// A header that fits to the CHECKPOINT beside it.
fn acceptable(header: &naive::Header) -> bool {
    header.predecessor == 0 && header.epoch <= 1 && header.first_index == 1 && header.version <= 1
}

/// CHECKPOINT: two slots, changed behind right checksums.
fn checkpoint(bytes: &[u8]) -> String {
    let (repair, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let [newer, older] = crate::golden::checkpoints();
    let mut file = newer.encode(Slot::A);
    if repair % 3 > 0 {
        mutate::overwrite(&mut file, bytes);
    }
    if repair % 3 > 1 {
        mutate::repair_slot(&mut file, "slot A");
    }
    if repair % 3 == 0 {
        bytes.clone_into(&mut file);
    }
    file.resize(SLOT_BYTES, 0);
    file.extend_from_slice(&older.encode(Slot::B));
    let ours = [Checkpoint::decode(Slot::A, &file), Checkpoint::decode(Slot::B, &file[SLOT_BYTES..])];
    let naive = naive::decode_checkpoint(&file);
    for (naive, ours) in naive.iter().zip(&ours) {
        assert_eq!(*naive, ours.as_ref().ok().map(logs::checkpoint_item));
    }
    let fault = ours[0].as_ref().err().map(|fault| format!("{fault:?}")).unwrap_or_default();
    format!("checkpoint: {}", fault.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default())
}
