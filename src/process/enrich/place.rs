//! What kind of place a site is, by its host or by the name that people write as the source of a campaign.
//!
//! Known from a list that others keep (`data/places.json`) and a short one of ours (`data/own-places.tsv`), which wins. A site has one
//! kind, however it is named: names follow from domains, unless our list says what a name is. May go wrong: a list that cannot be read
//! (a test reads them).

use std::sync::OnceLock;

use hashbrown::HashMap;

/// See `data/README.md`.
const LIST: &str = include_str!("../../../data/places.json");
const OWN: &str = include_str!("../../../data/own-places.tsv");

/// What kind of place a referrer or a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No referrer.
    None,
    /// The same site.
    Internal,
    /// A search engine.
    Search,
    /// A social network.
    Social,
    /// A video site.
    Video,
    /// A mail client on the web.
    Email,
    /// A market or a shop of many.
    Shopping,
    /// An assistant that answers from a language model.
    Ai,
    /// Any other site.
    Other,
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "search" => Self::Search,
            "social" => Self::Social,
            "video" => Self::Video,
            "email" => Self::Email,
            "shopping" => Self::Shopping,
            "ai" => Self::Ai,
            "other" => Self::Other,
            _ => return None,
        })
    }
}

/// Names by which companies go under many top-level domains: `google.co.uk`, `amazon.de`.
const OF_MANY_COUNTRIES: [(&str, Kind); 23] = [
    ("google", Kind::Search),
    ("yahoo", Kind::Search),
    ("yandex", Kind::Search),
    ("pinterest", Kind::Social),
    ("tripadvisor", Kind::Social),
    ("trustpilot", Kind::Social),
    ("yelp", Kind::Social),
    ("aliexpress", Kind::Shopping),
    ("allegro", Kind::Shopping),
    ("amazon", Kind::Shopping),
    ("ebay", Kind::Shopping),
    ("etsy", Kind::Shopping),
    ("idealo", Kind::Shopping),
    ("jumia", Kind::Shopping),
    ("lazada", Kind::Shopping),
    ("mercadolibre", Kind::Shopping),
    ("mercadolivre", Kind::Shopping),
    ("olx", Kind::Shopping),
    ("rakuten", Kind::Shopping),
    ("shopee", Kind::Shopping),
    ("temu", Kind::Shopping),
    ("vinted", Kind::Shopping),
    ("zalando", Kind::Shopping),
];
/// The kind of names that say nothing.
const NONE: &str = "none";
/// Letters of a domain before its first dot from which on they are a name: below, they are anything (`t.co`, `so.com`).
const NAME: usize = 4;
/// First labels of hosts on which a search company answers searches; on others it does something else.
const SEARCH_HOSTS: [&str; 9] = ["search", "m", "images", "image", "video", "news", "cse", "lite", "html"];
/// First labels of hosts on which mail is read.
const MAIL_HOSTS: [&str; 5] = ["mail", "webmail", "email", "owa", "outlook"];

struct Places {
    by_host: HashMap<String, Kind, foldhash::fast::RandomState>,
    by_name: HashMap<String, Kind, foldhash::fast::RandomState>,
}

impl Places {
    fn new() -> Result<Self, String> {
        let mut places = Self { by_host: HashMap::default(), by_name: HashMap::default() };
        let listed: Vec<Vec<&str>> = serde_json::from_str(LIST).map_err(|problem| problem.to_string())?;
        for row in &listed {
            let [kind, _name, hosts @ ..] = row.as_slice() else { return Err("data/places.json: a row is too short".to_owned()) };
            places.add(kind, hosts.iter().copied())?;
        }
        let own = own()?;
        for (kind, names) in own.iter().filter(|(kind, _)| *kind != NONE) {
            places.add(kind, names.iter().copied())?;
        }
        own.iter().flat_map(|(_, names)| names).filter(|name| name.contains('.')).for_each(|host| places.add_name_of(host));
        // Of the other list only names that are domains too: what it calls `Free` or `Meta` is the search of a provider.
        for row in &listed {
            let [_kind, name, hosts @ ..] = row.as_slice() else { continue };
            hosts.iter().filter(|host| first_label(host).eq_ignore_ascii_case(name)).for_each(|host| places.add_name_of(host));
        }
        for name in own.iter().filter(|(kind, _)| *kind == NONE).flat_map(|(_, names)| names) {
            places.by_name.remove(*name);
        }
        Ok(places)
    }

