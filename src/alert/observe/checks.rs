//! Whether the question of a rule can be asked.

use super::Source;
use crate::alert::rule::{Rule, short};
use crate::query::{QueryError, check_question};

impl Rule {
    /// Checks what a question is beside the report's own rules.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn check_question(&self) -> Result<(), QueryError> {
        let known: &[&str] = match self.source() {
            Source::Report => return self.check_line().and_then(|()| self.check_unusual()),
            Source::Ledger => &["outcome"],
            Source::Lag => &[],
            Source::Board => &["board"],
        };
        if self.source() == Source::Board && self.board().is_empty() {
            return Err(QueryError::invalid("invalid_alert", "question: `board` must be the name of the board"));
        }
        let outcomes = ["received", "stored", "duplicate", "filtered", "rejected", "dead", "waiting"];
        let outcome = self.body.question.get("outcome").map(|outcome| outcome.as_str().unwrap_or_default());
        if let Some(key) = self.body.question.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(QueryError::invalid("invalid_alert", format!("question: unknown key `{}`", short(key))));
        }
        match outcome.filter(|outcome| !outcomes.contains(outcome)) {
            Some(wrong) => {
                Err(QueryError::invalid("invalid_alert", format!("question.outcome: `{}` is none of {outcomes:?}", short(wrong))))
            }
            None => Ok(()),
        }
    }

    /// Checks all of its question that can be checked without a store.
    ///
    /// # Errors
    /// What [`Self::check_question`] and the report refuse.
    pub(crate) fn check_asked(&self, now_ms: i64) -> Result<(), QueryError> {
        self.check_question()?;
        if self.source() != Source::Report {
            return Ok(());
        }
        let question = self.question(self.newest_span(now_ms));
        check_question(&self.body.report, question, now_ms)
            .map_err(|problem| QueryError { message: format!("question: {}", problem.message), ..problem })
    }

    /// A line that no series has would never have a number.
    fn check_line(&self) -> Result<(), QueryError> {
        let line = self.body.line.as_str();
        match self.names_of_lines().filter(|names| !line.is_empty() && !names.contains(&line)) {
            Some(names) => {
                let names: Vec<String> = names.into_iter().take(10).map(short).collect();
                Err(QueryError::invalid("invalid_alert", format!("line: `{}` is none of the series: {}", short(line), names.join(", "))))
            }
            None => Ok(()),
        }
    }
}
