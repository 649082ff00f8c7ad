//! Configuration that must not be shown: passwords, and addresses that may hold one.
//!
//! Promises: neither `Debug` nor serialization repeats a secret, so no log line, no error and no `pulse check-config` can.
//! What is used as a secret says so at the place where it is used ([`Secret::reveal`]).

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Stands in examples where a secret belongs. Everybody knows it: nothing starts with it.
pub const PLACEHOLDER: &str = "change-me";

/// What is wrong with a TOML text and in which line, without the line itself: it may hold a secret.
pub(crate) fn without_line(text: &str, problem: &toml::de::Error) -> String {
    let before = problem.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, problem.message())
}

/// What stands in the place of a secret that is set.
const MASK: &str = "(set)";

/// A password. Shown as `(set)`, or as nothing where it is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What may be shown.
    fn shown(&self) -> &'static str {
        if self.0.is_empty() { "" } else { MASK }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.shown())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.shown())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOnly).map(Self)
    }
}

/// Reads text; an error does not repeat what stood there instead, as serde's own would.
struct TextOnly;

impl Visitor<'_> for TextOnly {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<String, E> {
        Err(E::custom("a secret must be text in quotes"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<String, E> {
        Err(E::custom("a secret must be text in quotes"))
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<String, E> {
        Err(E::custom("a secret must be text in quotes"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<String, E> {
        Err(E::custom("a secret must be text in quotes"))
    }
}

/// The address of a server, or several separated by commas or blanks; each may hold a password. Shown without it.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

impl Deref for Address {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl From<String> for Address {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Address {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_passwords(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&without_passwords(&self.0), f)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&without_passwords(&self.0))
    }
}

/// The text with the passwords of its addresses masked. An address that cannot be taken apart is masked whole: nothing says
/// where in it a password ends.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let addresses: Option<Vec<String>> = text.split([',', ' ', '\t']).map(without_password).collect();
    Cow::Owned(addresses.map_or_else(|| MASK.to_owned(), |addresses| addresses.join(",")))
}

/// One address, masked; `None` if what stands before its `@` is not that of an address.
fn without_password(address: &str) -> Option<String> {
    let Some((before, host)) = address.rsplit_once('@') else { return Some(address.to_owned()) };
    let (scheme, login) = before.split_once("://")?;
    // A lone name before the `@` may be a token.
    let user = login.split_once(':').map_or("", |(user, _)| user);
    Some(if user.is_empty() { format!("{scheme}://{MASK}@{host}") } else { format!("{scheme}://{user}:{MASK}@{host}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Written {
        password: Secret,
        url: Address,
    }

    #[test]
    fn neither_debug_nor_serialization_repeats_a_secret() {
        let written: Written = toml::from_str("password = 'hush'\nurl = 'https://ada:hush@ch1:8443/'\n").unwrap();
        assert_eq!((written.password.reveal(), &*written.url), ("hush", "https://ada:hush@ch1:8443/"));
        let shown = [format!("{written:?}"), toml::to_string(&written).unwrap(), written.url.to_string()];
        for text in shown {
            assert!(!text.contains("hush"), "{text}");
            assert!(text.contains("https://ada:(set)@ch1:8443/"), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_shown_without_its_password() {
        for (text, shown) in [
            ("redis://:hush@redis1:6379/0", "redis://(set)@redis1:6379/0"),
            ("redis://hush@redis1", "redis://(set)@redis1"),
            ("http://ada:hu@sh@ch1", "http://ada:(set)@ch1"),
            ("http://a:1,http://ada:hush@b:1", "http://a:1,http://ada:(set)@b:1"),
            ("http://ada:hush@a http://bob:hush@b", "http://ada:(set)@a,http://bob:(set)@b"),
            ("ada:hush@ch1", "(set)"),
            ("http://ada:hu,sh@ch1", "(set)"),
            ("http://ada:hu sh@ch1", "(set)"),
            ("http://ch1:8123", "http://ch1:8123"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn a_secret_that_is_not_text_is_refused_without_being_repeated() {
        for text in ["password = 123454321", "password = -123454321", "password = 123454321.5", "password = true"] {
            let problem = toml::from_str::<Written>(text).unwrap_err();
            assert!(!problem.message().contains("123454321"), "{problem}");
        }
    }
}
