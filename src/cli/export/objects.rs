//! An export into a bucket: objects of compressed lines under names that sort, `0000000001.ndjson.gz` and on, or tables, `0000000001.parquet`.
//!
//! Promises: every event is in one object, also after a run that was cut at any moment, and beside another run: an object is written whole or
//! not at all, only where none of its name is, and says itself where the next one goes on. Nothing else is kept that could disagree with it.
//! Cost: what is not in an object yet is in memory, [`OBJECT_BYTES`] and a page at most, and is asked for again by the next run.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{Format, Page, PageBody, Wanted, written};
use crate::cli::bucket::{Bucket, NewObject};
use crate::failpoint;

/// Compressed bytes with which an object ends.
const OBJECT_BYTES: usize = 64 << 20;
/// Digits of a name: as many objects as no bucket has.
const DIGITS: usize = 10;

/// What objects there are to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) format: Format,
    /// Most events of one.
    pub(super) events: u64,
}

/// The objects of an export.
pub(super) struct Objects {
    bucket: Bucket,
    wanted: Wanted,
    cut: Cut,
    /// The number of the object that is being made, from 1.
    number: u64,
    /// Its lines so far.
    lines: GzEncoder<Vec<u8>>,
    events: u64,
    /// Where what follows its lines begins.
    next: Option<String>,
}

/// What an object says of itself.
#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    wanted: Wanted,
    next: Option<String>,
}

impl Objects {
    /// Goes on behind the last object.
    pub(super) async fn open(bucket: Bucket, wanted: Wanted, cut: Cut) -> Result<Self> {
        let last = bucket.names().await?.iter().filter_map(|name| number(name, cut.format)).max();
        let mut objects = Self { bucket, wanted, cut, number: 1, lines: no_lines(), events: 0, next: None };
        if let Some(last) = last {
            let name = name(last, cut.format);
            let Some(note) = objects.bucket.note(&name).await? else {
                bail!("{}: {name} is there already, and no export wrote it", objects.bucket)
            };
            let note: Note = serde_json::from_str(&note).with_context(|| format!("{}: what {name} says of itself", objects.bucket))?;
            if note.wanted != objects.wanted {
                bail!("{}: it is an export of another project or range; the metadata of {name} say of which", objects.bucket);
            }
            (objects.number, objects.next) = (last + 1, note.next);
        }
        Ok(objects)
    }

    /// Where it goes on.
    pub(super) fn next(&self) -> Option<&str> {
        self.next.as_deref()
    }

    /// How many events the object takes that is being made.
    pub(super) fn room(&self) -> u64 {
        self.cut.events.saturating_sub(self.events).max(1)
    }

    /// Takes a page, and writes an object if it is full or if there is nothing more. A table is one.
    pub(super) async fn add(&mut self, page: &Page) -> Result<()> {
        self.next.clone_from(&page.next);
        if let PageBody::Table(table) = &page.body {
            return if page.events > 0 { self.create(table.clone()).await } else { Ok(()) };
        }
        written(&mut self.lines, page).context("compression")?;
        self.events += page.events;
        let is_full = self.events >= self.cut.events || self.lines.get_ref().len() >= OBJECT_BYTES;
        if self.events > 0 && (is_full || page.complete) {
            let data = std::mem::replace(&mut self.lines, no_lines()).finish().context("compression")?;
            self.create(Bytes::from(data)).await?;
            self.events = 0;
        }
        Ok(())
    }

    /// Writes the object that is made; what follows it begins at `next`.
    async fn create(&mut self, data: Bytes) -> Result<()> {
        let note = serde_json::to_string(&Note { wanted: self.wanted.clone(), next: self.next.clone() })?;
        let object = NewObject { name: &name(self.number, self.cut.format), content_type: self.cut.format.content_type(), note: &note };
        self.bucket.create(object, data).await?;
        failpoint::point("export.created");
        self.number += 1;
        Ok(())
    }
}

fn no_lines() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::default())
}

fn name(number: u64, format: Format) -> String {
    format!("{number:0DIGITS$}{}", format.suffix())
}

