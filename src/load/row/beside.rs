//! The values of rows that stand beside the events of a block: its books, what arrived, and revisions.

use super::{Covered, RowOrigin};
use crate::clickhouse::native;
use crate::event::ids::ProjectId;
use crate::event::record::Tally;
use crate::load::sessions::Revision;
use crate::store::books;
use crate::store::data_version::Quarter;
use crate::store::schema::Source;

/// The values of fixed width that a revision has; zero where there is none.
pub(super) struct RevisionValues<'a> {
    pub(super) revision: &'a Revision,
    pub(super) received_ms: i64,
    pub(super) origin: RowOrigin,
}

impl RevisionValues<'_> {
    pub(super) fn two(&self, source: Source) -> [u8; 2] {
        if source == Source::ReceivedDay { self.origin.day.to_le_bytes() } else { [0; 2] }
    }

    pub(super) fn four(&self, source: Source) -> [u8; 4] {
        match source {
            Source::Flags => self.revision.version.to_le_bytes(),
            Source::Campaign => self.revision.length().to_le_bytes(),
            _ => [0; 4],
        }
    }

    pub(super) fn eight(&self, source: Source) -> [u8; 8] {
        match source {
            Source::Project => ProjectId::BOOKS.0.to_le_bytes(),
            Source::HappenedAt => self.revision.from_ms.to_le_bytes(),
            Source::OriginalTime => self.revision.to_ms.to_le_bytes(),
            Source::Person => self.revision.visitor.project.0.to_le_bytes(),
            Source::Visitor => self.revision.visitor.key.0.to_le_bytes(),
            Source::ReceivedAt => self.received_ms.to_le_bytes(),
            Source::LogOffset => self.origin.offset.to_le_bytes(),
            _ => [0; 8],
        }
    }

    pub(super) fn sixteen(&self, source: Source) -> [u8; 16] {
        if source == Source::Session { native::uuid_bytes(self.revision.session.0) } else { [0; 16] }
    }
}

/// A row of arrivals.
pub(super) struct Arrivals<'a> {
    pub(super) project: ProjectId,
    /// How many by quarter of an hour.
    pub(super) events: &'a [(ProjectId, Quarter, u64)],
    /// When the block is sealed.
    pub(super) at_ms: i64,
    /// Receipt of the last record.
    pub(super) received_ms: i64,
    pub(super) origin: RowOrigin,
}

impl Arrivals<'_> {
    pub(super) fn two(&self, source: Source) -> [u8; 2] {
        if source == Source::ReceivedDay { self.origin.day.to_le_bytes() } else { [0; 2] }
    }

    pub(super) fn eight(&self, source: Source) -> [u8; 8] {
        match source {
            Source::Project => ProjectId::BOOKS.0.to_le_bytes(),
            Source::HappenedAt => self.at_ms.to_le_bytes(),
            Source::ReceivedAt => self.received_ms.to_le_bytes(),
            Source::Visitor => self.project.0.to_le_bytes(),
            Source::LogOffset => self.origin.offset.to_le_bytes(),
            _ => [0; 8],
        }
    }

    pub(super) fn sixteen(&self, source: Source) -> [u8; 16] {
        if source == Source::EventId { native::uuid_bytes(books::instance().into_bytes()) } else { [0; 16] }
    }
}

/// The values of fixed width that a row of the books has; zero where there is none.
pub(super) struct BooksValues<'a> {
    pub(super) tally: &'a Tally,
    pub(super) import: u64,
    pub(super) covered: Covered,
}

impl BooksValues<'_> {
    pub(super) fn two(&self, source: Source) -> [u8; 2] {
        match source {
            Source::ReceivedDay => self.covered.day.to_le_bytes(),
            _ => [0; 2],
        }
    }

    pub(super) fn four(&self, source: Source) -> [u8; 4] {
        let Covered { previous, last, .. } = self.covered;
        match source {
            // How far the block reaches back from its last offset: a row that is missing shows between its neighbours.
            Source::Flags => u32::try_from(last - previous).unwrap_or(0).to_le_bytes(),
            _ => [0; 4],
        }
    }

    pub(super) fn eight(&self, source: Source) -> [u8; 8] {
        match source {
            Source::Project => ProjectId::BOOKS.0.to_le_bytes(),
            Source::HappenedAt | Source::ReceivedAt => (i64::from(self.tally.minute) * 60_000).to_le_bytes(),
            Source::Person => self.import.to_le_bytes(),
            Source::Visitor => self.tally.project.0.to_le_bytes(),
            Source::LogOffset => self.covered.last.to_le_bytes(),
            _ => [0; 8],
        }
    }
}
