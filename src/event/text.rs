//! Text within bounds.

/// The longest prefix of `text` within `max` bytes that ends between characters.
pub fn clip(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}
