//! What a text would cost to parse, found without parsing it.
//!
//! Promises: of a text that [`is_bounded`] no parser makes more than [`MAX_NODES`] nodes and [`MAX_TOKENS`] marks, some 10 MB; a few
//! kilobytes of compressed commas would otherwise become hundreds of megabytes. Texts below a size need no look, and that is nearly
//! every request.

/// Most values and keys of a text that is parsed in one piece: what a thousand events of a hundred and more properties have.
pub(super) const MAX_NODES: usize = 256 << 10;
/// Most brackets, commas, colons, strings and other words: a text that is no JSON may have these without a value.
const MAX_TOKENS: usize = 4 * MAX_NODES;
/// Deepest nesting that is looked into, also only to refuse it. The splitting parser remembers a byte for each level.
pub(super) const MAX_DEPTH: usize = 1 << 20;

/// Whether a text has at most [`MAX_NODES`] values and keys, and [`MAX_TOKENS`] tokens.
pub(super) fn is_bounded(text: &[u8]) -> bool {
    // A node takes two bytes at the least, itself and what parts it from the next.
    if text.len() / 2 < MAX_NODES || marks(text) < MAX_NODES {
        return true;
    }
    let shape = Shape::of(text);
    shape.nodes <= MAX_NODES && shape.tokens <= MAX_TOKENS
}

/// Whether a text nests at most [`MAX_DEPTH`] deep.
pub(super) fn is_shallow(text: &[u8]) -> bool {
    text.len() <= MAX_DEPTH || Shape::of(text).depth <= MAX_DEPTH
}

/// Bytes that are a token or end one, those inside of strings too: never fewer than half of the tokens. Fast, because it looks at each
/// byte by itself.
fn marks(text: &[u8]) -> usize {
    let is_mark = |byte: &u8| matches!(byte, b'[' | b'{' | b']' | b'}' | b',' | b':' | b'"' | b'\0'..=b' ');
    let of_chunk = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(is_mark(byte))).sum::<u8>();
    text.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(of_chunk(chunk))).sum()
}

/// How many nodes and tokens a text has at most, and how deep it nests.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    nodes: usize,
    tokens: usize,
    depth: usize,
}

impl Shape {
    fn of(text: &[u8]) -> Self {
        let (mut nodes, mut tokens, mut depth, mut deepest) = (1, 0, 0_usize, 0);
        let (mut is_text, mut is_escaped, mut is_word) = (false, false, false);
        for byte in text {
            let was_word = std::mem::take(&mut is_word);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_text => is_escaped = true,
                b'"' => {
                    tokens += usize::from(!is_text);
                    is_text = !is_text;
                }
                _ if is_text => {}
                b'[' | b'{' => {
                    nodes += 1;
                    tokens += 1;
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                b']' | b'}' => {
                    tokens += 1;
                    depth = depth.saturating_sub(1);
                }
                b',' | b':' => {
                    nodes += 1;
                    tokens += 1;
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => {
                    tokens += usize::from(!was_word);
                    is_word = true;
                }
            }
        }
        Self { nodes, tokens, depth: deepest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn nodes(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(nodes).sum::<usize>(),
            Value::Object(members) => 1 + members.values().map(|value| 1 + nodes(value)).sum::<usize>(),
            _ => 1,
        }
    }

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(values) => 1 + values.iter().map(depth).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<i32>().prop_map(Value::from), "[\\[\\]{},:\"\\\\a]{0,6}".prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[a,:\"]{0,3}", inner, 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_shape_is_never_smaller_than_what_is_parsed(value in json()) {
            let text = value.to_string();
            let shape = Shape::of(text.as_bytes());
            prop_assert_eq!(shape.depth, depth(&value));
            // An empty list has no first value to begin.
            prop_assert!(shape.nodes >= nodes(&value) && shape.nodes <= 2 * nodes(&value), "{} of {}", shape.nodes, nodes(&value));
            prop_assert!(2 * marks(text.as_bytes()) + 1 >= shape.tokens && shape.tokens >= nodes(&value));
            prop_assert!(text.len() / 2 + 1 >= nodes(&value));
        }
    }

    #[test]
    fn words_and_strings_without_a_comma_between_them_are_tokens() {
        let tokens = |text: &str| Shape::of(text.as_bytes()).tokens;
        assert_eq!((tokens("x\nx true"), tokens(r#""""a""\"""#), tokens("[1, -2.5e3]"), tokens("")), (3, 3, 5, 0));
        assert!(!is_bounded("x\n".repeat(MAX_TOKENS + 1).as_bytes()));
        assert!(!is_bounded("\"\"".repeat(MAX_TOKENS + 1).as_bytes()));
    }

    #[test]
    fn commas_within_a_text_are_no_nodes() {
        assert!(is_bounded(format!("[\"{}\"]", ",".repeat(4 * MAX_NODES)).as_bytes()));
        assert!(!is_bounded(format!("[1{}]", ",1".repeat(MAX_NODES)).as_bytes()));
    }
}
