use proptest::prelude::*;

use super::*;

fn question(project: u64, key: u64, from_ms: i64) -> Question {
    let visitor = Visitor { project: ProjectId(project), key: VisitorKey(key) };
    Question { visitor, revised_from_ms: from_ms, from_ms, to_ms: from_ms + 1_000, anew: None }
}

proptest! {
    /// Each question is in one statement, with none whose past is much longer, and without another one of its key.
    #[test]
    fn one_old_event_lengthens_the_past_of_few(asked in prop::collection::vec((1_u64..3, 0_u64..20, 10_i64..1_000), 0..80)) {
        let questions: Vec<Question> = asked.iter().map(|(project, key, day)| question(*project, *key, *day * DAY_MS)).collect();
        let statements = statements(&questions);
        prop_assert_eq!(statements.iter().map(Vec::len).sum::<usize>(), questions.len());
        let newest = questions.iter().map(|question| question.from_ms).max().unwrap_or_default();
        for statement in statements {
            let keys: HashSet<VisitorKey> = statement.iter().map(|question| question.visitor.key).collect();
            prop_assert_eq!(keys.len(), statement.len());
            let ages: Vec<i64> = statement.iter().map(|question| (newest - question.from_ms) / DAY_MS).collect();
            let (least, most) = (ages.iter().min().copied().unwrap_or(0), ages.iter().max().copied().unwrap_or(0));
            prop_assert!(least > 1 || most <= 2, "those of today are asked back to {} days ago", most);
            prop_assert!(least > 7 || most <= 8, "those of this week are asked back to {} days ago", most);
        }
    }
}

#[test]
fn sessions_are_recalled_for_an_idle_gap_or_for_as_many_events_as_are_read() {
    let (hour, week) = (3_600_000, 7 * DAY_MS);
    assert_eq!(wider(hour, week, 100), Some(2 * hour));
    assert_eq!(wider(100 * hour, week, 100), Some(week));
    assert_eq!(wider(week, week, 100), None);
    assert_eq!(wider(hour, week, RECALLED_EVENTS / 2), None);
}
