//! Boards: questions that are looked at together.
//!
//! A board is a title and up to [`MOST_TILES`] tiles, each a question as its report takes it: one that its report would refuse is refused
//! when the board is saved, with the tile and the field. How a tile is drawn (`view`, `width`) is for the page to say and is kept as it is.

use serde_json::{Value, json};

use super::ask::Fields;
use super::error::QueryError;
use super::saved::Kind;
use crate::store::tables::saved::{Saved, Title};

/// A title and tiles under a name.
pub(super) const BOARD: Kind =
    Kind { word: "board", invalid: "invalid_board", unknown: "unknown_board", too_many: "too_many_boards", most: 200, most_names: 2_000 };
/// Longest board, bytes.
pub(super) const MAX_BOARD: usize = 256 << 10;
const MOST_TILES: usize = 50;
/// Longest title, and longest description, bytes.
const MAX_TITLE: usize = 200;
const MAX_DESCRIPTION: usize = 2_000;
/// Longest `view`, bytes of JSON: it may hold an address that a short link stood for.
const MAX_VIEW: usize = 20_000;
/// Columns of the widest tile.
const MAX_WIDTH: u64 = 12;

/// A tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tile<'a> {
    pub(super) report: &'a str,
    pub(super) question: &'a Value,
}

/// The tiles of a board; whether their reports take the questions is not looked at.
///
/// # Errors
/// 400 `invalid_board`, `unknown_key` with the place.
pub(super) fn tiles(board: &Value) -> Result<Vec<Tile<'_>>, QueryError> {
    let fields = Fields::open(board, &["title", "description", "tiles"])?;
    text(fields, "title", MAX_TITLE)?.ok_or_else(|| invalid("`title` is missing".to_owned()))?;
    text(fields, "description", MAX_DESCRIPTION)?;
    let tiles = fields.list("tiles", BOARD.invalid)?;
    if tiles.len() > MOST_TILES {
        return Err(invalid(format!("`tiles` has {} tiles: at most {MOST_TILES}", tiles.len())));
    }
    tiles.iter().enumerate().map(|(index, tile)| Tile::parse(tile).map_err(|problem| problem.within(&place(index)))).collect()
}

/// Where the tile at `index` stands.
pub(super) fn place(index: usize) -> String {
    format!("tiles[{index}]")
}

impl<'a> Tile<'a> {
    fn parse(tile: &'a Value) -> Result<Self, QueryError> {
        let fields = Fields::open(tile, &["title", "report", "question", "view", "width"])?;
        text(fields, "title", MAX_TITLE)?;
        let report = fields.text("report", BOARD.invalid)?.ok_or_else(|| invalid("`report` is missing".to_owned()))?;
        let question = fields.value("question").filter(|question| question.is_object());
        let question = question.ok_or_else(|| invalid("`question` must be the request of the report, an object".to_owned()))?;
        let is_view = |view: &Value| (view.is_string() || view.is_object()) && view.to_string().len() <= MAX_VIEW;
        if !fields.value("view").is_none_or(is_view) {
            return Err(invalid(format!("`view` must be a text or an object of at most {MAX_VIEW} bytes")));
        }
        let is_width = |width: &Value| width.as_u64().is_some_and(|width| (1..=MAX_WIDTH).contains(&width));
        if !fields.value("width").is_none_or(is_width) {
            return Err(invalid(format!("`width` must be a whole number from 1 to {MAX_WIDTH}")));
        }
        Ok(Self { report, question })
    }
}

fn text<'a>(fields: Fields<'a>, key: &str, most: usize) -> Result<Option<&'a str>, QueryError> {
    match fields.text(key, BOARD.invalid)? {
        Some(text) if text.len() > most => Err(invalid(format!("`{key}` has {} bytes: at most {most}", text.len()))),
        text => Ok(text),
    }
}

fn invalid(message: String) -> QueryError {
    QueryError::invalid(BOARD.invalid, message)
}

/// A board as it is shown.
///
/// # Errors
/// It was not written by this program.
pub(super) fn shown(saved: &Saved) -> Result<Value, QueryError> {
    let board: Value = serde_json::from_str(&saved.body).map_err(|_| QueryError::internal("the board cannot be read"))?;
    let part = |key: &str| board.get(key).cloned().unwrap_or_default();
    let tiles = board.get("tiles").cloned().unwrap_or_else(|| json!([]));
    Ok(json!({
        "id": saved.name, "version": saved.version, "title": part("title"), "description": part("description"), "tiles": tiles,
        "file": saved.file(), "by": saved.writer(),
    }))
}

/// A line of the list of all boards.
pub(super) fn listed(Title { name, version, title, file, writer }: &Title) -> Value {
    let [file, writer] = [file, writer].map(|text| Some(text).filter(|text| !text.is_empty()));
    json!({"id": name, "version": version, "title": title, "file": file, "by": writer})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(board: &Value) -> (&'static str, String) {
        let problem = tiles(board).unwrap_err();
        (problem.code, problem.message)
    }

    fn with(tile: Value) -> Value {
        json!({"title": "Shop", "tiles": [{"report": "trends", "question": {}}, tile]})
    }

    #[test]
    fn what_is_no_board_is_refused_with_its_place() {
        let good = json!({"title": "Shop", "description": null, "tiles": [{"title": "a", "report": "trends", "question": {}, "view": {"a": 1}, "width": 12}]});
        assert_eq!(tiles(&good).unwrap().len(), 1);
        assert_eq!(tiles(&json!({"title": ""})).unwrap().len(), 0);
        let many = json!({"title": "Shop", "tiles": vec![json!({"report": "trends", "question": {}}); MOST_TILES + 1]});
        let cases = [
            (json!([]), "invalid_request", "JSON object"),
            (json!({"tiles": []}), "invalid_board", "`title`"),
            (json!({"title": "x".repeat(201)}), "invalid_board", "`title`"),
            (json!({"title": "Shop", "owner": "eve"}), "unknown_key", "`owner`"),
            (json!({"title": "Shop", "project_id": 7}), "unknown_key", "`project_id`"),
            (many, "invalid_board", "51 tiles"),
            (with(json!({"report": "trends"})), "invalid_board", "tiles[1]: `question`"),
            (with(json!({"report": "trends", "question": [], })), "invalid_board", "tiles[1]: `question`"),
            (with(json!({"question": {}})), "invalid_board", "tiles[1]: `report`"),
            (with(json!({"report": "trends", "question": {}, "width": 13})), "invalid_board", "tiles[1]: `width`"),
            (with(json!({"report": "trends", "question": {}, "view": 7})), "invalid_board", "tiles[1]: `view`"),
            (with(json!({"report": "trends", "question": {}, "view": "x".repeat(20_000)})), "invalid_board", "tiles[1]: `view`"),
            (with(json!({"report": "trends", "question": {}, "sql": "x"})), "unknown_key", "tiles[1]: unknown key `sql`"),
            (with(json!(7)), "invalid_request", "tiles[1]"),
        ];
        for (board, code, part) in cases {
            let (found, message) = refused(&board);
            assert!(found == code && message.contains(part), "{board}: {found} {message}");
        }
    }
}
