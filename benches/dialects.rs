//! What each dialect costs beside pulse's own: CPU and allocations an event, from the bytes of a request to packed events.
//!
//! `cargo bench --bench dialects`. The requests are those that SDKs were recorded to send (`tests/data/requests`), their bodies inflated;
//! no socket, no key looked up, no place, no log. `own` is what a request of pulse's own dialect with as many of its events costs an event.

use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mimalloc::MiMalloc;
use pulse::ingest::{DecodeResult, Geo, IngestConfig, IngestLimits, WholeRequest};
use serde_json::Value;

/// A while after the requests were recorded.
const RECEIVED_MS: i64 = 1_796_000_000_000;
/// A round of one request, and how many of them: the least of them counts, for others are of a machine that did something else.
const ROUND: Duration = Duration::from_millis(100);
const ROUNDS: usize = 9;
/// The request of pulse's own.
const OWN: &str = "pulse-analytics-sdk.http";

/// The allocator of the program, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is handed on to the program's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// What a request costs.
struct Cost {
    events: u32,
    body_bytes: usize,
    packed_bytes: usize,
    nanoseconds: f64,
    allocations: f64,
}

struct Bench {
    limits: IngestLimits,
    geo: Geo,
}

impl Bench {
    fn decode(&self, request: &WholeRequest) -> Result<DecodeResult> {
        match request.decode(&self.limits, &self.geo, RECEIVED_MS) {
            Ok(result) if result.accepted > 0 && result.refused == 0 => Ok(result),
            Ok(result) => bail!("not all is taken: {result:?}"),
            Err(error) => bail!("refused: {error:?}"),
        }
    }

    fn cost(&self, file: &[u8]) -> Result<Cost> {
        let request = WholeRequest::parse(file).map_err(anyhow::Error::msg)?;
        let DecodeResult { accepted, bytes, .. } = self.decode(&request)?;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        black_box(self.decode(&request)?);
        let allocations = (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(accepted);
        let mut least = f64::INFINITY;
        for _ in 0..ROUNDS {
            let (began, mut requests) = (Instant::now(), 0_u32);
            while began.elapsed() < ROUND {
                for _ in 0..20 {
                    black_box(self.decode(black_box(&request))?);
                }
                requests += 20;
            }
            least = least.min(began.elapsed().as_nanos() as f64 / f64::from(requests) / f64::from(accepted));
        }
        let body_bytes = file.len() - memchr::memmem::find(file, b"\n\n").unwrap_or_default();
        Ok(Cost { events: accepted, body_bytes, packed_bytes: bytes, nanoseconds: least, allocations })
    }
}

/// The request of pulse's own with so many of its events.
fn own(file: &[u8], events: u32) -> Result<Vec<u8>> {
    let at = memchr::memmem::find(file, b"\n\n").context("no empty line")? + 2;
    let (head, body) = file.split_at(at);
    let mut body: Value = serde_json::from_slice(body)?;
    let batch = body.get_mut("batch").and_then(Value::as_array_mut).context("no batch")?;
    // The first is an `identify`.
    let orders: Vec<Value> = batch.iter().skip(1).cycle().take(events as usize).cloned().collect();
    *batch = orders;
    Ok([head, body.to_string().as_bytes()].concat())
}

fn main() -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/requests");
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    let pattern = std::env::args().skip(1).find(|given| !given.starts_with('-')).unwrap_or_default();
    let limits = IngestConfig::default().check().map_err(anyhow::Error::msg)?;
    let bench = Bench { limits, geo: Geo::default() };
    let of_pulse = fs::read(folder.join(OWN))?;
    println!("| request | events | bytes an event: body, packed | ns an event | own | times | allocations an event | own |");
    println!("|---|---|---|---|---|---|---|---|");
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(&pattern) {
            continue;
        }
        let cost = bench.cost(&fs::read(&path)?).with_context(|| name.clone())?;
        let own = bench.cost(&own(&of_pulse, cost.events)?).context("pulse's own")?;
        println!(
            "| {name} | {} | {}, {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} |",
            cost.events,
            cost.body_bytes / cost.events as usize,
            cost.packed_bytes / cost.events as usize,
            cost.nanoseconds,
            own.nanoseconds,
            cost.nanoseconds / own.nanoseconds,
            cost.allocations,
            own.allocations,
        );
    }
    Ok(())
}
