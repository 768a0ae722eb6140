//! The drill's input: a directory tree or a file of lines, read again and again in the same order.
//!
//! Items are numbered from 0 and ordered by key, so that the check at the end is one pass over input and engine side by side.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use wal_manager::PAYLOAD_BYTES_MAX;

use crate::exit::Failure;
use crate::lines::{Line, Lines};

/// Where the input is, for parent and child alike.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The directory or the file.
    pub(crate) path: PathBuf,
    /// For a directory, the list of its files that the parent made; its items are read from this list.
    pub(crate) list: Option<PathBuf>,
}

/// What the parent found in the input.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Survey {
    /// How many items there are.
    pub(crate) items: u64,
    /// How many bytes they hold.
    pub(crate) bytes: u64,
    /// How many files and directories were left out: longer than a record can be, or not to be read.
    pub(crate) skipped: u64,
}

/// One item.
#[derive(Debug)]
pub(crate) struct Item {
    /// Its number, from 0.
    pub(crate) number: u64,
    /// Its key: the path inside the directory, or the line's number.
    pub(crate) key: Vec<u8>,
    /// Length of its contents in bytes.
    pub(crate) bytes: u64,
    contents: Contents,
}

#[derive(Debug)]
enum Contents {
    Line(Vec<u8>),
    /// A line longer than a record can be.
    TooLong,
    File {
        path: PathBuf,
        stamp: Stamp,
    },
}

/// Why an item has no contents.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The system says so, or it is longer than a record can be.
    Io,
    /// The file is not the one that was listed.
    Changed,
}

impl Input {
    /// Looks at the whole input, and lists it in `list` if it is a directory. What lies in `except` is no part of it.
    pub(crate) fn survey(path: &Path, list: &Path, except: &Path) -> Result<(Self, Survey), Failure> {
        let kind = fs::metadata(path).map_err(|error| Failure::file("reading the input", path, error))?;
        let mut survey = Survey::default();
        let input = if kind.is_dir() {
            survey_tree(path, list, except, &mut survey)?;
            Self { path: path.to_owned(), list: Some(list.to_owned()) }
        } else if kind.is_file() {
            Self { path: path.to_owned(), list: None }
        } else {
            return Err(Failure::Refused(format!("{} is neither a directory nor a file", path.display())));
        };
        if input.list.is_none() {
            let mut items = input.items()?;
            while let Some(item) = items.next()? {
                survey.items = item.number.saturating_add(1);
                survey.bytes = survey.bytes.saturating_add(item.bytes);
            }
        }
        if survey.items == 0 {
            return Err(Failure::Refused(format!("there is nothing to write in {}", path.display())));
        }
        Ok((input, survey))
    }

    /// The items, from the first.
    pub(crate) fn items(&self) -> Result<Items, Failure> {
        let source = self.list.as_ref().unwrap_or(&self.path);
        let file = File::open(source).map_err(|error| Failure::file("opening", source, error))?;
        let lines = Lines::new(BufReader::with_capacity(BUFFER_BYTES, file), CONTENTS_BYTES_MAX);
        Ok(Items { input: self.clone(), lines, number: 0 })
    }
}

/// Reads the items one after another.
#[derive(Debug)]
pub(crate) struct Items {
    input: Input,
    lines: Lines<BufReader<File>>,
    /// Number of the next item.
    number: u64,
}