    fn add<'a>(&mut self, kind: &str, names: impl Iterator<Item = &'a str>) -> Result<(), String> {
        let kind = Kind::named(kind).ok_or_else(|| format!("`{kind}` is no kind of place"))?;
        for name in names {
            let names = if name.contains('.') { &mut self.by_host } else { &mut self.by_name };
            names.insert(name.to_lowercase(), kind);
        }
        Ok(())
    }

    /// The name of a site is what stands before the first dot of its domain, unless that is said to be something else.
    fn add_name_of(&mut self, host: &str) {
        let host = host.to_lowercase();
        let Some(kind) = self.by_host.get(&host).filter(|kind| **kind != Kind::Other) else { return };
        let name = first_label(&host);
        if name.len() >= NAME && psl::domain_str(&host) == Some(host.as_str()) {
            self.by_name.entry(name.to_owned()).or_insert(*kind);
        }
    }

    fn of_host(&self, host: &str) -> Kind {
        if let Some(kind) = self.by_host.get(host) {
            return *kind;
        }
        let site = psl::domain_str(host).unwrap_or(host);
        let first = first_label(host);
        if host != site && MAIL_HOSTS.contains(&first) {
            return Kind::Email;
        }
        let (at, kind) = self.of_parents(host).unwrap_or((site, of_many_countries(site)));
        // A part of a search company is no search engine unless its name says so, or that of what it is a part of: `r.search.yahoo.com`.
        let is_search_host = || SEARCH_HOSTS.contains(&first) || at != site && SEARCH_HOSTS.contains(&first_label(at));
        match kind {
            Kind::Search if host != at && host != site && !is_search_host() => Kind::Other,
            kind => kind,
        }
    }

    /// The nearest host above that is known, and its kind.
    fn of_parents<'h>(&self, host: &'h str) -> Option<(&'h str, Kind)> {
        let parents = std::iter::successors(host.split_once('.'), |(_, parent)| parent.split_once('.'));
        parents.map(|(_, parent)| parent).find_map(|parent| Some((parent, *self.by_host.get(parent)?)))
    }

    /// The kind of a source as people write it: a name, a domain, an address, each also with what it was paid for (`facebook_ads`).
    fn of_source(&self, source: &str) -> Option<Kind> {
        let address = source.split_once("://").map_or(source, |(_, rest)| rest);
        let source = address.split(['/', '?']).next().unwrap_or_default().trim();
        let is_apart = |rest: &&str| rest.ends_with(['_', '-', '.', ' ']);
        let paid = || source.strip_suffix("ads").or_else(|| source.strip_suffix("ad").filter(is_apart));
        self.of_name(source).or_else(|| self.of_name(paid()?.trim_end_matches(['_', '-', '.', ' '])))
    }

    /// The kind of a name or a domain, if it is listed.
    fn of_name(&self, name: &str) -> Option<Kind> {
        let host = name.strip_prefix("www.").unwrap_or(name);
        let by_host = || Some(self.of_host(host)).filter(|kind| host.contains('.') && *kind != Kind::Other);
        self.by_name.get(name).copied().or_else(by_host)
    }
}

