//! Which numbers are counts, and which are ratios of counts: what is unusual is judged of both, each by a scale of its own.

use serde_json::{Map, Value};

use super::{ALSO_NONE, COUNTS, math_of, math_of_sessions};
use crate::alert::rule::{Reduce, Rule, short};
use crate::query::QueryError;

impl Rule {
    /// Whether its numbers are ratios of two counts, of which the one below the line is known.
    pub(crate) fn is_ratio(&self) -> bool {
        match self.body.report.as_str() {
            "funnel" | "retention" => true,
            "sessions" => self.watched_of_sessions() == "bounce_rate",
            "trends" => self.is_ratio_of_series().unwrap_or_default(),
            _ => false,
        }
    }

    /// Whether it is a formula such as `A/B` of two series that are counted.
    fn is_ratio_of_series(&self) -> Option<bool> {
        let (above, below) = self.body.question.get("formula")?.as_str()?.split_once('/')?;
        let math = |letter: &str| match letter.trim().as_bytes() {
            [letter @ b'A'..=b'Z'] => self.series().nth(usize::from(letter - b'A')).map(math_of),
            _ => None,
        };
        Some(is_count(math(above)?) && COUNTS.contains(&math(below)?))
    }

    /// Whether how much is behind its numbers is needed, which not every answer says.
    pub(super) fn needs_counts(&self) -> bool {
        self.body.min_count > 0.0 || self.body.reduce == Reduce::Anomaly && self.is_ratio()
    }

    /// Checks that what is unusual about its numbers can be judged.
    ///
    /// # Errors
    /// 400 `invalid_alert` that names what is watched.
    pub(super) fn check_unusual(&self) -> Result<(), QueryError> {
        let is_counted = match self.body.report.as_str() {
            // Those who stay away are below 0.
            "lifecycle" => self.body.line != "dormant",
            "ledger" => true,
            _ => self.absent(false) == Some(0.0),
        };
        if self.body.reduce != Reduce::Anomaly || is_counted || self.is_ratio() {
            return Ok(());
        }
        let formula = self.body.question.get("formula").and_then(Value::as_str);
        let watched = match self.body.report.as_str() {
            "sessions" => self.watched_of_sessions(),
            "lifecycle" => "dormant",
            _ => formula.unwrap_or_else(|| self.watched_series().map_or("total", math_of)),
        };
        let known = "of counts, of a funnel, a retention or a bounce rate, and of a formula such as `A/B` of two counts";
        Err(QueryError::invalid("invalid_alert", format!("reduce: an anomaly is judged {known}, and not of `{}`", short(watched))))
    }

    /// The math of the series of sessions that is watched.
    fn watched_of_sessions(&self) -> &str {
        let is_watched = |series: &&Map<String, Value>| self.body.line.is_empty() || super::name_of_sessions(series) == self.body.line;
        self.series().find(is_watched).map_or("sessions", math_of_sessions)
    }
}

/// Whether a math of trends counts something.
fn is_count(math: &str) -> bool {
    COUNTS.contains(&math) || math.starts_with("unique:") || math != "sum" && ALSO_NONE.contains(&math)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alert::machine::tests::rule;
    use crate::alert::observe::Span;

    fn unusual(report: &str, question: Value, line: &str) -> Rule {
        let more = json!({"interval": "hour", "reduce": "anomaly", "condition": null, "resolve": null});
        let mut body = json!({"report": report, "question": question, "line": line});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule(body)
    }

    fn trends(maths: [&str; 2], formula: Option<&str>) -> Rule {
        let series = maths.map(|math| json!({"event": math, "math": math, "property": "p"}));
        unusual("trends", json!({"series": series, "formula": formula}), "")
    }

    #[test]
    fn what_is_unusual_is_judged_of_counts_and_of_their_ratios_and_others_are_refused_by_name() {
        for (rule, is_ratio) in [
            (trends(["total", "avg"], None), false),
            (trends(["sum", "avg"], None), false),
            (trends(["total", "unique_users"], Some("A+B")), false),
            (trends(["total", "unique_users"], Some("A/B")), true),
            (trends(["unique_sessions", "unique:p"], Some(" B / A ")), true),
            (unusual("funnel", json!({"steps": [{"event": "a"}, {"event": "b"}]}), ""), true),
            (unusual("retention", json!({"return_event": "a"}), ""), true),
            (unusual("sessions", json!({}), ""), false),
            (unusual("sessions", json!({"series": [{}, {"math": "bounce_rate"}]}), "bounce_rate"), true),
            (unusual("lifecycle", json!({}), ""), false),
            (unusual("ledger", json!({}), ""), false),
        ] {
            assert_eq!((rule.is_ratio(), rule.check_unusual().is_ok()), (is_ratio, true), "{:?}", rule.body.question);
        }
        for (rule, named) in [
            (trends(["avg", "total"], None), "`avg`"),
            (trends(["per_user", "total"], None), "`per_user`"),
            (trends(["avg", "total"], Some("A/B")), "`A/B`"),
            (trends(["total", "total"], Some("A/B*100")), "`A/B*100`"),
            (trends(["total", "unique:p"], Some("A/B")), "`A/B`"),
            (unusual("sessions", json!({"series": [{"math": "pages_per_session"}]}), ""), "`pages_per_session`"),
            (unusual("lifecycle", json!({}), "dormant"), "`dormant`"),
        ] {
            let problem = rule.check_question().unwrap_err().message;
            assert!(problem.starts_with("reduce: ") && problem.contains(named), "{problem}");
        }
        assert!(rule(json!({"question": {"series": [{"event": "a", "math": "avg", "property": "p"}]}})).check_question().is_ok());
    }

    #[test]
    fn what_is_below_the_line_of_an_unusual_ratio_is_asked() {
        let span = Span { from_ms: 0, until_ms: 3_600_000 };
        let ratio = trends(["total", "unique_users"], Some("A/B"));
        let below = json!([{"event": "unique_users", "math": "unique_users"}]);
        assert_eq!(ratio.count_question(span).unwrap()["series"], below);
        assert_eq!(trends(["total", "unique_users"], None).count_question(span), None, "a count is its own scale");
    }
}
