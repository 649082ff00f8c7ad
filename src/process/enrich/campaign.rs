//! Campaigns and click ids: what the client says of them, else what the page address carries.

use std::borrow::Cow;

use crate::event::field::Field;
use crate::event::packed::Fields;
use crate::event::text::clip;

/// Longest value kept, bytes.
const MAX_VALUE: usize = 512;
/// Parameters looked at: a real address has a few, a hostile one thousands.
const MAX_PARAMETERS: usize = 1_000;

/// Advertising networks' click ids, and whether a click of theirs was paid for.
const CLICK_IDS: [(&str, bool); 18] = [
    ("gclid", true),
    ("gbraid", true),
    ("wbraid", true),
    ("dclid", true),
    ("msclkid", true),
    ("yclid", true),
    ("ttclid", true),
    ("twclid", true),
    ("li_fat_id", true),
    ("rdt_cid", true),
    ("sccid", true),
    ("epik", true),
    ("qclid", true),
    ("tblci", true),
    ("irclickid", true),
    ("fbclid", false),
    ("igshid", false),
    ("mc_eid", false),
];

/// What products of Google write where nothing is known.
const NOTHING: [&str; 4] = ["(direct)", "(none)", "(not set)", "(not provided)"];

/// Whether a value of a campaign says that nothing is known.
pub fn says_nothing(value: &str) -> bool {
    NOTHING.iter().any(|nothing| nothing.eq_ignore_ascii_case(value))
}

