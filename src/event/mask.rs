//! Addresses taken out of text that is kept as it came: what cannot be read is put aside with its original, and an address is
//! never written anywhere.
//!
//! Errs on the side of masking: a version number of four parts goes as well, unless it stands behind a browser's name.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Stands for an address that nothing is known about.
pub const ADDRESS: &str = "[address]";
/// Longest text that can be an address with what may stick to it; a longer run of such characters is a hash or a key.
const MAX_RUN: usize = 128;
/// Longest address of version 6, bytes: six groups and one of version 4.
const MAX_V6: usize = 45;
/// Most colons of one: those of eight groups, or of seven and two that stand for one.
const MAX_COLONS: usize = 8;
/// Products whose versions have four parts.
const PRODUCTS: [&[u8]; 18] = [
    b"AppleWebKit",
    b"Brave",
    b"Chrome",
    b"Chromium",
    b"CriOS",
    b"Edg",
    b"EdgA",
    b"Edge",
    b"EdgiOS",
    b"Electron",
    b"Firefox",
    b"HeadlessChrome",
    b"OPR",
    b"SamsungBrowser",
    b"Version",
    b"Vivaldi",
    b"Whale",
    b"YaBrowser",
];

/// `text` with every address replaced by what `name` says of it.
pub fn masked(text: &[u8], mut name: impl FnMut(&str) -> String) -> Cow<'_, [u8]> {
    let mut out: Vec<u8> = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = rest.iter().take_while(|byte| is_of_address(**byte)).count();
        let run = rest.get(..length).unwrap_or_default();
        let is_version = run.first().is_some_and(u8::is_ascii_digit) && follows_product(text.get(..at).unwrap_or_default());
        if !is_version {
            each_address(std::str::from_utf8(run).unwrap_or_default(), |start, end, address| {
                out.extend_from_slice(text.get(copied..at + start).unwrap_or_default());
                out.extend_from_slice(name(address).as_bytes());
                copied = at + end;
            });
        }
        at += length.max(1);
    }
    if copied == 0 && out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The same of text.
pub fn masked_text(text: &str, name: impl FnMut(&str) -> String) -> String {
    String::from_utf8_lossy(&masked(text.as_bytes(), name)).into_owned()
}

/// What is kept of an event that ingest refused: its JSON without the address of its context, or where that cannot be told from
/// the rest, without anything that looks like an address.
pub fn without_address(event: &[u8]) -> Cow<'_, [u8]> {
    match address_of(event) {
        Ok(None) => Cow::Borrowed(event),
        Ok(Some(value)) => Cow::Owned(cut(event, value)),
        Err(_) => masked(event, |_| ADDRESS.to_owned()),
    }
}

#[derive(Deserialize)]
struct Event<'e> {
    #[serde(borrow, default)]
    context: Option<Context<'e>>,
}

#[derive(Deserialize)]
struct Context<'e> {
    #[serde(borrow, default)]
    ip: Option<&'e RawValue>,
}

/// `context.ip` as written.
fn address_of(event: &[u8]) -> Result<Option<&str>, serde_json::Error> {
    let event: Event<'_> = serde_json::from_slice(event)?;
    Ok(event.context.and_then(|context| context.ip).map(RawValue::get))
}

/// `event` with `null` in the place of `value`, which is a part of it.
fn cut(event: &[u8], value: &str) -> Vec<u8> {
    let at = (value.as_ptr() as usize).saturating_sub(event.as_ptr() as usize);
    let (before, rest) = event.split_at_checked(at).unwrap_or((event, &[]));
    [before, b"null", rest.get(value.len()..).unwrap_or_default()].concat()
}

fn is_of_address(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':')
}

fn follows_product(before: &[u8]) -> bool {
    let Some(before) = before.strip_suffix(b"/") else { return false };
    let start = before.iter().rposition(|byte| !byte.is_ascii_alphanumeric()).map_or(0, |at| at + 1);
    before.get(start..).is_some_and(|word| PRODUCTS.contains(&word))
}

/// Shows each address of a run of hexadecimal digits, points and colons: where it begins and ends, and itself. Looks at a long run once,
/// whatever it holds: a line may be one from end to end.
fn each_address(run: &str, mut show: impl FnMut(usize, usize, &str)) {
    let mut take = |start: usize, end: usize| show(start, end, run.get(start..end).unwrap_or_default());
    if run.len() > MAX_RUN {
        // Nothing is this long by accident; where it may be of version 6 all of it goes.
        return match run.contains("::") || run.matches(':').count() >= 6 {
            true => take(0, run.len()),
            false => v4_in(run).for_each(|(start, end)| take(start, end)),
        };
    }
    let mut at = 0;
    while let Some((start, end)) = run.get(at..).and_then(address_in) {
        take(at + start, at + end);
        at += end;
    }
}

