//! What always holds between the numbers of different reports, over as many events as there are: it needs no model.
//!
//! A row a claim, with how many numbers were compared and the largest of them. A report that is refused as too expensive is said so
//! and breaks no claim; a claim that does not hold, or of no number, ends the run as failed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use futures_util::FutureExt;
use pulse::event::ids::ProjectId;
use pulse::query::{ErrorClass, Queries, QueryError};
use serde_json::{Value, json};

const DAY_MS: i64 = 86_400_000;

/// Numbers of two answers that belong together.
struct Claim {
    says: &'static str,
    holds: fn(f64, f64) -> bool,
    pairs: Vec<(f64, f64)>,
}

impl Claim {
    fn equal(says: &'static str, left: Vec<f64>, right: Vec<f64>) -> Self {
        Self::of(says, |left, right| left == right, [left, right])
    }

    fn at_most(says: &'static str, left: Vec<f64>, right: Vec<f64>) -> Self {
        Self::of(says, |left, right| left <= right, [left, right])
    }

    fn of(says: &'static str, holds: fn(f64, f64) -> bool, [left, right]: [Vec<f64>; 2]) -> Self {
        assert_eq!(left.len(), right.len(), "{says}");
        Self { says, holds, pairs: left.into_iter().zip(right).collect() }
    }

    /// Its row; whether it holds.
    fn print(&self) -> bool {
        let broken = self.pairs.iter().find(|(left, right)| !(self.holds)(*left, *right));
        let largest = self.pairs.iter().map(|(_, right)| *right).fold(0.0, f64::max);
        let verdict = match broken {
            Some((left, right)) => format!("NOT: {left} and {right}"),
            None if largest == 0.0 => "NOT: of nothing".to_owned(),
            None => "yes".to_owned(),
        };
        println!("| {} | {} | {largest} | {verdict} |", self.says, self.pairs.len());
        verdict == "yes"
    }
}

/// Asks about the days before `until_ms`.
#[derive(Clone, Copy)]
struct Asker<'a> {
    queries: &'a Queries,
    days: i64,
    until_ms: i64,
}

/// Asks every report, and prints what became of each claim.
pub(crate) async fn run(queries: &Queries, days: i64, until_ms: i64) -> Result<()> {
    let whole = Asker { queries, days, until_ms };
    // All sessions of thirty days are too many to be held at once of fifty million events; those of a week and of a day are not.
    let [week, day] = [7, 1].map(|days| Asker { days, ..whole });
    let checks = [
        ("sessions of all days", whole.visits().boxed_local()),
        ("sessions of a week", week.visits().boxed_local()),
        ("lines of trends", whole.lines().boxed_local()),
        ("funnel", whole.funnel().boxed_local()),
        ("funnel by a column", whole.funnel_lines().boxed_local()),
        ("retention", whole.retention().boxed_local()),
        ("lifecycle", whole.lifecycle().boxed_local()),
        ("stickiness", whole.stickiness().boxed_local()),
        ("the sessions report of a day", day.sessions().boxed_local()),
    ];
    let (began, mut claims, mut broken, mut refused) = (Instant::now(), 0, 0, 0);
    println!("| claim | numbers | largest | holds |\n|---|---|---|---|");
    for (name, check) in checks {
        match check.await {
            Ok(of_check) => {
                claims += of_check.len();
                broken += of_check.iter().filter(|claim| !claim.print()).count();
            }
            // What costs more than a question may is asked of fewer events.
            Err(problem) if problem.downcast_ref::<QueryError>().is_some_and(|refused| refused.class == ErrorClass::TooExpensive) => {
                refused += 1;
                println!("| {name} | | | {problem:#} |");
            }
            Err(problem) => return Err(problem.context(name)),
        }
    }
    println!("\n{claims} claims, {broken} do not hold, {refused} checks refused, {:.0} s", began.elapsed().as_secs_f64());
    ensure!(broken == 0, "reports contradict each other");
    ensure!(claims > 0, "nothing was compared");
    Ok(())
}

