//! What stands at the end of each verb's long help: what it reads and changes, examples, exit codes.

/// Of `walctl` itself.
pub(crate) const WALCTL: &str = "\
Begin with `walctl doctor DIR`. `walctl help VERB` says what a verb reads and changes, shows examples and lists its exit codes.

Exit codes: 0 fine (a torn tail is fine), 1 damage found (also missing or foreign files, or a drill that lost \
something), 2 usage or input refused, 3 I/O or a missing directory, 4 locked, 5 newer format, 130 interrupted.";

/// The parts of a verb's help, in the same order and words everywhere.
macro_rules! of_verb {
    ($name:ident: $reads:literal, $changes:literal, [$($example:literal),+], $codes:literal) => {
        pub(crate) const $name: &str = concat!(
            "Reads: ", $reads, "\n\nChanges: ", $changes, "\n\nExamples:\n",
            $("  ", $example, "\n"),+,
            "\nExit codes: ", $codes
        );
    };
}

of_verb!(APPEND:
    "standard input, and the log once, to open it.",
    "appends; takes the lock; creates DIR if it is missing. Ctrl-C closes the log after the records that were accepted.",
    ["printf 'one\\ntwo\\n' | walctl append DIR", "walctl append --sync interval:10 --writers 4 DIR < lines.txt"],
    "0 every line is acknowledged, 1 damage: nothing was appended, 2 a line was refused, 3 I/O, or the disk is full, 4 locked, 5 newer format, 130 interrupted.");
of_verb!(DUMP:
    "every log, first to check it and then to print it. Takes no lock.",
    "nothing.",
    ["walctl dump DIR", "walctl dump --from 1000 --to 1999 --json DIR", "walctl dump --salvage DIR"],
    "0 everything is printed, 1 damage (what comes before it is printed), 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(TAIL:
    "the logs, as far as they prove that they were synced. Takes no lock.",
    "nothing.",
    ["walctl tail DIR", "walctl tail --follow --from 1000 DIR"],
    "0 printed, also when --follow ends with Ctrl-C, 1 damage, 2 usage, 3 I/O, a missing directory, or a gap: the writer deleted what was not read yet, 5 newer format.");
of_verb!(VERIFY:
    "every byte of every log, and CHECKPOINT. Takes no lock.",
    "nothing.",
    ["walctl verify DIR", "walctl verify --json DIR"],
    "0 clean or a torn tail, 1 damage, a missing or a foreign log, 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(LS:
    "every log, to count its records. Takes no lock.",
    "nothing.",
    ["walctl ls DIR", "walctl ls --json DIR"],
    "0 clean or a torn tail, 1 damage, a missing or a foreign log, 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(STAT:
    "every log, to know its families, and CHECKPOINT. Takes no lock.",
    "nothing.",
    ["walctl stat DIR", "walctl stat --histogram DIR"],
    "0 clean or a torn tail, 1 damage, a missing or a foreign log, 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(WHY_KEPT:
    "every log, to know its families, and CHECKPOINT. Takes no lock.",
    "nothing.",
    ["walctl why-kept DIR", "walctl why-kept --json DIR"],
    "0 clean or a torn tail, 1 damage, a missing or a foreign log, 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(DOCTOR:
    "CHECKPOINT, names, sizes, the file system, and every byte of the logs up to 256 MiB in all; of more only headers, seals and the newest logs, unless --full is given. Takes no lock.",
    "nothing.",
    ["walctl doctor DIR", "walctl doctor --full --json DIR"],
    "0 nothing is damaged, whatever else it warns of, 1 damage, 2 usage, 3 I/O or a missing directory, 5 newer format.");
of_verb!(GC:
    "every log, to open it.",
    "what is marked as flushed, and deletes logs; takes the lock. After Ctrl-C the directory is as after a crash: the mark counts or does not, and the next writer deletes the rest.",
    ["walctl gc --flushed 1999 DIR", "walctl gc --flushed 1999 --family 3 DIR"],
    "0 done, 1 damage: nothing is deleted, 2 usage, or a sequence number that was never issued, 3 I/O or a missing directory, 4 locked, 5 newer format, 130 interrupted.");
of_verb!(COPY:
    "the logs that are proven to be synced, and reads the copy back. Takes no lock in DIR.",
    "makes TARGET, which gets its name last. Ctrl-C leaves TARGET.making, which the next copy to the same place empties.",
    ["walctl copy DIR TARGET"],
    "0 copied, 1 damage, 2 usage, or TARGET is not empty, 3 I/O, a missing directory, or the writer deletes faster than this copies, 4 somebody makes TARGET, 5 newer format, 130 interrupted.");
of_verb!(RESTORE:
    "every log of the sources, and reads the result back. Takes no lock in them.",
    "makes TARGET, which gets its name last. Ctrl-C leaves TARGET.making, which the next restore to the same place empties.",
    ["walctl restore --to seq:1500 ARCHIVE DIR TARGET", "walctl restore --to time:2026-11-21T17:05:00Z ARCHIVE TARGET"],
    "0 restored, 1 damage, or a log is missing in between, 2 usage, TARGET is not empty, or the point is not there, 3 I/O or a missing directory, 4 somebody makes TARGET, 5 newer format, 130 interrupted.");
of_verb!(REPAIR:
    "every log.",
    "with --dry-run nothing; else it takes the lock, copies everything into DIR.before-repair-1 (or the next free number), rebuilds CHECKPOINT and cuts the log at the first damage. \
     After Ctrl-C run it again: nothing is changed before the copy is whole.",
    ["walctl repair --dry-run DIR", "walctl repair DIR"],
    "0 repaired, or nothing to repair, 1 with --dry-run: there is something to repair; else it cannot be repaired, 2 usage, 3 I/O or a missing directory, 4 locked, 5 newer format, 130 interrupted.");
of_verb!(BENCH:
    "nothing but what it writes.",
    "makes a directory in DIR and removes it at the end, also after Ctrl-C; with --report writes FILE.html and FILE.csv.",
    ["walctl bench DISK", "walctl bench --report disk.html DISK", "walctl bench --size 1024 --writers 8 --millis 5000 DISK"],
    "0 measured, 2 usage, or DIR holds a log, 3 I/O or a missing directory, 130 interrupted.");
of_verb!(DRILL:
    "PATH.",
    "a temporary directory, which is removed at the end unless something is wrong; or --dir, which stays. Ctrl-C ends it with a check and the report.",
    ["walctl drill", "walctl drill --input lines.txt --kills 100 --seed 7", "walctl drill --forever --metrics 127.0.0.1:9184"],
    "0 every acknowledged write is there, 1 something is lost or extra, 2 usage, or an input that is nothing, 3 I/O.");
of_verb!(MAN:
    "nothing.",
    "writes the pages into DIR, or to standard output.",
    ["walctl man", "walctl man man1"],
    "0 written, 2 usage, 3 I/O.");
of_verb!(COMPLETIONS:
    "nothing.",
    "nothing; writes to standard output.",
    ["walctl completions bash > walctl.bash"],
    "0 written, 2 usage, an unknown shell, 3 I/O.");
