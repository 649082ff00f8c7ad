//! Identifiers, each a type of its own so that they cannot be mixed up.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

use super::text::trim;

/// A project (tenant). Derived from its name, so a fleet needs no shared registry. Never 0: that is [`ProjectId::BOOKS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(pub u64);

impl ProjectId {
    /// Under this id the table keeps bookkeeping rows; no project has it, so no project's query can see them.
    pub const BOOKS: Self = Self(0);

    /// The id of the project called `name`.
    pub fn of_name(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()).max(1))
    }
}

/// A visitor inside a project: hash of `anonymousId`, or of `userId` where there is no other. It has no secret, so it identifies only
/// together with the project: to aim at a visitor of one's own project there is no need for a hash, its id will do.
#[cfg_attr(test, derive(Default))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VisitorKey(pub u64);

impl VisitorKey {
    /// The key of the visitor that `id` names within `project`.
    pub fn of(project: ProjectId, id: &str) -> Self {
        Self(xxh3_64_with_seed(id.as_bytes(), project.0))
    }

    /// The partition out of `partitions` that holds this visitor's events. `partitions` is at least 1.
    pub fn partition(self, partitions: u16) -> u16 {
        // The high half: hash tables inside a partition use the low bits.
        ((u64::from((self.0 >> 32) as u32) * u64::from(partitions)) >> 32) as u16
    }
}

/// Longest text that a client may call an event, bytes.
const MAX_EVENT_ID: usize = 200;
/// Placeholders that programs send in place of an id.
const NOTHING: [&str; 6] = ["null", "undefined", "NaN", "[object Object]", "none", "None"];

/// Whether `id` is what programs send where they have none.
pub fn is_placeholder(id: &str) -> bool {
    NOTHING.contains(&id)
}

/// What programs send as the id of a user whom they do not know, in small letters.
const NOBODY: [&str; 24] = [
    "null",
    "undefined",
    "none",
    "nil",
    "nan",
    "n/a",
    "true",
    "false",
    "-1",
    "[object object]",
    "anonymous",
    "anonymous_user",
    "anon",
    "guest",
    "test",
    "unknown",
    "unidentified",
    "not_authenticated",
    "not set",
    "(not set)",
    "id",
    "email",
    "distinct_id",
    "distinctid",
];

/// Whether `id` stands for nobody: a word that programs send for want of a user, zeros (the UUID of zeros among them), or no letter and
/// no digit at all. It names no person and ties nothing to one.
pub fn stands_for_nobody(id: &str) -> bool {
    let id = trim(id);
    let is_empty = || !id.contains(|character: char| character.is_alphanumeric() && character != '0');
    NOBODY.iter().any(|word| id.eq_ignore_ascii_case(word)) || is_empty()
}

/// The id of the event that a client calls `text`: itself if that is a UUID, with hyphens or without, else a UUID (version 8) made from it,
/// so that the same text names the same event whenever it comes. `None` for what names no event: nothing, too much, control
/// characters, placeholders, the UUID of zeros.
pub fn event_id_of(text: &str) -> Option<[u8; 16]> {
    let text = trim(text);
    // Braces and `urn:uuid:` are forms of a UUID too, but clients do not send them: they are text.
    if let (32 | 36, Ok(uuid)) = (text.len(), Uuid::try_parse_ascii(text.as_bytes())) {
        return (!uuid.is_nil()).then(|| uuid.into_bytes());
    }
    if text.is_empty() || text.len() > MAX_EVENT_ID || is_placeholder(text) || text.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    Some(Builder::from_custom_bytes(xxh3_128(text.as_bytes()).to_be_bytes()).into_uuid().into_bytes())
}

/// Shortest text without hyphens that may have been made to be unique, bytes.
const MIN_RANDOM: usize = 20;
/// So often such a text changes between digits, capitals and small letters: the number of an order with a word before it does once.
const MIN_CHANGES: usize = 4;

/// Whether a text was made to be unique, not to name what an event is about: a UUID, or a long mixture of letters and digits.
pub fn is_random(id: &str) -> bool {
    let kind = |byte: &u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let changes = id.as_bytes().windows(2).filter(|two| matches!(two, [one, other] if kind(one) != kind(other))).count();
    let is_mixed = changes >= MIN_CHANGES && id.bytes().any(|byte| byte.is_ascii_digit());
    Uuid::try_parse(id).is_ok() || id.len() >= MIN_RANDOM && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) && is_mixed
}

/// What an event is known by that several values make unique only together. Cryptographic, because clients choose them.
#[derive(Default)]
pub struct IdParts(Sha256);

impl IdParts {
    /// Adds a text.
    pub fn text(&mut self, text: &str) {
        self.add(b't', text.as_bytes());
    }

