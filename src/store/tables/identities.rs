//! `identities`: which ids belong to one person, and what was ruled of that by hand.
//!
//! A row says that two ids were tied: an `anonymousId` and a `userId` that came in one event, or the two of an alias. It follows from the
//! event alone, so it is written at least once, before the block that holds the event, and copies of a tie become one row. A crash in
//! between leaves a tie whose event the log still has. Rulings (merge and unmerge) come from the API alone; of several about one tie
//! that with the highest number counts, and a later one always has a higher number than all that can be read. Rows of one tie may be
//! in several shards: readers put them together.
//!
//! Promise: what is read of a project is read in pages, and of what was written lately alone where that will do.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use uuid::Uuid;

use super::{Rebuild, Rows, Table};
use crate::clickhouse::{ClickHouse, ClickHouseError, Client, Shard, Statement, TableName, Whole, native};
use crate::event::ids::{PersonKey, ProjectId};
use crate::store::places::Places;

/// The table.
pub const IDENTITIES: Table = Table { name: "identities", rows: Rows::Sharded, rebuild: Rebuild::Keep, is_fenced: false };

/// Ties of one insert: a few megabytes.
const TIES: usize = 50_000;
/// Ties of one page.
const PAGE: u64 = 200_000;
/// Kind, two keys, first time, ruling, when it was written last and first.
const TIE_BYTES: usize = 49;
/// The first event of a tie that no event has made.
const NO_EVENT_MS: i64 = i64::MAX;

/// What ties two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TieKind {
    /// An `anonymousId` and a `userId`.
    Device,
    /// Two ids of one user.
    Alias,
}

impl TieKind {
    /// As the table has it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Device => 1,
            Self::Alias => 2,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Device),
            2 => Some(Self::Alias),
            _ => None,
        }
    }
}

/// A device, and times and users of its turns.
type Turns = (Whole<u64>, Vec<Whole<i64>>, Vec<Whole<u64>>);

/// Moments of devices, each with several users, of which it is looked up who came first; in those beyond the users go by their keys.
const MOMENTS: usize = 10_000;

/// When devices of `project` changed hands: times and users of all tie points after another user's, in order. Those of one millisecond
/// are in the order of the log. `more` are tie points (device, time, user) besides those of the events that are stored,
/// and of those the ones of `undone` (device, user) are left out. Of events those up to `places` are looked at, if any are given.
pub async fn turns(
    reader: &Client,
    project: ProjectId,
    points: &TiePoints,
    places: Option<&Places>,
) -> Result<Vec<(u64, Vec<(i64, u64)>)>, ClickHouseError> {
    let TiePoints { devices, more, undone } = points;
    let to = Statement::of("SELECT device, arrayMap(point -> point.1, turns), arrayMap(point -> point.2, turns) FROM (SELECT device, ");
    let to = to.sql("arraySort(groupUniqArray((at, user))) AS points, arrayFilter((point, before, after, number) -> number = 1 OR ");
    let to = to.sql("point.2 != before.2 OR (point.1 = after.1 AND point.2 != after.2), points, ");
    let to = to.sql("arrayPushFront(arrayPopBack(points), points[1]), arrayPushBack(arrayPopFront(points), points[-1]), ");
    let to = to.sql("arrayEnumerate(points)) AS turns ");
    let to = to.sql("FROM (SELECT visitor_id AS device, ");
    let to = to.sql("toUnixTimestamp64Milli(timestamp) AS at, person_id AS user FROM events WHERE project_id = ").uint(project.0);
    let to = to.sql(" AND visitor_id IN ").uints(devices.iter().copied()).sql(" AND person_id != visitor_id");
    let to = up_to(places, without(undone, to))
        .sql(" GROUP BY device, at, user UNION ALL SELECT tie.1, tie.2, tie.3 FROM (SELECT arrayJoin(arrayZip(");
    let to = to.uints(more.iter().map(|(device, ..)| *device)).sql(", ").ints(more.iter().map(|(_, at_ms, _)| *at_ms)).sql(", ");
    let to = to.uints(more.iter().map(|(.., user)| *user)).sql(")) AS tie))");
    let rows: Vec<Turns> = reader.rows(&to.sql(" GROUP BY device)")).await?;
    let turns = |(device, times, users): Turns| (device.0, times.iter().zip(&users).map(|(at_ms, user)| (at_ms.0, user.0)).collect());
    let mut turns: Vec<(u64, Vec<(i64, u64)>)> = rows.into_iter().map(turns).collect();
    let several = turns.iter().flat_map(|(device, points)| {
        let several = points.chunk_by(|left, right| left.0 == right.0).filter(|of_moment| of_moment.len() > 1);
        several.filter_map(|of_moment| Some((*device, of_moment.first()?.0)))
    });
    let several: BTreeSet<(u64, i64)> = several.take(MOMENTS).collect();
    if !several.is_empty() {
        let orders = orders(reader, project, &several, undone, places).await?;
        turns.iter_mut().for_each(|(device, points)| in_order(points, |at_ms| orders.get(&(*device, at_ms))));
    }
    Ok(turns)
}

