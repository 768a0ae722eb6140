//! Inputs to begin with: the committed ones, and more like them from a seed.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;

use super::Target;

/// Longest input that is made here.
const INPUT_BYTES: u64 = 400;

/// A small generator, so that a seed gives the same inputs for ever.
#[derive(Clone, Debug)]
pub struct Inputs {
    state: u64,
    /// What new inputs are made from.
    known: Vec<Vec<u8>>,
}

impl Inputs {
    /// Inputs like `known` ones, and others.
    pub fn new(seed: u64, known: Vec<Vec<u8>>) -> Self {
        Self { state: seed, known }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn random(&mut self) -> Vec<u8> {
        let length = 1 + self.next() % (1 + self.next() % INPUT_BYTES);
        // Small numbers are lengths, choices and yes or no; large ones are garbage.
        let small = self.next().is_multiple_of(3);
        let byte = |bits: u64| if small { bits as u8 % 16 } else { bits as u8 };
        (0..length).map(|_| byte(self.next())).collect()
    }

    /// The next input: new, or one that is known with a few bytes changed, taken out, put in, or two of them joined.
    pub fn input(&mut self) -> Vec<u8> {
        if self.known.is_empty() || self.next().is_multiple_of(4) {
            return self.random();
        }
        let one = self.below(self.known.len());
        let mut input = self.known[one].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len());
            match self.next() % 5 {
                0 if !input.is_empty() => input[at] = self.next() as u8,
                1 if !input.is_empty() => input[at] ^= 1 << (self.next() % 8),
                2 if !input.is_empty() => {
                    input.remove(at);
                }
                3 => input.insert(at, self.next() as u8),
                _ => {
                    let other = self.below(self.known.len());
                    let from = self.below(self.known[other].len());
                    let tail = self.known[other][from..].to_vec();
                    input.truncate(at);
                    input.extend_from_slice(&tail);
                }
            }
        }
        input
    }
}

/// Where the committed inputs of a target are.
pub fn directory(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join("corpus").join(name)
}

/// The committed inputs of a target, by file name.
pub fn committed(name: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(directory(name)).expect("every target has a corpus");
    let file = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

/// Makes a corpus: of `tries` inputs from a seed the shortest for each outcome, at most `most` of them, named after the outcome.
pub fn generate((_, run): Target, tries: usize, most: usize) -> BTreeMap<String, Vec<u8>> {
    let mut inputs = Inputs::new(1, Vec::new());
    let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for _ in 0..tries {
        let input = inputs.input();
        let outcome = file_name(&run_or_tell(run, &input, "a generated input"));
        let room = found.len() < most;
        match found.get_mut(&outcome) {
            Some(known) if input.len() < known.len() => *known = input.clone(),
            None if room => {
                found.insert(outcome, input.clone());
                inputs.known.push(input);
            }
            _ => {}
        }
    }
    found
}

/// Runs it; if it panics, tells on which bytes.
pub fn run_or_tell(run: fn(&[u8]) -> String, input: &[u8], what: &str) -> String {
    catch_unwind(AssertUnwindSafe(|| run(input))).unwrap_or_else(|panic| {
        eprintln!("it fails on {what}: {input:?}");
        resume_unwind(panic)
    })
}

fn file_name(outcome: &str) -> String {
    let words = outcome.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_").to_lowercase();
    name.chars().take(100).collect()
}
