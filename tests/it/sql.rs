//! `POST /v1/query/sql`: what a statement answers, and what no statement gets.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode, header};
use pulse::store::sql_views;
use serde_json::{Value, json};

use crate::harness::{Http, Pulse};

/// The project of others.
const OTHERS: u64 = 999;

/// Pulse with events of two projects in one granule: the own are of type `mine`, those of the others of `theirs`.
async fn start() -> Pulse {
    let pulse = Pulse::start_with(&[("PULSE__QUERY__SQL", "true")]).await;
    for (at, visitor) in ["ada", "ada", "bob"].iter().enumerate() {
        let event = json!({"type": "mine", "anonymousId": visitor, "timestamp": format!("2026-03-0{}T12:00:00Z", at + 1),
            "properties": {"plan": "pro, \"quoted\"", "price": 20, "items": ["a"]}});
        assert_eq!(pulse.http.capture(&event).await.0, StatusCode::OK);
    }
    pulse.http.settled().await;
    let ours = pulse.sql("SELECT DISTINCT project_id FROM pulse.events WHERE type = 'mine' FORMAT TSV");
    pulse.sql(&format!(
        "INSERT INTO pulse.events (project_id, type, timestamp, visitor_id, event_id, received_day, received_at, user_id, anonymous_id, strings, log_partition) \
         SELECT if(number % 2, {OTHERS}, {ours}), if(number % 2, 'theirs', 'mine'), toDateTime64('2026-03-04 00:00:00', 3, 'UTC') + number, number, \
         generateUUIDv4(), today(), now64(3), if(number % 2, 'secret', 'known'), if(number % 2, 'secret', 'known'), \
         map('plan', if(number % 2, 'secret', 'pro')), 65000 FROM numbers(200)"
    ));
    pulse
}

async fn ask(http: &Http, sql: &str) -> (StatusCode, Value) {
    http.query("sql", &json!({"sql": sql})).await
}

async fn rows(http: &Http, sql: &str) -> Value {
    let (status, answer) = ask(http, sql).await;
    assert_eq!(status, StatusCode::OK, "{sql}: {answer}");
    answer["result"]["rows"].clone()
}

