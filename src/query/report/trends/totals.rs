//! Totals of a breakdown by one look at all events: how often each value was counted in each bucket. The largest values have lines of their own,
//! and the rest is added up here. A look at some of the events says before how many values there may be; where they are too many for that, or where
//! events are joined to something, which both looks would do, the largest are found first ([`super::Trends::tops`]).

use std::cmp::Reverse;
use std::collections::HashMap;

use super::chart::Lines;
use crate::query::ask::breakdown::{Breakdown, OTHER, Tops, hash, is_none, texts};
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::interval::Buckets;
use crate::query::ask::{Expr, Select, Selection};
use crate::query::error::{ErrorClass, QueryError};
use crate::query::reader::{Row, StatementRunner};

/// So many events are looked at for how many values there may be ...
const PROBED: u64 = 100_000;
/// ... and these are few.
const FEW_VALUES: u64 = 1_000;
/// Most numbers of values and buckets that are read.
const MOST_COUNTS: u64 = 50_000;
/// What the four cells of a row take beside the text of the value, bytes.
const OF_CELLS: usize = 256;

/// What is counted.
#[derive(Clone, Copy)]
pub(super) struct Totals<'a> {
    pub(super) breakdown: &'a Breakdown,
    pub(super) by: &'a Dimensions,
    pub(super) buckets: &'a Buckets,
}

/// What was counted.
pub(super) struct Totalled {
    pub(super) tops: Tops,
    pub(super) lines: Lines,
}

impl Totals<'_> {
    /// How many of `events` there are by value and bucket; none where these are too many numbers.
    pub(super) async fn read(self, runner: &mut StatementRunner<'_>, events: Selection) -> Result<Option<Totalled>, QueryError> {
        if self.by.fields.iter().any(|field| field.is_trait() || field.is_of_session()) {
            return Ok(None);
        }
        let probe = Select::default().named(self.by.key(), " AS key").from(events.clone()).then(" LIMIT ").then(Expr::uint(PROBED));
        let probe = Expr::from("SELECT uniqExact(key) FROM ").then(probe.enclosed());
        let values = runner.rows(probe.into()).await?.first().map_or(0, |row| row.cell(0).uint());
        if values > FEW_VALUES || values.saturating_mul(self.buckets.len() as u64) > MOST_COUNTS {
            return Ok(None);
        }
        let columns = Select::default().named(self.buckets.start(), " AS bucket").named(self.by.key(), " AS key");
        let columns = columns.named(hash("key".into()), " AS hash").named("count()", " AS size");
        let counts = columns.from(events).then(" GROUP BY bucket, key LIMIT ").then(Expr::uint(MOST_COUNTS + 1));
        let (mut held, mut rows, mut bytes, mut is_full) = (runner.memory(), Vec::new(), 0, false);
        let counted = runner.each(counts.into(), |row: Row| {
            bytes += size_of::<Row>() + OF_CELLS + texts(row.cell(1)).iter().map(String::len).sum::<usize>();
            is_full |= rows.len() as u64 == MOST_COUNTS || held.set(bytes).is_err();
            if !is_full {
                rows.push(row);
            }
        });
        match counted.await {
            // The ranking holds fewer numbers.
            Err(problem) if problem.class == ErrorClass::TooExpensive || problem.takes_too_much() => return Ok(None),
            counted => counted?,
        }
        if is_full {
            return Ok(None);
        }
        let mut sizes = HashMap::new();
        for row in &rows {
            let [_, key, hash, size] = row.columns();
            let (of_value, _) = sizes.entry(hash.uint()).or_insert((0, key));
            *of_value += size.uint();
        }
        let mut largest: Vec<_> = sizes.into_iter().filter(|(_, (_, key))| !is_none(*key)).collect();
        largest.sort_by_cached_key(|(_, (size, key))| (Reverse(*size), texts(*key)));
        largest.truncate(usize::try_from(self.breakdown.limit).unwrap_or(usize::MAX));
        let tops = Tops::read_keys(largest.into_iter().map(|(hash, (_, key))| (key, hash)), self.by);
        let of_values: HashMap<u64, i64> = tops.lines().collect();
        let mut lines = Lines::new(self.buckets, tops.len(), Some(0.0));
        for row in &rows {
            let [bucket, key, hash, size] = row.columns();
            let unlisted = || if is_none(key) { tops.none() } else { OTHER };
            let line = of_values.get(&hash.uint()).copied().unwrap_or_else(unlisted);
            lines.count(line, self.buckets.index(bucket.int()), size.uint());
        }
        Ok(Some(Totalled { tops, lines }))
    }
}
