//! What a log says when it is dropped. Alone in its process: tracing remembers for each place in the code whether anybody listens, and
//! tests beside this one, which do not, would race with it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal_manager::{Durability, FamilyId, MemStorage, SeqNum};
use wal_tests::clock::StepClock;
use wal_tests::life::{open, options, record, reopen};

/// Collects the events at level WARN.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl tracing::field::Visit for Line {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn s9_dropping_undurable_records_warns_and_dropping_durable_ones_does_not() {
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let wal = open(&MemStorage::new());
        wal.append(record(b"durable")).unwrap();
        drop(wal);
        let wal = open(&MemStorage::new());
        let _not_waited_for = wal.submit(record(b"durable by the close")).unwrap();
        wal.close().unwrap();
        drop(wal);
        assert_eq!(*warnings.0.lock().unwrap(), <[String; 0]>::default());
        for level in [Durability::Buffered, Durability::Written] {
            let wal = open(&MemStorage::new());
            for _ in 0..3 {
                wal.append_with(record(b"hoped"), level).unwrap();
            }
            drop(wal);
            let seen = std::mem::take(&mut *warnings.0.lock().unwrap());
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert!(seen[0].contains("wal.dropped_undurable") && seen[0].contains("records=3"), "{seen:?}");
        }
    });
}

#[test]
fn g10_g11_a_keeper_that_does_not_move_is_named_and_one_that_is_dropped_too() {
    let warnings = Warnings::default();
    let minute = Duration::from_secs(60);
    tracing::subscriber::with_default(warnings.clone(), || {
        let told = || std::mem::take(&mut *warnings.0.lock().unwrap());
        let clock = Arc::new(StepClock::default());
        let storage = MemStorage::new();
        let wal = reopen(options(&storage).clock(clock.clone()).keeper_warning(10 * minute)).0;
        // The active log is nobody's fault.
        wal.append(record(b"a").seqs(SeqNum::new(10), 5)).unwrap();
        wal.append(record(b"a").seqs(SeqNum::new(15), 5)).unwrap();
        wal.housekeep().unwrap();
        clock.advance(100 * minute);
        wal.housekeep().unwrap();
        assert_eq!(told(), <[String; 0]>::default());
        wal.rotate().unwrap();
        wal.append(record(b"b").seqs(SeqNum::new(20), 10)).unwrap();
        wal.hold("backup", SeqNum::new(10), Some(0)).unwrap();
        for _ in 0..9 {
            clock.advance(minute);
            wal.housekeep().unwrap();
        }
        assert_eq!(told(), <[String; 0]>::default());
        // The hold moves, the family does not.
        wal.advance_hold("backup", SeqNum::new(15)).unwrap();
        clock.advance(minute);
        wal.housekeep().unwrap();
        let lines = told();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["wal.keeper_stuck", "kind=\"family\"", "name=0", "log=1", "from=10", "seconds=600"] {
            assert!(lines[0].contains(part), "{part} in {lines:?}");
        }
        clock.advance(9 * minute);
        wal.housekeep().unwrap();
        let lines = told();
        assert!(lines.len() == 1 && lines[0].contains("name=backup"), "{lines:?}");
        clock.advance(minute);
        wal.housekeep().unwrap();
        let lines = told();
        assert!(
            lines.len() == 1 && lines[0].contains("kind=\"family\""),
            "again, after each such time: {lines:?}"
        );
        wal.mark_flushed(FamilyId::DEFAULT, SeqNum::new(19)).unwrap();
        let lines = told();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in ["wal.keeper_dropped", "kind=\"hold\"", "name=backup", "from=15", "budget=0"] {
            assert!(lines[0].contains(part), "{part} in {lines:?}");
        }
        clock.advance(100 * minute);
        wal.housekeep().unwrap();
        assert_eq!(told(), <[String; 0]>::default(), "nobody keeps anything but the active log");
        wal.close().unwrap();
    });
}