async fn bytes(http: &Http, format: &str, sql: &str) -> (String, Bytes) {
    let body = json!({"sql": sql, "format": format}).to_string();
    let answer = http.respond(http.request(Method::POST, "/v1/query/sql", &http.read_key, body)).await;
    assert_eq!(answer.status(), StatusCode::OK, "{format}: {:?}", answer.body());
    (answer.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned(), answer.into_body())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_reads_the_events_of_its_project_in_every_format() {
    let pulse = start().await;
    let http = &pulse.http;
    assert_eq!(rows(http, "SELECT count(), uniqExact(anonymous_id) FROM events").await, json!([[103, 3]]));
    let (_, answer) = ask(http, "SELECT type, strings['plan'] AS plan, numbers['price'] FROM events WHERE anonymous_id = 'bob'").await;
    assert_eq!(answer["result"]["rows"], json!([["mine", "pro, \"quoted\"", 20]]));
    assert_eq!((&answer["result"]["columns"][1], &answer["meta"]["rows"]), (&json!({"name": "plan", "type": "String"}), &json!(1)));
    assert_eq!(rows(http, "SELECT 18446744073709551615, nan, NULL, 'ü\\n' -- a comment\n;").await, json!([[u64::MAX, null, null, "ü\n"]]));
    let structured = "SELECT x.user FROM (SELECT a AS user FROM values('a String, b Int8', ('ada', 1))) AS x";
    assert_eq!(rows(http, structured).await, json!([["ada"]]));
    let columns = rows(http, "SELECT * FROM events LIMIT 0").await;
    assert_eq!(columns, json!([]));
    let (_, all) = ask(http, "SELECT * FROM events LIMIT 1").await;
    let names: Vec<&str> = all["result"]["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, sql_views::columns().collect::<Vec<_>>());

    let sql =
        "SELECT type, timestamp, event_id, strings, numbers['price'] AS price FROM events WHERE anonymous_id = 'ada' ORDER BY timestamp";
    let (content_type, csv) = bytes(http, "csv", "SELECT type, strings['plan'] AS plan FROM events WHERE anonymous_id = 'bob'").await;
    assert_eq!(content_type, "text/csv; charset=utf-8; header=present");
    assert_eq!(csv, "\"type\",\"plan\"\n\"mine\",\"pro, \"\"quoted\"\"\"\n");
    let (_, csv) = bytes(http, "csv", "SELECT '=HYPERLINK(\"https://a.example\")' AS `=a`, -1 AS b").await;
    assert_eq!(csv, "\"'=a\",\"b\"\n\"'=HYPERLINK(\"\"https://a.example\"\")\",-1\n");
    // The engine reads back what it has written.
    for (format, content_type, of_server) in
        [("parquet", "application/vnd.apache.parquet", "Parquet"), ("arrow", "application/vnd.apache.arrow.stream", "ArrowStream")]
    {
        let (said, body) = bytes(http, format, sql).await;
        assert_eq!(said, content_type);
        if format == "parquet" {
            assert!(body.starts_with(b"PAR1") && body.ends_with(b"PAR1"));
        }
        let path = pulse.data_dir().join(format!("answer.{format}"));
        std::fs::write(&path, &body).unwrap();
        pulse.sql("CREATE TABLE IF NOT EXISTS pulse.back (type String, timestamp DateTime64(3, 'UTC'), price Float64) ENGINE = Memory");
        pulse.sql("TRUNCATE TABLE pulse.back");
        let insert = format!("/?input_format_skip_unknown_fields=1&query=INSERT%20INTO%20pulse.back%20FORMAT%20{of_server}");
        let (user, password) = pulse.engine_login("pulse_migrator");
        let data = format!("@{}", path.display());
        pulse.ask_engine(&insert, &["--fail-with-body", "-H", &user, "-H", &password, "--data-binary", &data]).unwrap();
        let back = pulse.sql("SELECT type, toDate(timestamp), price FROM pulse.back ORDER BY timestamp FORMAT TSV");
        assert_eq!(back, "mine\t2026-03-01\t20\nmine\t2026-03-02\t20", "{format}");
    }

    let of = async |body: &str, key: &str| http.send(http.request(Method::POST, "/v1/query/sql", key, body.to_owned())).await.unwrap();
    assert_eq!(of(r#"{"sql": "SELECT 1"}"#, &http.write_key).await.0, StatusCode::FORBIDDEN);
    assert_eq!(of(r#"{"sql": "SELECT 1"}"#, "").await.0, StatusCode::UNAUTHORIZED);
    for (body, code) in [
        (r#"{"sql": "SELECT 1", "format": "xml"}"#, "invalid_format"),
        (r#"{"sql": "SELECT 1", "project": 999}"#, "unknown_key"),
        (r#"{"sql": "SELECT nosuch FROM events"}"#, "invalid_sql"),
        (r#"{"sql": "SELECT FROM"}"#, "invalid_sql"),
        (r#"{"sql": "SELECT * FROM nosuch"}"#, "unknown_table"),
    ] {
        let (status, answer) = of(body, &http.read_key).await;
        assert_eq!((status, answer["code"].as_str()), (StatusCode::BAD_REQUEST, Some(code)), "{body}: {answer}");
    }
    documented(http).await;
    assert!(pulse.stop().await);
}

/// The examples of `docs/sql.md`, and its list of columns.
async fn documented(http: &Http) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).unwrap();
    let blocks: Vec<(&str, &str)> = text.split("\n```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect();
    let of = |kind: &'static str| blocks.iter().filter(move |(found, _)| *found == kind).map(|(_, text)| *text);
    for event in serde_json::from_str::<Vec<Value>>(of("json events").next().unwrap()).unwrap() {
        assert_eq!(http.capture(&event).await.0, StatusCode::OK);
    }
    http.settled().await;
    let examples: Vec<(&str, &str)> = of("sql").zip(of("json rows")).collect();
    assert_eq!(examples.len(), 3);
    for (sql, expected) in examples {
        // A day, as Grafana puts the times of a dashboard into a statement.
        let sql = &sql.replace("${__from}", "1772409600000").replace("${__to}", "1772496000000");
        assert_eq!(rows(http, sql).await, serde_json::from_str::<Value>(expected).unwrap(), "{sql}");
    }
    let curl = of("sh").next().unwrap().split("-d '").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let answer = http.respond(http.request(Method::POST, "/v1/query/sql", &http.read_key, curl)).await;
    assert!(answer.status() == StatusCode::OK && answer.body().starts_with(b"\"day\",\"events\",\"visitors\"\n"), "{:?}", answer.body());
    let missing: Vec<&str> = sql_views::columns().filter(|name| !text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/sql.md: {missing:?}");
}

/// What an attacker with a read key tries. Each is refused by status, and no answer has a word of the others or of the server.
const REFUSED: &[(&str, u16)] = &[
    // Tables of the server, and of others.
    ("SELECT * FROM system.tables", 403),
    ("SELECT * FROM system.processes", 403),
    ("SELECT * FROM system.query_log", 403),
    ("SELECT * FROM \"system\" . one", 403),
    ("SELECT * FROM \"system.one\"", 400),
    ("SELECT * FROM system.users", 403),
    ("SELECT * FROM system.parts", 403),
    ("SELECT * FROM information_schema.tables", 403),
    ("SELECT * FROM INFORMATION_SCHEMA.COLUMNS", 403),
    ("SELECT * FROM pulse.events", 403),
    ("SELECT * FROM `pulse`.\"events\"", 403),
    ("SELECT * FROM pulse . /* a */ events", 403),
    ("SELECT * FROM pulse.dead_letters", 403),
    ("SELECT * FROM pulse.saved", 403),
    ("SELECT * FROM default.events", 400),
    ("SELECT 1 UNION ALL SELECT project_id FROM pulse.events", 403),
    ("WITH events AS (SELECT * FROM pulse.events) SELECT * FROM events", 403),
    ("SELECT (SELECT count() FROM pulse.events)", 403),
    ("SELECT 1 WHERE 1 IN (SELECT project_id FROM pulse.events)", 403),
    ("SELECT 1 WHERE 1 IN pulse.events", 403),
    ("SELECT * FROM events AS e JOIN pulse.events AS p ON e.user_id = p.user_id", 403),
    ("SELECT project_id FROM events", 400),
    ("SELECT events.project_id FROM events", 400),
    ("SELECT _part FROM events", 400),
    ("SELECT * FROM events PREWHERE type = 'theirs'", 400),
    ("SELECT * FROM {t:Identifier}", 400),
    // Functions of tables.
    ("SELECT * FROM file('/etc/passwd', LineAsString)", 403),
    ("SELECT * FROM url('http://127.0.0.1:1/', LineAsString)", 403),
    ("SELECT * FROM remote('127.0.0.1', pulse.events)", 403),
    ("SELECT * FROM cluster('main', pulse.events)", 403),
    ("SELECT * FROM s3('http://127.0.0.1/a/b')", 403),
    ("SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')", 403),
    ("SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')", 403),
    ("SELECT * FROM executable('ls', TSV, 'a String')", 403),
    ("SELECT * FROM input('a String')", 403),
    ("SELECT * FROM merge('pulse', 'events')", 403),
    ("SELECT * FROM mergeTreeIndex('pulse', 'events')", 403),
    ("SELECT * FROM mergeTreeProjection('pulse', 'events', 'ids')", 403),
    ("SELECT * FROM loop('pulse', 'events')", 403),
    ("SELECT * FROM view(SELECT 1)", 403),
    ("SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))", 403),
    ("SELECT * FROM (EXPLAIN SELECT * FROM events)", 403),
    ("SELECT * FROM (DESCRIBE TABLE pulse.events)", 403),
    ("SELECT * FROM fuzzQuery('SELECT 1')", 403),
    // Functions of the server.
    ("SELECT file('/etc/passwd')", 403),
    ("SELECT FILE('/etc/passwd')", 403),
    ("SELECT `file`('/etc/passwd')", 403),
    ("SELECT \"\\x66ile\"('/etc/passwd')", 400),
    ("SELECT arrayMap(file, ['/etc/passwd'])", 403),
    ("SELECT * APPLY(file) FROM (SELECT '/etc/passwd')", 403),
    ("SELECT dictGet('a', 'b', 1)", 403),
    ("SELECT joinGet('pulse.fence', 'generation', 1)", 403),
    ("SELECT getSetting('max_threads')", 403),
    ("SELECT getServerSetting('max_server_memory_usage')", 403),
    ("SELECT getClientHTTPHeader('X-ClickHouse-Key')", 403),
    ("SELECT hostName(), version(), currentUser(), initialQueryID()", 403),
    ("SELECT hasColumnInTable('pulse', 'events', 'project_id')", 403),
    ("SELECT filesystemCapacity()", 403),
    ("SELECT logTrace('x')", 403),
    ("SELECT sleep(3)", 403),
    ("SELECT @@version", 400),
    ("SELECT CURRENT_USER", 403),
    ("SELECT \"user\"", 403),
    ("SELECT user FROM (SELECT 1 AS other)", 403),
    ("SELECT session_user, currentUser, current_database, schema", 403),
    ("SELECT _table, _database FROM events", 403),
    // States of aggregates, which would be made of bytes or hold addresses.
    (r"SELECT x[1] AS y FROM values('x Array(Aggregate\x46unction(sum, UInt64))', [])", 403),
    (r"SELECT x[1] AS y FROM values('x Array(Aggregate\NFunction(sum, UInt64))', [])", 403),
    ("WITH concat('x Aggregate', 'Function(sum, UInt64)') AS s SELECT * FROM values(s, 1)", 403),
    (r"SELECT getSubcolumn(1::Dynamic, 'Aggregate\x46unction(sum, UInt64)')", 403),
    ("SELECT d.\"AggregateFunction(sum, UInt64)\" FROM (SELECT 1::Dynamic AS d)", 403),
    // Expressions in texts, which the server computes.
    ("SELECT y FROM values('x String, y String ALIAS file(x)', '/etc/passwd')", 403),
    ("SELECT y FROM values(('x String, y String ALIAS file(x)'), '/etc/passwd')", 403),
    ("SELECT arrayReduce('groupConcat(file(char(47,101,116,99,47,112,97,115,115,119,100)))', ['a', 'b'])", 403),
    // Settings, formats and other statements.
    ("SELECT 1 SETTINGS readonly = 0", 403),
    ("SELECT 1 SETTINGS max_memory_usage = 0", 403),
    ("SELECT * FROM (SELECT 1 SETTINGS max_execution_time = 0)", 403),
    ("WITH a AS (SELECT 1 SETTINGS max_rows_to_read = 0) SELECT * FROM a", 403),
    ("SELECT 1 FORMAT CSV", 403),
    ("SELECT 1 INTO OUTFILE '/tmp/a'", 403),
    ("SELECT 1; SELECT 2", 400),
    ("SELECT 1; DROP TABLE pulse.events", 400),
    ("SET readonly = 0", 403),
    ("USE pulse", 403),
    ("SHOW TABLES FROM pulse", 403),
    ("SHOW CREATE VIEW events", 403),
    ("DESCRIBE TABLE events", 403),
    ("EXPLAIN SELECT * FROM events", 403),
    ("EXISTS TABLE pulse.events", 403),
    ("CHECK TABLE pulse.events", 403),
    ("KILL QUERY WHERE 1", 403),
    ("SYSTEM FLUSH LOGS", 403),
    ("DROP TABLE events", 403),
    ("INSERT INTO events (type) VALUES ('a')", 403),
    ("INSERT INTO FUNCTION file('a', TSV, 'a String') SELECT 'x'", 403),
    ("CREATE FUNCTION f AS x -> 1", 403),
    ("WITH 1 AS a INSERT INTO pulse.events SELECT a", 403),
    // What takes all there is.
    ("SELECT count() FROM numbers(10000000000)", 422),
    ("SELECT number FROM numbers(2000000)", 422),
    ("SELECT repeat('x', 1000000) FROM numbers(100)", 422),
    ("SELECT length(arrayMap(x -> repeat('x', 1000000), range(100000)))", 422),
    ("SELECT range(20000000)", 400),
    ("SELECT arrayFold((acc, x) -> concat(acc, acc), range(100), 'a')", 403),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_gets_more_than_the_events_of_its_project() {
    let pulse = start().await;
    let http = &pulse.http;
    let mut wrong = Vec::new();
    for (sql, expected) in REFUSED {
        let (status, answer) = ask(http, sql).await;
        let text = format!("{} {} {}", answer["code"], answer["message"], answer["result"]);
        let is_leak =
            ["secret", "pulse_sql", "999", "Exception", "127.0.0.1:", "root:", "/tmp/", "26."].iter().any(|word| text.contains(word));
        if status.as_u16() != *expected || is_leak {
            wrong.push(format!("{sql}: {status} {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // What a condition says of rows of others: it is never asked of them, in whatever part of the statement.
    let is_theirs = "throwIf(type = 'theirs' OR user_id = 'secret' OR strings['plan'] = 'secret')";
    for sql in [
        format!("SELECT count() FROM events WHERE {is_theirs} = 0"),
        format!("SELECT countIf({is_theirs} = 0) FROM events"),
        format!(
            "SELECT count() FROM events WHERE timestamp > '2026-03-04' AND {is_theirs} = 0 OR timestamp <= '2026-03-04' AND {is_theirs} = 0"
        ),
        format!("SELECT count() FROM (SELECT type FROM events ORDER BY {is_theirs}, timestamp)"),
        format!("SELECT sum(n) FROM (SELECT count() AS n FROM events GROUP BY {is_theirs})"),
        format!("SELECT count() FROM events WHERE event_id IN (SELECT event_id FROM events WHERE {is_theirs} = 0)"),
        format!("SELECT count() FROM events AS a ANY LEFT JOIN (SELECT * FROM events WHERE {is_theirs} = 0) AS b USING (event_id)"),
        format!("SELECT count() FROM (SELECT DISTINCT event_id FROM events WHERE {is_theirs} = 0)"),
        "SELECT count() FROM events WHERE intDiv(1, toUInt8(user_id != 'secret')) = 1".to_owned(),
    ] {
        assert_eq!(rows(http, &sql).await, json!([[103]]), "{sql}");
    }
    for sql in [
        "SELECT DISTINCT type FROM events",
        "SELECT DISTINCT type FROM events WHERE 1 OR type = 'theirs'",
        "SELECT type FROM events GROUP BY type",
        "SELECT type FROM events WHERE type != '' LIMIT 1 BY type",
        "SELECT max(type) FROM events",
        "SELECT any(type) FROM (SELECT * FROM events UNION ALL SELECT * FROM events)",
        "SELECT arrayJoin(groupUniqArray(type)) FROM events",
    ] {
        assert_eq!(rows(http, sql).await, json!([["mine"]]), "{sql}");
    }
    assert_eq!(rows(http, "SELECT count() FROM events WHERE user_id = 'secret' OR type = 'theirs'").await, json!([[0]]));
    assert_eq!(
        rows(http, "SELECT count(), min(timestamp) > '2026-01-01', max(timestamp) FROM events").await[0][2],
        "2026-03-04 00:03:18.000"
    );

    // The user of the engine who has no question of pulse sees nothing, and the other one is not let in.
    let as_user = |user: &str, statement: &str, id: &str| {
        let (user, password) = pulse.engine_login(user);
        pulse.ask_engine(&format!("/?query_id={id}"), &["--fail-with-body", "-H", &user, "-H", &password, "-d", statement])
    };
    for id in ["x", "pulse-sql-", "pulse-sql-x-1", "999", "a-b-999-c"] {
        assert_eq!(as_user("pulse_sql", "SELECT count() FROM pulse_sql.events", id), Ok("0".to_owned()), "{id}");
    }
    assert!(as_user("pulse_sql", "SELECT 1 FROM pulse.events", "y").unwrap_err().contains("Code: 497"));
    assert!(as_user("pulse_sql_owner", "SELECT 1", "z").unwrap_err().contains("only pulse may ask"));

    // Who leaves ends the statement, which would run for minutes.
    let slow =
        json!({"sql": "SELECT sum(length(replaceRegexpAll(toString(number), '([0-9])', 'x'))) FROM numbers(2000000000)"}).to_string();
    let asked = http.respond(http.request(Method::POST, "/v1/query/sql", &http.read_key, slow));
    assert!(tokio::time::timeout(Duration::from_millis(500), asked).await.is_err());
    let running = || pulse_running(&pulse);
    let gone = async {
        while running() != "0" {
            tokio::time::sleep(crate::harness::POLL).await;
        }
    };
    // Ten times what it may take where nothing else runs.
    let left = std::time::Instant::now();
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("the statement still runs");
    println!("a statement that nobody waits for any more has ended after {:?}", left.elapsed());
    assert!(pulse.stop().await);
}

fn pulse_running(pulse: &Pulse) -> String {
    let (user, password) = pulse.engine_login("pulse_writer");
    let ask = "SELECT count() FROM system.processes WHERE user = 'pulse_sql'";
    pulse.ask_engine("/", &["--fail-with-body", "-H", &user, "-H", &password, "-d", ask]).unwrap()
}

#[tokio::test]
async fn statements_are_off_unless_the_configuration_says_otherwise() {
    let pulse = Pulse::start().await;
    let (status, answer) = ask(&pulse.http, "SELECT 1").await;
    assert_eq!((status, answer["code"].as_str()), (StatusCode::NOT_FOUND, Some("sql_off")));
}
