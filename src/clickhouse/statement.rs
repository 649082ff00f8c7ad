//! Statements whose text cannot contain input: the text comes from `&'static str` parts, checked names and numbers, and values are
//! server-side parameters.
//!
//! Values travel as the fields of a form, of which a server takes so many, each up to a size. So a value that is there already is
//! not bound again, and one that is too long for a field is bound in pieces that the server puts together. [`Statement::fits`] says
//! whether a server takes the statement.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::wire;

/// Bytes of one field, half of what a server takes by default (`http_max_field_value_size`, 131,072).
const MAX_FIELD: usize = 65_536;
/// Fields of one statement, below what a server takes by default (`http_max_fields`, 1,000) with those that the client adds.
const MAX_FIELDS: usize = 950;
/// Bytes of the text, itself a field.
const MAX_TEXT: usize = 131_000;

/// A name that stands in SQL as it is: letters, digits and `_`, not beginning with a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identifier(Cow<'static, str>);

impl Identifier {
    /// The name `text`; `None` if it would need quotes.
    pub fn parse(text: impl Into<Cow<'static, str>>) -> Option<Self> {
        let text = text.into();
        let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && text.starts_with(|c: char| !c.is_ascii_digit());
        is_plain.then_some(Self(text))
    }

    /// A name of our own.
    pub const fn known(name: &'static str) -> Self {
        Self(Cow::Borrowed(name))
    }

    /// This name with `ending` behind it.
    pub fn with(&self, ending: &'static str) -> Self {
        Self(Cow::Owned(format!("{self}{ending}")))
    }
}

impl Deref for Identifier {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

/// A table with its database.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableName {
    database: Identifier,
    table: Identifier,
}

impl TableName {
    /// The table `table` of `database`.
    pub fn new(database: &Identifier, table: Identifier) -> Self {
        Self { database: database.clone(), table }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}.{}", self.database, self.table)
    }
}

/// A statement under construction, then ready to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    text: String,
    values: Vec<(&'static str, String)>,
    /// What the server calls it; a name of the server's own without.
    id: Option<String>,
}

impl Statement {
    /// Begins with a constant text.
    pub fn of(text: &'static str) -> Self {
        Self::default().sql(text)
    }

    /// A text written by hand, of a migration or a test: the one way for a text that is not made here. Never of input.
    pub fn raw(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// The SQL with placeholders `{p0:Type}`; no FORMAT clause.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same under an id, which no other has: by that it is found among all that run on the server.
    pub fn with_id(self, id: String) -> Self {
        Self { id: Some(id), ..self }
    }

    /// The id that it was given.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The parameters by name, escaped as ClickHouse reads them (as a field of TabSeparated).
    pub fn params(&self) -> impl Iterator<Item = (String, &str)> {
        self.values.iter().enumerate().map(|(index, (_, value))| (format!("p{index}"), value.as_str()))
    }

    /// Whether a server takes as much text and as many values.
    pub fn fits(&self) -> bool {
        self.values.len() <= MAX_FIELDS && self.text.len() <= MAX_TEXT
    }

    /// Appends a constant part.
    pub fn sql(mut self, part: &'static str) -> Self {
        self.text.push_str(part);
        self
    }

    /// Appends a name.
    pub fn name(mut self, name: &Identifier) -> Self {
        self.text.push_str(name);
        self
    }

    /// Appends a table with its database.
    pub fn table(self, table: &TableName) -> Self {
        self.name(&table.database).sql(".").name(&table.table)
    }

    /// Appends a projection of a table, to be read as if it were one.
    pub fn projection(self, table: &TableName, projection: &'static str) -> Self {
        let to = self.sql("mergeTreeProjection('").name(&table.database).sql("', '").name(&table.table);
        to.sql("', '").sql(projection).sql("')")
    }

    /// Appends a whole number as it is: for statements that take no parameters.
    pub fn digits(mut self, number: impl Into<i128>) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{}", number.into());
        self
    }

    /// Appends a text as a literal: for statements that take no parameters.
    pub fn quoted(mut self, text: &str) -> Self {
        self.text.push_str(&literal(text));
        self
    }

    fn bind(mut self, ty: &'static str, value: String) -> Self {
        let known = self.values.iter().position(|(known, bound)| *known == ty && *bound == value);
        // Writing to a String cannot fail.
        let _ = write!(self.text, "{{p{}:{ty}}}", known.unwrap_or(self.values.len()));
        if known.is_none() {
            self.values.push((ty, value));
        }
        self
    }

    /// Binds the elements of an array, as literals, in as many fields as they need.
    fn array(self, ty: &'static str, literals: impl IntoIterator<Item = String>) -> Self {
        let mut fields = vec![String::from("[")];
        for literal in literals {
            let field = match fields.last_mut() {
                Some(field) if field.len() == 1 || field.len() + literal.len() < MAX_FIELD => field,
                _ => {
                    fields.push(String::from("["));
                    let Some(field) = fields.last_mut() else { continue };
                    field
                }
            };
            if field.len() > 1 {
                field.push(',');
            }
            field.push_str(&literal);
        }
        self.pieces(ty, "arrayConcat(", fields.into_iter().map(|field| field + "]").collect())
    }

    /// Binds a value that is `pieces` put together by `function`.
    fn pieces(mut self, ty: &'static str, function: &'static str, pieces: Vec<String>) -> Self {
        let is_one = pieces.len() == 1;
        if !is_one {
            self = self.sql(function);
        }
        for (index, piece) in pieces.into_iter().enumerate() {
            let to = if index > 0 { self.sql(", ") } else { self };
            self = to.bind(ty, piece);
        }
        if is_one { self } else { self.sql(")") }
    }

