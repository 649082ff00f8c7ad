//! User agents: browser, system, device.
//!
//! Parsing one costs tens of microseconds and the same few thousand come again and again, so each worker keeps a bounded
//! cache by string. `ua-parser` is the project's own prefiltered implementation of uap-core; its tables take a while and
//! some memory to build, so that happens beside the start ([`AgentParser::warm_up`]) and holds up nothing.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use ua_parser::{Extractor, Regexes};

use super::bot::Bots;
use crate::event::field::Field;
use crate::event::text::clip;

/// uap-core 0.18.0 as JSON, see `data/README.md`.
const TABLES: &str = include_str!("../../../data/agents.json");
/// Longer agents are cut: no real one is, and parsing costs by length, each time for one who makes them up.
const MAX_AGENT: usize = 512;
/// Agents remembered in each of two generations.
const CACHED: usize = 4_096;

/// What an agent string says. Empty where it says nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agent {
    fields: Vec<(Field, Box<str>)>,
}

impl Agent {
    /// The fields that it fills, with their values.
    pub fn fields(&self) -> impl Iterator<Item = (Field, &str)> {
        self.fields.iter().map(|(field, text)| (*field, text.as_ref()))
    }

    /// The value of one field, empty if it has none.
    pub fn get(&self, field: Field) -> &str {
        self.fields.iter().find(|(own, _)| *own == field).map_or("", |(_, text)| text)
    }

    fn set(&mut self, field: Field, text: &str) {
        if !text.is_empty() && text != "Other" {
            self.fields.push((field, text.into()));
        }
    }
}

/// Parses agents; shared by all workers.
#[derive(Default)]
pub struct AgentParser {
    tables: OnceLock<Option<Tables>>,
}

struct Tables {
    agents: Extractor<'static>,
    bots: Bots,
}

impl AgentParser {
    /// A parser whose tables are built when first needed.
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds the tables, which takes a while: not for threads that serve.
    pub fn warm_up(&self) {
        self.tables.get_or_init(build);
    }

    /// Parses an agent string.
    pub fn parse(&self, text: &str) -> Agent {
        let text = clip(text, MAX_AGENT);
        let mut agent = Agent::default();
        let mut device_family = String::new();
        let tables = self.tables.get_or_init(build).as_ref();
        if let Some(Tables { agents, .. }) = tables {
            let (browser, os, device) = agents.extract(text);
            if let Some(browser) = browser {
                agent.set(Field::Browser, &browser.family);
                agent.set(Field::BrowserVersion, &version([browser.major, browser.minor]));
            }
            if let Some(os) = os {
                agent.set(Field::Os, &os.os);
                agent.set(Field::OsVersion, &version([os.major.as_deref(), os.minor.as_deref()]));
            }
            if let Some(device) = device {
                agent.set(Field::DeviceModel, device.model.as_deref().unwrap_or_default());
                agent.set(Field::DeviceManufacturer, device.brand.as_deref().unwrap_or_default());
                device_family = device.device.into_owned();
            }
        }
        let reason = tables.and_then(|tables| tables.bots.reason(text, &device_family));
        let device = Device { os: agent.get(Field::Os), model: agent.get(Field::DeviceModel) };
        let device_type = if reason.is_some() { "bot" } else { device.kind(text) };
        agent.set(Field::DeviceType, device_type);
        agent.set(Field::Bot, reason.unwrap_or_default());
        agent
    }
}

fn build() -> Option<Tables> {
    let regexes = serde_json::from_str::<Regexes<'static>>(TABLES).map_err(|problem| problem.to_string());
    let agents = regexes.and_then(|regexes| Extractor::try_from(regexes).map_err(|problem| problem.to_string()));
    match agents.and_then(|agents| Ok(Tables { agents, bots: Bots::new()? })) {
        Ok(tables) => Some(tables),
        Err(problem) => {
            // Tests build them, so this cannot be; without tables agents say nothing.
            debug_assert!(false, "agent tables: {problem}");
            None
        }
    }
}

/// `major.minor`, as far as it is known.
fn version(parts: [Option<&str>; 2]) -> String {
    match parts {
        [Some(major), Some(minor)] => format!("{major}.{minor}"),
        [Some(major), None] => major.to_owned(),
        _ => String::new(),
    }
}

