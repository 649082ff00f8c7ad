use std::collections::BTreeMap;

use super::*;
use crate::store::schema::COLUMNS;
use crate::store::tables::{EVENTS, Rows};

const WITH_A_CHANGE: &[Migration] = &[
    Migration { name: "1_fence", text: "CREATE TABLE IF NOT EXISTS ${database}.fence (a UInt8) ENGINE = ${MergeTree};\n" },
    Migration {
        name: "2_events",
        text: "-- Why.\nCREATE TABLE IF NOT EXISTS ${database}.events\n(a UInt8, CHECK a = joinGet('${database}.fence', 'a', a))\nENGINE = ${MergeTree};\n",
    },
    Migration { name: "3_other", text: "CREATE TABLE IF NOT EXISTS ${database}.events_by_day (a UInt8) ENGINE = ${MergeTree};\n" },
    Migration {
        name: "4_change",
        text: "-- Why.\nALTER TABLE ${database}.events ADD COLUMN IF NOT EXISTS b UInt8;\nALTER TABLE ${database}.events_by_day ADD COLUMN IF NOT EXISTS b UInt8;\n",
    },
];

const AGAIN: Identifier = Identifier::known("again");
const PULSE: Identifier = Identifier::known("pulse");

#[test]
fn what_changed_a_table_is_applied_again_once_the_table_is_made_anew() {
    let open = |applied: &[&str]| to_apply(WITH_A_CHANGE, applied).iter().map(|migration| migration.name).collect::<Vec<_>>();
    assert_eq!(open(&[]), ["1_fence", "2_events", "3_other", "4_change"]);
    assert_eq!(open(&["1_fence", "2_events", "3_other", "4_change"]), [""; 0]);
    assert_eq!(open(&["1_fence", "2_events", "3_other"]), ["4_change"]);
    assert_eq!(open(&["1_fence", "3_other", "4_change"]), ["2_events", "4_change"]);
    assert_eq!(open(&["2_events", "3_other", "4_change"]), ["1_fence"]);
}

#[test]
fn a_table_beside_gets_everything_that_the_events_table_got() {
    insta::assert_snapshot!(beside(WITH_A_CHANGE, &AGAIN).join(";\n"), @r"
    CREATE TABLE IF NOT EXISTS ${database}.again_fence (a UInt8) ENGINE = ${MergeTree};
    -- Why.
    CREATE TABLE IF NOT EXISTS ${database}.again
    (a UInt8, CHECK a = joinGet('${database}.again_fence', 'a', a))
    ENGINE = ${MergeTree};
    -- Why.
    ALTER TABLE ${database}.again ADD COLUMN IF NOT EXISTS b UInt8
    ");
    let real = beside(MIGRATIONS, &AGAIN);
    assert!(["again", "again_fence"].iter().all(|table| real.iter().any(|statement| target(statement) == Some(table))));
    assert!(!real.iter().any(|statement| statement.contains("${database}.events ") || statement.contains("${database}.events\n")));
}

#[test]
fn the_folder_and_the_list_agree() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    assert_eq!(files, MIGRATIONS.iter().map(|migration| migration.name).collect::<Vec<_>>());
}

#[test]
fn migrations_make_the_tables_of_the_list() {
    let made: Vec<&str> = MIGRATIONS.iter().flat_map(Migration::created).collect();
    assert_eq!(made, TABLES.map(|table| table.name));
    for statement in MIGRATIONS.iter().flat_map(|migration| parts(migration.text)) {
        let table = target(statement).and_then(tables::find).unwrap_or_else(|| panic!("of no table: {statement}"));
        // What is sharded may be replicated.
        let is_made = first_line(statement).unwrap().starts_with(CREATE);
        assert!(!is_made || statement.contains("ENGINE = ${") == (table.rows == Rows::Sharded), "{statement}");
        assert!(!is_made || statement.contains("CONSTRAINT fenced") == table.is_fenced, "{statement}");
    }
}

#[test]
fn no_placeholder_is_left_over_and_each_statement_can_be_repeated() {
    for migration in MIGRATIONS {
        for replica_path in [None, Some("/pulse/{shard}/{table}")] {
            for statement in migration.statements(&Placeholders { database: &PULSE, replica_path }) {
                assert!(!statement.contains("${"), "{statement}");
                let is_repeatable = ["IF NOT EXISTS", "IF EXISTS", "MODIFY TTL"].iter().any(|word| statement.contains(word));
                assert!(is_repeatable, "not repeatable: {statement}");
            }
        }
    }
}

#[test]
fn the_engine_is_filled_in() {
    let text = "A ${MergeTree}\nB ${ReplacingMergeTree}(version) C";
    let filled = |replica_path| filled(text, &Placeholders { database: &PULSE, replica_path });
    assert_eq!(filled(None), "A MergeTree\nB ReplacingMergeTree(version) C");
    assert_eq!(
        filled(Some("/p/{shard}/{table}")),
        "A ReplicatedMergeTree('/p/{shard}/{table}', '{replica}')\nB ReplicatedReplacingMergeTree('/p/{shard}/{table}', '{replica}', version) C"
    );
}

#[test]
fn engines_of_a_replicated_cluster() {
    let with = Placeholders { database: &PULSE, replica_path: Some("/clickhouse/tables/{shard}/{database}/{table}") };
    let engines: Vec<String> = MIGRATIONS
        .iter()
        .flat_map(|migration| migration.statements(&with))
        .filter_map(|statement| statement.lines().find(|line| line.starts_with("ENGINE")).map(str::to_owned))
        .collect();
    // The fence is each node's own: an insert is checked against it where it is made.
    insta::assert_snapshot!(engines.join("\n"), @r"
    ENGINE = Join(ANY, LEFT, log_partition)
    ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
    ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
    ENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
    ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
    ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', version)
    ");
}

/// The columns that the statements give a table, each with what follows its name.
fn columns_of(table: &str) -> BTreeMap<&'static str, &'static str> {
    let mut columns = BTreeMap::new();
    for statement in MIGRATIONS.iter().flat_map(|migration| parts(migration.text)).filter(|statement| target(statement) == Some(table)) {
        let is_made = first_line(statement).unwrap().starts_with(CREATE);
        let lines = statement.lines().skip_while(|line| *line != "(").skip(1).take_while(|line| *line != ")");
        let made = lines.filter(|_| is_made).map(str::trim_start).filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
        let added = statement.split("ADD COLUMN IF NOT EXISTS ").skip(1).filter(|_| !is_made);
        for column in made.chain(added) {
            let (name, rest) = column.split_once(' ').unwrap();
            columns.insert(name, rest.trim_start().trim_end_matches([',', '\n', ' ']));
        }
    }
    columns
}

#[test]
fn the_schema_is_what_the_migrations_make() {
    let mut made = columns_of(EVENTS.name);
    for column in COLUMNS {
        let rest = made.remove(column.name).unwrap_or_else(|| panic!("no migration makes the column {}", column.name));
        let ty = column.ty.name();
        assert!(rest == ty || rest.starts_with(&format!("{ty} ")), "{}: `{rest}` in the migrations is not {ty}", column.name);
        assert_eq!(rest.contains(" MATERIALIZED "), !column.is_inserted(), "{}", column.name);
    }
    assert!(made.is_empty(), "the schema does not know {made:?}");
}
