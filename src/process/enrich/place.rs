//! What kind of place a site is, by its host or by the name that people write as the source of a campaign.
//!
//! Known from a list that others keep (`data/places.json`) and a short one of ours (`data/own-places.tsv`), which wins. A site has one
//! kind, however it is named. May go wrong: a list that cannot be read (a test reads them).

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
const OF_MANY_COUNTRIES: [(&str, Kind); 6] = [
    ("google", Kind::Search),
    ("yahoo", Kind::Search),
    ("yandex", Kind::Search),
    ("amazon", Kind::Shopping),
    ("ebay", Kind::Shopping),
    ("pinterest", Kind::Social),
];
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
            let [kind, name, hosts @ ..] = row.as_slice() else { return Err("data/places.json: a row is too short".to_owned()) };
            places.add(kind, hosts.iter().copied())?;
            // A company has tools beside its search engine.
            if *kind != "other" {
                places.by_name.entry(name.to_lowercase()).or_insert(Kind::named(kind).unwrap_or(Kind::Other));
            }
        }
        for line in OWN.lines().filter(|line| !line.starts_with('#')) {
            let mut cells = line.split('\t');
            let (Some(kind), Some(names), Some(_why)) = (cells.next(), cells.next(), cells.next()) else {
                return Err(format!("data/own-places.tsv: `{line}` has no three cells"));
            };
            places.add(kind, names.split(' '))?;
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

    fn of_source(&self, source: &str) -> Option<Kind> {
        if let Some(kind) = self.by_name.get(source) {
            return Some(*kind);
        }
        let host = source.strip_prefix("www.").unwrap_or(source);
        Some(self.of_host(host)).filter(|kind| host.contains('.') && *kind != Kind::Other)
    }
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