/// Where the first address of a short run stands.
fn address_in(run: &str) -> Option<(usize, usize)> {
    let has_colons = run.bytes().filter(|byte| *byte == b':').count() >= 2;
    let v6 = has_colons.then(|| v6_in(run)).flatten();
    v6.into_iter().chain(v4_in(run).next()).min_by_key(|(start, _)| *start)
}

/// From where the first address of version 6 begins between colons or points to where the last one that overlaps it ends: which of them was
/// meant nobody knows, and nothing of any stays.
fn v6_in(run: &str) -> Option<(usize, usize)> {
    let is_separator = |byte: Option<&u8>| matches!(byte, None | Some(b':' | b'.'));
    let begins = |at: usize| is_separator(run.as_bytes().get(at)) || is_separator(at.checked_sub(1).and_then(|at| run.as_bytes().get(at)));
    let mut found: Option<(usize, usize)> = None;
    for start in (0..run.len()).filter(|at| begins(*at)) {
        if found.is_some_and(|(_, end)| start >= end) {
            break;
        }
        if let Some(end) = v6_from(run, start) {
            found = Some(found.map_or((start, end), |(first, last)| (first, end.max(last))));
        }
    }
    found
}

/// Where the longest address of version 6 ends that begins here. Looks at no more than an address may have, and reads only what has as many
/// groups as one: hostile text has an end at every byte.
fn v6_from(run: &str, start: usize) -> Option<usize> {
    let bytes = run.as_bytes().get(start..)?;
    let (mut colons, mut points, mut is_short, mut found) = (0, 0, false, None);
    for (at, byte) in bytes.iter().take(MAX_V6).enumerate() {
        match byte {
            b':' => colons += 1,
            b'.' => points += 1,
            _ => {}
        }
        is_short |= bytes.get(..=at).is_some_and(|text| text.ends_with(b"::"));
        if colons > MAX_COLONS || points > 3 {
            break;
        }
        let is_end = matches!(bytes.get(at + 1), None | Some(b':' | b'.')) || *byte == b':';
        let has_all = is_short || colons == 7 && points == 0 || colons == 6 && points == 3;
        // `a::` and `::` alone are more often C++ than an address.
        if is_end && has_all && at >= 4 && run.get(start..=start + at).is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()) {
            found = Some(start + at + 1);
        }
    }
    found
}

/// The parts of digits and points that hold four groups of an address of version 4.
fn v4_in(run: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    let pieces = run.split(|c: char| !c.is_ascii_digit() && c != '.').map(move |piece| {
        let start = next;
        next += piece.len() + 1;
        (start, piece)
    });
    pieces.filter(|(_, piece)| has_four_groups(piece)).map(|(start, piece)| (start, start + piece.len()))
}

