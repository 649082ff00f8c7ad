//! What a raw record's events became, by project and minute of receipt.

use std::collections::HashMap;

use crate::event::ids::ProjectId;
use crate::event::record::{Tallies, Tally, minute_of};
use crate::outcome::Count;

/// The books of one record. They count what the record holds and not what its header says of it, so that what was received is
/// always what goes on and what ends here, even if the header is wrong.
#[derive(Default)]
pub(super) struct Books {
    tallies: Tallies,
    places: HashMap<(ProjectId, u32), usize, foldhash::fast::FixedState>,
    /// Of the last one: neighbours are mostly alike.
    last: Option<(ProjectId, u32, usize)>,
}

impl Books {
    /// An event or letter was received, and became `count` if that is known here.
    pub(super) fn received(&mut self, project: ProjectId, received_ms: i64, count: Option<Count>, number: u32) {
        let tally = self.at(project, minute_of(received_ms));
        tally.add(Count::Received, number);
        if let Some(count) = count {
            tally.add(count, number);
        }
    }

    /// Takes over what only the edge can know: refused events, and what a later release counts there.
    pub(super) fn take_over(&mut self, raw: &Tallies, received_ms: i64) {
        let minute = minute_of(received_ms);
        for tally in &raw.0 {
            // A record is of one day: a minute further away than that is none of ours.
            let at = if tally.minute.abs_diff(minute) > 1_440 { minute } else { tally.minute };
            for (count, number) in &tally.counts {
                if count.is_rejected() || matches!(count, Count::Unknown(_)) && !count.is_dead() {
                    self.at(tally.project, at).add(*count, *number);
                }
            }
        }
    }

    fn at(&mut self, project: ProjectId, minute: u32) -> &mut Tally {
        let known = self.last.filter(|last| (last.0, last.1) == (project, minute)).map(|last| last.2);
        let place = known.unwrap_or_else(|| {
            let tallies = &mut self.tallies.0;
            *self.places.entry((project, minute)).or_insert_with(|| {
                tallies.push(Tally { project, minute, counts: Vec::new() });
                tallies.len() - 1
            })
        });
        self.last = Some((project, minute, place));
        &mut self.tallies.0[place]
    }

    pub(super) fn into_tallies(self) -> Tallies {
        self.tallies
    }
}
