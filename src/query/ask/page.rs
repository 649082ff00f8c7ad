//! Pages of a list: `limit` and `cursor` of a request, `next` of its answer.

use super::canonical::{Canonical, CanonicalForm};
use super::fields::{Fields, shortened};
use crate::query::error::QueryError;

/// The place in a list where a page ended, as the client gives it back.
pub(crate) trait Cursor: Sized {
    /// Reads what an earlier answer gave; `None` if it cannot have.
    fn parse(text: &str) -> Option<Self>;
}

/// Which page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page<C> {
    /// Its most rows.
    pub(crate) limit: u64,
    /// The last row of the page before.
    pub(crate) after: Option<C>,
}

impl<C: Cursor> Page<C> {
    /// Rows of a page without a `limit`.
    pub(crate) const DEFAULT: u64 = 100;

    /// The page under `limit`, at most `most`, and `cursor`.
    ///
    /// # Errors
    /// 400 `invalid_limit` or `invalid_cursor`.
    pub(crate) fn parse(fields: Fields<'_>, most: u64) -> Result<Self, QueryError> {
        let after = fields.text("cursor", "invalid_cursor")?.map(Self::cursor).transpose()?;
        Ok(Self { limit: fields.limit("limit", Self::DEFAULT, most)?, after })
    }

    /// The same of the parameters of an address, which are texts.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn of_parameters(fields: Fields<'_>, most: u64) -> Result<Self, QueryError> {
        let after = fields.text("cursor", "invalid_cursor")?.map(Self::cursor).transpose()?;
        let Some(text) = fields.text("limit", "invalid_limit")? else { return Ok(Self { limit: Self::DEFAULT, after }) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        let refused = || format!("`limit` is `{}`, no whole number from 1 to {most}", shortened(text));
        Ok(Self { limit: limit.ok_or_else(|| QueryError::invalid("invalid_limit", refused()))?, after })
    }

    fn cursor(text: &str) -> Result<C, QueryError> {
        let refused = || QueryError::invalid("invalid_cursor", format!("`{}` is not a cursor of an earlier answer", shortened(text)));
        C::parse(text).ok_or_else(refused)
    }
}

impl<C> Page<C> {
    /// Rows to read: one more than the page has shows whether another one follows.
    pub(crate) fn rows(&self) -> u64 {
        self.limit + 1
    }

    /// Cuts `rows` to the page; returns the last of them if another page follows.
    pub(crate) fn cut<'r, T>(&self, rows: &'r mut Vec<T>) -> Option<&'r T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let is_last = rows.len() <= limit;
        rows.truncate(limit);
        rows.last().filter(|_| !is_last)
    }
}

impl<C: Canonical> Canonical for Page<C> {
    fn canonical(&self, to: &mut CanonicalForm) {
        let Self { limit, after } = self;
        to.field("limit", limit).field("after", after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_leads_on_only_if_there_is_more() {
        let page = Page::<u64> { limit: 2, after: None };
        let (mut exact, mut more) = (vec![1, 2], vec![1, 2, 3]);
        assert_eq!((page.cut(&mut exact), page.rows()), (None, 3));
        assert_eq!(page.cut(&mut more), Some(&2));
        assert_eq!((exact, more), (vec![1, 2], vec![1, 2]));
    }
}