impl Items {
    /// The next item.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Failure> {
        if self.input.list.is_some() { self.next_file() } else { self.next_line() }
    }

    fn next_line(&mut self) -> Result<Option<Item>, Failure> {
        let mut line = Vec::new();
        let found =
            self.lines.next(&mut line).map_err(|error| Failure::file("reading", &self.input.path, error))?;
        let bytes = line.len() as u64;
        let contents = match found {
            Line::End => return Ok(None),
            Line::TooLong => Contents::TooLong,
            Line::Bytes => Contents::Line(line),
        };
        let number = self.number;
        self.number = number.saturating_add(1);
        // Padded, so that the order of the keys is the order of the lines.
        let key = format!("{:012}", self.lines.number()).into_bytes();
        Ok(Some(Item { number, key, bytes, contents }))
    }

    fn next_file(&mut self) -> Result<Option<Item>, Failure> {
        let Some(entry) = self.next_entry()? else { return Ok(None) };
        let number = self.number;
        self.number = number.saturating_add(1);
        let path = self.input.path.join(&entry.path);
        let key = entry.path.into_os_string().into_vec();
        let contents = Contents::File { path, stamp: entry.stamp };
        Ok(Some(Item { number, key, bytes: entry.stamp.bytes, contents }))
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Failure> {
        let list = self.input.list.as_ref().unwrap_or(&self.input.path);
        let broken = |error| Failure::file("reading the drill's own list", list, error);
        let mut line = Vec::new();
        match self.lines.next(&mut line).map_err(broken)? {
            Line::End => return Ok(None),
            Line::TooLong => return Err(broken(io::ErrorKind::InvalidData.into())),
            Line::Bytes => {}
        }
        Entry::decode(&line).map(Some).ok_or_else(|| broken(io::ErrorKind::InvalidData.into()))
    }
}

impl Item {
    /// Its contents.
    pub(crate) fn contents(self) -> Result<Vec<u8>, Unreadable> {
        match self.contents {
            Contents::Line(line) => Ok(line),
            Contents::TooLong => Err(Unreadable::Io),
            Contents::File { path, stamp } => {
                let mut file = File::open(path).map_err(|_| Unreadable::Io)?;
                let mut contents = Vec::new();
                // Read within the bound, whatever has become of the file.
                io::Read::read_to_end(
                    &mut io::Read::take(&mut file, stamp.bytes.saturating_add(1)),
                    &mut contents,
                )
                .map_err(|_| Unreadable::Io)?;
                let now = file.metadata().map_err(|_| Unreadable::Io)?;
                let same = Stamp::of(&now) == stamp && contents.len() as u64 == stamp.bytes;
                if same { Ok(contents) } else { Err(Unreadable::Changed) }
            }
        }
    }
}

/// What tells that a file is still the one that was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    bytes: u64,
    inode: u64,
    /// Last change of the file's contents or attributes: seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            bytes: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A line of the list: what tells the file, a NUL, and the path with its newlines as NULs, which no path can hold.
struct Entry {
    path: PathBuf,
    stamp: Stamp,
}

impl Entry {
    fn encode(&self) -> Vec<u8> {
        let Stamp { bytes, inode, changed: (seconds, nanos) } = self.stamp;
        let mut line = format!("{bytes} {inode} {seconds} {nanos} ").into_bytes();
        line.extend(
            self.path.as_os_str().as_bytes().iter().map(|&byte| if byte == b'\n' { 0 } else { byte }),
        );
        line.push(b'\n');
        line
    }

    fn decode(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(5, |&byte| byte == b' ');
        let mut number =
            || fields.next().and_then(|field| std::str::from_utf8(field).ok()?.parse::<i128>().ok());
        let bytes = u64::try_from(number()?).ok()?;
        let inode = u64::try_from(number()?).ok()?;
        let changed = (i64::try_from(number()?).ok()?, i64::try_from(number()?).ok()?);
        let path = fields.next()?.iter().map(|&byte| if byte == 0 { b'\n' } else { byte }).collect();
        Some(Self { path: OsString::from_vec(path).into(), stamp: Stamp { bytes, inode, changed } })
    }
}

/// Name of the file by which a directory below the root says that it is a cache, which anybody can make again: a build's output, for one.
/// The convention's signature inside is not checked: a wrong guess leaves a directory out of a drill.
const CACHE_MARK: &str = "CACHEDIR.TAG";

