//! CSV that spreadsheets open: what they would take for a formula is a text there.

/// How a formula begins, to one spreadsheet or another.
const FORMULA: [u8; 6] = [b'=', b'+', b'-', b'@', b'\t', b'\r'];

/// The CSV of a server, in which texts stand in quotes and numbers do not, with an apostrophe before each text that would be a formula.
pub(super) fn without_formulas(csv: &[u8]) -> Vec<u8> {
    let mut safe = Vec::with_capacity(csv.len() + csv.len() / 64);
    let (mut is_quoted, mut begins) = (false, true);
    for (at, byte) in csv.iter().enumerate() {
        safe.push(*byte);
        match byte {
            // A quote within a text is doubled, which ends the text and begins it again.
            b'"' => {
                is_quoted = !is_quoted;
                if begins && csv.get(at + 1).is_some_and(|first| FORMULA.contains(first)) {
                    safe.push(b'\'');
                }
                begins = false;
            }
            b',' | b'\n' if !is_quoted => begins = true,
            _ => begins = false,
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_would_be_a_formula_is_a_text_and_all_else_stays() {
        for (csv, safe) in [
            ("\"=HYPERLINK(\"\"https://a.example\"\")\"\n", "\"'=HYPERLINK(\"\"https://a.example\"\")\"\n"),
            ("\"name\",\"-x\"\n\"+1\",-1\n-2,\"@a\"\n", "\"name\",\"'-x\"\n\"'+1\",-1\n-2,\"'@a\"\n"),
            ("\"a,\"\"=b\"\"\n=c\",\"\",\\N\n", "\"a,\"\"=b\"\"\n=c\",\"\",\\N\n"),
            ("\"\"\"=a\"\"\"\n", "\"\"\"=a\"\"\"\n"),
            ("\"\tx\",\"\rx\"", "\"'\tx\",\"'\rx\""),
            ("", ""),
        ] {
            assert_eq!(String::from_utf8(without_formulas(csv.as_bytes())).unwrap(), safe, "{csv}");
        }
    }
}
