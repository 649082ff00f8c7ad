//! Bots: flagged with the reason, never dropped. No agent at all is no bot: server SDKs send none.
//!
//! Who is one is known from a list that others keep (`data/bots.json`), from a short one of ours (`data/machines.tsv`), and from what
//! no browser does: to name an address or a mailbox of its operator. May go wrong: a list that cannot be read (a test reads them).

use aho_corasick::{AhoCorasick, MatchKind};
use regex::RegexSet;
use serde::Deserialize;

/// See `data/README.md`.
const LIST: &str = include_str!("../../../data/bots.json");
const OWN: &str = include_str!("../../../data/machines.tsv");

/// Names in the list that apps and their browsers have in their agents as well, behind others: `Shop/3.2 okhttp/4.9`, `SogouMobileBrowser`.
/// For the list of others what [`AT_BEGINNING`] is for ours.
const ALSO_APPS: [&str; 3] = ["Viber", "Sogou", "okhttp"];
/// What begins a word of ours that is looked for at the beginning of an agent alone.
const AT_BEGINNING: char = '^';
/// The reason of words that make no bot: longer ones than those that would.
const NONE: &str = "none";
/// Agents of old browsers that contain a contact address.
const NAMES_AN_ADDRESS: [&str; 2] = ["bsalsa.com", "desktop.google.com"];

/// What makes bots, with the reasons.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    literals: Vec<(&'a str, &'a str)>,
    patterns: Vec<(String, &'a str)>,
}

/// Words to be found, and why each is there.
struct Words {
    finder: AhoCorasick,
    words: Vec<(&'static str, &'static str)>,
}

/// Whether a word stands where it must.
fn is_meant(word: &str, at: usize) -> bool {
    at == 0 || !word.starts_with(AT_BEGINNING) && !ALSO_APPS.contains(&word)
}

impl Words {
    fn new(words: Vec<(&'static str, &'static str)>, ignores_case: bool) -> Result<Self, String> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(ignores_case)
            .build(words.iter().map(|(word, _)| word.trim_start_matches(AT_BEGINNING)))
            .map_err(|problem| problem.to_string())?;
        Ok(Self { finder, words })
    }

    fn reason(&self, agent: &str) -> Option<&'static str> {
        let found = self.finder.find_iter(agent).filter_map(|found| Some((self.words.get(found.pattern().as_usize())?, found.start())));
        found.filter(|((word, reason), at)| is_meant(word, *at) && *reason != NONE).map(|((_, reason), _)| *reason).next()
    }
}

/// The lists, made ready.
pub struct Bots {
    own: Words,
    literals: Words,
    patterns: RegexSet,
    pattern_reasons: Vec<&'static str>,
}

impl Bots {
    /// Reads the lists. Errors: one of them cannot be read.
    pub fn new() -> Result<Self, String> {
        let List { literals, patterns } = serde_json::from_str(LIST).map_err(|problem| problem.to_string())?;
        let own = OWN.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let mut cells = line.split('\t');
            let (reason, word) = (cells.next()?, cells.next()?);
            cells.next().map(|_why| (word, reason))
        });
        let own: Option<Vec<_>> = own.collect();
        Ok(Self {
            own: Words::new(own.ok_or("data/machines.tsv: a line has no three cells")?, true)?,
            literals: Words::new(literals, false)?,
            patterns: RegexSet::new(patterns.iter().map(|(pattern, _)| pattern)).map_err(|problem| problem.to_string())?,
            pattern_reasons: patterns.iter().map(|(_, reason)| *reason).collect(),
        })
    }

    /// Why an agent is taken for a bot, such as `agent_library`, `monitor`, `feed_reader` or `agent_crawler`. `device_family` is what
    /// the agent tables say of it.
    pub fn reason(&self, agent: &str, device_family: &str) -> Option<&'static str> {
        if agent.is_empty() {
            return None;
        }
        let by_list = || self.own.reason(agent).or_else(|| self.literals.reason(agent)).or_else(|| self.by_pattern(agent));
        by_list().or_else(|| (device_family == "Spider" || names_its_operator(agent) || is_called_bot(agent)).then_some("agent_crawler"))
    }

    fn by_pattern(&self, agent: &str) -> Option<&'static str> {
        let first = self.patterns.matches(agent).iter().next()?;
        self.pattern_reasons.get(first).copied()
    }
}

/// Whether an agent tells where to complain.
fn names_its_operator(agent: &str) -> bool {
    let has_address = agent.contains("://") || agent.contains("+http");
    let has_mailbox = agent.split_once('@').is_some_and(|(_, rest)| is_domain(rest.split([' ', ')', ';', ',']).next().unwrap_or_default()));
    (has_address || has_mailbox) && !NAMES_AN_ADDRESS.iter().any(|known| agent.contains(known))
}

/// Whether it ends as a domain does; behind an `@` some browsers have their version.
fn is_domain(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, end)| end.len() > 1 && end.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Whether a word of it ends in "bot".
fn is_called_bot(agent: &str) -> bool {
    // Cubot makes telephones.
    let lower = agent.to_ascii_lowercase().replace("cubot", "");
    let goes_on = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic());
    lower.match_indices("bot").any(|(at, word)| !lower.get(at + word.len()..).is_some_and(goes_on))
}

#[cfg(test)]
mod tests;