impl Asker<'_> {
    async fn ask(&self, report: &str, question: &Value) -> Result<Value> {
        let mut question = question.clone();
        question["refresh"] = json!(true);
        let of = if question["of"].is_object() { &mut question["of"] } else { &mut question };
        for (key, at_ms) in [("from", self.until_ms - self.days * DAY_MS), ("to", self.until_ms)] {
            of[key] = json!(jiff::Timestamp::from_millisecond(at_ms)?.to_string());
        }
        let answer = self.queries.answer(ProjectId(1), report, &serde_json::to_vec(&question)?, self.until_ms).await;
        let answer = answer.with_context(|| report.to_owned())?;
        Ok(serde_json::from_slice::<Value>(&answer.to_json())?["result"].take())
    }

    /// The lines of trends by `interval`, one for each math of any event.
    async fn trends<const N: usize>(&self, interval: &str, event: Option<&str>, maths: [&str; N]) -> Result<[Vec<f64>; N]> {
        let series: Vec<Value> = maths.iter().map(|math| json!({"event": event, "math": math})).collect();
        let chart = self.ask("trends", &json!({"interval": interval, "series": series})).await?;
        Ok(std::array::from_fn(|at| with_total(&chart["series"][at])))
    }

    /// How many people are behind each of some bars of a report.
    async fn behind(&self, report: &str, request: &Value, bars: &[Value]) -> Result<Vec<f64>> {
        let mut found = Vec::new();
        for bar in bars {
            let people = self.ask("users", &json!({"of": with(&with(request, bar), &json!({"report": report})), "limit": 1})).await?;
            found.push(number(&people["total"]));
        }
        Ok(found)
    }

    async fn visits(&self) -> Result<Vec<Claim>> {
        let [people, sessions, events] = self.trends("day", None, ["unique_users", "unique_sessions", "total"]).await?;
        Ok(vec![
            Claim::at_most("people are no more than sessions, by day and in all", people, sessions.clone()),
            Claim::at_most("sessions are no more than events, by day and in all", sessions, events),
        ])
    }

    async fn lines(&self) -> Result<Vec<Claim>> {
        let request = json!({"interval": "day", "series": [{"event": "view"}]});
        let whole = with_total(&self.ask("trends", &request).await?["series"][0]);
        let mut claims = Vec::new();
        for (says, breakdown) in [
            ("lines by country, `$other` with them, sum to the whole", "country"),
            ("lines by a property, `$other` with them, sum to the whole", "properties.category"),
        ] {
            let chart = self.ask("trends", &with(&request, &json!({"breakdown": breakdown, "limit": 5}))).await?;
            let mut sums = vec![0.0; whole.len()];
            for line in each(&chart["series"]) {
                sums.iter_mut().zip(with_total(line)).for_each(|(sum, number)| *sum += number);
            }
            claims.push(Claim::equal(says, sums, whole.clone()));
        }
        let request = json!({"interval": "week", "series": [{"event": "view", "math": "unique_users"}]});
        let chart = self.ask("trends", &request).await?;
        let bars: Vec<Value> = each(&chart["buckets"]).map(|bucket| json!({"bucket": bucket})).collect();
        let people = self.behind("trends", &request, &bars).await?;
        claims.push(Claim::equal("bars of unique users are their people", people, numbers(&chart["series"][0]["values"])));
        Ok(claims)
    }

    fn funnel_request() -> Value {
        json!({"window": "7d", "steps": [{"event": "view"}, {"event": "cart"}, {"event": "order"}]})
    }

    async fn funnel(&self) -> Result<Vec<Claim>> {
        let request = Self::funnel_request();
        let whole = self.ask("funnel", &request).await?["groups"][0].take();
        let count = |step: usize, key: &str| number(&whole["steps"][step][key]);
        let (entered, converted) = (count(0, "count"), count(2, "count"));
        let [users] = self.trends("month", Some("view"), ["unique_users"]).await?;
        let trend = self.ask("funnel", &with(&request, &json!({"view": "trend", "interval": "week"}))).await?["groups"][0].take();
        let times = self.ask("funnel", &with(&request, &json!({"view": "time_to_convert", "bins": 10}))).await?["groups"][0].take();
        let bins = each(&times["bins"]).map(|bin| number(&bin["count"])).sum();
        let bars = [json!({"step": 1}), json!({"step": 2}), json!({"step": 3}), json!({"step": 3, "converted": false})];
        let behind = self.behind("funnel", &request, &bars).await?;
        Ok(vec![
            Claim::equal("step 1 of a funnel is the unique users of its event", vec![entered], users.last().copied().into_iter().collect()),
            Claim::equal(
                "steps and trend of a funnel name the same conversions",
                ["entered", "converted"].map(|key| numbers(&trend[key]).iter().sum()).to_vec(),
                vec![entered, converted],
            ),
            Claim::equal(
                "steps and time to convert of a funnel name the same conversions",
                vec![number(&times["converted"]), bins],
                vec![converted; 2],
            ),
            Claim::equal("bars of a funnel are their people", behind, vec![entered, count(1, "count"), converted, count(2, "dropped")]),
        ])
    }

    async fn funnel_lines(&self) -> Result<Vec<Claim>> {
        let request = Self::funnel_request();
        let counts = |group: &Value| numbers_at(&group["steps"], "count");
        let whole = counts(&self.ask("funnel", &request).await?["groups"][0]);
        let lines = self.ask("funnel", &with(&request, &json!({"breakdown": "country", "limit": 5}))).await?;
        let mut sums = vec![0.0; whole.len()];
        for line in each(&lines["groups"]) {
            sums.iter_mut().zip(counts(line)).for_each(|(sum, number)| *sum += number);
        }
        Ok(vec![Claim::equal("lines of a funnel by country sum to the whole", sums, whole)])
    }

    async fn retention(&self) -> Result<Vec<Claim>> {
        let request = json!({"period": "week", "cohort_event": {"event": "view"}, "return_event": {"event": "order"}});
        let table = self.ask("retention", &request).await?;
        // Of a week that has not begun nothing is known.
        let cohorts = Value::from_iter(each(&table["cohorts"]).filter(|cohort| !cohort["values"][0].is_null()).cloned());
        let sizes = numbers_at(&cohorts, "size");
        let first: Vec<f64> = each(&cohorts).map(|cohort| number(&cohort["values"][0])).collect();
        let [new] = self.trends("month", Some("view"), ["first_time_users"]).await?;
        let bars: Vec<Value> = each(&cohorts).map(|cohort| json!({"cohort_start": cohort["start"]})).collect();
        let back: Vec<Value> = bars.iter().map(|bar| with(bar, &json!({"index": 0}))).collect();
        let people = [self.behind("retention", &request, &bars).await?, self.behind("retention", &request, &back).await?];
        Ok(vec![
            Claim::equal(
                "cohorts are those who came for the first time",
                vec![sizes.iter().sum()],
                new.last().copied().into_iter().collect(),
            ),
            Claim::at_most("as many come back at once as are in a cohort, or fewer", first.clone(), sizes.clone()),
            Claim::equal("bars of retention are their people", people.concat(), [sizes, first].concat()),
        ])
    }

    async fn lifecycle(&self) -> Result<Vec<Claim>> {
        let request = json!({"interval": "day"});
        let chart = self.ask("lifecycle", &request).await?;
        let of = |status: &str| each(&chart["series"]).find(|line| line["name"] == status).map(|line| numbers(&line["values"]));
        let [new, returning, resurrected, dormant] =
            ["new", "returning", "resurrected", "dormant"].map(|status| of(status).unwrap_or_default());
        let active =
            new.iter().zip(&returning).zip(&resurrected).map(|((new, returning), resurrected)| new + returning + resurrected).collect();
        let [mut users] = self.trends("day", None, ["unique_users"]).await?;
        // Its total is of another kind than a sum.
        users.pop();
        let (bars, people): (Vec<Value>, Vec<f64>) = [("new", new), ("resurrected", resurrected), ("dormant", dormant)]
            .into_iter()
            .filter_map(|(status, values)| {
                let at = values.iter().rposition(|people| *people != 0.0)?;
                Some((json!({"status": status, "bucket": chart["buckets"][at]}), values[at].abs()))
            })
            .unzip();
        let behind = self.behind("lifecycle", &request, &bars).await?;
        Ok(vec![
            Claim::equal("who is active in a lifecycle is a unique user of the day", active, users),
            Claim::equal("bars of a lifecycle are their people", behind, people),
        ])
    }

    async fn stickiness(&self) -> Result<Vec<Claim>> {
        let request = json!({"interval": "day", "event": "cart", "cumulative": true});
        let line = self.ask("stickiness", &request).await?["series"][0].take();
        let values = numbers(&line["values"]);
        let [users] = self.trends("month", Some("cart"), ["unique_users"]).await?;
        let all = users.last().copied().unwrap_or(f64::NAN);
        let bars = [json!({"times": 1}), json!({"times": 2})];
        let behind = self.behind("stickiness", &request, &bars).await?;
        Ok(vec![
            Claim::equal(
                "stickiness is of all unique users",
                vec![number(&line["total"]), values.iter().sum(), number(&line["at_least"][0])],
                vec![all; 3],
            ),
            Claim::equal("bars of stickiness are their people", behind, values.into_iter().take(2).collect()),
        ])
    }

    /// Of one day, in which every session of it begins and ends.
    async fn sessions(&self) -> Result<Vec<Claim>> {
        let request = json!({"interval": "day", "series": [{"math": "sessions"}, {"math": "visitors"}]});
        let chart = self.ask("sessions", &request).await?;
        let [sessions, people] = self.trends("day", None, ["unique_sessions", "unique_users"]).await?;
        let by_channel = json!({"interval": "day", "series": [{"math": "sessions"}], "breakdown": "session.channel", "limit": 2});
        let lines = self.ask("sessions", &by_channel).await?;
        let of_lines = numbers_at(&lines["series"], "total").iter().sum();
        let of_report = [0, 1].map(|at| with_total(&chart["series"][at]));
        Ok(vec![
            Claim::equal("lines of sessions by channel sum to the whole", vec![of_lines], vec![number(&chart["series"][0]["total"])]),
            Claim::equal("sessions and visitors are unique sessions and users", of_report.concat(), [sessions, people].concat()),
        ])
    }
}

fn with(request: &Value, more: &Value) -> Value {
    let entries = [request, more].into_iter().filter_map(Value::as_object).flatten();
    Value::Object(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// A number; what is none equals nothing.
fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn numbers(list: &Value) -> Vec<f64> {
    each(list).map(number).collect()
}

fn numbers_at(list: &Value, key: &str) -> Vec<f64> {
    each(list).map(|value| number(&value[key])).collect()
}

/// The numbers of a line, and its total behind them.
fn with_total(line: &Value) -> Vec<f64> {
    each(&line["values"]).chain([&line["total"]]).map(number).collect()
}
