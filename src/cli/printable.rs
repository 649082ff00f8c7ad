//! Text of others for the terminal.

/// `text` with what would command the terminal, or turn the direction of what follows, as escapes.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match letter.is_control() || turns {
            true => out.extend(letter.escape_unicode()),
            false => out.push(letter),
        }
    }
    out
}

/// The same of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stay_and_commands_are_shown() {
        assert_eq!(printable("Müller's \"a\\b\" \u{1f600}"), "Müller's \"a\\b\" \u{1f600}");
        assert_eq!(printable("\u{1b}[2J\n\u{9b}1m\u{202e}x"), r"\u{1b}[2J\u{a}\u{9b}1m\u{202e}x");
        assert_eq!(printable_lines("column `\u{1b}[2J`\nis given twice"), "column `\\u{1b}[2J`\nis given twice");
    }
}