/// The users of events by device and moment, in the order of the log: each where it is first and where it is last.
type Orders = HashMap<(u64, i64), Vec<u64>>;

async fn orders(
    reader: &Client,
    project: ProjectId,
    moments: &BTreeSet<(u64, i64)>,
    undone: &[(u64, u64)],
    places: Option<&Places>,
) -> Result<Orders, ClickHouseError> {
    const PLACE: &str = "(log_epoch, log_partition, log_offset, log_index)";
    let devices: BTreeSet<u64> = moments.iter().map(|(device, _)| *device).collect();
    let times: BTreeSet<i64> = moments.iter().map(|(_, at_ms)| *at_ms).collect();
    let to = Statement::of("SELECT device, at, arrayMap(place -> place.2, arraySort(arrayConcat(groupArray((first, user)), ");
    let to = to.sql("groupArray((last, user))))) FROM (SELECT visitor_id AS device, toUnixTimestamp64Milli(timestamp) AS at, ");
    let to =
        to.sql("person_id AS user, min(").sql(PLACE).sql(") AS first, max(").sql(PLACE).sql(") AS last FROM events WHERE project_id = ");
    let to = to.uint(project.0).sql(" AND timestamp IN (SELECT fromUnixTimestamp64Milli(arrayJoin(").ints(times).sql("), 'UTC'))");
    let to = to.sql(" AND visitor_id IN ").uints(devices).sql(" AND person_id != visitor_id");
    let to = up_to(places, without(undone, to)).sql(" GROUP BY device, at, user) GROUP BY device, at");
    /// Device, time and users.
    type Row = (Whole<u64>, Whole<i64>, Vec<Whole<u64>>);
    let rows: Vec<Row> = reader.rows(&to).await?;
    Ok(rows.into_iter().map(|(device, at_ms, users)| ((device.0, at_ms.0), users.iter().map(|user| user.0).collect())).collect())
}

/// No events of ties that are undone: all is as if they had never been.
fn without(undone: &[(u64, u64)], to: Statement) -> Statement {
    if undone.is_empty() {
        return to;
    }
    let to = to.sql(" AND (visitor_id, person_id) NOT IN (SELECT tie.1, tie.2 FROM (SELECT arrayJoin(arrayZip(");
    let to = to.uints(undone.iter().map(|(device, _)| *device)).sql(", ").uints(undone.iter().map(|(_, user)| *user));
    to.sql(")) AS tie))")
}

fn up_to(places: Option<&Places>, to: Statement) -> Statement {
    places.into_iter().fold(to, |to, places| places.condition(to))
}

/// Puts the points of each moment into its order; a user without an event there (it is no longer stored) comes before the others.
fn in_order<'o>(points: &mut Vec<(i64, u64)>, order_of: impl Fn(i64) -> Option<&'o Vec<u64>>) {
    let moments = points.chunk_by(|left, right| left.0 == right.0);
    let ordered = moments.flat_map(|of_moment| {
        let at_ms = of_moment.first().map_or(0, |(at_ms, _)| *at_ms);
        let order = order_of(at_ms).filter(|_| of_moment.len() > 1).map_or(&[][..], Vec::as_slice);
        let (users, ordered): (HashSet<u64>, HashSet<u64>) =
            (of_moment.iter().map(|(_, user)| *user).collect(), order.iter().copied().collect());
        let unknown = of_moment.iter().map(|(_, user)| *user).filter(|user| !ordered.contains(user));
        let known = order.iter().copied().filter(|user| users.contains(user));
        unknown.chain(known).map(|user| (at_ms, user)).collect::<Vec<_>>()
    });
    *points = ordered.collect();
}

/// Which tie points are read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TiePoints {
    /// Of these devices.
    pub devices: Vec<u64>,
    /// Device, time and user of points that no event may tell of any more.
    pub more: Vec<(u64, i64, u64)>,
    /// Device and user of ties that are undone.
    pub undone: Vec<(u64, u64)>,
}

/// What was ruled of a tie by hand, if anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ruling(i64);

impl Ruling {
    /// Made or undone at `at_ms`, after all of `before`.
    pub fn after(before: Self, at_ms: i64, is_undone: bool) -> Self {
        Self((at_ms.max((before.0 >> 1) + 1) << 1) | i64::from(is_undone))
    }

