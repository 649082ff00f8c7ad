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

/// Words of the list of others that people's agents have as well, behind others: apps and their browsers (`Shop/3.2 okhttp/4.9`,
/// `SogouMobileBrowser`, Slack's `Sonic`), telephones (HTC Butterfly), and a build of Android. For that list what [`AT_BEGINNING`] is for ours.
const ALSO_APPS: [&str; 15] = [
    "008/",
    "AP3A.240617.008",
    "Asana/",
    "Blackboard",
    "Butterfly",
    "Code/1.",
    "Fluid",
    "Goodreads",
    "Notion/",
    "Sogou",
    "Sonic",
    "Tumblr/",
    "Viber",
    "WhatsApp",
    "okhttp",
];
/// What begins a word of ours that is looked for at the beginning of an agent alone.
const AT_BEGINNING: char = '^';
/// What ends a word of ours that is looked for at the end of an agent alone.
const AT_END: char = '$';
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

/// A word to be found, and why it is there.
struct Word {
    text: &'static str,
    reason: &'static str,
    is_first: bool,
    is_last: bool,
}

impl Word {
    /// Of our list, with its marks.
    fn own(marked: &'static str, reason: &'static str) -> Self {
        let text = marked.trim_start_matches(AT_BEGINNING).trim_end_matches(AT_END);
        Self { text, reason, is_first: marked.starts_with(AT_BEGINNING), is_last: marked.ends_with(AT_END) }
    }

    /// Of the list of others.
    fn listed(text: &'static str, reason: &'static str) -> Self {
        Self { text, reason, is_first: ALSO_APPS.contains(&text), is_last: false }
    }

    /// Whether it stands where it must.
    fn is_meant(&self, at: usize, agent: &str) -> bool {
        (at == 0 || !self.is_first) && (at + self.text.len() == agent.len() || !self.is_last)
    }
}

/// Words, made ready to be found.
struct Words {
    finder: AhoCorasick,
    words: Vec<Word>,
}

impl Words {
    fn new(words: Vec<Word>, ignores_case: bool) -> Result<Self, String> {
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(ignores_case)
            .build(words.iter().map(|word| word.text))
            .map_err(|problem| problem.to_string())?;
        Ok(Self { finder, words })
    }

    /// The reasons of the words that an agent has, in their order.
    fn reasons<'w>(&'w self, agent: &'w str) -> impl Iterator<Item = &'static str> + 'w {
        let found =
            self.finder.find_iter(agent).filter_map(move |found| Some((self.words.get(found.pattern().as_usize())?, found.start())));
        found.filter(move |(word, at)| word.is_meant(*at, agent)).map(|(word, _)| word.reason)
    }

    fn reason(&self, agent: &str) -> Option<&'static str> {
        self.reasons(agent).find(|reason| *reason != NONE)
    }

    /// Whether an agent has a word that makes no bot.
    fn clears(&self, agent: &str) -> bool {
        self.reasons(agent).any(|reason| reason == NONE)
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
            cells.next().map(|_why| Word::own(word, reason))
        });
        let own: Option<Vec<_>> = own.collect();
        Ok(Self {
            own: Words::new(own.ok_or("data/machines.tsv: a line has no three cells")?, true)?,
            literals: Words::new(literals.into_iter().map(|(word, reason)| Word::listed(word, reason)).collect(), false)?,
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
        // The agent tables take every spider for one, in the name of a game too.
        let is_spider = || device_family == "Spider" && !self.own.clears(agent);
        by_list().or_else(|| (is_spider() || names_its_operator(agent) || is_called_bot(agent)).then_some("agent_crawler"))
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
