//! What a cached answer costs: answers a second on one core, and the slowest of a hundred.
//!
//! `cargo bench --bench cached`. From the bytes of the request to the bytes of the answer, without HTTP.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pulse::event::ids::ProjectId;
use pulse::query::{Answer, LoadedBy, Queries, QueryConfig, QueryError, Run, Statement};

const DURATION: Duration = Duration::from_secs(3);
const NOW_MS: i64 = 1_774_742_400_000;

/// A store with 30 days of numbers.
struct Store;

impl Run for Store {
    async fn run(&self, _: Statement) -> Result<Answer, QueryError> {
        let rows: String = (0..30).map(|day| format!("[{day},\"\",0,{},5]\n", 1_000_000 + day)).collect();
        Ok(Answer { body: Bytes::from(rows), read_rows: 50_000_000 })
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let limits = QueryConfig::default().check().map_err(anyhow::Error::msg)?;
    let queries = Queries::new(Store, limits, LoadedBy::ThisProcess(Arc::default()));
    let body = br#"{"from":"-30d","to":"now","timezone":"Europe/Berlin","interval":"day","series":[{"event":"view","math":"total"},{"event":"buy","math":"unique_users","filters":[{"field":"country","op":"eq","value":"DE"}]}]}"#;
    runtime.block_on(async {
        let mut times = Histogram::<u64>::new(3)?;
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed() < DURATION {
            let one = Instant::now();
            bytes = queries.answer(ProjectId(1), "trends", body, NOW_MS).await?.to_json().len();
            times.record(one.elapsed().as_nanos() as u64)?;
        }
        let (answers, p99) = (times.len() as f64 / began.elapsed().as_secs_f64(), times.value_at_quantile(0.99) as f64 / 1e3);
        println!("cached trends, 2 series, 30 days, {bytes} bytes: {answers:.0} answers/s a core, p99 {p99:.1} us");
        Ok(())
    })
}