    /// When; `None` if nothing was ruled.
    pub fn at_ms(self) -> Option<i64> {
        (self.0 != 0).then_some(self.0 >> 1)
    }

    /// Whether the tie is undone.
    pub fn is_undone(self) -> bool {
        self.0 & 1 == 1
    }
}

/// Which ids are tied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pair {
    /// What ties them.
    pub kind: TieKind,
    /// The anonymous id, or the one of before.
    pub from: PersonKey,
    /// The user.
    pub to: PersonKey,
}

/// A tie as an event makes it, or a ruling about one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// Its project.
    pub project: ProjectId,
    /// The ids, as keys.
    pub pair: Pair,
    /// The first id, as it was sent.
    pub from_id: String,
    /// The second.
    pub to_id: String,
    /// Time and id of the event that made it; `None` if none did.
    pub event: Option<(i64, [u8; 16])>,
    /// What was ruled of it.
    pub ruling: Ruling,
    /// When it was written first, by the server's clock; `None` before that is read.
    pub known_ms: Option<i64>,
}

/// What is known of a tie without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TieState {
    /// Which.
    pub pair: Pair,
    /// Of the first event that made it; `None` if none did.
    pub first_ms: Option<i64>,
    /// What was ruled of it.
    pub ruling: Ruling,
    /// When its last row was written, by the server's clock.
    pub written_ms: i64,
    /// Since when it counts: since it was written first, by the server's clock, or was known here first, by that of the reader.
    pub known_ms: i64,
}

impl Tie {
    /// What is known of it once it was written, by this row alone.
    pub fn state(&self) -> TieState {
        TieState { pair: self.pair, first_ms: self.event.map(|(at_ms, _)| at_ms), ruling: self.ruling, written_ms: 0, known_ms: 0 }
    }
}

/// Writes ties into the table of one server.
pub async fn insert(server: &Client, table: &TableName, ties: &[Tie]) -> Result<(), ClickHouseError> {
    for ties in ties.chunks(TIES) {
        let into = Statement::of("INSERT INTO ").table(table);
        let into = into.sql(" (project_id, kind, from_key, to_key, from_id, to_id, first, ruling)");
        server.insert(&into, [encode(ties)], &format!("pulse-ties-{}", Uuid::new_v4())).await?;
    }
    Ok(())
}

/// Ties as one block.
fn encode(ties: &[Tie]) -> Bytes {
    let mut out = Vec::new();
    native::begin_block(&mut out, 8, ties.len());
    let numbers = |out: &mut Vec<u8>, name: &str, number: fn(&Tie) -> u64| {
        native::put_values(ties.iter().map(|tie| number(tie).to_le_bytes()), name, "UInt64", out);
    };
    numbers(&mut out, "project_id", |tie| tie.project.0);
    native::put_values(ties.iter().map(|tie| [tie.pair.kind.code()]), "kind", "UInt8", &mut out);
    numbers(&mut out, "from_key", |tie| tie.pair.from.0);
    numbers(&mut out, "to_key", |tie| tie.pair.to.0);
    native::put_strings(ties.iter().map(|tie| tie.from_id.as_bytes()), "from_id", &mut out);
    native::put_strings(ties.iter().map(|tie| tie.to_id.as_bytes()), "to_id", &mut out);
    // A tuple is its columns one after the other.
    let first_ms = |tie: &Tie| tie.event.map_or(NO_EVENT_MS, |(at_ms, _)| at_ms);
    native::put_values(ties.iter().map(|tie| first_ms(tie).to_le_bytes()), "first", "Tuple(Int64, UUID)", &mut out);
    ties.iter().for_each(|tie| out.extend_from_slice(&native::uuid_bytes(tie.event.map_or([0; 16], |(_, id)| id))));
    native::put_values(ties.iter().map(|tie| tie.ruling.0.to_le_bytes()), "ruling", "Int64", &mut out);
    Bytes::from(out)
}

/// Writes rulings: to one server, whichever takes them. The rows of one tie need not be in one shard.
pub async fn rule(store: &ClickHouse, ties: &[Tie]) -> Result<(), ClickHouseError> {
    let table = store.table(IDENTITIES.name());
    let mut ended = Ok(());
    for server in store.shards.iter().flat_map(Shard::replicas) {
        ended = insert(&server.writer, &table, ties).await;
        if ended.is_ok() {
            break;
        }
    }
    ended
}

