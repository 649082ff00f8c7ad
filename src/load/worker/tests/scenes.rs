//! One thing at a time that goes wrong.

use super::*;

/// A log whose records are all in the table and committed, and what was sent in it.
async fn loaded_world(seed: u64) -> (World, HashSet<EventKey>) {
    let (world, sent) = World::new(seed, None);
    world.with(|state| state.is_stormy = false);
    let (owner, _) = begin(&world);
    tokio::time::sleep(Duration::from_secs(60)).await;
    owner.abort();
    assert_eq!(world.with(|state| state.highest()), Some(RAW_RECORDS - 1));
    (world, sent)
}

#[test]
fn a_table_that_has_less_than_was_committed_is_filled_although_nothing_follows() {
    for seed in 0..20 {
        simulated(async {
            let (world, sent) = loaded_world(seed).await;
            // Restored to an earlier state, or empty.
            let kept = world.with(|state| state.dice.below(RAW_RECORDS as u64) as i64);
            world.with(|state| state.rows.retain(|(offset, ..)| *offset < kept));
            let (owner, _) = begin(&world);
            tokio::time::sleep(Duration::from_secs(60)).await;
            owner.abort();
            let stored: Vec<EventKey> = world.with(|state| state.rows.iter().filter_map(|(_, key, _)| *key).collect());
            assert_eq!(stored.len(), sent.len(), "seed {seed}, {kept} records kept");
            assert_eq!(stored.into_iter().collect::<HashSet<_>>(), sent, "seed {seed}, {kept} records kept");
        });
    }
}

#[test]
fn the_fence_is_taken_once_however_often_the_past_cannot_be_read_unless_somebody_else_takes_it() {
    for is_lost in [false, true] {
        simulated(async {
            let (world, sent) = World::new(1, None);
            world.with(|state| (state.is_stormy, state.unread) = (false, 200));
            let (owner, _) = begin(&world);
            tokio::time::sleep(Duration::from_secs(30)).await;
            let (taken, unread) = world.with(|state| (state.generation, state.unread));
            assert!(taken == 1 && (1..190).contains(&unread), "{taken} fences, {unread}");
            if is_lost {
                world.with(|state| state.generation += 1);
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
            owner.abort();
            let (taken, unread, rows) = world.with(|state| (state.generation, state.unread, state.rows.clone()));
            assert_eq!((taken, unread), (if is_lost { 3 } else { 1 }, 0));
            assert_eq!(rows.iter().filter_map(|(_, key, _)| *key).collect::<HashSet<_>>(), sent);
        });
    }
}

#[test]
fn who_waits_at_a_gap_looks_without_taking_the_fence() {
    simulated(async {
        let (world, _) = World::new(1, None);
        let missing = 30;
        world.with(|state| {
            state.is_stormy = false;
            state.log.retain(|record| record::header(&record.payload).unwrap().origin.unwrap().offset != missing);
            for (offset, record) in state.log.iter_mut().enumerate() {
                record.offset = offset as i64;
            }
        });
        let (owner, _) = begin(&world);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let (taken, looks) = world.with(|state| (state.generation, state.looks));
        assert_eq!(taken, 1);
        assert!(looks > 60, "{looks} looks in ten minutes");
        assert_eq!(world.with(|state| state.highest()), Some(missing - 1));

        // A replay fills it.
        world.with(|state| state.rows.push((missing, None, SessionId([0; 16]))));
        tokio::time::sleep(Duration::from_secs(60)).await;
        owner.abort();
        assert_eq!(world.with(|state| state.highest()), Some(RAW_RECORDS - 1));
    });
}

#[test]
fn a_block_that_is_refused_is_sent_again_without_taking_the_fence() {
    // Fenced although nobody has taken the fence: because of another block of its group.
    for refusal in [TableError::Refused("too many parts".to_owned()), TableError::Fenced] {
        simulated(async {
            let (world, _) = World::new(1, None);
            world.with(|state| (state.is_stormy, state.refusal) = (false, Some(refusal)));
            let (owner, _) = begin(&world);
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert_eq!(world.with(|state| state.generation), 1);
            world.with(|state| state.refusal = Some(TableError::Later("the connection was reset".to_owned())));
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(world.with(|state| state.generation) > 1);
            world.with(|state| state.refusal = None);
            tokio::time::sleep(Duration::from_secs(60)).await;
            owner.abort();
            assert_eq!(world.with(|state| state.highest()), Some(RAW_RECORDS - 1));
        });
    }
}

#[test]
fn a_worker_ends_when_its_partition_is_taken_away_also_while_the_table_is_away() {
    for silent in [Silent::Fence, Silent::Find, Silent::Insert] {
        simulated(async {
            let (world, _) = World::new(1, None);
            world.with(|state| (state.is_stormy, state.silent) = (false, Some(silent)));
            let (owner, revoked) = begin(&world);
            tokio::time::sleep(Duration::from_secs(100)).await;
            assert!(!owner.is_finished());
            revoked.cancel();
            tokio::time::timeout(Duration::from_secs(10), owner).await.expect("it lives on").unwrap().unwrap();
        });
    }
}

#[test]
fn a_block_that_the_server_has_no_memory_for_is_cut_and_later_ones_grow_again() {
    const MOST: usize = 14;
    simulated(async {
        let (world, sent) = World::new(1, None);
        // One record with what is said beside its events fits, a block as they are here does not.
        world.with(|state| (state.is_stormy, state.most_rows) = (false, MOST));
        let (owner, _) = begin(&world);
        tokio::time::sleep(Duration::from_secs(600)).await;
        owner.abort();
        let stored: Vec<EventKey> = world.with(|state| state.rows.iter().filter_map(|(_, key, _)| *key).collect());
        assert_eq!(stored.len(), sent.len());
        assert_eq!(stored.into_iter().collect::<HashSet<_>>(), sent);
        let sent_rows = world.with(|state| state.sent_rows.clone());
        let refused: Vec<usize> = sent_rows.iter().enumerate().filter(|(_, rows)| **rows > MOST).map(|(at, _)| at).collect();
        assert!(refused.windows(2).any(|pair| pair[1] > pair[0] + 1), "it never tries more again: {sent_rows:?}");
    });
}

#[test]
fn one_record_that_the_server_has_no_memory_for_waits_for_it() {
    simulated(async {
        let (world, sent) = World::new(1, None);
        world.with(|state| (state.is_stormy, state.most_rows) = (false, 0));
        let (owner, _) = begin(&world);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let taken = world.with(|state| state.generation);
        assert!(taken < 10, "the fence was taken {taken} times");
        world.with(|state| state.most_rows = usize::MAX);
        tokio::time::sleep(Duration::from_secs(60)).await;
        owner.abort();
        assert_eq!(world.with(|state| state.rows.iter().filter(|(_, key, _)| key.is_some()).count()), sent.len());
    });
}
