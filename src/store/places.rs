//! How far a table had come in the log: the set of its rows that was there then, whatever was loaded later.
//!
//! Promise: what a loader has stored is there up to an offset of each partition ([`super::books`]), and a row never changes its place, so the
//! rows at or below these offsets are the same at any later time, but for what expires, is erased or is replayed from another log.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use crate::clickhouse::Statement;
use crate::event::ids::LogEpoch;

/// Most places that are read: more than a log has partitions, however often it was made anew.
const MOST: usize = 8_192;

/// The last raw offset that is meant, by epoch and partition; of other partitions nothing is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places(BTreeMap<u64, BTreeMap<u16, i64>>);

impl Places {
    /// Up to `offset` of a partition.
    pub fn add(&mut self, epoch: LogEpoch, partition: u16, offset: i64) {
        self.0.entry(epoch.0).or_default().insert(partition, offset);
    }

    /// Appends the condition that an event, or what is said of one, is there: ` AND …`.
    pub fn condition(&self, to: Statement) -> Statement {
        let (mut to, mut is_first) = (to.sql(" AND ("), true);
        for (epoch, partitions) in &self.0 {
            let or = if std::mem::take(&mut is_first) { "" } else { " OR " };
            to = to.sql(or).sql("log_epoch = ").uint(*epoch).sql(" AND log_offset <= transform(toUInt64(log_partition), ");
            to =
                to.uints(partitions.keys().copied().map(u64::from)).sql(", ").ints(partitions.values().copied()).sql(", ").int(-1).sql(")");
        }
        if is_first { to.sql("0)") } else { to.sql(")") }
    }

    /// Reads what [`Display`] has written; `None` if that is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut places = Self::default();
        let mut count = 0;
        for of_epoch in text.split('.').filter(|_| !text.is_empty()) {
            let mut parts = of_epoch.split('_');
            let epoch = LogEpoch(u64::from_str_radix(parts.next()?, 16).ok()?);
            for place in parts {
                let (partition, offset) = place.split_once('-')?;
                places.add(epoch, partition.parse().ok()?, offset.parse().ok()?);
                count += 1;
            }
        }
        (count <= MOST).then_some(places)
    }
}

impl FromIterator<(LogEpoch, u16, i64)> for Places {
    fn from_iter<I: IntoIterator<Item = (LogEpoch, u16, i64)>>(places: I) -> Self {
        let mut all = Self::default();
        places.into_iter().for_each(|(epoch, partition, offset)| all.add(epoch, partition, offset));
        all
    }
}

impl Display for Places {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        for (number, (epoch, partitions)) in self.0.iter().enumerate() {
            write!(to, "{}{epoch:x}", if number == 0 { "" } else { "." })?;
            partitions.iter().try_for_each(|(partition, offset)| write!(to, "_{partition}-{offset}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        let places: Places =
            [(LogEpoch(u64::MAX), 0, i64::MAX), (LogEpoch(u64::MAX), 65_535, 0), (LogEpoch(1), 3, 7)].into_iter().collect();
        assert_eq!(places.to_string(), "1_3-7.ffffffffffffffff_0-9223372036854775807_65535-0");
        for places in [places, Places::default()] {
            assert_eq!(Places::parse(&places.to_string()), Some(places));
        }
        for no in ["x", "1_", "1_a-1", "1_1", "1_1-", "1_70000-1", "1_1-1.", ".", "1_1-99999999999999999999", "1_1-1 OR 1"] {
            assert_eq!(Places::parse(no), None, "{no}");
        }
        let many: Vec<String> = (0..=MOST).map(|number| format!("{number:x}_1-1")).collect();
        assert_eq!(Places::parse(&many.join(".")), None);
    }

    #[test]
    fn without_places_nothing_is_meant() {
        assert_eq!(Places::default().condition(Statement::of("1")).text(), "1 AND (0)");
        let two: Places = [(LogEpoch(1), 0, 5), (LogEpoch(2), 0, 6)].into_iter().collect();
        let statement = two.condition(Statement::of("1"));
        assert_eq!(statement.text().matches("log_epoch = ").count(), 2, "{}", statement.text());
    }
}
