//! The text of a statement that somebody wrote, before it is sent.
//!
//! Which rows a statement can read is no matter of its text: its user has no right but to read the views, and each view shows the project
//! of the question alone. Here is refused what no right of a user covers: a setting of a subquery, which the server takes whatever the
//! profile says; functions that say something of the server or read its files, which the embedded one lets everybody do; and functions of
//! which one call takes hours. So only functions of a list may be called ([`FUNCTIONS`]), and nothing that the tokens of this file and
//! those of the server could differ in is let through: what is sent is written anew from the tokens, without comments.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use crate::query::ask::fields::shortened;
use crate::query::error::QueryError;

/// Longest statement, bytes.
const MAX_BYTES: usize = 100_000;

/// Functions that may be called, in lower case: of those of release 26.7 that compute a value from their arguments, and the aggregates.
static FUNCTIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| include_str!("functions.txt").lines().collect());

/// Words in front of a parenthesis that call nothing: of the language, and of types.
const NO_CALLS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "between",
    "bool",
    "by",
    "case",
    "columns",
    "cross",
    "cube",
    "date",
    "date32",
    "datetime",
    "datetime64",
    "decimal",
    "decimal128",
    "decimal256",
    "decimal32",
    "decimal64",
    "desc",
    "distinct",
    "div",
    "dynamic",
    "else",
    "enum",
    "enum16",
    "enum8",
    "except",
    "exists",
    "filter",
    "fixedstring",
    "from",
    "full",
    "global",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "interval",
    "join",
    "json",
    "left",
    "like",
    "limit",
    "lowcardinality",
    "map",
    "materialized",
    "mod",
    "not",
    "nullable",
    "numeric",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "prewhere",
    "qualify",
    "replace",
    "right",
    "rollup",
    "select",
    "sets",
    "string",
    "then",
    "tuple",
    "union",
    "using",
    "variant",
    "when",
    "where",
    "with",
    "xor",
];

/// What may stand behind the name of an aggregate, in lower case. None that makes a state, for a file of Arrow would hold where it is in
/// memory, and none that takes one; nor does any function of the list.
const COMBINATORS: [&str; 11] =
    ["if", "array", "map", "distinct", "ordefault", "ornull", "foreach", "resample", "argmin", "argmax", "null"];

/// Words of the language that a question has no use for.
const REFUSED: &[&str] = &["apply", "describe", "explain", "infile", "into", "outfile", "parallel", "settings", "show", "truncate"];

/// Functions whose very name is refused, for a function that takes another one takes it by its name; and so what begins with [`WITHHELD_AS`].
const WITHHELD: &[&str] = &[
    "addresstoline",
    "addresstolinewithinlines",
    "addresstosymbol",
    "catboostevaluate",
    "decrypt",
    "demangle",
    "encrypt",
    "errorcodetoname",
    "evalmlmethod",
    "file",
    "fuzzquery",
    "hascolumnintable",
    "hmac",
    "initializeaggregation",
    "logtrace",
    "sleep",
    "sleepeachrow",
    "showcertificate",
    "structuretocapnprotoschema",
    "structuretoprotobufschema",
    "trydecrypt",
    "normalizequery",
    "obfuscatequery",
    "globalvariable",
    "getmacro",
];
/// Beginnings of names of functions.
const WITHHELD_AS: &[&str] = &[
    "__",
    "aes_",
    "aiclassify",
    "aiembed",
    "aiextract",
    "aigenerate",
    "aitranslate",
    "dictget",
    "dicthas",
    "dictis",
    "filesystem",
    "formatquery",
    "getclient",
    "getmergetree",
    "getserver",
    "getsetting",
    "joinget",
    "mergetree",
    "regionto",
];

/// The type of states of aggregates: one that is made of bytes makes the server read whatever they say.
const OF_STATES: &str = "aggregatefunction";

/// Functions whose second argument may name a type in a text.
const TO_A_TYPE: [&str; 6] = ["cast", "accuratecast", "accuratecastornull", "accuratecastordefault", "dynamicelement", "variantelement"];

/// Functions whose first argument names an aggregate in a text.
const OF_AN_AGGREGATE: [&str; 2] = ["arrayreduce", "arrayreduceinranges"];

/// Databases of the server itself.
const OF_SERVER: [&str; 2] = ["system", "information_schema"];