/// Words of televisions and what is plugged into them.
const TELEVISIONS: [&str; 23] = [
    "SmartTV",
    "SMART-TV",
    "Smart TV",
    "AppleTV",
    "Apple TV",
    "tvOS",
    "GoogleTV",
    "Google TV",
    "Android TV",
    "BRAVIA",
    "HbbTV",
    "Web0S",
    "WEBOS",
    "NetCast",
    "NETTV",
    "Roku",
    "CrKey",
    "Chromecast",
    "MiTV",
    "MIBOX",
    "AFT",
    "Viera",
    " TV ",
];
/// How models of tablets begin.
const TABLETS: [&str; 12] =
    ["SM-T", "SM-X", "GT-P", "Lenovo TB", "TB-", "Tab", "Pixel Tablet", "Pixel C", "Nexus 7", "Nexus 9", "Nexus 10", "KF"];
const CONSOLES: [&str; 3] = ["PlayStation", "Xbox", "Nintendo"];

/// The device, as the tables know it.
struct Device<'a> {
    os: &'a str,
    model: &'a str,
}

impl Device<'_> {
    /// `tablet`, `tv`, `console`, `mobile` or `desktop`; empty where the agent `text` does not tell.
    fn kind(&self, text: &str) -> &'static str {
        let has = |word: &str| text.contains(word);
        match self.os {
            _ if TELEVISIONS.iter().any(|word| has(word)) => "tv",
            _ if CONSOLES.iter().any(|word| has(word)) => "console",
            _ if has("iPad") || has("Tablet") || has("Kindle") || has("PlayBook") => "tablet",
            "Android" if TABLETS.iter().any(|start| self.model.starts_with(start)) => "tablet",
            // Only browsers say `Mobile`, so only of theirs its absence means something.
            "Android" if text.starts_with("Mozilla/") && !has("Mobile") && !has("wv)") => "tablet",
            "Android" | "iOS" | "Windows Phone" | "BlackBerry OS" | "KaiOS" | "Firefox OS" | "Symbian OS" => "mobile",
            _ if has("Mobile") || has("iPhone") => "mobile",
            "Windows" | "Mac OS X" | "Linux" | "Ubuntu" | "Chrome OS" | "Fedora" | "Debian" | "FreeBSD" | "OpenBSD" | "NetBSD"
            | "Solaris" => "desktop",
            os if os.starts_with("Windows") => "desktop",
            _ => "",
        }
    }
}

/// The agents that one worker has seen. Bounded: when the younger generation is full, the older one is forgotten.
pub struct AgentCache {
    parser: Arc<AgentParser>,
    young: HashMap<Box<str>, Agent, foldhash::fast::RandomState>,
    old: HashMap<Box<str>, Agent, foldhash::fast::RandomState>,
}

impl AgentCache {
    /// An empty cache.
    pub fn new(parser: Arc<AgentParser>) -> Self {
        Self { parser, young: HashMap::default(), old: HashMap::default() }
    }

