//! The lines of a funnel that is broken down: the largest values by how many enter with them, then `$other` and `$none`.
//!
//! The fold knows values by their numbers. Which values the largest are is asked for once that is known; of equally large ones the first by
//! their texts.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use serde_json::value::RawValue;

use super::outcomes::Outcomes;
use crate::query::ask::breakdown::{Breakdown, LineOf, OTHER, Tops, hash, texts};
use crate::query::ask::dimensions::Dimensions;
use crate::query::ask::{Expr, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Row, StatementRunner};

/// Most values of one size among which the first are chosen.
const MOST_OF_A_SIZE: usize = 1_500_000;
/// Up to so many are asked for together with those that are larger.
const MOST_AT_ONCE: usize = 1_000;
/// Of more values the server groups those alone that are wanted, and hashes each event for it.
const MANY_VALUES: usize = 100_000;

/// What each line is.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// None without a breakdown: one line of all.
    tops: Option<Tops>,
    lines: HashMap<u64, i64>,
}

/// The number of a value by which it is told from others; 0 where there is none.
pub(super) fn number(by: &Dimensions) -> Expr {
    plain(Expr::call("if", [by.is_missing(), "toUInt64(0)".into(), hash(by.key())]), "UInt64")
}

/// A value as a column of numbers of that type: what is computed of a dictionary's column is one itself otherwise.
pub(super) fn plain(value: Expr, type_name: &'static str) -> Expr {
    let cast = Expr::from("CAST(").then(value).then(", '");
    cast.then(type_name).then("')")
}

impl Lines {
    /// The lines of `outcomes`, whose values are those of `events`.
    pub(super) async fn find(
        runner: &mut StatementRunner<'_>,
        breakdown: &Breakdown,
        events: Selection,
        outcomes: &Outcomes,
    ) -> Result<Self, QueryError> {
        let Some(by) = &breakdown.by else { return Ok(Self::default()) };
        let mut sizes: HashMap<u64, u64> = HashMap::new();
        for outcome in outcomes.all().iter().filter(|outcome| outcome.group != 0) {
            *sizes.entry(outcome.group).or_default() += 1;
        }
        let limit = breakdown.limit as usize;
        let mut largest: Vec<u64> = sizes.values().copied().collect();
        largest.sort_unstable_by_key(|size| Reverse(*size));
        let smallest = largest.get(limit.saturating_sub(1)).copied().unwrap_or(0);
        let (mut sure, mut last) = (Vec::new(), Vec::new());
        for (number, size) in &sizes {
            match size.cmp(&smallest) {
                std::cmp::Ordering::Greater => sure.push(*number),
                std::cmp::Ordering::Equal => last.push(*number),
                std::cmp::Ordering::Less => {}
            }
        }
        if last.len() > MOST_OF_A_SIZE {
            return Err(QueryError::too_expensive("the breakdown has too many values: ask for one of fewer"));
        }
        let mut rows = Vec::new();
        if last.len() <= MOST_AT_ONCE {
            sure.append(&mut last);
        }
        if !sure.is_empty() {
            rows = runner.rows(keys_of(by, events.clone(), &Wanted { numbers: &sure, limit: sure.len(), of: sizes.len() }).into()).await?;
        }
        if sure.len() < limit && !last.is_empty() {
            let wanted = Wanted { numbers: &last, limit: limit - sure.len(), of: sizes.len() };
            rows.extend(runner.rows(keys_of(by, events, &wanted).into()).await?);
        }
        let size = |row: &Row| sizes.get(&row.cell(1).uint()).copied().unwrap_or(0);
        rows.sort_by_cached_key(|row| (Reverse(size(row)), texts(row.cell(0))));
        rows.truncate(limit);
        let tops = Tops::read(&rows, by);
        Ok(Self { lines: tops.lines().collect(), tops: Some(tops) })
    }

    /// The line of a value.
    pub(super) fn of(&self, group: u64) -> i64 {
        match &self.tops {
            None => 0,
            Some(tops) if group == 0 => tops.none(),
            Some(_) => self.lines.get(&group).copied().unwrap_or(OTHER),
        }
    }

    /// The numbers of the lines in order; `$other` and `$none` where they are among those `present`.
    pub(super) fn in_order(&self, present: &BTreeSet<i64>) -> Vec<i64> {
        let Some(tops) = &self.tops else { return vec![0] };
        let rest = [OTHER, tops.none()].into_iter().filter(|line| present.contains(line));
        (0..tops.none()).chain(rest).collect()
    }

    /// What a line shows, and its kind.
    pub(super) fn shown(&self, line: i64) -> (Option<Box<RawValue>>, Option<Box<RawValue>>) {
        self.tops.as_ref().map(|tops| tops.shown(line)).map(|shown| (shown.value, shown.kind)).unzip()
    }

    /// The line that a bar names; none if it has none of its own.
    pub(super) fn named(&self, line: &LineOf) -> Option<i64> {
        line.number(self.tops.as_ref()?)
    }
}

/// Values whose keys are asked for.
struct Wanted<'a> {
    /// Their numbers.
    numbers: &'a [u64],
    /// Most keys.
    limit: usize,
    /// Among how many values they are.
    of: usize,
}

/// Of the values of these numbers the first by their texts: key and number of each.
fn keys_of(by: &Dimensions, events: Selection, wanted: &Wanted<'_>) -> Expr {
    let columns = Select::default().named(by.key(), " AS key").named(hash("key".into()), " AS hash");
    let are_wanted = Expr::from("hash IN ").then(Expr::uints(wanted.numbers.iter().copied()));
    let keys = match wanted.of > MANY_VALUES {
        true => columns.from(events.and(are_wanted)).then(" GROUP BY key"),
        false => columns.from(events).then(" GROUP BY key HAVING ").then(are_wanted),
    };
    keys.then(" ORDER BY key LIMIT ").then(Expr::uint(wanted.limit as u64))
}

/// The numbers of the values that a bar names, whether they have a line or not.
pub(super) async fn numbers_of(
    runner: &mut StatementRunner<'_>,
    by: &Dimensions,
    line: &LineOf,
    events: Selection,
) -> Result<Vec<u64>, QueryError> {
    let columns = Select::default().named(by.key(), " AS key").named(hash("key".into()), " AS hash");
    let statement = columns.from(events.and(line.condition(by, &Tops::default()))).then(" GROUP BY key LIMIT 100");
    Ok(runner.rows(statement.into()).await?.iter().map(|row| row.cell(1).uint()).collect())
}
