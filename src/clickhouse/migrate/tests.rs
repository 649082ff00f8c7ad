use super::*;

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

fn names(migrations: &[&Migration]) -> Vec<&'static str> {
    migrations.iter().map(|migration| migration.name).collect()
}

#[test]
fn what_changed_a_table_is_applied_again_once_the_table_is_made_anew() {
    let noted = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), 0)).collect::<Vec<_>>();
    let open = |noted: &[(String, u64)]| names(&to_apply(WITH_A_CHANGE, noted));
    assert_eq!(open(&noted(&[])), ["1_fence", "2_events", "3_other", "4_change"]);
    assert_eq!(open(&noted(&["1_fence", "2_events", "3_other", "4_change"])), [""; 0]);
    assert_eq!(open(&noted(&["1_fence", "2_events", "3_other"])), ["4_change"]);
    assert_eq!(open(&noted(&["1_fence", "3_other", "4_change"])), ["2_events", "4_change"]);
    assert_eq!(open(&noted(&["2_events", "3_other", "4_change"])), ["1_fence"]);
}

#[test]
fn a_table_beside_gets_everything_that_the_events_table_got() {
    let sql: Vec<String> = WITH_A_CHANGE.iter().flat_map(|migration| beside(migration.text, "again")).collect();
    insta::assert_snapshot!(sql.join(";\n"), @r"
    CREATE TABLE IF NOT EXISTS ${database}.again_fence (a UInt8) ENGINE = ${MergeTree};
    -- Why.
    CREATE TABLE IF NOT EXISTS ${database}.again
    (a UInt8, CHECK a = joinGet('${database}.again_fence', 'a', a))
    ENGINE = ${MergeTree};
    -- Why.
    ALTER TABLE ${database}.again ADD COLUMN IF NOT EXISTS b UInt8
    ");
    let real: Vec<String> = MIGRATIONS.iter().flat_map(|migration| beside(migration.text, "again")).collect();
    assert!(
        real.iter().any(|statement| target(statement) == Some("again"))
            && real.iter().any(|statement| target(statement) == Some("again_fence"))
    );
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
fn no_placeholder_is_left_over() {
    for migration in MIGRATIONS {
        for replica_path in [None, Some("/pulse/{shard}/{table}")] {
            for statement in statements(migration.text, "pulse", replica_path) {
                assert!(!statement.contains("${"), "{statement}");
                assert!(statement.contains("IF NOT EXISTS"), "not repeatable: {statement}");
            }
        }
    }
}

#[test]
fn the_engine_is_filled_in() {
    let text = "A ${MergeTree}\nB ${ReplacingMergeTree}(version) C";
    assert_eq!(with_engines(text, None), "A MergeTree\nB ReplacingMergeTree(version) C");
    assert_eq!(
        with_engines(text, Some("/p/{shard}/{table}")),
        "A ReplicatedMergeTree('/p/{shard}/{table}', '{replica}')\nB ReplicatedReplacingMergeTree('/p/{shard}/{table}', '{replica}', version) C"
    );
}

#[test]
fn engines_of_a_replicated_cluster() {
    let engines: Vec<String> = MIGRATIONS
        .iter()
        .flat_map(|migration| statements(migration.text, "pulse", Some("/clickhouse/tables/{shard}/{database}/{table}")))
        .filter_map(|statement| statement.lines().find(|line| line.starts_with("ENGINE")).map(str::to_owned))
        .collect();
    // The fence is each node's own: an insert is checked against it where it is made.
    insta::assert_snapshot!(engines.join("\n"), @r"
    ENGINE = Join(ANY, LEFT, log_partition)
    ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
    ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')
    ");
}

#[test]
fn what_is_noted_stands_for_tables() {
    assert_eq!(tables_of("0001_fence.sql", "pulse"), ["pulse.fence"]);
    assert_eq!(tables_of(DISTRIBUTED, "pulse"), ["pulse_all.events", "pulse_all.dead_letters"]);
    assert!(tables_of("0000_of_a_newer_pulse.sql", "pulse").is_empty());
}

#[test]
fn queries_have_a_table_for_each_sharded_one() {
    let fleet = Fleet { cluster: "main".to_owned(), shards: Vec::new(), replica_path: None };
    insta::assert_snapshot!(distributed(&fleet, "pulse").join("\n"), @r"
    CREATE DATABASE IF NOT EXISTS pulse_all
    CREATE OR REPLACE TABLE pulse_all.events AS pulse.events ENGINE = Distributed('main', 'pulse', 'events')
    CREATE OR REPLACE TABLE pulse_all.dead_letters AS pulse.dead_letters ENGINE = Distributed('main', 'pulse', 'dead_letters')
    ");
}
