//! The bytes of a file, in pages that copies share until one of them changes.

use std::sync::{Arc, OnceLock};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// What copies share or own.
const PAGE: usize = 4096;

/// What a page that nobody wrote reads as.
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Bytes, cheap to copy; pages of zeros take no space.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    /// Bytes beyond the length are zeros.
    pages: Vec<Option<Arc<Page>>>,
    length: usize,
}

#[derive(Clone, Debug)]
struct Page {
    bytes: [u8; PAGE],
    /// Their hash, once somebody wanted it: most copies of a disk change a page or two, and all of it is hashed. Whoever changes the bytes empties it.
    hash: OnceLock<u128>,
}

impl Page {
    /// The bytes of a page that is this image's alone from now on.
    fn bytes_mut(page: &mut Arc<Self>) -> &mut [u8; PAGE] {
        let page = Arc::make_mut(page);
        page.hash = OnceLock::new();
        &mut page.bytes
    }

    fn hash(&self) -> u128 {
        *self.hash.get_or_init(|| xxh3_128(&self.bytes))
    }
}

impl Image {
    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Copies what there is from `offset` on and says how many bytes that were.
    pub(super) fn read(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let length = self.length.saturating_sub(offset).min(buffer.len());
        let mut at = offset;
        let mut rest = buffer.get_mut(..length).unwrap_or_default();
        while !rest.is_empty() {
            let within = at % PAGE;
            let (piece, after) = rest.split_at_mut(rest.len().min(PAGE - within));
            let page = self.page(at / PAGE).and_then(|page| page.bytes.get(within..within + piece.len()));
            match page {
                Some(bytes) => piece.copy_from_slice(bytes),
                None => piece.fill(0),
            }
            at += piece.len();
            rest = after;
        }
        length
    }

    /// A copy of all bytes.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.read(0, &mut bytes);
        bytes
    }

    /// Puts bytes there; the image grows as needed.
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len());
        if self.length < end {
            self.resize(end);
        }
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (piece, after) = rest.split_at(rest.len().min(PAGE - within));
            self.put_in_page(at / PAGE, within, piece);
            at += piece.len();
            rest = after;
        }
    }

    fn put_in_page(&mut self, number: usize, within: usize, piece: &[u8]) {
        let Some(slot) = self.pages.get_mut(number) else { return };
        if slot.is_none() && ZEROS.starts_with(piece) {
            return;
        }
        let page = slot.get_or_insert_with(|| Arc::new(Page { bytes: ZEROS, hash: OnceLock::new() }));
        if let Some(place) = Page::bytes_mut(page).get_mut(within..within + piece.len()) {
            place.copy_from_slice(piece);
        }
    }

    /// Cuts the image, or makes it longer with zeros.
    pub(super) fn resize(&mut self, length: usize) {
        self.pages.resize(length.div_ceil(PAGE), None);
        if length < self.length && !length.is_multiple_of(PAGE) {
            let last = self.pages.last_mut().and_then(Option::as_mut);
            if let Some(tail) = last.and_then(|page| Page::bytes_mut(page).get_mut(length % PAGE..)) {
                tail.fill(0);
            }
        }
        self.length = length;
    }

    /// Are there only zeros in the range? Beyond the end there are.
    pub(super) fn is_zero(&self, offset: usize, length: usize) -> bool {
        let mut bytes = vec![0; length];
        self.read(offset, &mut bytes);
        bytes.iter().all(|byte| *byte == 0)
    }

    /// Uses the other's pages where they hold the same bytes.
    pub(super) fn share(&mut self, other: &Self) {
        for (mine, theirs) in self.pages.iter_mut().zip(&other.pages) {
            if let (Some(one), Some(two)) = (&*mine, theirs)
                && !Arc::ptr_eq(one, two)
                && one.bytes == two.bytes
            {
                *mine = Some(Arc::clone(two));
            }
        }
    }

    /// Adds what differs from `base` to the hash: the same bytes add the same, however they are kept.
    pub(super) fn fingerprint(&self, base: &Self, hash: &mut Xxh3) {
        hash.update(&self.length.to_le_bytes());
        for number in 0..self.pages.len() {
            let (mine, theirs) = (self.page(number), base.page(number));
            let same = match (mine, theirs) {
                (Some(one), Some(two)) => std::ptr::eq(one, two) || one.bytes == two.bytes,
                (Some(one), None) => one.bytes == ZEROS,
                (None, Some(two)) => two.bytes == ZEROS,
                (None, None) => true,
            };
            if !same {
                hash.update(&number.to_le_bytes());
                // A page of zeros may be kept or not.
                let sum = mine.filter(|page| page.bytes != ZEROS).map_or(0, Page::hash);
                hash.update(&sum.to_le_bytes());
            }
        }
        // No page has this number.
        hash.update(&usize::MAX.to_le_bytes());
    }

    fn page(&self, number: usize) -> Option<&Page> {
        self.pages.get(number)?.as_deref()
    }
}

impl From<&[u8]> for Image {
    fn from(bytes: &[u8]) -> Self {
        let mut image = Self::default();
        image.put(0, bytes);
        image
    }
}
