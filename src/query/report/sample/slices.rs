//! Slices of a time, chosen at random. Pure.
//!
//! The time is cut into strata of equal length, each of these into as many slices as two of them shall stand for, and two are chosen in each:
//! wherever in it something happens, it is looked at as often as anything else, so no rhythm of the events agrees with one of the choice.
//! Which ones is decided by the time and its cuts alone: who asks again is answered from the same events.

use xxhash_rust::xxh3::xxh3_64;

use crate::query::ask::Expr;

/// A time, milliseconds since 1970: the first moment, and the one behind the last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from_ms: i64,
    pub(super) until_ms: i64,
}

/// The slices that are looked at.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    from_ms: i64,
    width_ms: i64,
    /// Slices of a stratum.
    of_stratum: i64,
    /// Numbers of slices, two a stratum.
    chosen: Vec<[i64; 2]>,
}

impl Slices {
    /// Of each of `strata` parts of `span` two slices, which are one in `share` of it.
    pub(super) fn of(span: Span, strata: u32, share: u32) -> Self {
        let length_ms = span.until_ms.saturating_sub(span.from_ms).max(1) as u64;
        let (strata, of_stratum) = (u64::from(strata), 2 * u64::from(share.max(1)));
        let width_ms = length_ms.div_ceil(strata * of_stratum);
        let chosen = (0..strata).map(|stratum| {
            let parts = [span.from_ms as u64, length_ms, strata, of_stratum, stratum];
            let random = xxh3_64(&parts.map(u64::to_le_bytes).concat());
            let first = random % of_stratum;
            let other = (first + 1 + (random >> 32) % (of_stratum - 1)) % of_stratum;
            [first, other].map(|slice| (stratum * of_stratum + slice) as i64)
        });
        Self { from_ms: span.from_ms, width_ms: width_ms as i64, of_stratum: of_stratum as i64, chosen: chosen.collect() }
    }

    pub(super) fn strata(&self) -> usize {
        self.chosen.len()
    }

    /// The stratum of a chosen slice, and which of its two it is.
    pub(super) fn place(&self, slice: i64) -> Option<(usize, usize)> {
        let stratum = usize::try_from(slice / self.of_stratum).ok()?;
        Some((stratum, self.chosen.get(stratum)?.iter().position(|chosen| *chosen == slice)?))
    }

    /// The number of the slice that an event is in. The server finds by it where in its order the events of a slice are.
    pub(super) fn number(&self) -> Expr {
        let since = Expr::from("toUnixTimestamp64Milli(timestamp) - ").then(Expr::int(self.from_ms));
        Expr::call("intDiv", [since, Expr::int(self.width_ms)])
    }

    /// The condition that an event is in a chosen slice.
    pub(super) fn condition(&self) -> Expr {
        self.number().infix(" IN ", Expr::ints(self.chosen.iter().flatten().copied()))
    }

    /// The stratum of an event that is in a chosen slice.
    pub(super) fn stratum(&self) -> Expr {
        Expr::call("intDiv", [self.number(), Expr::int(self.of_stratum)])
    }

    /// 1 for an event of the first slice of its stratum, -1 for one of the other.
    pub(super) fn side(&self) -> Expr {
        let is_first = self.number().infix(" IN ", Expr::ints(self.chosen.iter().map(|[first, _]| *first)));
        Expr::call("if", [is_first, "1".into(), "-1".into()])
    }

    /// The number of the slice of a moment.
    #[cfg(test)]
    pub(super) fn of_moment(&self, at_ms: i64) -> i64 {
        (at_ms - self.from_ms) / self.width_ms
    }
}
