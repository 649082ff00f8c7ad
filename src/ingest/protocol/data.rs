//! JSON that comes as `data` of a form or of a query, bare or in base64: how browsers' SDKs send it without asking first.
//!
//! Promise: what is read is never larger than what it is read from.

use std::borrow::Cow;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};
use url::form_urlencoded;

use crate::ingest::envelope::strip_bom;
use crate::ingest::refusal::Refusal;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// The JSON of a body, or of the query where there is no body.
pub(super) fn json<'r>(body: &'r [u8], query: &'r str) -> Result<Cow<'r, [u8]>, Refusal> {
    let text = strip_bom(body).trim_ascii();
    match text.first() {
        Some(b'{' | b'[') => Ok(Cow::Borrowed(text)),
        Some(_) => of_form(text),
        None => of_form(query.as_bytes()),
    }
}

/// What a parameter is that stands in the query or in a form beside the data, as it is written.
pub(super) fn parameter<'r>(body: &'r [u8], query: &'r str, name: &str) -> Option<&'r [u8]> {
    let is_form = !matches!(strip_bom(body).trim_ascii().first(), Some(b'{' | b'['));
    let form = if is_form { body } else { b"" };
    let mut pairs = [query.as_bytes(), form].into_iter().flat_map(|pairs| pairs.split(|byte| *byte == b'&'));
    pairs.find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

fn of_form(form: &[u8]) -> Result<Cow<'_, [u8]>, Refusal> {
    let data = form_urlencoded::parse(form).find(|(key, _)| key == "data").map(|(_, value)| value);
    let Some(data) = data.filter(|data| !data.trim_ascii().is_empty()) else {
        return Err(if form.is_empty() { Refusal::Empty } else { Refusal::NotData });
    };
    if data.trim_ascii_start().starts_with(['{', '[']) {
        return Ok(Cow::Owned(data.into_owned().into_bytes()));
    }
    // A plus that was not escaped has been read as a space.
    let base64 = data.trim_ascii().replace(' ', "+");
    let decoded = STANDARD.decode(&base64).or_else(|_| URL_SAFE.decode(&base64));
    decoded.map(Cow::Owned).map_err(|_| Refusal::NotData)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn json_is_found_in_each_form_it_comes_in() {
        let found = |body: &str, query: &str| json(body.as_bytes(), query).map(|json| String::from_utf8(json.into_owned()).unwrap());
        let expected = Ok(r#"{"a":"ä?>"}"#.to_owned());
        let standard = STANDARD.encode(r#"{"a":"ä?>"}"#);
        assert_eq!(found(r#" {"a":"ä?>"} "#, ""), expected);
        assert_eq!(found(&format!("data={standard}"), ""), expected, "a plus that nobody escaped");
        assert_eq!(found(&format!("verbose=1&data={}", URL_SAFE.encode(r#"{"a":"ä?>"}"#).trim_end_matches('=')), ""), expected);
        assert_eq!(found("data=%7B%22a%22%3A%22%C3%A4%3F%3E%22%7D&ip=0", ""), expected);
        assert_eq!(found("", &format!("data={}&_=1", standard.replace('+', "%2B"))), expected);
    }

    #[test]
    fn a_parameter_is_of_the_query_or_of_the_form() {
        let found = |body: &str, query: &str| parameter(body.as_bytes(), query, "ip").map(|value| value.escape_ascii().to_string());
        assert_eq!(found("data=e30&zip=2&ip=0", "verbose=1"), Some("0".to_owned()));
        assert_eq!(found(r#"[{"a":"&ip=0"}]"#, "ip=1"), Some("1".to_owned()));
        assert_eq!(found(r#"[{"a":"&ip=0&"}]"#, "zip=1"), None);
    }

    #[test]
    fn what_is_no_data_is_refused() {
        for (body, query) in [("x", ""), ("data=", ""), ("data=%%%", ""), ("a=b", "data=e30="), ("", "a=b"), ("\"x\"", "")] {
            assert_eq!(json(body.as_bytes(), query), Err(Refusal::NotData), "{body} {query}");
        }
        assert_eq!(json(b"", ""), Err(Refusal::Empty));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_become_no_more_than_they_are(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "(data=)?[A-Za-z0-9+/=%&{}_-]{0,80}") {
            for body in [bytes.as_slice(), text.as_bytes()] {
                if let Ok(json) = json(body, "") {
                    // A byte that is none becomes the three of U+FFFD.
                    prop_assert!(json.len() <= 3 * body.len());
                }
            }
        }
    }
}
