//! How a question is answered that is not answered from what is kept: what it sees, whose permits it takes, and what of it is shared.

use std::sync::Arc;

use tokio::time::Instant;

use super::Inner;
use super::ask::{AsOf, Common};
use super::cache::{CacheRequest, Computed, Key, SharedSlot};
use super::data_through::Through;
use super::error::QueryError;
use super::excluded;
use super::people::KnownPeople;
use super::people::map::LeftOut;
use super::reader::{Guard, StatementRunner};
use super::report::Plan;
use crate::event::ids::ProjectId;
use crate::store::places::Places;

/// A question that is not answered from what is kept.
pub(super) struct Computation {
    pub(super) project: ProjectId,
    pub(super) plan: Box<dyn Plan>,
    pub(super) common: Common,
    pub(super) now_ms: i64,
    pub(super) shared: Option<SharedSlot>,
    /// Whose permits it takes; those of all without any.
    pub(super) permits: Option<Arc<Guard>>,
    /// Which question it is, where others may look how far it is.
    pub(super) key: Option<Key>,
}

impl Inner {
    /// The slot of the answer to `request` in the shared cache, if there is one.
    pub(super) fn shared_slot(&self, request: &CacheRequest<'_>, people: Option<&KnownPeople>) -> Option<SharedSlot> {
        let (Some(cache), Some(freshness), true) = (&self.shared_cache, &self.freshness, request.keep) else { return None };
        let project = request.key.project;
        let state = match request.reach.looks_back() {
            // An answer that knows nothing of rulings is nobody else's.
            true => format!("then:{:x}", people?.rulings),
            false => format!("{:x}:{:x}", freshness.version(project), people.map_or(0, |people| people.map.fingerprint())),
        };
        let key = format!("answer:{:x}:{:x}:{state}", project.0, request.key.plan);
        Some(SharedSlot { cache: Arc::clone(cache), key, refresh: request.refresh })
    }

    /// Who is who when a question of `project` is asked, once what has changed is noted; none if that is not known.
    pub(super) async fn known_people(&self, project: ProjectId) -> Option<KnownPeople> {
        match self.people.as_ref()?.known(project).await {
            Ok(known) => Some(known),
            Err(problem) => {
                // What is kept may still do; what must be computed fails with its own error.
                tracing::debug!(%problem, "not known who is who");
                None
            }
        }
    }

    /// Finds the answer in the shared cache, or computes it and keeps it there.
    pub(super) async fn compute(self: Arc<Self>, asked: Computation) -> Result<Computed, QueryError> {
        if let Some(found) = SharedSlot::find(asked.shared.as_ref(), asked.now_ms).await {
            return Ok(Computed { result: self.results.count(found.result)?, ..found });
        }
        let computed = self.run(&asked).await?;
        if let Some(shared) = asked.shared {
            shared.put(&computed);
        }
        Ok(computed)
    }

    /// Shows a question what is there, or what was there before: up to when all of it, and by what name other questions see the same.
    pub(super) async fn show(
        &self,
        asked: &Computation,
        runner: &mut StatementRunner<'_>,
    ) -> Result<(Option<i64>, Option<String>), QueryError> {
        if let Some(as_of) = &asked.common.as_of {
            if let Some(people) = &self.people {
                let map = runner.within_deadline(people.map_as_of(asked.project, as_of)).await??;
                runner.set_people(map);
            }
            runner.look_back_to(as_of.clone());
            return Ok((as_of.through_ms, Some(as_of.to_string())));
        }
        // Before the first statement: what was loaded by then is seen by all of them.
        let Through { at_ms, places } = runner.within_deadline(self.data_through.through(&self.reader, asked.now_ms)).await?;
        let mut people_ms = 0;
        if let Some(people) = &self.people {
            let known = runner.within_deadline(people.known(asked.project)).await??;
            people_ms = known.at_ms;
            runner.set_people(known.map);
        }
        let as_of = |places: Arc<Places>| AsOf { now_ms: asked.now_ms, through_ms: at_ms, people_ms, places: (*places).clone() };
        Ok((at_ms, places.map(|places| as_of(places).to_string())))
    }

    /// Waits for the turn of a question.
    pub(super) async fn begin(&self, asked: &Computation) -> Result<StatementRunner<'_>, QueryError> {
        let now_ms = asked.common.now_ms(asked.now_ms);
        let mut runner = self.reader.begin_with(asked.permits.as_deref(), asked.project, now_ms).await?;
        runner.look_at(asked.common.traffic);
        Ok(runner)
    }

    async fn run(&self, asked: &Computation) -> Result<Computed, QueryError> {
        let mut runner = self.begin(asked).await?;
        let _running = asked.key.map(|key| self.progress.begin(key, runner.known_rows_read()));
        let began = Instant::now();
        let (data_through_ms, as_of) = self.show(asked, &mut runner).await?;
        let result = self.results.count(asked.plan.answer(&mut runner).await?)?;
        let excluded_bots = excluded::count(asked.plan.as_ref(), &mut runner).await;
        let (rows_read, is_sampled, counts_people) = (runner.rows_read(), runner.is_sampled(), runner.counts_people());
        let left_out = if counts_people { runner.people().left_out() } else { LeftOut::default() };
        Ok(Computed {
            result,
            computed_ms: asked.now_ms,
            data_through_ms,
            as_of,
            rows_read,
            is_sampled,
            excluded_bots,
            counts_people,
            left_out,
            shared_for: None,
            took: began.elapsed(),
        })
    }
}
