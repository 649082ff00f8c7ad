//! One scan for several funnels, whose events are read once and handed to each.
//!
//! Promise: each is answered as if it had read them itself. Those share a scan that are about one range, and one window where the range is over,
//! with the same filters, and whose events their types tell: a row is then a person, a time and the number of a type, however many funnels
//! there are. With conditions of its own on steps one would have the others read what these need, with a longer window what only it needs, and
//! with `breakdown`, `hold`, `strict` or `sessions` more of each event, or all events; one with `compare` reads for itself anyhow.
//! Cost: one scan of the events of all, and for each funnel a look at each of them. Together they hold what one may.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::fold::{MOST_STEPS, Order};
use super::packed::Clock;
use super::rows::{BitsOfTypes, Columns, PARTS, Rows};
use super::steps::Events;
use super::{Count, Funnel, lines};
use crate::clickhouse::Block;
use crate::query::ask::filter::Filter;
use crate::query::ask::selection::PERSON;
use crate::query::ask::{CanonicalForm, EventSet, Expr, Range, Select, Selection};
use crate::query::error::QueryError;
use crate::query::reader::{Held, StatementRunner};

/// What is read of events that several funnels share: the types tell the rest.
const COLUMNS: Columns = Columns { held: false, group: false, person: false, place: false };
/// Most types of events of a scan: each is compared with that of each event.
pub(crate) const MOST_TYPES: usize = 64;

/// What a funnel reads that others may read with it.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The range, how far events reach that follow an entry in it, and until when they are looked at.
    range: Range,
    reach: Range,
    seen: Range,
    filters: Arc<[Filter]>,
    /// In order.
    types: Vec<OfType>,
}

/// The events of a type, and which steps and exclusions they are: a bit for each.
#[derive(Clone, Debug)]
struct OfType {
    name: String,
    bits: u32,
}

/// The events of one funnel, and the memory of all who share the scan, of which they take a part.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(super) rows: Rows,
    memory: Held,
}

impl Scan {
    /// Which scans are one: those of the same form.
    pub(crate) fn form(&self) -> u128 {
        let mut form = CanonicalForm::of("", "scan");
        form.field("range", &self.range).field("until", &self.seen.until_ms).set("filters", &self.filters);
        form.fingerprint()
    }

    /// The types of its events, in order.
    pub(crate) fn types(&self) -> impl Iterator<Item = &str> {
        self.types.iter().map(|of| of.name.as_str())
    }

    /// The same with the filters of another one of its form: they are there once then.
    pub(crate) fn with_filters_of(self, other: &Self) -> Self {
        Self { filters: Arc::clone(&other.filters), ..self }
    }

    /// What its events must pass.
    pub(crate) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// The events that it is about, but for its filters: those of the first step are of the range itself.
    pub(crate) fn event_sets(&self) -> Vec<EventSet<'_>> {
        let mut sets = Vec::new();
        for of in &self.types {
            let set = |range| EventSet { range, event: Some(&of.name), filters: Vec::new() };
            sets.extend((of.bits & 1 != 0).then(|| set(&self.range)));
            sets.extend((of.bits & !1 != 0).then(|| set(&self.reach)));
        }
        sets
    }

    /// What events are to it whose types are numbered from 1 as in `types`.
    fn bits_of(&self, types: &[&str]) -> BitsOfTypes {
        let bits = |name: &&str| self.types.iter().find(|of| of.name == **name).map_or(0, |of| of.bits);
        BitsOfTypes { bits: std::iter::once(0).chain(types.iter().map(bits)).collect() }
    }
}

impl Scanned {
    /// The memory of all who share the scan.
    pub(crate) fn memory(&self) -> Held {
        self.memory.another()
    }
}

impl Funnel {
    /// What it reads, if others may read it as well.
    pub(super) fn scan_at(&self, now_ms: i64) -> Option<Scan> {
        let needs_more = self.breakdown.by.is_some() || self.order == Order::Strict || self.count == Count::Sessions;
        if needs_more || self.compare.is_some() || !self.are_types_alone() {
            return None;
        }
        let mut types: Vec<OfType> = Vec::new();
        let bit_of = |events, bit| (events, 1_u32 << bit);
        let steps = self.steps.iter().enumerate().map(|(step, of)| bit_of(&of.events, step));
        let exclusions = self.exclusions.iter().enumerate().map(|(exclusion, of)| bit_of(&of.events, MOST_STEPS + exclusion));
        for (events, bit) in steps.chain(exclusions) {
            for name in Events::names(events) {
                match types.binary_search_by(|of| of.name.as_str().cmp(name)) {
                    Ok(at) => types.get_mut(at).into_iter().for_each(|of| of.bits |= bit),
                    Err(_) if types.len() == MOST_TYPES => return None,
                    Err(at) => types.insert(at, OfType { name: name.clone(), bits: bit }),
                }
            }
        }
        let (seen, whole) = (self.seen(&self.whole, now_ms)?, &self.whole);
        Some(Scan { range: whole.range.clone(), reach: whole.reach.clone(), seen, filters: self.filters.as_slice().into(), types })
    }
}

/// What a scan has come to so far for one of its funnels.
struct Share {
    of_types: BitsOfTypes,
    memory: Held,
    /// None once there was no room for them.
    rows: Option<Rows>,
}

/// Reads what `scans`, which are of one form, need; none of one for whose events there is no room: it must read by itself.
///
/// # Errors
/// Those of the store.
pub(crate) async fn read(scans: &[&Scan], runner: &mut StatementRunner<'_>) -> Result<Vec<Option<Scanned>>, QueryError> {
    let Some(first) = scans.first() else { return Ok(Vec::new()) };
    let mut types: Vec<&str> = scans.iter().flat_map(|scan| scan.types()).collect();
    types.sort_unstable();
    types.dedup();
    let number = types.iter().zip(1..).map(|(name, number)| {
        let is_it = Expr::from("type = ").then(Expr::text(*name)).grouped();
        Expr::call("toUInt16", [is_it]).infix(" * ", Expr::uint(number))
    });
    let events = Selection::of(runner.scope(&first.seen)).filters(&first.filters);
    let statement = Select::default()
        .named(lines::plain(PERSON.into(), "UInt64"), " AS key")
        .column("toUnixTimestamp64Milli(timestamp)")
        .column(lines::plain(Expr::list(" + ", number), "UInt16"))
        .from(events.and(Expr::from("type IN ").then(Expr::texts(types.iter().copied()))));
    let clock = Clock::of(first.seen.from_ms, first.seen.until_ms);
    let share = |scan: &&Scan| {
        let memory = runner.memory();
        let rows = Rows::new(COLUMNS, clock, 0..PARTS, memory.another()).among(scans.len());
        Share { of_types: scan.bits_of(&types), memory, rows: Some(rows) }
    };
    let mut shares: Vec<Share> = scans.iter().map(share).collect();
    let take = |block: &Block<'_>| {
        for share in &mut shares {
            // What it holds is given back at once.
            share.rows.take_if(|rows| rows.take_shared(block, &share.of_types).is_break() || rows.until() != Ok(PARTS));
        }
        if shares.iter().any(|share| share.rows.is_some()) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    runner.blocks(statement.into(), take).await?;
    Ok(shares.into_iter().map(|Share { rows, memory, .. }| Some(Scanned { rows: rows?, memory })).collect())
}