/// Lists every regular file under `root`; symbolic links are not followed, and directories below it that are marked as caches are
/// left out.
fn survey_tree(root: &Path, list: &Path, except: &Path, survey: &mut Survey) -> Result<(), Failure> {
    let identity = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    let except = fs::metadata(except).ok().as_ref().map(identity);
    let mut entries: Vec<Entry> = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        let Ok(children) = fs::read_dir(root.join(&directory)) else {
            if directory.as_os_str().is_empty() {
                return Err(Failure::Refused(format!("the input {} cannot be listed", root.display())));
            }
            survey.skipped = survey.skipped.saturating_add(1);
            continue;
        };
        for child in children {
            // What cannot be looked at, or has just gone, is left out and counted.
            let Ok((child, metadata)) = child.and_then(|child| Ok((child.file_name(), child.metadata()?)))
            else {
                survey.skipped = survey.skipped.saturating_add(1);
                continue;
            };
            let path = directory.join(child);
            if metadata.is_dir() {
                let left_out =
                    Some(identity(&metadata)) == except || root.join(&path).join(CACHE_MARK).exists();
                directories.extend((!left_out).then_some(path));
            } else if metadata.is_file() {
                if metadata.len() > CONTENTS_BYTES_MAX as u64 {
                    survey.skipped = survey.skipped.saturating_add(1);
                } else {
                    survey.bytes = survey.bytes.saturating_add(metadata.len());
                    entries.push(Entry { path, stamp: Stamp::of(&metadata) });
                }
            }
        }
    }
    survey.items = entries.len() as u64;
    // By the bytes of the path, as the engine orders its keys.
    entries.sort_unstable_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    let failed = |error| Failure::file("writing the drill's own list", list, error);
    let mut file = BufWriter::new(File::create(list).map_err(failed)?);
    for entry in &entries {
        file.write_all(&entry.encode()).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

/// Longest contents of an item: a record's payload, less room for the key, the round's tag and the batch around them.
const CONTENTS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 64 * 1024;

const BUFFER_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(input: &Input) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
        let mut items = input.items().unwrap();
        let mut found = Vec::new();
        while let Some(item) = items.next().unwrap() {
            let (number, key) = (item.number, item.key.clone());
            found.push((number, key, item.contents().unwrap()));
        }
        found
    }

    #[test]
    fn a_tree_is_read_in_the_order_of_its_keys_without_links_or_the_drills_own_directory() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("in");
        for (name, contents) in
            [("b/z", "1"), ("b-/y", "2"), ("a\nb", "3"), ("b/empty", ""), ("own/engine", "no")]
        {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        fs::write(root.join(OsString::from_vec(vec![0xff, b' ', 0x01])), "4").unwrap();
        std::os::unix::fs::symlink("b/z", root.join("link")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        fs::create_dir_all(root.join("b/target/debug")).unwrap();
        fs::write(root.join("b/target/CACHEDIR.TAG"), "").unwrap();
        fs::write(root.join("b/target/debug/huge"), "5").unwrap();
        let list = dir.path().join("list");
        let (input, survey) = Input::survey(&root, &list, &root.join("own")).unwrap();
        assert_eq!((survey.items, survey.bytes, survey.skipped), (5, 4, 0));
        let expected: [(&[u8], &str); 5] =
            [(b"a\nb", "3"), (b"b-/y", "2"), (b"b/empty", ""), (b"b/z", "1"), (b"\xff \x01", "4")];
        let expected: Vec<_> = (0..)
            .zip(expected)
            .map(|(n, (key, value))| (n, key.to_vec(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(keys(&input), expected);

        fs::write(root.join("b/z"), "9").unwrap();
        fs::remove_file(root.join("b/empty")).unwrap();
        let mut items = input.items().unwrap();
        let items: Vec<_> = std::iter::from_fn(|| items.next().unwrap()).map(Item::contents).collect();
        assert!(matches!(items[2], Err(Unreadable::Io)), "a file that has gone is said to be so");
        assert!(
            matches!(items[3], Err(Unreadable::Changed)),
            "a file that changed is not taken for the one listed"
        );
    }

    #[test]
    fn a_file_is_read_as_its_lines_in_the_order_of_its_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        fs::write(&path, b"one\n\n\xff\r\nlast").unwrap();
        let (input, survey) = Input::survey(&path, &dir.path().join("list"), dir.path()).unwrap();
        assert_eq!((survey.items, survey.bytes), (4, 9));
        let found = keys(&input);
        assert!(found.is_sorted_by_key(|(_, key, _)| key.clone()));
        let values: Vec<_> = found.iter().map(|(number, _, value)| (*number, value.as_slice())).collect();
        assert_eq!(values, [(0, &b"one"[..]), (1, b""), (2, b"\xff\r"), (3, b"last")]);
        assert_eq!(found[1].1, b"000000000002");
    }
}
