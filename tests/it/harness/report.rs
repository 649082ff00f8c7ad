//! What a test reports beside whether it holds: times and memory.

use std::time::Instant;

use hyper::StatusCode;

use super::Http;
use super::fault::odd_event;

/// The slowest and the usual of some requests, milliseconds.
pub(crate) async fn acks(http: &Http) -> (u128, u128) {
    let mut times = Vec::new();
    for _ in 0..100 {
        let began = Instant::now();
        assert_eq!(http.capture(&odd_event()).await.0, StatusCode::BAD_REQUEST);
        times.push(began.elapsed().as_millis());
    }
    times.sort_unstable();
    (times[50], times[98])
}

/// The most memory that a process has had so far, MiB.
pub(crate) fn most_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}
