//! The live chain: from the newest log whose epoch CHECKPOINT knows, back from predecessor to predecessor (rule RC1).

use std::collections::BTreeMap;

use wal_format::checkpoint::Checkpoint;
use wal_format::{FileHeader, LogNumber};

use crate::error::Result;
use crate::evidence::look_behind;
use crate::recovery::progress::Meter;
use crate::recovery::survey::{self, LogFile, Walked};
use crate::recovery::table::Header;
use crate::recovery::threads::Threads;
use crate::recovery::vouch;

/// One number on the way back from the newest log.
pub(super) enum Link {
    Log(Box<Walked>),
    /// A log whose header is gone, though it must have been there.
    Broken(LogNumber),
}

/// The numbers of the live chain, newest first, and what was cut off above it.
pub(super) struct Chain {
    pub(super) links: Vec<(LogNumber, bool)>,
    /// Logs above a header that never became durable, and that log.
    pub(super) cut: Vec<(LogNumber, LogNumber)>,
}

/// Walks back from the newest log whose epoch CHECKPOINT knows (rule RC1).
pub(super) fn chain(checkpoint: &Checkpoint, files: &BTreeMap<LogNumber, LogFile>) -> Result<Chain> {
    let known = |below: Option<LogNumber>| {
        let mut range = files.range(checkpoint.lowest..).rev();
        let found =
            range.find(|(log, file)| below.is_none_or(|below| **log < below) && file.kind == Header::Known);
        found.map(|(log, _)| *log)
    };
    let mut chain = Chain { links: Vec::new(), cut: Vec::new() };
    let mut cursor = known(None);
    while let Some(log) = cursor {
        chain.links.push((log, true));
        let header = files.get(&log).and_then(|file| file.header);
        let before = header.and_then(|header| header.predecessor).map(|before| before.log);
        let before = if seeded_bug!(ChainByNumber) {
            files.range(..log).next_back().map(|(below, _)| *below).filter(|_| before.is_some())
        } else {
            before
        };
        let Some(before) = before.filter(|before| *before >= checkpoint.lowest) else { break };
        if files.get(&before).is_some_and(|file| file.kind == Header::Known) {
            cursor = Some(before);
            continue;
        }
        if !files.contains_key(&before) || proven_above(checkpoint, files, &chain, before)? {
            chain.links.push((before, false));
        } else {
            // RC1: the link breaks where nothing is proven. That log and all above it are cut.
            let above = chain.links.drain(..).map(|(log, _)| log);
            chain.cut.extend(above.chain([before]).map(|log| (log, before)));
        }
        cursor = known(Some(before));
    }
    Ok(chain)
}

/// Whether anything proves that log `broken`, or a log of the chain above it, was synced.
fn proven_above(
    checkpoint: &Checkpoint,
    files: &BTreeMap<LogNumber, LogFile>,
    chain: &Chain,
    broken: LogNumber,
) -> Result<bool> {
    if checkpoint.active >= broken || checkpoint.sealed_through >= broken {
        return Ok(true);
    }
    if files.get(&broken).is_some_and(|file| {
        file.behind.has_statement() || file.kind != Header::Blank && file.kind != Header::Damaged
    }) {
        return Ok(true);
    }
    for file in chain.links.iter().filter_map(|(log, _)| files.get(log)) {
        let proven =
            file.header.and_then(|header| header.predecessor).is_some_and(|before| before.proven > 0);
        if proven || look_behind(&*file.source, &file.seed, 0, file.length)?.has_statement() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How the logs of the chain become known.
#[derive(Clone, Copy)]
pub(crate) enum Survey<'a> {
    /// Every byte is read and checked, by so many threads.
    Read(&'a Meter, Threads),
    /// Headers, seals and CHECKPOINT vouch for what lies between (`vouch.rs`).
    Vouch,
    /// As `Vouch`, and where nobody vouches, every byte is read.
    VouchOrRead(&'a Meter),
}

/// Reads the logs of the chain, newest first; `None` if nobody vouches for one of them.
pub(super) fn read_links(
    chain: &Chain,
    files: &mut BTreeMap<LogNumber, LogFile>,
    survey: Survey<'_>,
    checkpoint: &Checkpoint,
) -> Result<Option<Vec<Link>>> {
    let mut successor: Option<FileHeader> = None;
    let mut to_read = Vec::with_capacity(chain.links.len());
    for &(log, known) in &chain.links {
        // A broken link's file stays in `files`, for its report.
        let file = if known { files.remove(&log) } else { None };
        let opened = file.and_then(|file| file.header.map(|header| (file, header)));
        let header = opened.as_ref().map(|(_, header)| *header);
        to_read.push((log, opened, std::mem::replace(&mut successor, header)));
    }
    let read = |(log, opened, successor): (LogNumber, Option<(LogFile, FileHeader)>, Option<FileHeader>)| {
        let Some((file, header)) = opened else { return Ok(Some(Link::Broken(log))) };
        let end = successor.and_then(|next| next.predecessor).map(|before| before.end);
        let vouched = |file| vouch::vouched(file, header, successor.as_ref(), checkpoint);
        let walked = match survey {
            Survey::Read(meter, _) => Some(survey::walk(file, header, end, meter)?),
            Survey::Vouch => vouched(file)?,
            // Looked at twice costs a handle and a header.
            Survey::VouchOrRead(meter) => match vouched(file.again())? {
                Some(walked) => Some(walked),
                None => Some(survey::walk(file, header, end, meter)?),
            },
        };
        Ok(walked.map(|walked| Link::Log(Box::new(walked))))
    };
    match survey {
        Survey::Read(_, threads) => Ok(threads.each(to_read, |job, _| read(job))?.into_iter().collect()),
        Survey::Vouch | Survey::VouchOrRead(_) => to_read.into_iter().map(read).collect(),
    }
}

/// What is known about a log of the chain besides what stands in it.
pub(super) struct Context {
    /// A later log that was written only after everything here was synced.
    pub(super) later: Option<LogNumber>,
    pub(super) successor: Option<FileHeader>,
}

/// For each link, newest first: which later log proves everything in it, and its successor's header.
pub(super) fn contexts(links: &[Link]) -> Vec<Context> {
    // Proven for the next lower log, and for those below it.
    let mut later: Option<LogNumber> = None;
    let mut later_but_one: Option<LogNumber> = None;
    let mut successor = None;
    let mut contexts = Vec::with_capacity(links.len());
    for link in links {
        contexts.push(Context { later, successor });
        later = later.or(later_but_one);
        match link {
            Link::Log(walked) => {
                // PR2: a promise in a log covers all earlier logs. A header's `proven` above 0 covers all before the predecessor.
                later = later.or(walked.has_statement().then_some(walked.log));
                let proven = walked.header.predecessor.is_some_and(|before| before.proven > 0);
                later_but_one = later_but_one.or(proven.then_some(walked.log));
                successor = Some(walked.header);
            }
            Link::Broken(log) => {
                later = later.or(Some(*log));
                successor = None;
            }
        }
    }
    contexts
}
