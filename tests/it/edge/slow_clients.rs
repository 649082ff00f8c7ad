//! Thousands of clients that say nothing, or not enough, beside good ones (E5): their timeouts close them, and the good ones are served.
//!
//! With `PULSE_TEST_LONG` five thousand of each kind and the timeouts that there are by default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::memory::{begun, status, warm};
use crate::harness::fault::is_long;
use crate::harness::{Http, Pulse};

/// Clients that are good to pulse.
const GOOD: u32 = 4;
/// Between two events of one of them: what is measured is the answer, not how much the machine does.
const PACE: Duration = Duration::from_millis(20);

/// How long after its timeout the last of thousands may be closed, and be noticed so, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(10);

/// One kind of slow client.
struct Kind {
    name: &'static str,
    /// What closes it.
    timeout: Duration,
    /// What each sends at once, and what it sends each second.
    beginning: Vec<u8>,
    drip: &'static [u8],
}

/// Whether the server has not closed a connection; what it says is passed over.
fn is_open(stream: &TcpStream) -> bool {
    let mut said = [0; 512];
    loop {
        match stream.try_read(&mut said) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(problem) => return problem.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Holds connections of a kind, all of which are there, until the server has closed the last, which its timeout does: how long that took.
async fn closed(kind: &Kind, mut held: Vec<TcpStream>) -> Duration {
    let began = Instant::now();
    while !held.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        held.retain(|stream| {
            // A server that has closed refuses it.
            drop(stream.try_write(kind.drip));
            is_open(stream)
        });
        let waited = began.elapsed();
        assert!(held.is_empty() || waited < kind.timeout + SLACK, "{}: {} are held after {waited:?}", kind.name, held.len());
    }
    began.elapsed()
}

/// How long each event of good clients took, in order, until `ends`.
async fn good_clients(http: &Http, ends: impl Future<Output = ()>) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for _ in 0..GOOD {
        let (http, stop) = (http.clone(), Arc::clone(&stop));
        clients.spawn(async move {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                super::good(&http).await;
                times.push(began.elapsed());
                tokio::time::sleep(PACE).await;
            }
            times
        });
    }
    ends.await;
    stop.store(true, Ordering::Relaxed);
    let mut times = clients.join_all().await.concat();
    times.sort();
    times
}

/// Of sorted times the one that so many of a hundred do not exceed.
fn percentile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() - 1) * percent / 100]
}

fn shown(times: &[Duration]) -> String {
    format!("{} events, p50/p99 {:.1?}/{:.1?}", times.len(), percentile(times, 50), percentile(times, 99))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_by_their_timeouts_and_good_ones_are_served() {
    let (of_each, calm) = if is_long() { (5_000, Duration::from_secs(10)) } else { (700, Duration::from_secs(1)) };
    let [header, body] = if is_long() { [10, 30] } else { [2, 4] }.map(Duration::from_secs);
    let most = (3 * of_each + 100).to_string();
    let mut environment = vec![("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.1"), ("PULSE__HTTP__MAX_CONNECTIONS", most.as_str())];
    if !is_long() {
        environment.extend([("PULSE__HTTP__HEADER_TIMEOUT", "2s"), ("PULSE__HTTP__BODY_TIMEOUT", "4s")]);
    }
    let pulse = Pulse::start_with(&environment).await;
    warm(&pulse).await;
    let beginning = format!(
        "POST /v1/events HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: 100000\r\n\r\n{{",
        pulse.http.write_key
    );
    let kinds = [
        Kind { name: "that say nothing", timeout: header, beginning: Vec::new(), drip: b"" },
        Kind {
            name: "heads, a byte a second",
            timeout: header,
            beginning: b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: ".to_vec(),
            drip: b"x",
        },
        Kind { name: "bodies, a byte a second", timeout: body, beginning: beginning.into_bytes(), drip: b" " },
    ];
    let before = good_clients(&pulse.http, tokio::time::sleep(calm)).await;
    println!("good clients alone: {}", shown(&before));
    let rss = status(pulse.pid(), "VmRSS");
    let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let crowds = async {
        let mut crowds = JoinSet::new();
        for kind in kinds {
            let held = begun(&pulse, of_each, &kind.beginning).await;
            crowds.spawn(async move {
                let last = closed(&kind, held).await;
                println!("{of_each} {}: the last is closed {:.1} s after all were there", kind.name, last.as_secs_f64());
            });
        }
        most.store(status(pulse.pid(), "VmRSS"), Ordering::Relaxed);
        crowds.join_all().await;
    };
    let beside = good_clients(&pulse.http, crowds).await;
    let after = status(pulse.pid(), "VmRSS");
    println!("good clients beside {} slow ones: {}", 3 * of_each, shown(&beside));
    // With every test run so many other tests run beside them that the times before say little of those meanwhile.
    let bound = if is_long() { 2 * percentile(&before, 99).max(Duration::from_millis(100)) } else { Duration::from_secs(2) };
    assert!(percentile(&beside, 99) < bound, "good clients wait for slow ones: {}, alone {}", shown(&beside), shown(&before));
    println!("memory: {} MiB before, {} with them, {} after", rss >> 10, most.load(Ordering::Relaxed) >> 10, after >> 10);
    let log = std::fs::read_to_string(pulse.data_dir().join("test.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    assert!(pulse.stop().await);
}
