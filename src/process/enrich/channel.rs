//! The acquisition channel of a visit: the usual default grouping.
//!
//! | channel | when |
//! |---|---|
//! | `email`, `sms`, `push`, `affiliates`, `audio`, `display` | the medium (or source) says so |
//! | `paid_search`, `paid_social`, `paid_video`, `paid_shopping`, `paid_other` | the medium or the click was paid for, by where it came from |
//! | `organic_search`, `organic_social`, `organic_video`, `organic_shopping`, `ai` | by where it came from |
//! | `referral` | any other site |
//! | `internal` | the same site |
//! | `direct` | from nowhere |

use super::campaign::Campaign;
use super::place::{self, Kind};
use super::referrer::Referrer;

/// The channel that a campaign and a referrer make.
pub fn channel(campaign: &Campaign<'_>, referrer: &Referrer<'_>) -> &'static str {
    if campaign.is_empty() {
        return unpaid(referrer.kind);
    }
    let (source, medium) = (campaign.source(), campaign.medium());
    if let Some(channel) = by_medium(&source, &medium) {
        return channel;
    }
    let place = place::of_source(&source).unwrap_or(referrer.kind);
    let is_paid = campaign.is_paid_click || is_paid_medium(&medium);
    match (is_paid, place) {
        // Of banners alone: it says so where nobody says what was paid for.
        (true, _) if campaign.click_id_kind == "dclid" && !is_paid_medium(&medium) => "display",
        // Search engines sell both; which of them it was stands in the name.
        (true, Kind::Search) if names_a_shop(&campaign.name()) => "paid_shopping",
        (true, Kind::Search) => "paid_search",
        (true, Kind::Social) => "paid_social",
        (true, Kind::Video) => "paid_video",
        (true, Kind::Shopping) => "paid_shopping",
        (true, _) if matches!(campaign.click_id_kind, "gclid" | "gbraid" | "wbraid" | "msclkid" | "yclid") => "paid_search",
        (true, _) if matches!(campaign.click_id_kind, "ttclid" | "twclid" | "li_fat_id" | "rdt_cid" | "sccid" | "epik" | "qclid") => {
            "paid_social"
        }
        (true, _) => "paid_other",
        (false, _) if is_social_medium(&medium) => "organic_social",
        (false, place) if medium.contains("video") && !matches!(place, Kind::Social | Kind::Shopping) => "organic_video",
        (false, _) if medium == "organic" => "organic_search",
        (false, _) if campaign.click_id_kind == "mc_eid" => "email",
        (false, _) if matches!(campaign.click_id_kind, "fbclid" | "igshid") => "organic_social",
        (false, Kind::None | Kind::Internal) => "referral",
        (false, place) => unpaid(place),
    }
}

fn unpaid(kind: Kind) -> &'static str {
    match kind {
        Kind::None => "direct",
        Kind::Internal => "internal",
        Kind::Search => "organic_search",
        Kind::Social => "organic_social",
        Kind::Video => "organic_video",
        Kind::Email => "email",
        Kind::Shopping => "organic_shopping",
        Kind::Ai => "ai",
        Kind::Other => "referral",
    }
}

fn by_medium(source: &str, medium: &str) -> Option<&'static str> {
    match medium {
        "email" | "e-mail" | "e_mail" | "e mail" | "newsletter" => Some("email"),
        "sms" => Some("sms"),
        // `web_push`, `push-notification`, `mobile_app`; and what sends them for apps.
        _ if medium.ends_with("push") || medium.contains("notification") || source == "firebase" => Some("push"),
        _ if medium.contains("mobile") && !is_paid_medium(medium) => Some("push"),
        "affiliate" | "affiliates" => Some("affiliates"),
        "audio" | "podcast" => Some("audio"),
        "display" | "banner" | "expandable" | "interstitial" | "cpm" => Some("display"),
        _ if matches!(source, "email" | "e-mail" | "newsletter") => Some("email"),
        _ if source == "sms" => Some("sms"),
        _ => None,
    }
}

/// Whether a campaign is called after a shop (`shopping_de`, `eshop`), and not after a workshop.
fn names_a_shop(name: &str) -> bool {
    let is_word = |before: &str| !before.ends_with(|c: char| c.is_ascii_lowercase() && c != 'e');
    name.contains("shopping") || name.match_indices("shop").any(|(at, _)| name.get(..at).is_some_and(is_word))
}

fn is_social_medium(medium: &str) -> bool {
    matches!(medium, "social" | "social-network" | "social-media" | "social network" | "social media" | "sm")
}

