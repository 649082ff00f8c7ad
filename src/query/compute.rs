//! How a question is answered that is not answered from what is kept: what it sees, whose permits it takes, and what of it is shared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::Inner;
use super::ask::{AsOf, Common, EventSet};
use super::cache::{CacheRequest, Computed, Key, SharedSlot};
use super::data_through::{Shown, Through};
use super::error::{ErrorClass, QueryError};
use super::excluded;
use super::people::KnownPeople;
use super::people::map::LeftOut;
use super::reader::{Guard, Permit, RowsRead, StatementRunner};
use super::report::funnel::{self, Funnel, Scan};
use super::report::{Plan, Report};
use super::shared_scan::{Outcome, Portion, Seat, Share, Takers, Together};
use crate::event::ids::ProjectId;
use crate::store::places::Places;

/// How a scan may fail that the questions which share it can do without.
const ALONE: [ErrorClass; 3] = [ErrorClass::TooExpensive, ErrorClass::Invalid, ErrorClass::TimedOut];

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
    /// Its seat, where others of its request may read the same.
    pub(super) seat: Option<Seat>,
}

/// What came of a question.
struct Answered {
    result: Vec<u8>,
    shown: Shown,
    excluded_bots: Option<u64>,
    /// As of [`Computed`].
    took: Duration,
    saved: Duration,
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
    pub(super) async fn compute(self: Arc<Self>, mut asked: Computation) -> Result<Computed, QueryError> {
        if let Some(found) = SharedSlot::find(asked.shared.as_ref(), asked.now_ms).await {
            return Ok(Computed { result: self.results.count(found.result)?, ..found });
        }
        let shared = asked.shared.take();
        let computed = self.run(asked).await?;
        if let Some(shared) = shared {
            shared.put(&computed);
        }
        Ok(computed)
    }

    /// Shows a question what is there, or what was there before.
    pub(super) async fn show(&self, asked: &Computation, runner: &mut StatementRunner<'_>) -> Result<Shown, QueryError> {
        if let Some(as_of) = &asked.common.as_of {
            if let Some(people) = &self.people {
                let map = runner.within_deadline(people.map_as_of(asked.project, as_of)).await??;
                runner.set_people(map);
            }
            runner.look_back_to(as_of.clone());
            return Ok(Shown { data_through_ms: as_of.through_ms, as_of: Some(as_of.to_string()) });
        }
        self.show_now(asked.project, asked.now_ms, runner).await
    }

    /// Shows a question of `project` what is there at `now_ms`.
    async fn show_now(&self, project: ProjectId, now_ms: i64, runner: &mut StatementRunner<'_>) -> Result<Shown, QueryError> {
        // Before the first statement: what was loaded by then is seen by all of them.
        let Through { at_ms, places } = runner.within_deadline(self.data_through.through(&self.reader, now_ms)).await?;
        let mut people_ms = 0;
        if let Some(people) = &self.people {
            let known = runner.within_deadline(people.known(project)).await??;
            people_ms = known.at_ms;
            runner.set_people(known.map);
        }
        let as_of = |places: Arc<Places>| AsOf { now_ms, through_ms: at_ms, people_ms, places: (*places).clone() };
        Ok(Shown { data_through_ms: at_ms, as_of: places.map(|places| as_of(places).to_string()) })
    }

