//! The text of a statement that somebody wrote, before it is sent.
//!
//! Which rows a statement can read is no matter of its text: its user has no right but to read the views, and each view shows the project
//! of the question alone. Here is refused what no right of a user covers: a setting of a subquery, which the server takes whatever the
//! profile says; functions that say something of the server or read its files, which the embedded one lets everybody do; and functions of
//! which one call takes hours. So only functions of a list may be called (`names`), and nothing that the tokens of this file and
//! those of the server could differ in is let through: what is sent is written anew from the tokens, without comments.

mod names;

use std::borrow::Cow;

use self::names::{
    COMBINATORS, FUNCTIONS, NO_CALLS, OF_A_TYPE, OF_AN_AGGREGATE, OF_COLUMNS, OF_SERVER, OF_STATES, OF_VIEW, REFUSED, TYPES, TypeArgument,
    UNLISTED, WITHHELD, WITHHELD_AS,
};

use crate::query::ask::fields::shortened;
use crate::query::error::QueryError;

/// Longest statement, bytes.
const MAX_BYTES: usize = 100_000;

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
    check_types(&spoken)?;
    for (at, token) in spoken.iter().enumerate() {
        let is_called = spoken.get(at + 1) == Some(&&Token::Sign('('));
        let is_database = spoken.get(at + 1) == Some(&&Token::Sign('.'));
        match token {
            // Some of its tables are for everybody.
            Token::Word(word) | Token::Quoted(word, _) if is_database && OF_SERVER.contains(&word.to_lowercase().as_str()) => {
                return Err(not_allowed(&format!("`{}` is not for statements of questions", shortened(word))));
            }
            Token::Word(word) | Token::Quoted(word, _) if is_called && OF_AN_AGGREGATE.contains(&word.to_lowercase().as_str()) => {
                check_aggregate(spoken.get(at + 2..).unwrap_or_default())?;
            }
            Token::Word(word) | Token::Quoted(word, _) if needs_table(word) && !is_called && !is_name(&spoken[..at]) => {
                let message = format!(
                    "`{}` alone is a function, or something of the server, that is not for statements of questions: a column of that name needs its table before it",
                    shortened(word)
                );
                return Err(not_allowed(&message));
            }
            Token::Word(word) => check_word(word, is_called, false)?,
            Token::Quoted(word, _) => check_word(word, is_called, true)?,
            // A type may stand in a text: `CAST(x, 'AggregateFunction(…)')`.
            Token::Text(text) if unescaped(text).to_lowercase().contains(OF_STATES) => {
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

/// Checks what names types in texts. Such an argument is literals as they are meant: of what is put together, named elsewhere or escaped the
/// server alone knows what it says.
fn check_types(spoken: &[&Token<'_>]) -> Result<(), QueryError> {
    /// What is open at a token: of calls of [`OF_A_TYPE`] which argument counts, the number of the current one and where it begins.
    struct Open {
        place: Option<TypeArgument>,
        number: usize,
        begins: usize,
    }
    let mut open: Vec<Open> = Vec::new();
    for (at, token) in spoken.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => {
                let called = at.checked_sub(1).and_then(|before| spoken.get(before));
                let place = called.filter(|_| **token == Token::Sign('(')).and_then(|called| called.names_type_in());
                open.push(Open { place, number: 0, begins: at + 1 });
            }
            Token::Sign(sign @ (',' | ')' | ']' | '}')) => {
                let Some(call) = open.last_mut() else { continue };
                let argument = &spoken[call.begins..at];
                let is_plain = || argument.iter().all(|token| token.is_plain());
                let is_fine = match call.place {
                    Some(TypeArgument::First) if call.number == 0 => is_plain() && begins_values(argument),
                    Some(TypeArgument::Second) if call.number == 1 => is_plain(),
                    Some(TypeArgument::Last) if call.number > 0 && *sign != ',' => is_plain(),
                    _ => true,
                };
                if !is_fine {
                    return Err(not_allowed(
                        "a type, and the first argument of `values`, is plain: no calls, names or escapes, and of columns types alone",
                    ));
                }
                (call.number, call.begins) = (call.number + 1, at + 1);
                if *sign != ',' {
                    open.pop();
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the server finds in the first argument of `values`, whose tokens are plain, a value, or columns with nothing but their types: it
/// takes defaults too, which are expressions, and calls in them what no statement may call.
fn begins_values(argument: &[&Token<'_>]) -> bool {
    let mut argument = argument;
    while let [Token::Sign('('), within @ .., Token::Sign(')')] = argument {
        argument = within;
    }
    match argument {
        [Token::Text(text)] => meant(text).is_some_and(|text| is_word(&text) || are_columns(&text)),
        // What is selected from a list may be a text again.
        several => !several.windows(2).any(|two| matches!(two, [Token::Text(_) | Token::Sign(')' | ']'), Token::Sign('.' | '[')])),
    }
}

/// Whether a text is too little for columns.
fn is_word(text: &str) -> bool {
    text.chars().all(|character| character.is_alphanumeric() || "-_.:+@".contains(character))
}

/// Whether a text is columns with their types: `a String, b Array(Int8)`.
fn are_columns(text: &str) -> bool {
    let Ok(tokens) = tokens(text) else { return false };
    let spoken: Vec<&Token<'_>> = tokens.iter().filter(|token| !matches!(token, Token::Gap(_))).collect();
    let has_parameters = |word: &str| TYPES.contains(&word) || OF_COLUMNS.contains(&word);
    let is_type = |token: &Token<'_>| matches!(token, Token::Word(word) if has_parameters(&word.to_lowercase()));
    let calls = spoken.windows(2).any(|two| matches!(two, [before, Token::Sign('(')] if !is_type(before)));
    let mut depth = 0_usize;
    let columns = spoken.split(|token| {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && **token == Token::Sign(',')
    });
    !calls && columns.into_iter().all(is_column)
}

/// A name and a type, which may have parameters in one pair of parentheses.
fn is_column(tokens: &[&Token<'_>]) -> bool {
    let parameters = match tokens {
        [Token::Word(_) | Token::Quoted(..), Token::Word(_)] => return true,
        [Token::Word(_) | Token::Quoted(..), Token::Word(_), Token::Sign('('), parameters @ .., Token::Sign(')')] => parameters,
        _ => return false,
    };
    let mut open = 1_usize;
    parameters.iter().all(|token| {
        match token {
            Token::Sign('(') => open += 1,
            Token::Sign(')') => open = open.saturating_sub(1),
            _ => {}
        }
        open > 0
    })
}

/// What a text says in which only quotes are escaped, as those within a type are.
fn meant(written: &str) -> Option<String> {
    let meant = written.replace("\\'", "'");
    (!meant.contains('\\')).then_some(meant)
}

/// Whether a word that stands alone may be another thing than a column: something of the server or the view, or a function that another one calls.
fn needs_table(word: &str) -> bool {
    let lower = word.to_lowercase();
    let lower = lower.as_str();
    OF_VIEW.contains(&lower) || UNLISTED.contains(lower)
}

/// Whether a word behind these tokens is the name of a column, or given to one: `AS user`, `people.user`.
fn is_name(before: &[&Token<'_>]) -> bool {
    match before.last() {
        Some(Token::Word(word)) => word.eq_ignore_ascii_case("as"),
        Some(token) => **token == Token::Sign('.'),
        None => false,
    }
}

/// What the server takes a text for that is written so. Where it keeps a backslash, or makes one character of two, there is the second alone:
/// neither is part of a name.
fn unescaped(written: &str) -> String {
    let (mut meant, mut rest) = (String::new(), written);
    while let Some((plain, escaped)) = rest.split_once('\\') {
        meant.push_str(plain);
        let mut characters = escaped.chars();
        match characters.next() {
            Some('x') => {
                let byte = escaped.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                meant.extend(byte.map(char::from));
                characters = escaped.get(3..).unwrap_or_default().chars();
            }
            // To the server nothing at all.
            Some('N') | None => {}
            Some(other) => meant.push(other),
        }
        rest = characters.as_str();
    }
    meant + rest
}

/// Checks the first argument of a call whose arguments `of_call` begins with: an aggregate that may be called, as one text, with or without
/// parameters. Those are literals: the server computes what else stands there.
fn check_aggregate(of_call: &[&Token<'_>]) -> Result<(), QueryError> {
    let text = match of_call {
        [Token::Text(text), Token::Sign(','), ..] => meant(text),
        _ => None,
    };
    match text.is_some_and(|text| is_aggregate(&text)) {
        true => Ok(()),
        false => Err(not_allowed("an aggregate is one text that names one which a statement may call, with literals as parameters")),
    }
}

fn is_aggregate(text: &str) -> bool {
    let Ok(tokens) = tokens(text) else { return false };
    let mut spoken = tokens.iter().filter(|token| !matches!(token, Token::Gap(_)));
    matches!(spoken.next(), Some(Token::Word(name)) if is_function(&name.to_lowercase())) && spoken.all(Token::is_plain)
}

fn check_word(word: &str, is_called: bool, is_quoted: bool) -> Result<(), QueryError> {
    let lower = word.to_lowercase();
    let lower = lower.as_str();
    // In quotes also within another type: `x."Array(AggregateFunction(…))"` is a part of a value of many types.
    if lower.contains(OF_STATES) {
        return Err(not_allowed("states of aggregates are not for statements of questions"));
    }
    if is_called {
        let calls_nothing = !is_quoted && (NO_CALLS.contains(&lower) || TYPES.contains(&lower));
        if calls_nothing || is_function(lower) {
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
    /// Which argument names a type, if this is called.
    fn names_type_in(&self) -> Option<TypeArgument> {
        let (Self::Word(word) | Self::Quoted(word, _)) = self else { return None };
        OF_A_TYPE.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, place)| *place)
    }

    /// Whether it says what it is, as a part of literals.
    fn is_plain(&self) -> bool {
        match self {
            Self::Text(text) => meant(text).is_some(),
            Self::Word(word) => ["null", "true", "false"].iter().any(|plain| plain.eq_ignore_ascii_case(word)),
            Self::Sign(sign) => "()[],.-".contains(*sign),
            Self::Number(_) => true,
            Self::Gap(_) | Self::Quoted(..) => false,
        }
    }

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
                let escaped = characters.next().map(|(_, escaped)| escaped);
                written.extend(escaped);
                // Of other digits the server makes characters of its own.
                let is_byte = rest.get(at + 2..at + 4).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
                if escaped == Some('x') && !is_byte {
                    return Err(invalid("in a text `\\x` stands before two hexadecimal digits"));
                }
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