    /// Numbers, bound as one array in little space: for arrays of which a literal would take longer to read than to use.
    pub fn packed(self, values: &Packed) -> Self {
        let pieces = values.0.as_bytes().chunks(MAX_FIELD - 4).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        let to = self.sql("(SELECT finalizeAggregation(CAST(base64Decode(").pieces("String", "concat(", pieces);
        to.sql("), 'AggregateFunction(groupArray, UInt64)')))")
    }

    /// Fills in what stands at each `mark` of the text.
    pub fn filled(self, mark: &'static str, fill: impl Fn(Self) -> Self) -> Self {
        let Self { text, values, id } = self;
        let mut parts = text.split(mark);
        let mut filled = Self { text: parts.next().unwrap_or_default().to_owned(), values, id };
        for part in parts {
            filled = fill(filled);
            filled.text.push_str(part);
        }
        filled
    }

    /// Puts what `head` appends before the text.
    pub fn headed(self, head: impl FnOnce(Self) -> Self) -> Self {
        let Self { text, values, id } = self;
        let mut headed = head(Self { text: String::new(), values, id });
        headed.text.push_str(&text);
        headed
    }

    /// A whole number, bound.
    pub fn int(self, value: i64) -> Self {
        self.bind("Int64", value.to_string())
    }

    /// A whole number of more than 64 bits, bound.
    pub fn int128(self, value: i128) -> Self {
        self.bind("Int128", value.to_string())
    }

    /// An unsigned number, bound.
    pub fn uint(self, value: u64) -> Self {
        self.bind("UInt64", value.to_string())
    }

    /// A number of 16 bits, bound: of a partition or a day.
    pub fn uint16(self, value: u16) -> Self {
        self.bind("UInt16", value.to_string())
    }

    /// A number, bound. Not NaN and finite: it came from JSON.
    pub fn float(self, value: f64) -> Self {
        self.bind("Float64", float(value))
    }

    /// A text, bound.
    pub fn string(self, value: &str) -> Self {
        let mut pieces = vec![String::with_capacity(value.len().min(MAX_FIELD) + 2)];
        for character in value.chars() {
            if pieces.last().is_some_and(|piece| piece.len() + 4 > MAX_FIELD) {
                pieces.push(String::new());
            }
            if let Some(piece) = pieces.last_mut() {
                escape(character, piece);
            }
        }
        self.pieces("String", "concat(", pieces)
    }

    /// Texts, bound as one array.
    pub fn strings<'v>(self, values: impl IntoIterator<Item = &'v str>) -> Self {
        let (long, short): (Vec<&str>, Vec<&str>) = values.into_iter().partition(|value| value.len() > MAX_FIELD / 4);
        let literals = short.into_iter().map(literal);
        if long.is_empty() {
            return self.array("Array(String)", literals);
        }
        let to = self.sql("arrayConcat(").array("Array(String)", literals);
        long.into_iter().fold(to, |to, value| to.sql(", [").string(value).sql("]")).sql(")")
    }

    /// Numbers, bound as one array.
    pub fn floats(self, values: impl IntoIterator<Item = f64>) -> Self {
        self.array("Array(Float64)", values.into_iter().map(float))
    }

    /// Whole numbers, bound as one array.
    pub fn ints(self, values: impl IntoIterator<Item = i64>) -> Self {
        self.array("Array(Int64)", values.into_iter().map(|value| value.to_string()))
    }

    /// Unsigned numbers, bound as one array.
    pub fn uints(self, values: impl IntoIterator<Item = u64>) -> Self {
        self.array("Array(UInt64)", values.into_iter().map(|value| value.to_string()))
    }

    /// Unsigned numbers of 32 bits, bound as one array.
    pub fn uints32(self, values: impl IntoIterator<Item = u32>) -> Self {
        self.array("Array(UInt32)", values.into_iter().map(|value| value.to_string()))
    }

    /// Unsigned numbers of 128 bits, bound as one array.
    pub fn uints128(self, values: impl IntoIterator<Item = u128>) -> Self {
        self.array("Array(UInt128)", values.into_iter().map(|value| value.to_string()))
    }

    /// UUIDs, bound as one array.
    pub fn uuids(self, values: impl IntoIterator<Item = [u8; 16]>) -> Self {
        self.array("Array(UUID)", values.into_iter().map(|value| format!("'{}'", uuid::Uuid::from_bytes(value))))
    }
}

/// Numbers as [`Statement::packed`] binds them: the state of `groupArray`, in base64. Eleven bytes a number, and read at the speed of memory.
#[derive(Clone, Debug, Default)]
pub struct Packed(String);

impl Packed {
    /// Of `values`.
    pub fn of(values: impl ExactSizeIterator<Item = u64>) -> Self {
        let mut state = Vec::with_capacity(10 + 8 * values.len());
        wire::put_varint(&mut state, values.len() as u64);
        values.for_each(|value| state.extend_from_slice(&value.to_le_bytes()));
        Self(STANDARD.encode(state))
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// A number as the server reads it; there is one zero.
fn float(value: f64) -> String {
    format!("{:e}", value + 0.0)
}

/// A text in quotes.
fn literal(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    text.chars().for_each(|character| escape(character, &mut literal));
    literal.push('\'');
    literal
}

/// Appends `character` with the escapes that a parameter needs, inside quotes or not.
fn escape(character: char, into: &mut String) {
    match character {
        '\\' => into.push_str("\\\\"),
        '\'' => into.push_str("\\'"),
        '\t' => into.push_str("\\t"),
        '\n' => into.push_str("\\n"),
        '\r' => into.push_str("\\r"),
        '\0' => into.push_str("\\0"),
        other => into.push(other),
    }
}