fn is_paid_medium(medium: &str) -> bool {
    let is_paid =
        |word| matches!(word, "paid" | "paidsearch" | "paidsocial" | "paidvideo" | "ppc" | "cpc" | "cpv" | "cpa" | "cpp" | "retargeting");
    medium.split(|c: char| !c.is_ascii_alphanumeric()).any(is_paid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::enrich::{campaign, referrer};

    #[test]
    fn the_table_of_channels() {
        let table = [
            ("", "", "direct"),
            ("", "https://www.google.com/", "organic_search"),
            ("", "https://chatgpt.com/", "ai"),
            ("", "https://other.example/", "referral"),
            ("", "https://shop.example/a", "internal"),
            ("gclid=1", "", "paid_search"),
            ("utm_source=facebook&utm_medium=cpc", "", "paid_social"),
            ("utm_source=google&utm_medium=cpc&utm_campaign=Shopping_DE", "", "paid_shopping"),
            ("utm_source=google&utm_medium=cpc&utm_campaign=eshop", "", "paid_shopping"),
            ("utm_source=google&utm_medium=cpc&utm_campaign=workshops", "", "paid_search"),
            ("utm_source=shop&utm_medium=web_push", "", "push"),
            ("utm_source=firebase&utm_medium=notification", "", "push"),
            ("utm_source=google&utm_medium=push_notification", "", "push"),
            ("utm_source=shop&utm_medium=mobile-app", "", "push"),
            ("utm_source=google&utm_medium=mobile-cpc", "", "paid_search"),
            ("utm_source=sms", "", "sms"),
            ("utm_source=meta&utm_medium=cpc", "", "paid_social"),
            ("utm_source=meta&utm_medium=paid_social", "", "paid_social"),
            ("utm_source=facebook_ads&utm_medium=paid", "", "paid_social"),
            ("utm_source=google_ads&utm_medium=ppc", "", "paid_search"),
            ("utm_source=rakuten&utm_medium=cpc", "", "paid_shopping"),
            ("utm_source=free&utm_medium=cpc", "", "paid_other"),
            ("utm_source=kimi.com", "", "ai"),
            ("utm_source=(direct)&utm_medium=(none)&utm_campaign=(not%20set)", "", "direct"),
            ("utm_source=(direct)&utm_medium=(none)", "https://www.google.com/", "organic_search"),
            ("utm_source=google&utm_medium=cpc&utm_term=(not+provided)", "", "paid_search"),
            ("utm_source=youtube&utm_medium=paid-video", "", "paid_video"),
            ("utm_source=partner&utm_medium=cpc", "", "paid_other"),
            ("utm_source=partner&utm_medium=unpaid", "https://other.example/", "referral"),
            ("utm_source=list&utm_medium=email", "https://www.google.com/", "email"),
            ("utm_medium=display", "", "display"),
            ("fbclid=1", "https://l.facebook.com/", "organic_social"),
            ("utm_source=chatgpt.com", "", "ai"),
            ("utm_source=partner", "", "referral"),
            ("utm_source=facebook.com&utm_medium=cpc", "", "paid_social"),
            ("utm_source=amazon.de&utm_medium=cpc", "", "paid_shopping"),
            ("ScCid=1", "", "paid_social"),
            ("utm_source=partner&utm_medium=social+network", "", "organic_social"),
            ("utm_source=partner&utm_medium=Social%20Media", "", "organic_social"),
            ("utm_source=partner&utm_medium=video", "https://other.example/", "organic_video"),
            ("utm_source=partner&utm_medium=paid-video", "", "paid_other"),
            ("dclid=1", "https://other.example/", "display"),
            ("dclid=1&utm_source=google&utm_medium=cpc", "", "paid_search"),
            ("", "https://r.search.yahoo.com/x", "organic_search"),
            ("", "https://www.amazon.com/", "organic_shopping"),
            ("GCLID=1", "", "paid_search"),
            ("UTM_SOURCE=google&UTM_MEDIUM=CPC", "", "paid_search"),
            ("", "https://accounts.google.com/", "referral"),
            ("", "https://www.amazon.de/", "organic_shopping"),
            ("", "android-app://com.google.android.gm/", "email"),
        ];
        for (query, from, expected) in table {
            let page = format!("https://shop.example/?{query}");
            let campaign = campaign::of(Campaign::default(), &page);
            assert_eq!(channel(&campaign, &referrer::of(from, &page)), expected, "{query} from `{from}`");
        }
    }
}
