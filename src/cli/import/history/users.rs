//! What is known of users, so that what a product repeats with every event is said when it changes.
//!
//! Promise: what is news is said. Bound: of the [`MOST`] to twice as many users who were seen last a digest of what was said is kept, in at
//! most 70 MiB. Of one who was not seen for so long it is forgotten, and said once more: that changes nothing of the user, costs an
//! event, and is the same each time that the same files are imported from their beginning.

use std::collections::HashMap;

use serde_json::{Map, Value as Json};
use xxhash_rust::xxh3::xxh3_64;

/// Users after which those who were seen before are forgotten: as many as a table of 2^21 places, of 17 bytes each, takes.
const MOST: usize = 7 << 18;

/// By a digest of who it is one of what was said.
type Digests = HashMap<u64, u64, foldhash::fast::RandomState>;

/// What is known of users so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::cli::import) struct Users {
    recent: Digests,
    /// What was known when `recent` was begun; of who is in both that one counts.
    before: Digests,
}

impl Users {
    /// Whether this is news of the user.
    pub(super) fn learn(&mut self, traits: &Map<String, Json>) -> bool {
        self.learn_of(traits, MOST)
    }

    fn learn_of(&mut self, traits: &Map<String, Json>, most: usize) -> bool {
        let part = |name: &str| traits.get(name).map(Json::to_string).unwrap_or_default();
        let user = xxh3_64(format!("{} {}", part("userId"), part("anonymousId")).as_bytes());
        let said = xxh3_64(part("properties").as_bytes());
        if self.recent.len() >= most && !self.recent.contains_key(&user) {
            std::mem::swap(&mut self.recent, &mut self.before);
            self.recent.clear();
        }
        let known = self.recent.insert(user, said).or_else(|| self.before.get(&user).copied());
        known != Some(said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(user: u8, of: u8) -> Map<String, Json> {
        Map::from_iter([("userId".to_owned(), json!(user)), ("properties".to_owned(), json!({"plan": of}))])
    }

    #[test]
    fn what_is_kept_of_users_is_bounded_and_who_was_forgotten_is_said_once_more() {
        let mut users = Users::default();
        for user in 0..100 {
            assert!(users.learn_of(&said(user, 1), 4));
            assert!(users.recent.len() <= 4 && users.before.len() <= 4);
        }
        assert!(!users.learn_of(&said(96, 1), 4), "one of those seen last");
        assert!(users.learn_of(&said(0, 1), 4));
        assert!(!users.learn_of(&said(0, 1), 4));
    }

    #[test]
    fn who_is_seen_again_and_again_is_not_forgotten() {
        let mut users = Users::default();
        users.learn_of(&said(255, 1), 4);
        for user in 0..100 {
            users.learn_of(&said(user, 1), 4);
            assert!(!users.learn_of(&said(255, 1), 4), "{user}");
        }
    }

    proptest! {
        /// Against all that was said of all: news is never taken for known.
        #[test]
        fn what_is_news_is_said_however_little_is_kept(heard in prop::collection::vec((0..12_u8, 0..3_u8), 0..200), most in 1..8_usize) {
            let (mut users, mut all) = (Users::default(), HashMap::new());
            for (user, of) in heard {
                let is_news = all.insert(user, of) != Some(of);
                let is_said = users.learn_of(&said(user, of), most);
                prop_assert!(is_said || !is_news);
            }
        }
    }
}
