//! Ingest into Kafka beside librdkafka's own producer: HTTP requests until they are durable, and then the very same records again,
//! produced by the C library as fast as it takes them. One broker, one run.
//!
//! `scripts/fetch.sh test && cargo bench --bench kafka_ingest`. The producer has its records ready in memory: it neither parses nor
//! packs, and nobody waits for an answer.
#![allow(clippy::disallowed_methods, reason = "measures with a runtime of its own")]

#[path = "../tests/it/harness/kafka.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod kafka;
#[path = "../tests/it/harness/ports.rs"]
mod ports;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pulse::event::record;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value;

use kafka::Kafka;

const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
const PARTITIONS: i32 = 4;
/// Most bytes of records that are produced again.
const MOST_BYTES: usize = 1 << 30;

fn signal(pid: u32, signal: rustix::process::Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// CPU seconds of this process so far.
fn own_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// What `pulse bench` says of ingest alone, and the topic that it filled.
fn ingest(kafka: &Kafka) -> Result<(Value, String)> {
    let mut command = Command::new(PathBuf::from(env!("CARGO_BIN_EXE_pulse")));
    command.args(["bench", "--max", "--ingest-only", "--connections", "64", "--duration", "15s", "--json"]).envs(kafka.environment(""));
    let bench = command.stdout(Stdio::piped()).spawn()?;
    let topic = format!("pulse-bench-{}-raw", bench.id());
    let output = bench.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "pulse bench ended with {}", output.status);
    Ok((serde_json::from_slice(&output.stdout)?, topic))
}

/// A record, and the partition where it stands.
type Raw = (i32, Vec<u8>);

/// The records of a raw topic, and how many events they hold.
fn records(kafka: &Kafka, topic: &str) -> Result<(Vec<Raw>, u64)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.addresses())
        .set("group.id", "bench")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let (mut records, mut events, mut bytes, mut ended) = (Vec::new(), 0, 0, 0);
    while ended < PARTITIONS && bytes < MOST_BYTES {
        match consumer.poll(PATIENCE).context("the topic does not answer")? {
            Ok(message) => {
                let payload = message.payload().unwrap_or_default().to_vec();
                events += record::header(&payload).map_or(0, |header| u64::from(header.events));
                bytes += payload.len();
                records.push((message.partition(), payload));
            }
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => ended += 1,
            Err(problem) => return Err(problem.into()),
        }
    }
    Ok((records, events))
}

/// Produces them again; returns seconds, and CPU seconds of the producer.
fn produce(kafka: &Kafka, records: &[Raw]) -> Result<(f64, f64)> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.addresses())
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.max.bytes", "8000000")
        .set("queue.buffering.max.kbytes", "65536")
        .create()?;
    let (began, cpu) = (Instant::now(), own_cpu());
    for (partition, payload) in records {
        let mut record = BaseRecord::<(), [u8]>::to("again").partition(*partition).payload(payload.as_slice());
        while let Err((_, back)) = producer.send(record) {
            record = back;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE)?;
    Ok((began.elapsed().as_secs_f64(), own_cpu() - cpu))
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let kafka = runtime.block_on(async {
        let kafka = Kafka::start(1).await;
        kafka.create_topic("again", PARTITIONS).await;
        kafka
    });
    let (ingest, topic) = ingest(&kafka)?;
    let rate = ingest["events_per_s"].as_f64().context("no rate")?;
    let cpu = ingest["cpu_us_per_event"]["pulse"].as_f64().context("no cpu")?;
    println!("pulse, HTTP to durable  {rate:>9.0} events/s  {cpu:>5.2} us CPU an event  ack {} ms", ingest["ack_ms"]);
    let (records, events) = records(&kafka, &topic)?;
    let bytes: usize = records.iter().map(|(_, payload)| payload.len()).sum();
    anyhow::ensure!(events > 0 && bytes > 0, "nothing in the topic");
    let (seconds, own) = produce(&kafka, &records)?;
    let alone = events as f64 / seconds;
    println!(
        "librdkafka, same bytes  {alone:>9.0} events/s  {:>5.2} us CPU an event  {:.0} MB/s in records of {} KB",
        own * 1e6 / events as f64,
        bytes as f64 / 1e6 / seconds,
        bytes / records.len() / 1_000
    );
    println!("ratio: {:.2} of the events a second; {events} events of {} bytes", rate / alone, bytes as u64 / events);
    Ok(())
}