    /// What an agent string says.
    pub fn parse(&mut self, text: &str) -> &Agent {
        if !self.young.contains_key(text) {
            let agent = self.old.remove(text).unwrap_or_else(|| self.parser.parse(text));
            if self.young.len() >= CACHED {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(text.into(), agent);
        }
        static NOTHING: Agent = Agent { fields: Vec::new() };
        self.young.get(text).unwrap_or(&NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;

    /// Its tables take a while to build.
    static PARSER: LazyLock<AgentParser> = LazyLock::new(AgentParser::new);

    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
    const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
    const GOOGLEBOT: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

    #[test]
    fn browsers_systems_and_devices_are_told() {
        let parser = AgentParser::new();
        let chrome = parser.parse(CHROME);
        assert_eq!([chrome.get(Field::Browser), chrome.get(Field::BrowserVersion)], ["Chrome", "126.0"]);
        assert_eq!([chrome.get(Field::Os), chrome.get(Field::OsVersion)], ["Windows", "10"]);
        assert_eq!([chrome.get(Field::DeviceType), chrome.get(Field::Bot)], ["desktop", ""]);
        let iphone = parser.parse(IPHONE);
        assert_eq!([iphone.get(Field::Os), iphone.get(Field::DeviceType)], ["iOS", "mobile"]);
        assert_eq!(iphone.get(Field::DeviceManufacturer), "Apple");
        let bot = parser.parse(GOOGLEBOT);
        assert_eq!([bot.get(Field::DeviceType), bot.get(Field::Bot)], ["bot", "agent_crawler"]);
    }

    #[test]
    fn what_somebody_holds_is_told_where_the_agent_tells_it() {
        let parser = AgentParser::new();
        for (agent, kind) in [
            ("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP1A.240505.004)", "mobile"),
            ("Shop/3.1 (Android 14; Pixel 8)", "mobile"),
            ("Dalvik/2.1.0 (Linux; U; Android 13; SM-X900 Build/TP1A)", "tablet"),
            ("Shop/310 (iPhone; iOS 17.5; Scale/3.00)", "mobile"),
            ("Mozilla/5.0 (Linux; Android 13; SM-X900) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", "tablet"),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36",
                "mobile",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "tablet",
            ),
            ("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/7.0 TV Safari/537.36", "tv"),
            (
                "Mozilla/5.0 (Linux; Android 9; AFTWMST22) AppleWebKit/537.36 (KHTML, like Gecko) Silk/120 like Chrome/120 Safari/537.36",
                "tv",
            ),
            ("Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0 Safari/537.36 WebAppManager", "tv"),
            ("Roku/DVP-12.5 (12.5.0.4178-88)", "tv"),
            ("Mozilla/5.0 (Linux; Android 12; Chromecast HD) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36", "tv"),
            ("Mozilla/5.0 (X11; OpenBSD amd64; rv:120.0) Gecko/20100101 Firefox/120.0", "desktop"),
            ("Mozilla/5.0 (PlayStation 5 3.11) AppleWebKit/605.1.15 (KHTML, like Gecko)", "console"),
            ("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36", "desktop"),
            ("FBAN/unknown;FBAV/460", ""),
        ] {
            assert_eq!(parser.parse(agent).get(Field::DeviceType), kind, "{agent}");
        }
    }

    /// The lines of a table that are no comment.
    fn lines(table: &'static str) -> Vec<&'static str> {
        table.lines().filter(|line| !line.starts_with('#')).collect()
    }

    #[test]
    fn machines_are_flagged_with_their_reason() {
        let machines = lines(include_str!("bot/machines.tsv"));
        assert!(machines.len() > 150);
        let found = machines.iter().map(|line| line.split_once('\t').unwrap()).map(|(reason, agent)| (PARSER.parse(agent), reason, agent));
        let wrong: Vec<_> = found.filter(|(found, reason, _)| found.get(Field::Bot) != *reason).collect();
        assert!(wrong.is_empty(), "found, expected, of: {wrong:#?}");
    }

    #[test]
    fn people_are_flagged_in_no_browser_and_no_app() {
        let people = lines(include_str!("bot/people.txt"));
        assert!(people.len() > 100);
        let wrong: Vec<_> =
            people.iter().map(|agent| (PARSER.parse(agent), agent)).filter(|(found, _)| !found.get(Field::Bot).is_empty()).collect();
        assert!(wrong.is_empty(), "flagged, of: {wrong:#?}");
    }

    #[test]
    fn a_flood_of_agents_stays_within_the_bound() {
        let mut cache = AgentCache::new(Arc::new(AgentParser::new()));
        for number in 0..3 * CACHED {
            cache.parse(&format!("x{number}"));
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * CACHED);
        let agent = cache.parse(CHROME);
        assert_eq!(agent.get(Field::Browser), "Chrome");
    }

    #[test]
    fn an_agent_of_a_megabyte_is_cut_before_it_is_parsed() {
        let parser = AgentParser::new();
        assert_eq!(parser.parse(&"é".repeat(500_000)).get(Field::Bot), "");
    }

    proptest! {
        #[test]
        fn fuzz_of_agents(
            of in prop::sample::select(vec![CHROME, IPHONE, GOOGLEBOT, "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP1A.240505.004)", ""]),
            changes in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]{0,12}|[(;/._)0-9]{1,40}|\\PC{0,6}", 0_usize..12), 0..5),
        ) {
            let mut text: Vec<char> = of.chars().collect();
            for (at, put, less) in changes {
                let at = at.index(text.len() + 1);
                drop(text.splice(at..(at + less).min(text.len()), put.chars()));
            }
            let text: String = text.into_iter().collect();
            let agent = PARSER.parse(&text);
            prop_assert!(agent.fields().all(|(_, value)| !value.is_empty() && value.len() <= MAX_AGENT), "{agent:?}");
            prop_assert_eq!(PARSER.parse(&text), agent);
        }
    }
}
