//! Pieces of SQL, made before the statement that they become part of.
//!
//! A piece is fixed text and values, in order; the text cannot contain input, the values are bound when the piece is appended to a
//! statement.

use std::collections::BTreeSet;

use crate::query::sql::Statement;

/// A piece of SQL.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Expr(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Sql(&'static str),
    Int(i64),
    Int128(i128),
    Uint(u64),
    Float(f64),
    Text(String),
    Texts(Vec<String>),
    Floats(Vec<f64>),
    Ints(Vec<i64>),
    Uints(Vec<u64>),
    /// A statement of its own.
    Enclosed(Expr),
}

impl From<&'static str> for Expr {
    fn from(sql: &'static str) -> Self {
        Self(vec![Part::Sql(sql)])
    }
}

impl Expr {
    /// A whole number.
    pub(crate) fn int(value: i64) -> Self {
        Self(vec![Part::Int(value)])
    }

    /// A whole number of more than 64 bits.
    pub(crate) fn int128(value: i128) -> Self {
        Self(vec![Part::Int128(value)])
    }

    /// An unsigned number.
    pub(crate) fn uint(value: u64) -> Self {
        Self(vec![Part::Uint(value)])
    }

    /// A number, finite.
    pub(crate) fn float(value: f64) -> Self {
        Self(vec![Part::Float(value)])
    }

    /// A text.
    pub(crate) fn text(value: impl Into<String>) -> Self {
        Self(vec![Part::Text(value.into())])
    }

    /// An array of texts.
    pub(crate) fn texts<T: Into<String>>(values: impl IntoIterator<Item = T>) -> Self {
        Self(vec![Part::Texts(values.into_iter().map(Into::into).collect())])
    }

    /// An array of numbers.
    pub(crate) fn floats(values: Vec<f64>) -> Self {
        Self(vec![Part::Floats(values)])
    }

    /// An array of whole numbers.
    pub(crate) fn ints(values: impl IntoIterator<Item = i64>) -> Self {
        Self(vec![Part::Ints(values.into_iter().collect())])
    }

    /// An array of unsigned numbers.
    pub(crate) fn uints(values: impl IntoIterator<Item = u64>) -> Self {
        Self(vec![Part::Uints(values.into_iter().collect())])
    }

    /// `function(arguments)`.
    pub(crate) fn call(function: &'static str, arguments: impl IntoIterator<Item = Self>) -> Self {
        Self::from(function).then("(").then(Self::list(", ", arguments)).then(")")
    }

    /// `items` with `separator` between them.
    pub(crate) fn list(separator: &'static str, items: impl IntoIterator<Item = Self>) -> Self {
        let mut list = Self::default();
        for item in items {
            if !list.0.is_empty() {
                list.0.push(Part::Sql(separator));
            }
            list.0.extend(item.0);
        }
        list
    }

    /// Conditions that must all hold.
    pub(crate) fn all(conditions: impl IntoIterator<Item = Self>) -> Self {
        Self::list(" AND ", conditions)
    }

    /// Conditions of which one must hold.
    pub(crate) fn any(conditions: impl IntoIterator<Item = Self>) -> Self {
        Self::list(" OR ", conditions)
    }

    /// This, then `next`.
    pub(crate) fn then(mut self, next: impl Into<Self>) -> Self {
        self.0.extend(next.into().0);
        self
    }

    /// `this operator right`.
    pub(crate) fn infix(self, operator: &'static str, right: impl Into<Self>) -> Self {
        self.then(operator).then(right)
    }

    /// `(this)`.
    pub(crate) fn grouped(self) -> Self {
        Self::from("(").then(self).then(")")
    }

    /// `(this)`, a statement of its own: what it mentions concerns nobody outside.
    pub(crate) fn enclosed(self) -> Self {
        Self::from("(").then(Self(vec![Part::Enclosed(self)])).then(")")
    }

    /// `NOT (this)`.
    pub(crate) fn negated(self) -> Self {
        Self::from("NOT ").then(self.grouped())
    }

    /// Whether its text, which no input is part of, has `word`.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Sql(sql) if sql.contains(word)))
    }

    /// The texts that stand right behind `word`.
    pub(crate) fn texts_behind(&self, word: &str) -> BTreeSet<&str> {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        let behind = pairs.filter_map(|pair| match pair {
            (Part::Sql(sql), Part::Text(text)) if sql.ends_with(word) => Some(&**text),
            _ => None,
        });
        behind.collect()
    }

    /// Appends the piece to a statement.
    pub(crate) fn append(&self, to: Statement) -> Statement {
        self.0.iter().fold(to, |to, part| match part {
            Part::Sql(sql) => to.sql(sql),
            Part::Int(value) => to.int(*value),
            Part::Int128(value) => to.int128(*value),
            Part::Uint(value) => to.uint(*value),
            Part::Float(value) => to.float(*value),
            Part::Text(value) => to.string(value),
            Part::Texts(values) => to.strings(values.iter().map(String::as_str)),
            Part::Floats(values) => to.floats(values.iter().copied()),
            Part::Ints(values) => to.ints(values.iter().copied()),
            Part::Uints(values) => to.uints(values.iter().copied()),
            Part::Enclosed(statement) => statement.append(to),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_binds_its_values_when_it_is_appended_and_equal_ones_once() {
        let key = Expr::call("concat", ["'s'".into(), Expr::text("it's")]);
        let either = Expr::any([key.clone().infix(" = ", Expr::uint(7)), key.negated()]);

        let made = either.append(Statement::default().sql("SELECT "));

        assert_eq!(made.text(), "SELECT concat('s', {p0:String}) = {p1:UInt64} OR NOT (concat('s', {p0:String}))");
        assert_eq!(made.params().map(|(_, value)| value).collect::<Vec<_>>(), ["it\\'s", "7"]);
    }
}