/// The lines of our list: a kind, and names and hosts of it.
fn own() -> Result<Vec<(&'static str, Vec<&'static str>)>, String> {
    let lines = OWN.lines().filter(|line| !line.starts_with('#'));
    let read = lines.map(|line| {
        let mut cells = line.split('\t');
        match (cells.next(), cells.next(), cells.next()) {
            (Some(kind), Some(names), Some(_why)) => Ok((kind, names.split(' ').collect())),
            _ => Err(format!("data/own-places.tsv: `{line}` has no three cells")),
        }
    });
    read.collect()
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or_default()
}

fn of_many_countries(site: &str) -> Kind {
    let Some((name, suffix)) = site.split_once('.') else { return Kind::Other };
    if suffix != "com" && suffix.rsplit('.').next().is_none_or(|country| country.len() != 2) {
        return Kind::Other;
    }
    OF_MANY_COUNTRIES.iter().find(|(known, _)| *known == name).map_or(Kind::Other, |(_, kind)| *kind)
}

fn places() -> Option<&'static Places> {
    static PLACES: OnceLock<Option<Places>> = OnceLock::new();
    PLACES.get_or_init(|| Places::new().ok()).as_ref()
}

/// What kind of place a host is; in small letters, without `www.`.
pub fn of_host(host: &str) -> Kind {
    places().map_or(Kind::Other, |places| places.of_host(host))
}

