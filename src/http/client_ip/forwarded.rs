//! The header `Forwarded` of RFC 7239.

/// What one proxy says: parameters with `;` between them.
pub(super) struct Hop<'v>(&'v str);

/// The hops of a value, the last one first. A value that ends within quotes is one hop that says nothing: a client may have opened them, so that
/// what its proxy has appended seems to be a part of what the client says.
pub(super) fn hops(value: &str) -> impl Iterator<Item = Hop<'_>> {
    let mut hops = split(value, b',').unwrap_or_else(|| vec![""]);
    hops.reverse();
    hops.into_iter().map(Hop)
}

impl Hop<'_> {
    /// The value of a parameter, without its quotes; `None` if there is none, several, or one that cannot be read.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let pairs = split(self.0, b';')?.into_iter().filter_map(|pair| pair.split_once('='));
        let mut values = pairs.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        let Some(quoted) = value.strip_prefix('"') else { return (!value.contains('"')).then(|| value.to_owned()) };
        let inner = quoted.strip_suffix('"')?;
        // An address needs no escape.
        (!inner.contains(['"', '\\'])).then(|| inner.to_owned())
    }
}

/// The parts between separators that are in no quotes; `None` if these do not end.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut begin, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ if byte == separator && !is_quoted => {
                parts.extend(text.get(begin..at));
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(begin..));
    (!is_quoted).then_some(parts)
}