/// A part of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'t> {
    /// Blanks, or a comment.
    Gap(&'t str),
    /// A word as it is.
    Word(&'t str),
    /// A word in quotes, without them.
    Quoted(&'t str, char),
    /// A text, as it is written.
    Text(String),
    Number(&'t str),
    Sign(char),
}

/// The statement as it is sent.
///
/// # Errors
/// 400 `invalid_sql`, 403 `sql_not_allowed`.
pub(super) fn checked(sql: &str) -> Result<String, QueryError> {
    if sql.len() > MAX_BYTES {
        return Err(invalid(format!("`sql` has {} bytes: at most {MAX_BYTES}", sql.len())));
    }
    let mut tokens = tokens(sql)?;
    while matches!(tokens.last(), Some(Token::Gap(_) | Token::Sign(';'))) {
        tokens.pop();
    }
    if tokens.contains(&Token::Sign(';')) {
        return Err(invalid("`sql` holds more than one statement"));
    }
    let spoken: Vec<&Token<'_>> = tokens.iter().filter(|token| !matches!(token, Token::Gap(_))).collect();
    let begins = spoken.iter().find(|token| ***token != Token::Sign('('));
    if !matches!(begins, Some(Token::Word(word)) if word.eq_ignore_ascii_case("select") || word.eq_ignore_ascii_case("with")) {
        return Err(not_allowed("a statement begins with SELECT or WITH"));
    }
    for (at, token) in spoken.iter().enumerate() {
        let is_called = spoken.get(at + 1) == Some(&&Token::Sign('('));
        let is_database = spoken.get(at + 1) == Some(&&Token::Sign('.'));
        match token {
            // Some of its tables are for everybody.
            Token::Word(word) | Token::Quoted(word, _) if is_database && OF_SERVER.contains(&word.to_lowercase().as_str()) => {
                return Err(not_allowed(&format!("`{}` is not for statements of questions", shortened(word))));
            }
            Token::Word(word) | Token::Quoted(word, _) if is_called && TO_A_TYPE.contains(&word.to_lowercase().as_str()) => {
                check_type(spoken.get(at + 2..).unwrap_or_default())?;
                check_word(word, is_called, matches!(token, Token::Quoted(..)))?;
            }
            Token::Word(word) | Token::Quoted(word, _) if is_called && OF_AN_AGGREGATE.contains(&word.to_lowercase().as_str()) => {
                check_aggregate(spoken.get(at + 2..).unwrap_or_default())?;
            }
            Token::Word(word) => check_word(word, is_called, false)?,
            Token::Quoted(word, _) => check_word(word, is_called, true)?,
            // A type may stand in a text: `CAST(x, 'AggregateFunction(…)')`.
            Token::Text(text) if text.to_lowercase().contains(OF_STATES) => {
                return Err(not_allowed("states of aggregates are not for statements of questions"));
            }
            _ => {}
        }
    }
    Ok(tokens.iter().map(Token::written).collect())
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::invalid("invalid_sql", message)
}

fn not_allowed(message: &str) -> QueryError {
    QueryError::forbidden("sql_not_allowed", message)
}

/// Checks the second argument, if there is one, of a call whose arguments `of_call` begins with: a type is one text as it is meant, for what
/// is put together or escaped is known to the server alone.
fn check_type(of_call: &[&Token<'_>]) -> Result<(), QueryError> {
    let mut depth = 0_usize;
    for (at, token) in of_call.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') if depth == 0 => return Ok(()),
            Token::Sign(')' | ']' | '}') => depth -= 1,
            Token::Sign(',') if depth == 0 => {
                let is_plain = matches!(of_call.get(at + 1), Some(Token::Text(text)) if !text.contains('\\'));
                let is_all = matches!(of_call.get(at + 2), Some(Token::Sign(',' | ')')));
                return if is_plain && is_all { Ok(()) } else { Err(not_allowed("a type is one text without escapes")) };
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the first argument of a call whose arguments `of_call` begins with: an aggregate that may be called, as one text, with or without
/// parameters.
fn check_aggregate(of_call: &[&Token<'_>]) -> Result<(), QueryError> {
    let name = match of_call {
        [Token::Text(text), Token::Sign(','), ..] => text.split('(').next().map(|name| name.trim().to_lowercase()),
        _ => None,
    };
    match name.is_some_and(|name| is_function(&name)) {
        true => Ok(()),
        false => Err(not_allowed("an aggregate is one text that names one which a statement may call")),
    }
}

fn check_word(word: &str, is_called: bool, is_quoted: bool) -> Result<(), QueryError> {
    let lower = word.to_lowercase();
    let lower = lower.as_str();
    if lower.ends_with(OF_STATES) {
        return Err(not_allowed("states of aggregates are not for statements of questions"));
    }
    if is_called {
        if (!is_quoted && NO_CALLS.contains(&lower)) || is_function(lower) {
            return Ok(());
        }
        return Err(not_allowed(&format!("`{}` is no function that a statement may call", shortened(word))));
    }
    // `format` is a function too.
    let is_of_language = !is_quoted && (lower == "format" || REFUSED.contains(&lower));
    if is_of_language || WITHHELD.contains(&lower) || WITHHELD_AS.iter().any(|name| lower.starts_with(name)) {
        return Err(not_allowed(&format!("`{}` is not for statements of questions", shortened(word))));
    }
    Ok(())
}

/// Whether a function may be called; `name` is in lower case.
fn is_function(name: &str) -> bool {
    let mut name = name;
    loop {
        if FUNCTIONS.contains(name) {
            return true;
        }
        let Some(rest) = COMBINATORS.iter().find_map(|ending| name.strip_suffix(ending)) else { return false };
        name = rest;
    }
}

impl Token<'_> {
    fn written(&self) -> Cow<'_, str> {
        match self {
            Self::Gap(text) | Self::Word(text) | Self::Number(text) => (*text).into(),
            Self::Quoted(text, quote) => format!("{quote}{text}{quote}").into(),
            Self::Text(text) => format!("'{text}'").into(),
            Self::Sign(sign) => sign.to_string().into(),
        }
    }
}

fn tokens(sql: &str) -> Result<Vec<Token<'_>>, QueryError> {
    let (mut found, mut rest) = (Vec::new(), sql);
    while let Some(first) = rest.chars().next() {
        let (token, after) = token(first, rest)?;
        // Two parts that touch would not be two for the server.
        let is_part = |token: &Token<'_>| matches!(token, Token::Word(_) | Token::Quoted(..) | Token::Text(_) | Token::Number(_));
        if is_part(&token) && found.last().is_some_and(is_part) {
            return Err(invalid(format!("a blank is missing in front of `{}`", shortened(rest))));
        }
        found.push(token);
        rest = after;
    }
    Ok(found)
}

/// The token at the beginning of `rest`, and what follows.
fn token(first: char, rest: &str) -> Result<(Token<'_>, &str), QueryError> {
    let split = |is_in: fn(char) -> bool| rest.split_at(rest.find(|c| !is_in(c)).unwrap_or(rest.len()));
    if rest.starts_with("--") {
        return Ok((Token::Gap(" "), rest.find('\n').map_or("", |end| &rest[end..])));
    }
    if let Some(comment) = rest.strip_prefix("/*") {
        let (_, after) = comment.split_once("*/").ok_or_else(|| invalid("a comment does not end"))?;
        return Ok((Token::Gap(" "), after));
    }
    match first {
        ' ' | '\t' | '\n' | '\r' => {
            let (gap, after) = split(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            Ok((Token::Gap(gap), after))
        }
        '\'' => text(&rest[1..]),
        '"' | '`' => {
            let (word, after) = rest[1..].split_once(first).ok_or_else(|| invalid("a name in quotes does not end"))?;
            if word.is_empty() || word.contains(|c: char| c == '\\' || c.is_control()) || after.starts_with(first) {
                return Err(invalid("a name in quotes has neither quotes nor backslashes in it"));
            }
            Ok((Token::Quoted(word, first), after))
        }
        _ if first.is_ascii_digit() => {
            let (number, after) = split(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_number(number) {
                Ok((Token::Number(number), after))
            } else {
                Err(invalid(format!("`{}` is no number", shortened(number))))
            }
        }
        _ if first.is_ascii_alphabetic() || first == '_' => {
            let (word, after) = split(|c| c.is_ascii_alphanumeric() || c == '_');
            Ok((Token::Word(word), after))
        }
        _ if "()[]{}?,.;:+-*/%=<>!|".contains(first) => Ok((Token::Sign(first), &rest[1..])),
        _ => Err(invalid(format!("`{}` stands outside of quotes", first.escape_default()))),
    }
}

/// A text behind its first quote. In what is sent no quote of it stands without a backslash.
fn text(rest: &str) -> Result<(Token<'_>, &str), QueryError> {
    let mut written = String::new();
    let mut characters = rest.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                written.push(character);
                written.extend(characters.next().map(|(_, escaped)| escaped));
            }
            '\'' if characters.next_if(|(_, next)| *next == '\'').is_some() => written.push_str("\\'"),
            '\'' => return Ok((Token::Text(written), &rest[at + 1..])),
            '\0' => return Err(invalid("a text has a zero byte in it")),
            other => written.push(other),
        }
    }
    Err(invalid("a text does not end"))
}

/// Whether a word that begins with a digit is a number, or the part of one in front of its dot or sign.
fn is_number(word: &str) -> bool {
    let all = |digits: &str, is_digit: fn(char) -> bool| !digits.is_empty() && digits.chars().all(|c| is_digit(c) || c == '_');
    if let Some(digits) = word.strip_prefix("0x") {
        return all(digits, |c| c.is_ascii_hexdigit());
    }
    if let Some(digits) = word.strip_prefix("0b") {
        return all(digits, |c| matches!(c, '0' | '1'));
    }
    let (digits, exponent) = word.split_once(['e', 'E']).unwrap_or((word, "0"));
    all(digits, |c| c.is_ascii_digit()) && (exponent.is_empty() || all(exponent, |c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
