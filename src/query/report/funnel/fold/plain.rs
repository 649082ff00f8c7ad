//! Steps one after the other in the histories that nearly all people have: no two events of a millisecond, and a funnel that leaves out
//! nothing, excludes nothing and holds nothing. What [`super::ordered`] finds of them takes two passes here, and no memory but the chain.

use super::{Event, Funnel, Journey, Link, MOST_STEPS, Order, steps_of};

/// Whether a history is one of these.
pub(super) fn is_plain(funnel: &Funnel, events: &[Event]) -> bool {
    let is_next = |pair: &[Event]| pair.first().zip(pair.last()).is_some_and(|(one, next)| one.at_ms < next.at_ms && one.held == next.held);
    funnel.order == Order::Ordered && funnel.optional == 0 && funnel.exclusions.is_empty() && events.windows(2).all(is_next)
}

/// How far it comes.
pub(super) fn journey(funnel: &Funnel, events: &[Event]) -> Option<Journey> {
    let reached = reached(funnel, events);
    let depth = reached.checked_ilog2()? as usize;
    Some(Journey { reached, shown: shown(funnel, events, depth) })
}

fn begins(funnel: &Funnel, event: &Event) -> bool {
    event.steps & 1 != 0 && funnel.entries.contains(&event.at_ms)
}

/// The steps that are reached. To each step the chain that begins last is enough: whatever another one reaches in its window it does, too.
fn reached(funnel: &Funnel, events: &[Event]) -> u32 {
    let mut begun_ms = [None; MOST_STEPS];
    let mut reached = 0;
    for event in events {
        // From the last step on: no step is reached from one that the same event has just filled.
        for step in steps_of(event.steps) {
            let before = match step.checked_sub(1) {
                None => begins(funnel, event).then_some(event.at_ms),
                Some(before) => begun_ms.get(before).copied().flatten().filter(|begun_ms| event.at_ms - begun_ms <= funnel.window_ms),
            };
            if let (Some(begun), Some(_)) = (begun_ms.get_mut(step), before) {
                *begun = before;
                reached |= 1 << step;
            }
        }
    }
    reached
}

/// The chain to `depth`, which some chain reaches: from the first beginning that can end in time on, each step as early as it may be.
fn shown(funnel: &Funnel, events: &[Event], depth: usize) -> Vec<Link> {
    let mut chain = Vec::with_capacity(depth + 1);
    let begin = first_beginning(funnel, events, depth);
    for (number, event) in events.iter().enumerate().skip(begin) {
        let step = chain.len();
        if event.steps & (1 << step) != 0 {
            chain.push(Link { step, event: number });
            if step == depth {
                break;
            }
        }
    }
    chain
}

/// The number of the first event with which a chain to `depth` can begin. From the end on: the event that follows is the one with which
/// the rest of the chain is over soonest.
fn first_beginning(funnel: &Funnel, events: &[Event], depth: usize) -> usize {
    let mut over_ms = [None; MOST_STEPS];
    let mut begin = events.len();
    for (number, event) in events.iter().enumerate().rev() {
        // From the first step on: an event is not followed by itself.
        let mut left = event.steps & (u32::MAX >> (31 - depth));
        while left != 0 {
            let step = left.trailing_zeros() as usize;
            left &= left - 1;
            let rest_ms = if step == depth { Some(event.at_ms) } else { over_ms.get(step + 1).copied().flatten() };
            let Some(rest_ms) = rest_ms else { continue };
            if let Some(over) = over_ms.get_mut(step) {
                *over = Some(rest_ms);
            }
            if step == 0 && begins(funnel, event) && rest_ms - event.at_ms <= funnel.window_ms {
                begin = number;
            }
        }
    }
    begin
}
