//! Kinds of devices.

/// What clients call a kind of device, and its word: SDKs of apps (Segment's, RudderStack's) name the platform.
const DEVICE_TYPES: [(&str, &str); 17] = [
    ("mobile", "mobile"),
    ("android", "mobile"),
    ("ios", "mobile"),
    ("phone", "mobile"),
    ("smartphone", "mobile"),
    ("handset", "mobile"),
    ("tablet", "tablet"),
    ("ipados", "tablet"),
    ("tv", "tv"),
    ("tvos", "tv"),
    ("smart tv", "tv"),
    ("smarttv", "tv"),
    ("desktop", "desktop"),
    ("laptop", "desktop"),
    ("macos", "desktop"),
    ("console", "console"),
    ("bot", "bot"),
];

/// The word for a kind of device; one that has none stays what the client calls it.
pub(super) fn device_type(text: &str) -> &str {
    DEVICE_TYPES.iter().find(|(said, _)| said.eq_ignore_ascii_case(text.trim())).map_or(text, |(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_and_exports_call_a_kind_has_one_word() {
        let told = ["laptop", "Smart TV", "iOS", " tablet ", "fridge"].map(device_type);
        assert_eq!(told, ["desktop", "tv", "mobile", "tablet", "fridge"]);
    }
}
