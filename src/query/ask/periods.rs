//! In which periods people were active: one bit a period, in words of 64, so that what is held of a person is small and the same
//! whatever they did.

use super::expr::Expr;
use super::interval::{Buckets, Interval};
use super::range::Range;
use crate::query::error::QueryError;

/// Most periods of one answer: of each person as many bits are held.
const MOST: usize = 1_000;
/// Bits of a word.
const BITS: usize = 64;
/// When an event happened, milliseconds since 1970.
pub(crate) const AT: &str = "toUnixTimestamp64Milli(timestamp)";

/// Consecutive periods, numbered from 0.
#[derive(Clone, Debug)]
pub(crate) struct Periods {
    buckets: Buckets,
}

impl Periods {
    /// Those that `range` lies in, with as many more before and after them.
    ///
    /// # Errors
    /// 400 `too_many_buckets`.
    pub(crate) fn of(range: &Range, interval: Interval, more: [usize; 2]) -> Result<Self, QueryError> {
        let too_many = || QueryError::invalid("too_many_buckets", format!("the range has more than {MOST} periods"));
        let buckets = Buckets::of(range, interval)?;
        if buckets.len() > MOST {
            return Err(too_many());
        }
        Ok(Self { buckets: buckets.extended(range, interval, more)? })
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// When each starts.
    pub(crate) fn starts(&self) -> &[i64] {
        self.buckets.starts()
    }

    /// When number `number` starts and ends; nothing where there is no such period.
    pub(crate) fn bounds(&self, number: usize) -> Option<(i64, i64)> {
        Some((*self.buckets.edges().get(number)?, *self.buckets.edges().get(number + 1)?))
    }

    /// The number of the one that starts at `start_ms`.
    pub(crate) fn number(&self, start_ms: i64) -> Option<usize> {
        self.buckets.index(start_ms)
    }

    /// The number of the period of `at`, milliseconds since 1970; any number where none holds it.
    pub(crate) fn number_of(&self, at: &'static str) -> Expr {
        self.buckets.number_of(at)
    }

    /// Of each whether it lies only partly in `range` or is not over at `now_ms`.
    pub(crate) fn partial(&self, range: &Range, now_ms: i64) -> Vec<bool> {
        self.buckets.partial(range, now_ms)
    }

    /// The numbers of the words.
    pub(crate) fn words(&self) -> std::ops::Range<usize> {
        0..self.len().div_ceil(BITS)
    }

    /// An array of words: the periods in which a person has an event that is not before `from_ms`.
    pub(crate) fn with_event(&self, from_ms: i64) -> Expr {
        let from_ms = from_ms.max(self.starts().first().copied().unwrap_or(from_ms));
        let number = self.number_of(AT);
        let word = |word| {
            let is_in = Expr::all([Expr::from(AT).infix(" >= ", Expr::int(from_ms)), is_in_word(number.clone(), word)]);
            Expr::call("groupBitOrIf", [bit_of(number.clone()), is_in])
        };
        Expr::from("[").then(Expr::list(", ", self.words().map(word))).then("]")
    }

    /// The bit, in a word, of the period whose number `number` is and that holds `at`; none where it is in another word, or `at` before
    /// all periods.
    pub(crate) fn bit_in_word(&self, at: &'static str, number: &'static str, word: usize) -> Expr {
        let first = self.starts().first().copied().unwrap_or_default();
        let is_in = Expr::all([Expr::from(at).infix(" >= ", Expr::int(first)), is_in_word(number.into(), word)]);
        Expr::call("if", [is_in, bit_of(number.into()), "toUInt64(0)".into()])
    }

    /// The bits of a word that stand for periods, but for the first `without`.
    pub(crate) fn mask(&self, word: usize, without: usize) -> u64 {
        let is_period = |bit: &usize| (without..self.len()).contains(&(word * BITS + bit));
        (0..BITS).filter(is_period).fold(0, |mask, bit| mask | 1 << bit)
    }
}

fn bit_of(number: Expr) -> Expr {
    Expr::call("bitShiftLeft", ["toUInt64(1)".into(), Expr::call("bitAnd", [number, "63".into()])])
}

fn is_in_word(number: Expr, word: usize) -> Expr {
    Expr::call("intDiv", [number, "64".into()]).infix(" = ", Expr::int(word as i64))
}

/// Word number `word` of an array.
pub(crate) fn word_of(array: &'static str, word: usize) -> Expr {
    Expr::from(array).then("[").then(Expr::uint(word as u64 + 1)).then("]")
}

/// The array of the numbers of the bits in a word.
pub(crate) fn numbers_in(bits: Expr, word: usize) -> Expr {
    let number = Expr::from("bit -> bit + ").then(Expr::uint((word * BITS) as u64));
    Expr::call("arrayMap", [number, Expr::call("bitPositionsToArray", [bits])])
}

/// The condition that `bits`, a word, have that of period `number`.
pub(crate) fn has_bit(bits: Expr, number: usize) -> Expr {
    Expr::call("bitTest", [bits, Expr::uint((number % BITS) as u64)])
}

/// The word of a period.
pub(crate) fn word_of_period(number: usize) -> usize {
    number / BITS
}
