//! What was acknowledged: kept by the parent, in its memory, where no kill of the child reaches it.

/// The writes of one round that the child reported as acknowledged.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// The round that is being written. In every earlier one, everything was acknowledged.
    round: u64,
    items: u64,
    acknowledged: Bits,
    /// Items that cannot be written, because the input could not be read or has changed. Nothing is said about their keys.
    unreadable: Bits,
}

impl Ledger {
    /// Nothing acknowledged of `items` items.
    pub(crate) fn new(items: u64) -> Self {
        Self { round: 0, items, acknowledged: Bits::default(), unreadable: Bits::default() }
    }

    /// The round that is being written, from 0.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// How many items there are.
    pub(crate) fn items(&self) -> u64 {
        self.items
    }

    /// Takes note that the items from `first` to `last` were acknowledged; gives how many of them were not before.
    pub(crate) fn acknowledge(&mut self, first: u64, last: u64) -> u64 {
        let last = last.min(self.items.saturating_sub(1));
        let items = (first..=last).filter(|&item| !self.unreadable.get(item) && self.acknowledged.set(item));
        items.count() as u64
    }

    /// Takes note that an item cannot be written.
    pub(crate) fn give_up(&mut self, item: u64) {
        if item < self.items {
            self.unreadable.set(item);
            self.acknowledged.clear(item);
        }
    }

    /// Whether the item was acknowledged in this round.
    pub(crate) fn is_acknowledged(&self, item: u64) -> bool {
        self.acknowledged.get(item)
    }

    /// Whether nothing can be said about the item.
    pub(crate) fn is_unreadable(&self, item: u64) -> bool {
        self.unreadable.get(item)
    }

    /// How many items could not be written.
    pub(crate) fn unreadable(&self) -> u64 {
        self.unreadable.count
    }

    /// How many items there are left to write in this round.
    pub(crate) fn left(&self) -> u64 {
        self.items.saturating_sub(self.acknowledged.count).saturating_sub(self.unreadable.count)
    }

    /// Begins the next round; call it only when nothing is left in this one.
    pub(crate) fn next_round(&mut self) {
        self.round = self.round.saturating_add(1);
        self.acknowledged = Bits::default();
    }

    /// The items that need not be written, as ranges, both ends included.
    pub(crate) fn done(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for item in (0..self.items).filter(|&item| self.acknowledged.get(item) || self.unreadable.get(item)) {
            match ranges.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(item) => *last = item,
                _ => ranges.push((item, item)),
            }
        }
        ranges
    }
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Bits {
    words: Vec<u64>,
    count: u64,
}

impl Bits {
    fn get(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Whether it was not there before.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        if self.words.len() <= word {
            self.words.resize(word.saturating_add(1), 0);
        }
        match self.words.get_mut(word) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                self.count = self.count.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    fn clear(&mut self, number: u64) {
        let (word, bit) = Self::place(number);
        if let Some(word) = self.words.get_mut(word)
            && *word & bit != 0
        {
            *word &= !bit;
            self.count = self.count.saturating_sub(1);
        }
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;

    #[test]
    fn what_is_done_is_what_was_acknowledged_or_given_up() {
        let mut ledger = Ledger::new(200);
        assert_eq!((ledger.left(), ledger.done()), (200, vec![]));
        assert_eq!(ledger.acknowledge(0, 9), 10);
        assert_eq!(ledger.acknowledge(5, 69), 60);
        assert_eq!(ledger.acknowledge(190, 500), 10);
        ledger.give_up(70);
        ledger.give_up(3);
        ledger.give_up(3);
        ledger.give_up(1000);
        assert_eq!(ledger.acknowledge(3, 3), 0, "nothing is said about an item that could not be read");
        assert_eq!(ledger.done(), vec![(0, 70), (190, 199)]);
        assert_eq!((ledger.left(), ledger.unreadable()), (119, 2));
        assert!(ledger.is_acknowledged(4) && !ledger.is_acknowledged(3) && !ledger.is_acknowledged(70));
        ledger.acknowledge(0, 199);
        assert_eq!(ledger.left(), 0);
        ledger.next_round();
        assert_eq!((ledger.round(), ledger.left(), ledger.done()), (1, 198, vec![(3, 3), (70, 70)]));
    }
}
