//! Whose rules are asked about next: projects in turn, so that none waits for all rules of another.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::alert::catalogue::RuleKey;

/// Which projects are asked about, and which had the last turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Questions that run, by project.
    running: HashMap<u64, usize>,
    /// The last turn of a project.
    last: HashMap<u64, u64>,
    turn: u64,
}

impl Turns {
    /// What is due in the order in which it is to be asked about: of each project one, those first whose turn is longest ago, and of a project
    /// first what has waited longest.
    pub(super) fn order<T: Ord>(&self, mut due: Vec<(T, RuleKey)>) -> VecDeque<(T, RuleKey)> {
        due.sort_unstable();
        let mut of_projects: BTreeMap<u64, VecDeque<(T, RuleKey)>> = BTreeMap::new();
        for (since, key) in due {
            of_projects.entry(key.project).or_default().push_back((since, key));
        }
        let mut projects: Vec<(u64, VecDeque<(T, RuleKey)>)> =
            of_projects.into_iter().map(|(project, due)| (self.last.get(&project).copied().unwrap_or_default(), due)).collect();
        projects.sort_by(|(a_last, a), (b_last, b)| a_last.cmp(b_last).then_with(|| a.front().cmp(&b.front())));
        let mut ordered = VecDeque::new();
        while !projects.is_empty() {
            ordered.extend(projects.iter_mut().filter_map(|(_, due)| due.pop_front()));
            projects.retain(|(_, due)| !due.is_empty());
        }
        ordered
    }

    /// How many questions of a project run.
    pub(super) fn running(&self, project: u64) -> usize {
        self.running.get(&project).copied().unwrap_or_default()
    }

    /// Takes note that a question of a project runs.
    pub(super) fn begin(&mut self, project: u64) {
        self.turn += 1;
        self.last.insert(project, self.turn);
        *self.running.entry(project).or_default() += 1;
    }

    /// Takes note that one has ended.
    pub(super) fn end(&mut self, project: u64) {
        match self.running(project) {
            0 | 1 => self.running.remove(&project),
            more => self.running.insert(project, more - 1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(project: u64, rules: std::ops::Range<i64>) -> Vec<(i64, RuleKey)> {
        rules.map(|since| (since, RuleKey { project, id: format!("{since:04}") })).collect()
    }

    #[test]
    fn a_project_with_many_rules_that_are_long_due_keeps_none_of_another_waiting() {
        let mut turns = Turns::default();
        // A thousand that nobody can answer and that are the oldest ever again, and one each of others that are younger.
        let all = || [due(1, 0..1_000), due(2, 5_000..5_001), due(3, 6_000..6_002), due(4, 7_000..7_001)].concat();
        let next = |turns: &mut Turns| {
            let project = turns.order(all()).pop_front().unwrap().1.project;
            turns.begin(project);
            turns.end(project);
            project
        };
        let asked: Vec<u64> = (0..8).map(|_| next(&mut turns)).collect();
        assert_eq!(asked, [1, 2, 3, 4, 1, 2, 3, 4]);
        let order = turns.order(all());
        assert_eq!(order.iter().take(6).map(|(since, _)| *since).collect::<Vec<_>>(), [0, 5_000, 6_000, 7_000, 1, 6_001]);
        assert_eq!(order.len(), 1_004);
        turns.begin(1);
        turns.begin(1);
        turns.end(1);
        assert_eq!((turns.running(1), turns.running(2)), (1, 0));
    }
}
