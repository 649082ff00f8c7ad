//! Codes of countries, of which some products export the names.

use std::collections::HashMap;
use std::sync::LazyLock;

const LIST: &str = include_str!("../../../../data/countries.tsv");

static CODES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let lines = LIST.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('\t'));
    lines.flat_map(|(code, names)| names.split('\t').map(move |name| (plain(name), code))).collect()
});

/// The code of a country, from it or from its name in English.
pub(super) fn code(text: &str) -> Option<String> {
    if let [_, _] = text.as_bytes()
        && text.bytes().all(|byte| byte.is_ascii_alphabetic())
    {
        return Some(text.to_ascii_uppercase());
    }
    CODES.get(&plain(text)).map(|code| (*code).to_owned())
}

/// A name without what is spelt in several ways.
fn plain(name: &str) -> String {
    let name = name.to_lowercase().replace('&', "and").replace("st. ", "saint ");
    name.chars().filter(|character| character.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn countries_have_their_codes_however_they_are_spelt() {
        for (text, expected) in [
            ("DE", "DE"),
            ("de", "DE"),
            ("Germany", "DE"),
            ("United States", "US"),
            ("Türkiye", "TR"),
            ("Turkey", "TR"),
            ("Bosnia and Herzegovina", "BA"),
            ("Côte d’Ivoire", "CI"),
            ("Hong Kong", "HK"),
            ("South Korea", "KR"),
            ("St. Lucia", "LC"),
            ("Vietnam", "VN"),
        ] {
            assert_eq!(code(text).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(["(not set)", "", "Atlantis", "\0\0"].map(code), [None, None, None, None]);
    }
}
