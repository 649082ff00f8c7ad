//! Two parsers of user agents on the same tables (uap-core, `data/agents.json`): `ua-parser`, which pulse uses, and `uaparser`.
//!
//! `cargo bench --bench agents`. Start-up, memory, CPU of an agent that is not cached, and on how many agents of the access log in
//! `tests/data` they agree. Each parser in a process of its own, so that its memory is its own.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ua_parser::{Extractor, Regexes};
use uaparser::{Parser, UserAgentParser};

const TABLES: &str = include_str!("../data/agents.json");
const LOG: &[u8] = include_bytes!("../tests/data/apache_access_combined.log.gz");
/// How long each parser parses: every agent many times, none cached.
const DURATION: Duration = Duration::from_secs(3);
/// As in `process`.
const MAX_AGENT: usize = 512;

/// Browser, its version, system, its version, manufacturer and model.
type Found = [String; 6];

/// The distinct agents of the log, the last quoted part of each line.
fn agents() -> Result<Vec<String>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(LOG).read_to_string(&mut text)?;
    let of = |line: &str| line.trim_end().strip_suffix('"')?.rsplit_once('"').map(|(_, agent)| agent.to_owned());
    let distinct: BTreeSet<String> = text.lines().filter_map(of).filter(|agent| agent.len() > 1 && agent.len() <= MAX_AGENT).collect();
    Ok(distinct.into_iter().collect())
}

fn version(major: Option<&str>, minor: Option<&str>) -> String {
    [major, minor].into_iter().flatten().collect::<Vec<_>>().join(".")
}

fn ua_parser() -> Result<impl Fn(&str) -> Found> {
    let regexes: Regexes<'static> = serde_json::from_str(TABLES)?;
    let Ok(parser) = Extractor::try_from(regexes) else { bail!("ua-parser refuses the tables") };
    Ok(move |agent: &str| {
        let (browser, os, device) = parser.extract(agent);
        let known = |text: &str| if text == "Other" { String::new() } else { text.to_owned() };
        [
            browser.as_ref().map(|browser| known(&browser.family)).unwrap_or_default(),
            browser.map(|browser| version(browser.major, browser.minor)).unwrap_or_default(),
            os.as_ref().map(|os| known(&os.os)).unwrap_or_default(),
            os.map(|os| version(os.major.as_deref(), os.minor.as_deref())).unwrap_or_default(),
            device.as_ref().and_then(|device| device.brand.as_deref()).unwrap_or_default().to_owned(),
            device.as_ref().and_then(|device| device.model.as_deref()).unwrap_or_default().to_owned(),
        ]
    })
}

fn uaparser() -> Result<impl Fn(&str) -> Found> {
    // JSON is YAML.
    let parser = UserAgentParser::from_bytes(TABLES.as_bytes()).map_err(|problem| anyhow::anyhow!("{problem:?}"))?;
    Ok(move |agent: &str| {
        let client = parser.parse(agent);
        let known = |text: &str| if text == "Other" { String::new() } else { text.to_owned() };
        [
            known(&client.user_agent.family),
            version(client.user_agent.major.as_deref(), client.user_agent.minor.as_deref()),
            known(&client.os.family),
            version(client.os.major.as_deref(), client.os.minor.as_deref()),
            client.device.brand.as_deref().unwrap_or_default().to_owned(),
            client.device.model.as_deref().unwrap_or_default().to_owned(),
        ]
    })
}

/// Memory of this process, MiB.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0
}

fn measure<P: Fn(&str) -> Found>(name: &str, make: impl FnOnce() -> Result<P>) -> Result<()> {
    let agents = agents()?;
    let (before, began) = (memory(), Instant::now());
    let parse = make()?;
    let start_up = began.elapsed();
    let (mut parsed, mut filled, began) = (0_u64, 0_usize, Instant::now());
    while began.elapsed() < DURATION {
        for agent in &agents {
            filled += parse(agent).iter().map(String::len).sum::<usize>();
            parsed += 1;
        }
    }
    let cost_us = began.elapsed().as_secs_f64() * 1e6 / parsed as f64;
    let held = memory() - before;
    println!("{name}: {start_up:.1?} to start, {held:.0} MiB, {cost_us:.1} us an agent ({} agents, {filled} bytes found)", agents.len());
    Ok(())
}

fn compare() -> Result<()> {
    let (agents, left, right) = (agents()?, ua_parser()?, uaparser()?);
    let differing: Vec<_> = agents.iter().filter(|agent| left(agent) != right(agent)).collect();
    println!("equal on {} of {} agents", agents.len() - differing.len(), agents.len());
    for agent in differing.iter().take(5) {
        println!("  {agent}\n    ua-parser {:?}\n    uaparser  {:?}", left(agent), right(agent));
    }
    Ok(())
}

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("ua-parser") => measure("ua-parser", ua_parser),
        Some("uaparser") => measure("uaparser", uaparser),
        _ => {
            let own = std::env::current_exe()?;
            for name in ["ua-parser", "uaparser"] {
                let status = Command::new(&own).arg(name).status().context("measuring in a process of its own")?;
                if !status.success() {
                    bail!("{name}: {status}");
                }
            }
            compare()
        }
    }
}