    /// Waits for the turn of a question.
    pub(super) async fn begin(&self, asked: &Computation) -> Result<StatementRunner<'_>, QueryError> {
        let now_ms = asked.common.now_ms(asked.now_ms);
        let mut runner = self.reader.begin_with(asked.permits.as_deref(), asked.project, now_ms).await?;
        runner.look_at(asked.common.traffic);
        Ok(runner)
    }

    async fn run(&self, mut asked: Computation) -> Result<Computed, QueryError> {
        let share = match asked.seat.take() {
            Some(seat) => {
                let _running = asked.key.map(|key| self.progress.begin(key, seat.rows_read()));
                let reading = timeout_at(self.reader.deadline(), seat.read()).await;
                reading.unwrap_or_else(|_| Err(QueryError::too_slow().advising(Funnel::CHEAPER)))?
            }
            None => None,
        };
        match share {
            Some(share) => self.run_on(&asked, &share).await,
            None => {
                let runner = self.begin(&asked).await?;
                self.run_alone(&asked, runner).await
            }
        }
    }

    /// Answers a question that reads for itself.
    async fn run_alone(&self, asked: &Computation, mut runner: StatementRunner<'_>) -> Result<Computed, QueryError> {
        let _running = asked.key.map(|key| self.progress.begin(key, runner.known_rows_read()));
        let began = Instant::now();
        let shown = self.show(asked, &mut runner).await?;
        let result = asked.plan.answer(&mut runner).await?;
        let excluded_bots = excluded::count(asked.plan.as_ref(), &mut runner).await;
        self.computed(asked, &runner, Answered { result, shown, excluded_bots, took: began.elapsed(), saved: Duration::ZERO })
    }

    /// Answers a question that took part in a scan, in its turn.
    async fn run_on(&self, asked: &Computation, share: &Share) -> Result<Computed, QueryError> {
        let (outcome, began) = (&share.outcome, share.outcome.began);
        let _turn = share.turn().await?;
        let own = Instant::now();
        let saved = || began.elapsed().saturating_sub(own.elapsed() + outcome.took_each);
        if let Some(Portion { scanned, turn, shown, excluded_bots }) = share.portion() {
            let mut runner = self.reader.go_on(turn, scanned.memory());
            let _running = asked.key.map(|key| self.progress.begin(key, runner.known_rows_read()));
            match asked.plan.answer_scanned(&mut runner, scanned).await {
                Err(problem) if problem.is_no_room() => {}
                answered => {
                    let result = answered?;
                    let excluded_bots = match excluded_bots {
                        Some(number) => Some(number),
                        None => excluded::count(asked.plan.as_ref(), &mut runner).await,
                    };
                    let took = began.elapsed();
                    return self.computed(asked, &runner, Answered { result, shown, excluded_bots, took, saved: saved() });
                }
            }
        }
        let runner = match &outcome.permit {
            Some(permit) => {
                let mut runner = self.reader.begin_by(permit.clone(), asked.project, asked.common.now_ms(asked.now_ms));
                runner.look_at(asked.common.traffic);
                runner
            }
            None => self.begin(asked).await?,
        };
        let computed = self.run_alone(asked, runner).await?;
        Ok(Computed { took: began.elapsed(), saved: saved(), ..computed })
    }

    fn computed(&self, asked: &Computation, runner: &StatementRunner<'_>, answered: Answered) -> Result<Computed, QueryError> {
        let Answered { result, shown: Shown { data_through_ms, as_of }, excluded_bots, took, saved } = answered;
        let counts_people = runner.counts_people();
        Ok(Computed {
            result: self.results.count(result)?,
            computed_ms: asked.now_ms,
            data_through_ms,
            as_of,
            rows_read: runner.rows_read(),
            is_sampled: runner.is_sampled(),
            excluded_bots,
            counts_people,
            left_out: if counts_people { runner.people().left_out() } else { LeftOut::default() },
            shared_for: None,
            took,
            saved,
        })
    }

    /// Reads what those of `together` need who take part, once that is decided; `None` where fewer than two do.
    pub(super) async fn scan(
        self: Arc<Self>,
        together: Together,
        mut takers: Takers,
        rows_read: Arc<RowsRead>,
    ) -> Result<Option<Arc<Outcome>>, QueryError> {
        let Together { project, now_ms, traffic, permits, scans } = &together;
        takers.decided().await;
        if takers.numbers().len() < 2 {
            return Ok(None);
        }
        let mut runner = self.reader.begin_with(permits.as_deref(), *project, *now_ms).await?;
        runner.end_by(self.reader.deadline_of_scan());
        let permit = runner.permit().ok_or_else(|| QueryError::internal("a scan without a permit"))?;
        runner.count_rows_in(rows_read);
        runner.look_at(*traffic);
        let (began, numbers) = (Instant::now(), takers.numbers());
        let taking: Vec<&Scan> = numbers.iter().filter_map(|number| scans.get(*number)).collect();
        let portions = match self.portions(&taking, &mut runner, &permit).await {
            Ok(portions) => portions,
            // That may be so of all of them together alone.
            Err(problem) if problem.takes_too_much() || ALONE.contains(&problem.class) => Vec::new(),
            Err(problem) => return Err(problem),
        };
        let portions = numbers.iter().copied().zip(portions).filter_map(|(number, portion)| Some((number, portion?))).collect();
        Ok(Some(Arc::new(Outcome::of(permit, began, portions, numbers.len()))))
    }

    /// What each of some scans gets.
    async fn portions(
        &self,
        scans: &[&Scan],
        runner: &mut StatementRunner<'_>,
        permit: &Permit,
    ) -> Result<Vec<Option<Portion>>, QueryError> {
        let shown = self.show_now(runner.project(), runner.now_ms(), runner).await?;
        let scanned = funnel::read_shared(scans, runner).await?;
        // Who must read alone counts alone, too.
        let sets: Vec<Vec<EventSet<'_>>> =
            scans.iter().zip(&scanned).filter(|(_, scanned)| scanned.is_some()).map(|(scan, _)| scan.event_sets()).collect();
        let filters = scans.first().map_or(&[][..], |scan| scan.filters());
        let mut excluded = excluded::count_each(&sets, filters, runner).await.into_iter().flatten();
        let turn = runner.turn(permit.clone());
        let portion = |scanned: Option<_>| {
            let scanned = scanned?;
            Some(Portion { scanned, turn: turn.clone(), shown: shown.clone(), excluded_bots: excluded.next() })
        };
        Ok(scanned.into_iter().map(portion).collect())
    }
}