/// Where a campaign brought a visitor from. Empty texts where nothing is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Campaign<'a> {
    values: [(Cow<'a, str>, bool); 5],
    /// Which network's click id the address carries.
    pub click_id_kind: &'static str,
    click_id: Cow<'a, str>,
    /// Whether that click was paid for.
    pub is_paid_click: bool,
}

const VALUES: [(Field, &str); 5] = [
    (Field::CampaignSource, "utm_source"),
    (Field::CampaignMedium, "utm_medium"),
    (Field::CampaignName, "utm_campaign"),
    (Field::CampaignTerm, "utm_term"),
    (Field::CampaignContent, "utm_content"),
];

impl<'a> Campaign<'a> {
    /// What the client says; it knows better than the address.
    pub fn given(fields: &Fields<'a>) -> Self {
        Self { values: VALUES.map(|(field, _)| (Cow::Borrowed(fields.text(field)), false)), ..Self::default() }
    }

    /// `utm_source`, in small letters as compared.
    pub fn source(&self) -> String {
        known(&self.values[0].0).to_ascii_lowercase()
    }

    /// `utm_medium`, in small letters as compared.
    pub fn medium(&self) -> String {
        known(&self.values[1].0).to_ascii_lowercase()
    }

    /// `utm_campaign`, in small letters as compared.
    pub fn name(&self) -> String {
        known(&self.values[2].0).to_ascii_lowercase()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.click_id_kind.is_empty() && self.values.iter().all(|(text, _)| known(text).is_empty())
    }

    /// What the address added to what the client gave.
    pub fn found(&self) -> impl Iterator<Item = (Field, &str)> {
        let values = VALUES.iter().zip(&self.values).filter(|(_, (_, is_found))| *is_found);
        let click = [(Field::ClickIdKind, self.click_id_kind), (Field::ClickId, self.click_id.as_ref())];
        values.map(|((field, _), (text, _))| (*field, text.as_ref())).chain(click)
    }
}

/// A value without what says that nothing is known.
fn known(value: &str) -> &str {
    if says_nothing(value) { "" } else { value }
}

/// Completes a campaign from the query of a page address, whole or relative.
pub fn of<'a>(campaign: Campaign<'a>, address: &'a str) -> Campaign<'a> {
    match address.split_once('?') {
        Some((_, query)) => of_query(campaign, query),
        None => campaign,
    }
}

/// Completes a campaign from a query, with its question mark or without. Names are compared without regard to case: Snapchat writes
/// `ScCid`, and people `UTM_SOURCE`.
pub fn of_query<'a>(mut campaign: Campaign<'a>, query: &'a str) -> Campaign<'a> {
    let query = query.strip_prefix('?').unwrap_or(query).split('#').next().unwrap_or_default();
    for (key, value) in query.split('&').take(MAX_PARAMETERS).filter_map(|pair| pair.split_once('=')) {
        if value.is_empty() {
            continue;
        }
        if let Some(at) = VALUES.iter().position(|(_, name)| name.eq_ignore_ascii_case(key))
            && let Some(slot) = campaign.values.get_mut(at)
            && slot.0.is_empty()
        {
            *slot = (decoded(value), true);
        } else if campaign.click_id_kind.is_empty()
            && let Some((kind, is_paid)) = CLICK_IDS.iter().find(|(kind, _)| kind.eq_ignore_ascii_case(key))
        {
            campaign.click_id_kind = kind;
            campaign.click_id = decoded(value);
            campaign.is_paid_click = *is_paid;
        }
    }
    campaign
}

/// Undoes percent-encoding, where there is any, and keeps as much as may be kept.
fn decoded(value: &str) -> Cow<'_, str> {
    // An encoded byte takes three: what lies beyond cannot be kept.
    let value = clip(value, MAX_VALUE * 3);
    if !value.contains(['%', '+', '\0']) {
        return Cow::Borrowed(clip(value, MAX_VALUE));
    }
    let pair = format!("v={value}");
    let text = url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, text)| text.replace('\0', ""));
    Cow::Owned(clip(&text.unwrap_or_default(), MAX_VALUE).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_address_completes_what_the_client_gave() {
        let mut fields = Fields::default();
        fields.set(Field::CampaignSource as u8, b"newsletter");
        let campaign = of(Campaign::given(&fields), "https://shop.example/?utm_source=x&utm_medium=e%2Dmail&gclid=abc#top");
        let found: Vec<_> = campaign.found().collect();
        assert_eq!(found, [(Field::CampaignMedium, "e-mail"), (Field::ClickIdKind, "gclid"), (Field::ClickId, "abc")]);
        assert_eq!(campaign.source(), "newsletter");
    }

    #[test]
    fn a_relative_address_and_a_query_alone_carry_a_campaign_too() {
        let expected: Vec<_> = [(Field::CampaignSource, "x"), (Field::ClickIdKind, "gclid"), (Field::ClickId, "abc")].into();
        for address in [
            "https://shop.example/?utm_source=x&gclid=abc",
            "/a?utm_source=x&gclid=abc#b",
            "?utm_source=x&gclid=abc",
            "a?gclid=abc&utm_source=x",
        ] {
            assert_eq!(of(Campaign::default(), address).found().collect::<Vec<_>>(), expected, "{address}");
        }
        for query in ["?utm_source=x&gclid=abc", "utm_source=x&gclid=abc"] {
            assert_eq!(of_query(Campaign::default(), query).found().collect::<Vec<_>>(), expected, "{query}");
        }
        let last = format!("/?{}utm_source=x&gclid=abc", "a=b&".repeat(500));
        assert_eq!(of(Campaign::default(), &last).found().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn values_are_decoded_before_they_are_cut_and_hold_no_nul() {
        assert_eq!(decoded(&"%C3%A4".repeat(MAX_VALUE)), "\u{e4}".repeat(MAX_VALUE / 2));
        assert_eq!(decoded("a\0b%00c"), "abc");
    }

    proptest! {
        #[test]
        fn the_query_is_read_as_the_url_crate_reads_it(values in prop::collection::vec("[a-zA-Z0-9 äö%+&=-]{1,12}", 5)) {
            let mut address = url::Url::parse("https://shop.example/p").unwrap();
            for ((_, name), value) in VALUES.iter().zip(&values) {
                address.query_pairs_mut().append_pair(name, value);
            }
            let campaign = of(Campaign::default(), address.as_str());
            for (value, (text, _)) in values.iter().zip(&campaign.values) {
                prop_assert_eq!(text, value);
            }
        }

        #[test]
        fn arbitrary_addresses_never_panic(url in ".{0,300}") {
            let _ = of(Campaign::default(), &url);
        }
    }
}
