//! The tiles of a board, for those who tell its numbers elsewhere than on the screen.

use serde_json::{Map, Value};

use super::Queries;
use super::boards::BOARD;
use super::error::QueryError;
use crate::event::ids::ProjectId;
use crate::store::tables::saved::Saved;

impl Queries {
    /// The tiles of a board.
    ///
    /// # Errors
    /// 404 `unknown_board`; the store is away.
    pub(crate) async fn board_tiles(&self, project: ProjectId, name: &str) -> Result<Vec<BoardTile>, QueryError> {
        saved_tiles(&self.0.saved.get(&BOARD, project, name).await?)
    }
}

/// A tile of a board that was saved.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BoardTile {
    /// Its title, or the name of its report.
    pub(crate) title: String,
    pub(crate) report: String,
    pub(crate) question: Map<String, Value>,
}

/// The tiles of a board as it was saved.
fn saved_tiles(saved: &Saved) -> Result<Vec<BoardTile>, QueryError> {
    let board: Value = serde_json::from_str(&saved.body).map_err(|_| QueryError::internal("the board cannot be read"))?;
    let tile = |tile: &Value| {
        let text = |key: &str| tile.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let (report, question) = (text("report")?, tile.get("question")?.as_object()?.clone());
        Some(BoardTile { title: text("title").unwrap_or_else(|| report.clone()), report, question })
    };
    Ok(board.get("tiles").and_then(Value::as_array).into_iter().flatten().filter_map(tile).collect())
}
