//! What a filter, breakdown or math can name: a column, `session.<name>`, `person.<trait>` or `properties.<name>`.

use serde_json::Value;

use super::canonical::{Canonical, CanonicalForm};
use super::expr::Expr;
use super::fields::shortened;
use super::session_columns::{self, Shape};
use crate::query::error::{QueryError, nearest};
use crate::store::schema::{self, COLUMNS, Column, Source};

/// Longest property name that can be asked for, in bytes.
const MAX_NAME: usize = 512;

/// Something an event has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Text under this SQL expression; empty means missing.
    Text(&'static str),
    /// A whole number under this column; 0 means missing.
    Number(&'static str),
    /// A number under this SQL expression, which is always there.
    Measure(&'static str),
    /// A claim under this SQL expression, which is always there.
    Claim(&'static str),
    /// A property by its (dotted) name.
    Property(String),
    /// A trait of the person by its (dotted) name.
    Trait(String),
}

/// Whether a column holds numbers that questions can measure.
const fn is_number(column: &Column) -> bool {
    matches!(column.source, Source::Number(_))
}

impl Field {
    /// The field called `name` on the wire.
    ///
    /// # Errors
    /// 400 `invalid_field` (naming the nearest) or `invalid_property`.
    pub(crate) fn parse(name: &str) -> Result<Self, QueryError> {
        if let Some(property) = name.strip_prefix("properties.") {
            return Self::property(property);
        }
        if let Some(column) = name.strip_prefix("session.") {
            return Self::of_session(column);
        }
        if let Some(name) = name.strip_prefix(TRAIT_PREFIX) {
            return bounded(name, "invalid_trait", "the name of a trait").map(Self::Trait);
        }
        if let Some(column) = schema::queried(name)
            && let Some(queried) = column.queried
        {
            return Ok(if is_number(column) { Self::Number(queried.sql) } else { Self::Text(queried.sql) });
        }
        let hint = nearest(name, COLUMNS.iter().flat_map(Column::names));
        let name = shortened(name);
        Err(QueryError::invalid("invalid_field", format!("unknown field `{name}`, did you mean `{hint}` or `properties.{name}`?")))
    }

    /// The number that a math works on: `properties.<name>`, `person.<trait>`, a numeric column, a number of the session, or the bare name of
    /// a property.
    pub(crate) fn measured(name: &str) -> Result<Self, QueryError> {
        let is_prefixed = ["properties.", "session.", TRAIT_PREFIX].iter().any(|prefix| name.starts_with(prefix));
        if !is_prefixed && schema::queried(name).is_none() {
            return Self::property(name);
        }
        match Self::parse(name)? {
            Self::Text(_) | Self::Claim(_) => {
                let name = shortened(name);
                let message = format!("`property`: `{name}` is no number; the property of that name is `properties.{name}`");
                Err(QueryError::invalid("invalid_property", message))
            }
            measured => Ok(measured),
        }
    }

    /// The field of that name, or the column of sessions that is called so.
    pub(crate) fn parse_of_sessions(name: &str) -> Result<Self, QueryError> {
        Self::of_session(name).or_else(|_| Self::parse(name))
    }

    fn of_session(name: &str) -> Result<Self, QueryError> {
        let (sql, shape) = session_columns::named(name)?;
        Ok(match shape {
            Shape::Text => Self::Text(sql),
            Shape::Number | Shape::Time => Self::Measure(sql),
            Shape::Claim => Self::Claim(sql),
        })
    }

    fn property(name: &str) -> Result<Self, QueryError> {
        bounded(name, "invalid_property", "a property name").map(Self::Property)
    }

    /// Where the values of a name are, which may be of any kind; none of a column.
    pub(crate) fn values(&self) -> Option<Values<'_>> {
        match self {
            Self::Property(name) => Some(Values::Property(name)),
            Self::Trait(name) => Some(Values::Trait(name)),
            _ => None,
        }
    }

    /// Whether it is of the session of an event.
    pub(crate) fn is_of_session(&self) -> bool {
        match self {
            Self::Text(sql) | Self::Number(sql) | Self::Measure(sql) | Self::Claim(sql) => sql.starts_with(session_columns::PREFIX),
            _ => false,
        }
    }

    /// Whether it is of the person of an event.
    pub(crate) fn is_trait(&self) -> bool {
        matches!(self, Self::Trait(_))
    }

    /// The value as a key: its [`Kind`] as a letter, and the value as text.
    pub(crate) fn key(&self) -> Expr {
        match self {
            Self::Text(sql) => Expr::call("if", [self.is_missing(), Kind::Missing.key(), Kind::Text.tag((*sql).into())]),
            Self::Number(sql) => {
                let number = Expr::call("toString", [(*sql).into()]);
                Expr::call("if", [self.is_missing(), Kind::Missing.key(), Kind::Number.tag(number)])
            }
            Self::Measure(sql) => Kind::Number.tag(Expr::call("toString", [(*sql).into()])),
            Self::Claim(sql) => Expr::call("if", [(*sql).into(), "'otrue'".into(), "'ofalse'".into()]),
            Self::Trait(name) => Expr::call("if", [self.is_missing(), Kind::Missing.key(), trait_key(name)]),
            Self::Property(name) => {
                // Adding zero makes one of the two.
                let number = Expr::call("toString", [NUMBERS_MAP.value(name).then(" + 0")]);
                let json = OTHERS_MAP.value(name);
                Expr::call(
                    "multiIf",
                    [
                        STRINGS_MAP.has(name),
                        Kind::Text.tag(STRINGS_MAP.value(name)),
                        NUMBERS_MAP.has(name),
                        Kind::Number.tag(number),
                        json.clone().then(" NOT IN ('', 'null')"),
                        Kind::Json.tag(json),
                        Kind::Missing.key(),
                    ],
                )
            }
        }
    }

    /// The condition that the value is missing or null.
    pub(crate) fn is_missing(&self) -> Expr {
        match self {
            Self::Text(sql) => Expr::from(*sql).then(" = ''"),
            Self::Number(sql) => Expr::from(*sql).then(" = 0"),
            Self::Measure(_) | Self::Claim(_) => "0".into(),
            Self::Property(name) => Expr::all([
                Expr::from("NOT ").then(STRINGS_MAP.has(name)),
                Expr::from("NOT ").then(NUMBERS_MAP.has(name)),
                OTHERS_MAP.value(name).then(" IN ('', 'null')"),
            ]),
            Self::Trait(name) => trait_key(name).then(" = ''"),
        }
    }

    /// The value as a float; meaningful where [`Field::has_number`] holds.
    pub(crate) fn number(&self) -> Expr {
        match self {
            Self::Text(sql) => Expr::call("toFloat64OrZero", [(*sql).into()]),
            Self::Number(sql) | Self::Measure(sql) => (*sql).into(),
            Self::Claim(_) => "0".into(),
            Self::Trait(name) => Values::Trait(name).number(),
            Self::Property(name) => {
                let digits = Expr::call("toFloat64OrZero", [OTHERS_MAP.value(name)]);
                Expr::call("if", [NUMBERS_MAP.has(name), NUMBERS_MAP.value(name), digits])
            }
        }
    }

    /// The condition that there is a number.
    pub(crate) fn has_number(&self) -> Expr {
        match self {
            Self::Text(_) | Self::Claim(_) => "0".into(),
            Self::Number(sql) => Expr::from(*sql).then(" != 0"),
            Self::Measure(_) => "1".into(),
            Self::Trait(name) => Expr::call("match", [trait_key(name), "'^(n|o[-0-9])'".into()]),
            Self::Property(name) => {
                let digits = Expr::call("match", [OTHERS_MAP.value(name), "'^[-0-9]'".into()]);
                Expr::any([NUMBERS_MAP.has(name), digits]).grouped()
            }
        }
    }
}

impl Canonical for Field {
    fn canonical(&self, to: &mut CanonicalForm) {
        match self {
            // Aliases are one field.
            Self::Text(sql) => to.field("text", *sql),
            Self::Number(sql) | Self::Measure(sql) => to.field("number", *sql),
            Self::Claim(sql) => to.field("claim", *sql),
            Self::Property(name) => to.field("property", name),
            Self::Trait(name) => to.field("trait", name),
        };
    }
}

/// The columns that can be named, each with its kind.
pub(crate) fn columns() -> impl Iterator<Item = (&'static str, &'static str)> {
    let queried = COLUMNS.iter().filter(|column| column.queried.is_some());
    queried.map(|column| (column.name, if is_number(column) { "number" } else { "string" }))
}

/// Begins the names of traits in questions.
const TRAIT_PREFIX: &str = "person.";

/// Whether a request asks for traits: then the `identify` events of all times matter.
pub(crate) fn names_traits(request: &Value) -> bool {
    match request {
        Value::String(text) => session_columns::named_field(text).starts_with(TRAIT_PREFIX),
        Value::Array(values) => values.iter().any(names_traits),
        Value::Object(members) => members.values().any(names_traits),
        _ => false,
    }
}

fn bounded(name: &str, code: &'static str, what: &str) -> Result<String, QueryError> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(QueryError::invalid(code, format!("{what} has 1 to {MAX_NAME} bytes")));
    }
    Ok(name.to_owned())
}

/// The traits that a statement names, by name: key, as [`Field::key`] makes it, and number. A statement that has it in its text needs
/// the traits.
pub(super) const TRAITS: &str = "of_person_traits";
/// What stands before the name of one.
pub(super) const TRAITS_OF: &str = "of_person_traits[";

/// A trait as a key; empty where there is none.
fn trait_key(name: &str) -> Expr {
    Expr::from(TRAITS_OF).then(Expr::text(name)).then("].1")
}

/// The values of one name, by kind.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    /// A property of the event.
    Property(&'a str),
    /// A trait of the person.
    Trait(&'a str),
}

impl Values<'_> {
    /// Whether there is a text.
    pub(crate) fn has_text(self) -> Expr {
        match self {
            Self::Property(name) => STRINGS_MAP.has(name),
            Self::Trait(name) => is_trait(Kind::Text, name),
        }
    }

    /// The text; empty where there is none.
    pub(crate) fn text(self) -> Expr {
        match self {
            Self::Property(name) => STRINGS_MAP.value(name),
            Self::Trait(name) => trait_text(Kind::Text, name),
        }
    }

    /// Whether there is a number that a float holds.
    pub(crate) fn has_number(self) -> Expr {
        match self {
            Self::Property(name) => NUMBERS_MAP.has(name),
            Self::Trait(name) => is_trait(Kind::Number, name),
        }
    }

    /// The number; meaningful where there is one.
    pub(crate) fn number(self) -> Expr {
        match self {
            Self::Property(name) => NUMBERS_MAP.value(name),
            Self::Trait(name) => Expr::from(TRAITS_OF).then(Expr::text(name)).then("].2"),
        }
    }

    /// Any other value, as JSON text; empty where there is none.
    pub(crate) fn json(self) -> Expr {
        match self {
            Self::Property(name) => OTHERS_MAP.value(name),
            Self::Trait(name) => trait_text(Kind::Json, name),
        }
    }
}

/// Whether a trait is of a kind.
fn is_trait(kind: Kind, name: &str) -> Expr {
    Expr::call("startsWith", [trait_key(name), kind.key()])
}

/// A trait of a kind as text; empty if it is of another.
fn trait_text(kind: Kind, name: &str) -> Expr {
    Expr::call("if", [is_trait(kind, name), Expr::call("substring", [trait_key(name), "2".into()]), "''".into()])
}

/// A map of properties of one kind.
#[derive(Clone, Copy)]
struct MapColumn(&'static str, &'static str);

/// Properties that are texts.
const STRINGS_MAP: MapColumn = MapColumn("strings", "strings[");
/// Properties that are numbers which a float holds.
const NUMBERS_MAP: MapColumn = MapColumn("numbers", "numbers[");
/// All other properties, as JSON text.
const OTHERS_MAP: MapColumn = MapColumn("others", "others[");

impl MapColumn {
    /// Whether there is a property of this name.
    fn has(self, name: &str) -> Expr {
        Expr::call("mapContains", [self.0.into(), Expr::text(name)])
    }

    /// The property of this name; that of a missing one is empty or zero.
    fn value(self, name: &str) -> Expr {
        Expr::from(self.1).then(Expr::text(name)).then("]")
    }
}

/// The kind of a value in a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    /// Kept as JSON text: a boolean, an array, an object, or a number that a float cannot hold.
    Json,
    /// Missing or null.
    Missing,
}

impl Kind {
    /// The letter as an SQL literal.
    const fn literal(self) -> &'static str {
        match self {
            Self::Text => "'s'",
            Self::Number => "'n'",
            Self::Json => "'o'",
            Self::Missing => "'z'",
        }
    }

    /// The letter.
    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::Text => "s",
            Self::Number => "n",
            Self::Json => "o",
            Self::Missing => "z",
        }
    }

    /// The key of a kind that has no values.
    pub(crate) fn key(self) -> Expr {
        self.literal().into()
    }

    /// The key of `value`, a text of this kind.
    pub(crate) fn tag(self, value: Expr) -> Expr {
        Expr::call("concat", [self.key(), value])
    }

    /// Kind and value of a key.
    pub(crate) fn split(key: &str) -> Option<(Self, &str)> {
        let (letter, value) = key.split_at_checked(1)?;
        let kind = [Self::Text, Self::Number, Self::Json, Self::Missing].into_iter().find(|kind| kind.letter() == letter)?;
        Some((kind, value))
    }
}