/// The number of an object; none of what is no object of such an export.
fn number(name: &str, format: Format) -> Option<u64> {
    let digits = name.strip_suffix(format.suffix())?;
    let is_one = digits.len() == DIGITS && digits.bytes().all(|digit| digit.is_ascii_digit());
    digits.parse().ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use object_store::memory::InMemory;
    use object_store::{ObjectStore, ObjectStoreExt};
    use serde_json::value::RawValue;

    use super::*;

    type Store = Arc<dyn ObjectStore>;

    fn store() -> Store {
        Arc::new(InMemory::new())
    }

    fn bucket(store: &Store) -> Bucket {
        Bucket::in_memory(Arc::clone(store), "a")
    }

    async fn open(store: &Store, project: &str) -> Result<Objects> {
        let wanted = Wanted { project: project.to_owned(), from: None, to: None };
        Objects::open(bucket(store), wanted, Cut { format: Format::Ndjson, events: 3 }).await
    }

    /// At most so many of the events 1, 2 and on to `last` behind those that are there; a cursor is the last one.
    fn page(objects: &Objects, limit: u64, last: u64) -> Page {
        let first = objects.next().map_or(1, |after| after.parse::<u64>().unwrap() + 1);
        let end = last.min(first + limit.min(objects.room()) - 1);
        let lines: Vec<_> = (first..=end).map(|event| RawValue::from_string(event.to_string()).unwrap()).collect();
        Page {
            events: lines.len() as u64,
            body: PageBody::Lines(lines),
            next: Some(end.to_string()),
            complete: end == last,
            through: String::new(),
        }
    }

    /// The events of each object.
    async fn events(store: &Store) -> Vec<Vec<u64>> {
        let bucket = bucket(store);
        let mut objects = Vec::new();
        for object in
            bucket.objects().await.unwrap().iter().filter(|object| number(object.path.filename().unwrap(), Format::Ndjson).is_some())
        {
            let (_folder, local) = bucket.fetch(&object.path).await.unwrap();
            let mut text = String::new();
            flate2::read::GzDecoder::new(std::fs::File::open(local).unwrap()).read_to_string(&mut text).unwrap();
            objects.push(text.lines().map(|line| line.parse().unwrap()).collect());
        }
        objects
    }

    #[tokio::test]
    async fn every_event_is_in_one_object_however_often_a_run_is_cut() {
        let store = store();
        store.put(&"a/notes.txt".into(), "no object of an export".into()).await.unwrap();
        // Each run is cut after so many pages; the last event is the one that there is then.
        for (pages, last) in [(1, 7), (2, 7), (9, 7), (1, 7), (9, 8), (9, 8)] {
            let mut objects = open(&store, "shop").await.unwrap();
            for _ in 0..pages {
                let page = page(&objects, 2, last);
                objects.add(&page).await.unwrap();
                if page.complete {
                    break;
                }
            }
        }
        assert_eq!(events(&store).await, [vec![1, 2, 3], vec![4, 5, 6], vec![7], vec![8]]);
        assert!(open(&store, "other").await.is_err());
    }

    #[tokio::test]
    async fn two_runs_at_once_write_no_event_twice() {
        let store = store();
        let (mut one, mut other) = (open(&store, "shop").await.unwrap(), open(&store, "shop").await.unwrap());
        // Equal objects are one; of two that are not, the first one stays.
        for objects in [&mut one, &mut other] {
            let page = page(objects, 3, 4);
            objects.add(&page).await.unwrap();
        }
        one.add(&page(&one, 3, 4)).await.unwrap();
        assert!(other.add(&page(&other, 3, 5)).await.is_err());
        let mut again = open(&store, "shop").await.unwrap();
        again.add(&page(&again, 3, 5)).await.unwrap();
        assert_eq!(events(&store).await, [vec![1, 2, 3], vec![4], vec![5]]);
    }

    #[tokio::test]
    async fn an_object_that_no_export_wrote_is_left_alone() {
        let store = store();
        store.put(&"a/0000000001.ndjson.gz".into(), "mine".into()).await.unwrap();
        assert!(open(&store, "shop").await.is_err());
        for no in ["1.ndjson.gz", "0000000001.ndjson", "+000000001.ndjson.gz", "0000000001.parquet"] {
            assert_eq!(number(no, Format::Ndjson), None, "{no}");
        }
        assert_eq!(number(&name(12, Format::Parquet), Format::Parquet), Some(12));
    }

    #[tokio::test]
    async fn a_table_is_an_object_and_an_empty_one_is_none() {
        let store = store();
        let wanted = Wanted { project: "shop".to_owned(), from: None, to: None };
        let open = || Objects::open(bucket(&store), wanted.clone(), Cut { format: Format::Parquet, events: 3 });
        let table = |events: u64, next: &str| {
            let (body, next) = (PageBody::Table(Bytes::from_static(b"PAR1")), Some(next.to_owned()));
            Page { body, events, next, complete: events == 0, through: String::new() }
        };
        open().await.unwrap().add(&table(3, "3")).await.unwrap();
        let mut objects = open().await.unwrap();
        assert_eq!((objects.next(), objects.room()), (Some("3"), 3));
        objects.add(&table(2, "5")).await.unwrap();
        objects.add(&table(0, "5")).await.unwrap();
        assert_eq!(open().await.unwrap().next(), Some("5"));
        assert_eq!(bucket(&store).names().await.unwrap(), ["0000000001.parquet", "0000000002.parquet"]);
    }
}