fn has_four_groups(piece: &str) -> bool {
    let mut groups = 0;
    piece.split('.').any(|group| {
        groups = if (1..=3).contains(&group.len()) { groups + 1 } else { 0 };
        groups == 4
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn mask(text: &str) -> String {
        masked_text(text, |address| format!("<{address}>"))
    }

    #[test]
    fn addresses_are_found_in_every_spelling() {
        for (text, expected) in [
            ("203.0.113.7 - - [", "<203.0.113.7> - - ["),
            ("203.0.113.7:51008,[2001:db8::5]:443", "<203.0.113.7>:51008,[<2001:db8::5>]:443"),
            ("shop.example:443:203.0.113.7", "shop.example:443:<203.0.113.7>"),
            ("::ffff:203.0.113.7", "<::ffff:203.0.113.7>"),
            ("fe80::1%eth0", "<fe80::1>%eth0"),
            // Where one ends and the port begins nobody knows.
            ("1:2:3:4:5:6:7:8:443", "<1:2:3:4:5:6:7:8:443>"),
            ("1.2001:db8::5", "1.<2001:db8::5>"),
            ("203.0.113.7:443:2001:db8::5", "<203.0.113.7>:<443:2001:db8::5>"),
            ("\"ip\":\"2001:0db8:0:0:0:0:0:5\"", "\"ip\":\"<2001:0db8:0:0:0:0:0:5>\""),
            ("203.000.113.007", "<203.000.113.007>"),
            ("7.113.0.203.in-addr.arpa", "<7.113.0.203.>in-addr.arpa"),
            ("Chrome/126.0.0.0 Edg/126.0.0.1 x/126.0.0.0", "Chrome/126.0.0.0 Edg/126.0.0.1 x/<126.0.0.0>"),
            (
                "[10/Oct/2024:13:55:36 +0000] std::string a::b 1.2.3 12:34:56:78:9a:bc",
                "[10/Oct/2024:13:55:36 +0000] std::string a::b 1.2.3 12:34:56:78:9a:bc",
            ),
            ("", ""),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    /// As many addresses as fit in what is kept of a line, in one run: each was once looked for from the end of the last to the end of all.
    #[test]
    fn a_line_that_is_one_run_is_looked_at_once() {
        for (address, expected) in [("203.0.113.7a", "<203.0.113.7>a"), ("7.7.7.7f", "<7.7.7.7>f")] {
            assert_eq!(mask(&address.repeat(200_000)), expected.repeat(200_000));
        }
        let all = "a:".repeat(500_000);
        assert_eq!(mask(&all), format!("<{all}>"));
        let spaced = format!("{} ", "a:".repeat(60)).repeat(2_000);
        assert_eq!(mask(&spaced).matches('<').count(), 2_000);
    }

    #[test]
    fn only_the_address_of_the_context_is_cut_out_of_an_event() {
        let event = br#"{"properties":{"version":"1.2.3.4"},"context":{"a":1,"ip" : "203.0.113.7"}}"#;
        let kept = br#"{"properties":{"version":"1.2.3.4"},"context":{"a":1,"ip" : null}}"#;
        assert_eq!(without_address(event).as_ref(), kept);
        let escaped = br#"{"context":{"\u0069p":["203.0.113.7","::1"]}}"#;
        assert_eq!(without_address(escaped).as_ref(), br#"{"context":{"\u0069p":null}}"#);
        for same in [r#"{"type":"a"}"#, r#"{"context":null}"#, r#"{"context":{}}"#] {
            assert_eq!(without_address(same.as_bytes()).as_ref(), same.as_bytes());
        }
    }

    #[test]
    fn of_what_is_no_event_everything_like_an_address_goes() {
        for broken in [r#"{"context":{"ip":"203.0.113.7"}"#, r#"{"context":{"ip":"203.0.113.7","ip":"203.0.113.7"}}"#, r#"["203.0.113.7"]"#]
        {
            let kept = String::from_utf8(without_address(broken.as_bytes()).into_owned()).unwrap();
            assert!(!kept.contains("203.0.113.7") && kept.contains(ADDRESS), "{kept}");
        }
    }

    proptest! {
        #[test]
        fn no_address_survives(v4: u32, v6: u128, before in "[^0-9A-Fa-f:.]{0,5}", after in "[^0-9A-Fa-f:.]{0,5}") {
            prop_assume!(!follows_product(before.as_bytes()));
            let (v4, v6) = (Ipv4Addr::from_bits(v4).to_string(), Ipv6Addr::from_bits(v6).to_string());
            prop_assume!(v6.len() > 4);
            for address in [v4, v6] {
                let kept = masked_text(&format!("{before}{address}{after}"), |_| ADDRESS.to_owned());
                prop_assert_eq!(kept, format!("{before}{ADDRESS}{after}"));
            }
        }

        /// What stays has nothing that the simplest search would take for an address.
        #[test]
        fn nothing_of_a_run_that_is_an_address_stays(run in "(a{1,5}|1{1,3}|:|::){0,24}") {
            let kept = masked_text(&run, |_| "-".to_owned());
            for piece in kept.split('-') {
                let colons: Vec<usize> = piece.match_indices(':').map(|(at, _)| at).collect();
                let bounds: Vec<usize> = [0, piece.len()].into_iter().chain(colons.iter().flat_map(|at| [*at, at + 1])).collect();
                let spans = bounds.iter().flat_map(|start| bounds.iter().map(move |end| (*start, *end)));
                for (start, end) in spans.filter(|(start, end)| start + 4 < *end) {
                    prop_assert!(piece[start..end].parse::<Ipv6Addr>().is_err(), "{} of {} of {}", &piece[start..end], kept, run);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b':'), Just(b'.'), Just(b'1')], 0..300)) {
            masked(&bytes, |_| String::new());
            without_address(&bytes);
        }
    }
}
