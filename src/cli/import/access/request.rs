//! The line of a request, as far as it makes sense, and the escapes that servers write.

use std::borrow::Cow;

use super::words::said;

/// What a request line asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Request<'l> {
    pub(super) method: Option<&'l str>,
    pub(super) path: Option<&'l str>,
    /// With its question mark.
    pub(super) search: Option<&'l str>,
}

impl<'l> Request<'l> {
    /// Of a whole line: method, target, version.
    pub(super) fn of(line: &'l str) -> Self {
        let (method, target) = match line.split_once(' ') {
            Some((method, target)) if is_method(method) => (Some(method), target),
            // Not HTTP: whatever was said stands for the path.
            _ => (None, line),
        };
        let target = match target.rsplit_once(' ') {
            Some((target, version)) if version.starts_with("HTTP/") => target,
            _ => target,
        };
        Self { method, ..Self::of_target(target) }
    }

    /// Of a target alone.
    pub(super) fn of_target(target: &'l str) -> Self {
        let target = without_origin(target);
        let target = target.split_once('#').map_or(target, |(target, _)| target);
        let (path, search) = target.split_at(target.find('?').unwrap_or(target.len()));
        Self { method: None, path: said(path), search: said(search).filter(|search| *search != "?") }
    }
}

fn is_method(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// The path of a target that a proxy's client gives in full.
fn without_origin(target: &str) -> &str {
    let Some((scheme, rest)) = target.split_once("://") else { return target };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return target;
    }
    rest.find(['/', '?', '#']).and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// Undoes what servers do to quotes, backslashes and bytes that do not print.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let (plain, after) = match (byte, after) {
            (b'\\', [b'x', high, low, after @ ..]) if let Some(byte) = hex(*high, *low) => (byte, after),
            (b'\\', [escape, after @ ..]) if let Some(byte) = escape_of(*escape) => (byte, after),
            _ => (*byte, after),
        };
        out.push(plain);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

fn escape_of(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        b'b' => 0x08,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0B,
        _ => return None,
    })
}
