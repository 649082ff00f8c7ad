use super::*;
use crate::clickhouse::ClickHouseConfig;

fn store() -> ClickHouse {
    let config = ClickHouseConfig { url: "http://localhost:1".into(), ..ClickHouseConfig::default() };
    ClickHouse::new(&config.check().unwrap())
}

fn names(tables: Vec<TableName>) -> Vec<String> {
    tables.iter().map(TableName::to_string).collect()
}

#[test]
fn what_is_noted_stands_for_tables() {
    let store = store();
    assert_eq!(names(tables_of("0001_fence.sql", &store)), ["pulse.fence"]);
    assert_eq!(
        names(tables_of(DISTRIBUTED, &store)),
        ["pulse_all.events", "pulse_all.dead_letters", "pulse_all.identities", "pulse_all.saved", "pulse_all.alert_states"]
    );
    assert!(tables_of("0000_of_a_newer_pulse.sql", &store).is_empty());
}

#[test]
fn a_note_stands_while_its_tables_are_there_and_until_it_is_withdrawn() {
    let (store, there) = (store(), ["pulse.fence".to_owned()]);
    let note = |name: &str, checksum| (name.to_owned(), checksum);
    let notes = [note("0001_fence.sql", 5), note("0002_events.sql", 6)];
    assert_eq!(standing(&notes, &there, &store), [note("0001_fence.sql", 5)]);
    assert_eq!(standing(&[note("0001_fence.sql", WITHDRAWN)], &there, &store), []);
}

#[test]
fn queries_have_a_table_for_each_sharded_one() {
    let fleet = Fleet { cluster: "main".to_owned(), shards: Vec::new(), replica_path: None };
    let statements: Vec<String> = distributed(&fleet, &store()).iter().map(|statement| statement.text().to_owned()).collect();
    insta::assert_snapshot!(statements.join("\n"), @r"
    CREATE DATABASE IF NOT EXISTS pulse_all
    CREATE OR REPLACE TABLE pulse_all.events AS pulse.events ENGINE = Distributed('main', 'pulse', 'events')
    CREATE OR REPLACE TABLE pulse_all.dead_letters AS pulse.dead_letters ENGINE = Distributed('main', 'pulse', 'dead_letters')
    CREATE OR REPLACE TABLE pulse_all.identities AS pulse.identities ENGINE = Distributed('main', 'pulse', 'identities')
    CREATE OR REPLACE TABLE pulse_all.saved AS pulse.saved ENGINE = Distributed('main', 'pulse', 'saved')
    CREATE OR REPLACE TABLE pulse_all.alert_states AS pulse.alert_states ENGINE = Distributed('main', 'pulse', 'alert_states')
    ");
}
