//! What a log says when it is dropped. Alone in its process: tracing remembers for each place in the code whether anybody listens, and
//! tests beside this one, which do not, would race with it.

use std::fmt;
use std::sync::{Arc, Mutex};

use wal_manager::{Durability, MemStorage};
use wal_tests::life::{open, record};

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