/// The ties of a project, in order, or those written at `since_ms` or later by the clock of their server; at most `most`.
pub async fn states(reader: &Client, project: ProjectId, since_ms: i64, most: usize) -> Result<Vec<TieState>, ClickHouseError> {
    let mut states: Vec<TieState> = Vec::new();
    loop {
        let (mut rows, after) = (0, states.last().map(|state| state.pair));
        let take = |row: &[u8; TIE_BYTES]| {
            rows += 1;
            states.extend(state(row));
        };
        reader.each(&page(project, since_ms, after), take).await?;
        if rows < PAGE || states.len() >= most {
            states.truncate(most);
            return Ok(states);
        }
    }
}

fn page(project: ProjectId, since_ms: i64, after: Option<Pair>) -> Statement {
    let to = Statement::of("SELECT kind, from_key, to_key, tupleElement(min(first), 1), max(ruling), ");
    let to = to.sql("toUnixTimestamp64Milli(max(written_at)), toUnixTimestamp64Milli(min(known_at)) FROM identities WHERE project_id = ");
    let to = to.uint(project.0);
    let to = to.sql(" AND written_at >= fromUnixTimestamp64Milli(").int(since_ms).sql(")");
    let to = match after {
        Some(Pair { kind, from, to: user }) => {
            let to = to.sql(" AND (kind, from_key, to_key) > (").uint(kind.code().into());
            to.sql(", ").uint(from.0).sql(", ").uint(user.0).sql(")")
        }
        None => to,
    };
    to.sql(" GROUP BY kind, from_key, to_key ORDER BY kind, from_key, to_key LIMIT ").uint(PAGE)
}

fn state(row: &[u8; TIE_BYTES]) -> Option<TieState> {
    let (kind, rest) = row.split_first()?;
    let (numbers, _) = rest.as_chunks::<8>();
    let [from, to, first_ms, ruling, written_ms, known_ms] = <[[u8; 8]; 6]>::try_from(numbers).ok()?;
    let pair = Pair { kind: TieKind::of(*kind)?, from: PersonKey(u64::from_le_bytes(from)), to: PersonKey(u64::from_le_bytes(to)) };
    let first_ms = Some(i64::from_le_bytes(first_ms)).filter(|first_ms| *first_ms != NO_EVENT_MS);
    let (written_ms, known_ms) = (i64::from_le_bytes(written_ms), i64::from_le_bytes(known_ms));
    Some(TieState { pair, first_ms, ruling: Ruling(i64::from_le_bytes(ruling)), written_ms, known_ms })
}

/// The ties of any of `keys`, undone ones too, with their texts; at most `most`.
pub async fn of_keys(reader: &Client, project: ProjectId, keys: &[PersonKey], most: usize) -> Result<Vec<Tie>, ClickHouseError> {
    let keys = || keys.iter().map(|key| key.0);
    let to = Statement::of("SELECT kind, from_key, to_key, max(from_id), max(to_id), tupleElement(min(first), 1), ");
    let to = to.sql("toString(tupleElement(min(first), 2)), max(ruling), toUnixTimestamp64Milli(min(known_at)) FROM identities ");
    let to = to.sql("WHERE project_id = ").uint(project.0);
    let to = to.sql(" AND (from_key IN ").uints(keys()).sql(" OR to_key IN ").uints(keys());
    let to = to.sql(") GROUP BY kind, from_key, to_key ORDER BY kind, from_key, to_key LIMIT ").uint(most as u64);
    let rows: Vec<TieRow> = reader.rows(&to).await?;
    Ok(rows.into_iter().filter_map(|row| tie(project, row)).collect())
}

/// Kind, keys, texts, time and id of the first event, ruling, when it was written first.
type TieRow = (u8, Whole<u64>, Whole<u64>, String, String, Whole<i64>, Uuid, Whole<i64>, Whole<i64>);

fn tie(project: ProjectId, row: TieRow) -> Option<Tie> {
    let (kind, from, to, from_id, to_id, first_ms, event_id, ruling, known_ms) = row;
    let pair = Pair { kind: TieKind::of(kind)?, from: PersonKey(from.0), to: PersonKey(to.0) };
    let event = (first_ms.0 != NO_EVENT_MS).then(|| (first_ms.0, event_id.into_bytes()));
    Some(Tie { project, pair, from_id, to_id, event, ruling: Ruling(ruling.0), known_ms: Some(known_ms.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_ruling_counts_whatever_the_clocks_say() {
        let undone = Ruling::after(Ruling::default(), 5_000, true);
        assert_eq!((undone.at_ms(), undone.is_undone()), (Some(5_000), true));
        let made = Ruling::after(undone, 4_000, false);
        assert!(made > undone && !made.is_undone());
        assert!(Ruling::after(made, 4_000, true) > made);
        assert_eq!(Ruling::default().at_ms(), None);
    }
}
