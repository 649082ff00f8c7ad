//! Short links: addresses of pages of the screen that are too long to be sent, each under the hash of it.
//!
//! Promises: an address has one link, and a link leads to one address, within this origin, as long as it is kept: where a project has no room for
//! another, its oldest go. Bounds: those of [`LINK`], [`MAX_ADDRESS`] bytes each.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::ask::Fields;
use super::ask::fields::shortened;
use super::error::QueryError;
use super::saved::Kind;
use super::screen;
use crate::store::tables::saved::Saved;

/// An address under its hash.
pub(super) const LINK: Kind =
    Kind { word: "link", invalid: "invalid_link", unknown: "unknown_link", too_many: "too_many_links", most: 20_000, most_names: 20_000 };
/// How many go at a time where there is no room: a twentieth, so that it is rarely made. One of them that is asked for again in that very
/// moment goes too.
pub(super) const OLDEST: u64 = 1_000;
/// Largest request, bytes.
pub(super) const MAX_LINK: usize = 40 << 10;
/// Longest address, bytes.
const MAX_ADDRESS: usize = 16 << 10;
/// How much of its hash is the name of a link.
const NAME_BYTES: usize = 12;

/// A checked address with its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) id: String,
    pub(super) address: String,
}

impl Link {
    /// Reads `{"address": "/trends?…"}`.
    ///
    /// # Errors
    /// 400 `invalid_link`, `unknown_key`.
    pub(super) fn parse(body: &Value) -> Result<Self, QueryError> {
        let address = Fields::open(body, &["address"])?.text("address", LINK.invalid)?.unwrap_or_default();
        let invalid = |what: String| QueryError::invalid(LINK.invalid, format!("`address` {what}"));
        if address.len() > MAX_ADDRESS {
            return Err(invalid(format!("has {} bytes: at most {MAX_ADDRESS}", address.len())));
        }
        // Who follows a link stays here: what a browser takes for another host is no page.
        let path = address.strip_prefix('/').and_then(|rest| rest.split(['?', '/']).next());
        let is_page = path.is_some_and(|page| screen::pages().any(|known| known == page)) && !address.starts_with("//");
        let is_plain = address.bytes().all(|byte| byte.is_ascii_graphic() && !b"#\\".contains(&byte));
        if !is_page || !is_plain {
            let what =
                format!("is `{}`: it must be a page of the screen with its parameters, such as /trends?b=country", shortened(address));
            return Err(invalid(what));
        }
        let hash = Sha256::digest(address.as_bytes());
        Ok(Self { id: URL_SAFE_NO_PAD.encode(&hash[..NAME_BYTES]), address: address.to_owned() })
    }

    /// As it is saved at `now_ms`.
    pub(super) fn body(&self, now_ms: i64) -> String {
        json!({"address": self.address, "at": now_ms}).to_string()
    }
}

/// A link as it is shown.
pub(super) fn shown(Saved { name, body, .. }: &Saved) -> Value {
    let saved: Value = serde_json::from_str(body).unwrap_or_default();
    json!({"id": name, "address": saved["address"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_page_has_one_name_and_what_leads_elsewhere_none() {
        let of = |address: &str| Link::parse(&json!({"address": address}));
        let link = of("/trends?b=country&f=[%22a%22,%22eq%22,%22%C3%BC%22]").unwrap();
        assert_eq!((link.id.len(), of(&link.address).unwrap() == link), (16, true));
        assert_ne!(of("/trends?b=city").unwrap().id, link.id);
        let saved = Saved { name: link.id.clone(), version: 1, body: link.body(1_700_000_000_000) };
        assert_eq!(shown(&saved), json!({"id": link.id, "address": link.address}));
        assert_eq!(serde_json::from_str::<Value>(&saved.body).unwrap()["at"], json!(1_700_000_000_000_i64));
        for page in ["/?show=events", "/boards/shop?wall=1", "/"] {
            assert_eq!(of(page).unwrap().address, page);
        }
        let long = format!("/trends?f={}", "a".repeat(MAX_ADDRESS));
        for elsewhere in [
            "",
            "trends",
            "//evil.example/trends",
            "/\\evil.example",
            "https://evil.example/",
            "/v1/query",
            "/trends#x",
            "/trends?a=\n",
            "/trends?ü",
            &long,
        ] {
            assert_eq!(of(elsewhere).unwrap_err().code, LINK.invalid, "{elsewhere}");
        }
        assert_eq!(Link::parse(&json!({"address": "/", "id": "x"})).unwrap_err().code, "unknown_key");
        assert_eq!(Link::parse(&json!({})).unwrap_err().code, LINK.invalid);
    }
}
