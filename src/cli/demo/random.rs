//! Chance that is the same each time: what follows from a number.

/// A generator that is good enough to shuffle with (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// What follows from these numbers, and from no others.
    pub(super) fn of(parts: &[i64]) -> Self {
        let mut random = Self(0x5EED_0F7E_A54F);
        for part in parts {
            random.0 ^= part.unsigned_abs();
            random.0 = random.next();
        }
        random
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to below 1.
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something of this chance happens.
    pub(super) fn is(&mut self, chance: f64) -> bool {
        self.fraction() < chance
    }

    /// A whole number below `end`, which is above 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// One of them, as often as `share` says beside the others.
    pub(super) fn one_of<'a, T>(&mut self, choices: &'a [T], share: impl Fn(&T) -> f64) -> Option<&'a T> {
        let mut left = self.fraction() * choices.iter().map(&share).sum::<f64>();
        choices.iter().find(|choice| {
            left -= share(choice);
            left < 0.0
        })
    }
}