/// What kind of place a campaign's source is: a name or a domain, in lower case. `None` if it is not listed.
pub fn of_source(source: &str) -> Option<Kind> {
    places()?.of_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_read() {
        let places = Places::new().unwrap();
        assert!(places.by_host.len() > 1_500 && places.by_name.len() > 200);
        assert!(OWN.lines().all(|line| line.starts_with('#') || !line.contains("  ")));
    }

    #[test]
    fn no_place_of_our_list_stands_there_twice() {
        let own = own().unwrap();
        let mut seen = std::collections::HashMap::new();
        for (kind, name) in own.iter().flat_map(|(kind, names)| names.iter().map(move |name| (kind, name.to_lowercase()))) {
            assert_eq!(seen.insert(name.clone(), kind), None, "{name}");
        }
    }

    #[test]
    fn names_and_domains_of_our_list_agree() {
        let own = own().unwrap();
        let named: Vec<(&str, &str)> = own
            .iter()
            .flat_map(|(kind, names)| names.iter().map(move |name| (*kind, *name)))
            .filter(|(_, name)| !name.contains('.'))
            .collect();
        let of_our_list = |label: &str| named.iter().find(|(_, name)| *name == label).map(|(kind, _)| *kind);
        for (kind, host) in own.iter().flat_map(|(kind, names)| names.iter().map(move |name| (*kind, name.to_lowercase()))) {
            if !host.contains('.') {
                continue;
            }
            let kind = Kind::named(kind).unwrap();
            assert_eq!(of_host(&host), kind, "{host}");
            assert_eq!(of_source(&host), Some(kind).filter(|kind| *kind != Kind::Other), "{host}");
            let label = first_label(&host);
            if label.len() < NAME || psl::domain_str(&host) != Some(host.as_str()) || kind == Kind::Other {
                continue;
            }
            // `meta` is the company that owns the networks, whatever its assistant is called.
            let expected = match of_our_list(label) {
                Some(NONE) => None,
                Some("social") if label == "meta" => Some(Kind::Social),
                _ => Some(kind),
            };
            assert_eq!(of_source(label), expected, "{label} of {host}");
        }
        for (kind, name) in &named {
            assert_eq!(of_source(name), Kind::named(kind), "{name}");
            let com = of_host(&format!("{name}.com"));
            assert!(*kind == NONE || com == Kind::Other || Some(com) == Kind::named(kind), "{name}.com is {com:?}");
        }
    }

    #[test]
    fn places_of_all_continents_have_their_kind() {
        let table: Vec<_> = include_str!("place/places.tsv").lines().filter(|line| !line.starts_with('#')).collect();
        assert!(table.len() > 150);
        for line in table {
            let [from, kind, name] = *line.split('\t').collect::<Vec<_>>().as_slice() else { panic!("{line}") };
            let found = match from {
                "source" => of_source(name),
                _ => Some(of_host(name)),
            };
            assert_eq!(found, Kind::named(kind), "{line}");
        }
    }

    #[test]
    fn search_companies_do_other_things_too() {
        for (host, kind) in [
            ("google.com", Kind::Search),
            ("google.co.uk", Kind::Search),
            ("google.com.br", Kind::Search),
            ("news.google.com", Kind::Search),
            ("images.google.fr", Kind::Search),
            ("m.baidu.com", Kind::Search),
            ("search.yahoo.com", Kind::Search),
            ("de.search.yahoo.com", Kind::Search),
            ("r.search.yahoo.com", Kind::Search),
            ("ca.search.yahoo.com", Kind::Search),
            ("cn.bing.com", Kind::Search),
            ("www4.bing.com", Kind::Search),
            ("start.duckduckgo.com", Kind::Search),
            ("ya.ru", Kind::Search),
            ("m.sm.cn", Kind::Search),
            ("wap.sogou.com", Kind::Search),
            ("rewards.bing.com", Kind::Other),
            ("help.search.com", Kind::Other),
            ("yahoo.co.jp", Kind::Search),
            ("yandex.com.tr", Kind::Search),
            ("accounts.google.com", Kind::Other),
            ("accounts.google.de", Kind::Other),
            ("drive.google.com", Kind::Other),
            ("classroom.google.com", Kind::Other),
            ("meet.google.com", Kind::Other),
            ("support.google.com", Kind::Other),
            ("finance.yahoo.com", Kind::Other),
            ("cloud.mail.ru", Kind::Other),
            ("teams.microsoft.com", Kind::Other),
            ("google.com.evil.example", Kind::Other),
            ("google.evil", Kind::Other),
            ("notgoogle.com", Kind::Other),
            ("groups.google.com", Kind::Social),
            ("blog.naver.com", Kind::Social),
            ("tieba.baidu.com", Kind::Social),
            ("mail.naver.com", Kind::Email),
            ("email.seznam.cz", Kind::Email),
            ("mail.yahoo.co.jp", Kind::Email),
            ("webmail.example.org", Kind::Email),
            ("mail.com", Kind::Other),
            ("gemini.google.com", Kind::Ai),
            ("shopping.google.com", Kind::Shopping),
            ("amazon.com", Kind::Shopping),
            ("smile.amazon.com", Kind::Shopping),
            ("console.aws.amazon.com", Kind::Other),
            ("amazon.de", Kind::Shopping),
            ("l.facebook.com", Kind::Social),
            ("old.reddit.com", Kind::Social),
            ("", Kind::Other),
        ] {
            assert_eq!(of_host(host), kind, "{host}");
        }
    }

    #[test]
    fn a_site_is_of_one_kind_by_name_and_by_domain() {
        for (names, kind) in [
            (&["facebook", "facebook.com", "fb", "www.facebook.com", "m.facebook.com"][..], Kind::Social),
            (&["tiktok", "tiktok.com", "pinterest.de", "threads", "vk.com", "whatsapp", "x.com", "twitter"], Kind::Social),
            (&["google", "google.com", "naver", "qwant", "msn", "duckduckgo.com"], Kind::Search),
            (&["youtube", "youtu.be", "wistia", "vimeo.com"], Kind::Video),
            (&["chatgpt", "chatgpt.com", "perplexity.ai"], Kind::Ai),
            (&["amazon", "amazon.com", "amazon.co.uk", "etsy.com"], Kind::Shopping),
        ] {
            for name in names {
                assert_eq!(of_source(name), Some(kind), "{name}");
            }
        }
        for unknown in ["partner", "", "shop.example", "summer", "."] {
            assert_eq!(of_source(unknown), None, "{unknown}");
        }
    }
}
