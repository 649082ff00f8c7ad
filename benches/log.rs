//! What the embedded log does on this disk: acknowledged bytes a second, time to acknowledgement, time to open.
//!
//! `cargo bench --bench log`. Writes a few GB below `target/tmp` and deletes them. Every acknowledgement is a record on
//! disk, so the figures are those of the disk as much as of the code.
#![allow(clippy::disallowed_methods, reason = "measures with tasks of its own")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use pulse::log::embedded::{EmbeddedLimits, EmbeddedLog, EmbeddedLogConfig};
use pulse::log::{Log, RunningLog, Topic};

const RECORD_BYTES: usize = 100 * 1024;
const DURATION: Duration = Duration::from_secs(5);

fn limits() -> anyhow::Result<EmbeddedLimits> {
    EmbeddedLogConfig::default().check().map_err(anyhow::Error::msg)
}

/// Appends one record after the other until `end`, each after the one before was acknowledged.
async fn produce(log: EmbeddedLog, partition: u16, end: Instant) -> anyhow::Result<Histogram<u64>> {
    let payload: Bytes = (0..RECORD_BYTES).map(|at| (at * 31 % 251) as u8).collect();
    let mut acks = Histogram::new(3)?;
    while Instant::now() < end {
        let begun = Instant::now();
        log.append(Topic::Raw, partition, payload.clone())?.await?;
        acks.record(begun.elapsed().as_micros() as u64)?;
    }
    Ok(acks)
}

async fn run(producers: u16) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let log = EmbeddedLog::open(dir.path(), limits()?)?;
    let begun = Instant::now();
    let running: Vec<_> = (0..producers)
        .map(|producer| tokio::spawn(produce(log.clone(), producer % log.partitions(Topic::Raw), begun + DURATION)))
        .collect();
    let mut acks = Histogram::<u64>::new(3)?;
    for producer in running {
        acks.add(producer.await??)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let mb = acks.len() as f64 * RECORD_BYTES as f64 / 1e6;
    println!(
        "{producers:>2} producers: {:>5.0} MB/s, {:>6.0} acks/s, ack p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms",
        mb / seconds,
        acks.len() as f64 / seconds,
        acks.value_at_quantile(0.5) as f64 / 1e3,
        acks.value_at_quantile(0.99) as f64 / 1e3,
        acks.max() as f64 / 1e3,
    );
    drop(log);
    let begun = Instant::now();
    let log = EmbeddedLog::open(dir.path(), limits()?)?;
    println!("   reopened after a crash with {mb:.0} MB in {:.0} ms", begun.elapsed().as_secs_f64() * 1e3);
    log.close().await;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for producers in [1, 8, 32] {
        runtime.block_on(run(producers))?;
    }
    Ok(())
}