    /// Adds what is no text, as JSON has it: `1042` is not `"1042"`.
    pub fn json(&mut self, json: &str) {
        self.add(b'j', json.as_bytes());
    }

    /// Adds a second since 1970, if it is known.
    pub fn second(&mut self, second: Option<i64>) {
        self.add(b's', second.map(i64::to_le_bytes).as_ref().map_or(&[], |bytes| bytes.as_slice()));
    }

    fn add(&mut self, kind: u8, part: &[u8]) {
        self.0.update([kind]);
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    /// The id of the event.
    pub fn id(self) -> [u8; 16] {
        let hash: [u8; 32] = self.0.finalize().into();
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(id, byte)| *id = byte);
        Builder::from_custom_bytes(id).into_uuid().into_bytes()
    }
}

/// The id of an event that has none, from a digest of all that it is: a copy has the same.
pub fn event_id_of_digest(digest: u128) -> [u8; 16] {
    Builder::from_custom_bytes(digest.to_be_bytes()).into_uuid().into_bytes()
}

/// The id of the other event that a client sent as one with the event of this id.
pub fn other_event_id(id: [u8; 16]) -> [u8; 16] {
    Builder::from_custom_bytes(xxh3_128(&[id.as_slice(), b"other"].concat()).to_be_bytes()).into_uuid().into_bytes()
}

/// A person: hash of `userId`, or of `anonymousId` while no user is known. What `unique_users` counts.
#[cfg_attr(test, derive(Default))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonKey(pub u64);

impl PersonKey {
    /// The key of the person that `id` names within `project`.
    pub fn of(project: ProjectId, id: &str) -> Self {
        Self(VisitorKey::of(project, id).0)
    }
}

/// Identity of a log. A topic that is deleted and created again has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogEpoch(pub u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_uuid_names_itself_in_any_form() {
        let expected = Some(*b"\x01\x90\xf7\xa4\x00\x00\x70\x00\x80\x00\x00\x00\x00\x00\x00\x01");
        for text in ["0190f7a4-0000-7000-8000-000000000001", "0190F7A4000070008000000000000001", " 0190f7a4-0000-7000-8000-000000000001\n"]
        {
            assert_eq!(event_id_of(text), expected, "{text}");
        }
    }

    #[test]
    fn the_number_of_an_order_is_not_random() {
        for random in ["0195f1a0-0000-7000-8000-000000000001", "0195f1a000007000800000000000beef", "hpuDqcvpltpCjBsebtxwadtEBDnFAdycabFb1"]
        {
            assert!(is_random(random), "{random}");
        }
        for named in
            ["1042", "order-1", "ORDER00000012345", "ORDER0000000000000012345", "4000000000000000000012", "abcdefghijklmnopqrstuvwxyz", ""]
        {
            assert!(!is_random(named), "{named}");
        }
    }

    #[test]
    fn what_names_no_event_has_no_id() {
        let long = "x".repeat(MAX_EVENT_ID + 1);
        for text in ["", "  ", "null", "undefined", "00000000-0000-0000-0000-000000000000", "a\0b", "a\nb", &long] {
            assert_eq!(event_id_of(text), None, "{text:?}");
        }
        assert!(event_id_of(&long[1..]).is_some());
    }

    #[test]
    fn what_programs_send_for_want_of_a_user_stands_for_nobody() {
        let nobody =
            ["", " ", "NULL", "Undefined", "None", "0", "000", "-1", "Anonymous", "GUEST", " test ", "[object Object]", "@", "?", "-"];
        for id in nobody.into_iter().chain(["00000000-0000-0000-0000-000000000000", "00000000000000000000000000000000"]) {
            assert!(stands_for_nobody(id), "{id:?}");
        }
        for id in ["1", "10", "ada", "guest-7", "tester", "a@b.example", "@ada", "0a", "名", "00000000-0000-0000-0000-000000000001"] {
            assert!(!stands_for_nobody(id), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_names_one_event(one in "[a-zA-Z0-9äöü./_-]{1,40}", other in "[a-zA-Z0-9äöü./_-]{1,40}") {
            prop_assume!([&one, &other].iter().all(|text| !is_placeholder(text) && Uuid::try_parse(text).is_err()));
            prop_assert_eq!(event_id_of(&one), event_id_of(&format!(" {one} ")));
            prop_assert_eq!(event_id_of(&one) == event_id_of(&other), one == other);
            prop_assert_eq!(Uuid::from_bytes(event_id_of(&one).unwrap()).get_version_num(), 8);
        }

        #[test]
        fn arbitrary_text_never_panics(text in ".{0,60}") {
            let _ = event_id_of(&text);
        }
    }
}
