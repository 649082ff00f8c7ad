//! What questions can name: the types of events, their fields, and the values of a field. For those who choose from lists.
//!
//! A search is a part of the text, whatever its case; it is bound as a value, so no letter of it is a wildcard.
//! Cost: the names of types are counted in one narrow column; for properties, traits and values all of the range is read, or with `sample` a
//! share, as [`super::properties`] does, and the answers are kept as those of other questions are.

pub(crate) mod events;
pub(crate) mod fields;
pub(crate) mod values;

use crate::query::ask::{Canonical, CanonicalForm, Expr, Fields};
use crate::query::error::QueryError;

/// Longest search, bytes.
const MAX_SEARCH: usize = 200;
/// What is looked at unless the request says otherwise.
const DEFAULT_RANGE: &str = "-30d";

/// A part that a text must have; none is part of every text.
#[derive(Clone, Debug)]
struct Search(Option<String>);

impl Search {
    /// Reads `search`.
    ///
    /// # Errors
    /// 400 `invalid_search`.
    fn parse(fields: Fields<'_>) -> Result<Self, QueryError> {
        let text = fields.text("search", "invalid_search")?.filter(|text| !text.is_empty());
        match text {
            Some(text) if text.len() > MAX_SEARCH => {
                Err(QueryError::invalid("invalid_search", format!("`search` has {} bytes: at most {MAX_SEARCH}", text.len())))
            }
            text => Ok(Self(text.map(str::to_owned))),
        }
    }

    /// The condition that `text` has it.
    fn is_in(&self, text: Expr) -> Option<Expr> {
        let part = Expr::text(self.0.as_deref()?);
        Some(Expr::call("positionCaseInsensitiveUTF8", [text, part]).then(" > 0"))
    }
}

impl Canonical for Search {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self(text) = self;
        to.field("text", text);
    }
}
