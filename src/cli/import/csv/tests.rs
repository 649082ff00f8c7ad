use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::cli::import::input;
use crate::cli::import::lines::Lines;

const ID: Uuid = Uuid::from_u128(7);

fn rows(text: &[u8]) -> Rows {
    Rows::new(Lines::new(input::text(io::Cursor::new(text.to_vec()), None).unwrap()))
}

/// The table that has this header, and what `sample` says of its columns.
fn table_of(header: &str, sample: &str, map: &str) -> Result<Table, String> {
    let mut rows = rows(format!("{header}\n{sample}").as_bytes());
    let mut table = Table::begin(&mut rows, &MapConfig::parse(map)?, None, Times::default())?;
    let (_, mut found) = table.survey(&mut rows)?;
    table.take_kinds(&mut found);
    Ok(table)
}

fn table(header: &str, map: &str) -> Result<Table, String> {
    table_of(header, "", map)
}

fn event(table: &Table, row: &str) -> Result<Value, Malformed> {
    let row = table.next(&mut rows(row.as_bytes())).unwrap().unwrap();
    table.event(&row, ID).map(|event| serde_json::from_slice(&event.line).unwrap())
}

/// All events of a file, and the reasons of the rows that are none, by number of line.
fn read(text: &str) -> Vec<(u64, Result<Value, &'static str>)> {
    read_as(text, "")
}

fn read_as(text: &str, map: &str) -> Vec<(u64, Result<Value, &'static str>)> {
    let map = MapConfig::parse(map).unwrap();
    let begin = || {
        let mut rows = rows(text.as_bytes());
        let table = Table::begin(&mut rows, &map, None, Times::default()).unwrap();
        (rows, table)
    };
    let (mut first, mut table) = begin();
    let (_, mut found) = table.survey(&mut first).unwrap();
    table.take_kinds(&mut found);
    let (mut rows, _) = begin();
    let mut out = Vec::new();
    while let Some(row) = table.next(&mut rows).unwrap() {
        let event = table.event(&row, ID).map(|event| serde_json::from_slice(&event.line).unwrap());
        out.push((row.number, event.map_err(|malformed| malformed.reason)));
    }
    out
}

/// The property `name` of every row.
fn property(rows: &[(u64, Result<Value, &'static str>)], name: &str) -> Vec<Value> {
    rows.iter().map(|(_, event)| event.as_ref().unwrap()["properties"][name].clone()).collect()
}

#[test]
fn columns_go_where_the_map_says_and_the_rest_are_properties() {
    let map = "strings = ['zip']\n[columns]\nuserId = 'customer'\n'properties.paid' = 'amount'\n'context.page.url' = 'url'\n[defaults]\ntype = 'row'\n";
    let row = "ada,12.50,https://a.example/,01234,pro,2015-05-17T10:05:03Z,";
    let table = table_of("customer,amount,url,zip,plan,timestamp,eventId", row, map).unwrap();
    assert_eq!(
        event(&table, "ada,12.50,https://a.example/,01234,pro,2015-05-17T10:05:03Z,").unwrap(),
        json!({
            "eventId": ID.to_string(), "type": "row", "userId": "ada", "timestamp": "2015-05-17T10:05:03Z",
            "properties": {"paid": 12.5, "zip": "01234", "plan": "pro"}, "context": {"page": {"url": "https://a.example/"}},
        })
    );
}

#[test]
fn a_cell_beats_the_default_and_an_empty_one_says_nothing() {
    let table = table_of("type,a,eventId", "buy,1,", "[defaults]\ntype = 'row'\nuserId = 'u'\n'properties.b' = 'x'\n").unwrap();
    assert_eq!(event(&table, "buy,,0b7a").unwrap(), json!({"eventId": "0b7a", "type": "buy", "userId": "u", "properties": {"b": "x"}}));
    assert_eq!(
        event(&table, ",1,").unwrap(),
        json!({"eventId": ID.to_string(), "type": "row", "userId": "u", "properties": {"a": 1, "b": "x"}})
    );
}

#[test]
fn unmapped_columns_can_be_ignored() {
    let table = table("type,userId,a,", "unmapped = 'ignore'\n").unwrap();
    assert_eq!(event(&table, "buy,u,1,2").unwrap(), json!({"eventId": ID.to_string(), "type": "buy", "userId": "u"}));
}

#[test]
fn only_numbers_that_survive_are_numbers() {
    for (text, expected) in
        [("0", json!(0)), ("-1.5", json!(-1.5)), ("1e3", json!(1e3)), ("123456789012345", json!(123_456_789_012_345_i64))]
    {
        assert_eq!(kinds::number(text, '.'), Some(expected), "{text}");
    }
    for text in ["", "007", "+1", " 1", "1 ", "1.", ".5", "0x1", "NaN", "inf", "1e999", "1234567890123456", "1,5", "-", "-0"] {
        assert_eq!(kinds::number(text, '.'), None, "{text}");
    }
    assert_eq!(kinds::number("12,50", ','), Some(json!(12.5)));
    assert_eq!(kinds::number("1.234,50", ','), None);
}

#[test]
fn a_map_that_cannot_be_meant_is_refused_by_name() {
    let problem = |map: &str| table("type,userId,a,b", map).unwrap_err();
    assert!(problem("[columns]\nuser = 'a'\n").contains("`user` is neither"));
    assert!(problem("[columns]\nuserId = 'c'\n").contains("`c` of the map is not in the header"));
    assert!(problem("unmaped = 'ignore'\n").contains("unmaped"));
    assert!(table("a,a", "").unwrap_err().contains("`a` is in the header twice"));
    assert!(problem("delimiter = 'ab'\n").contains("`ab` is no delimiter"));
    assert!(problem("timezone = 'Mars'\n").contains("timezone: `Mars`"));
    assert!(problem("decimal = ';'\n").contains("decimal"));
    let both = MapConfig::parse("[columns]\neventId = 'a'\n").unwrap();
    assert!(both.clone().with_ids_of("a").is_ok() && both.with_ids_of("b").unwrap_err().contains("--id-column"));
    assert!(problem("[columns]\n'properties.a' = 'b'\n").contains("two columns are the field `a`"));
    assert!(table("a,b", "[columns]\n'context.' = 'a'\n").is_err());
}

#[test]
fn a_row_of_another_width_or_with_an_open_quote_is_a_defect() {
    let table = table("type,userId,a", "").unwrap();
    assert_eq!(event(&table, "buy,u").unwrap_err().message, "2 cells where the header has 3");
    assert_eq!(event(&table, "buy,u,1,2").unwrap_err().message, "4 cells where the header has 3");
    assert_eq!(event(&table, "buy,u,\"1").unwrap_err().reason, "quote_open");
    assert_eq!(event(&table, "buy,u,5\" disk").unwrap()["properties"]["a"], "5\" disk");
}

#[test]
fn one_column_is_of_one_kind() {
    let rows = read(
        "type,anonymousId,zip,quoted,version,flag,amount,price,id,mixed\n\
         o,a,02134,\"21546\",1.10,true,\"1,234.50\",12.50,12345678901234567890,1\n\
         o,b,90210,\"21546\",1.9,false,19.99,3.00,1,\n\
         o,c,90210-1234,\"abc\",2.0,TRUE,1e3,19.99,2,\\N\n",
    );
    assert_eq!(property(&rows, "zip"), ["02134", "90210", "90210-1234"]);
    assert_eq!(property(&rows, "quoted"), ["21546", "21546", "abc"]);
    assert_eq!(property(&rows, "version"), ["1.10", "1.9", "2.0"]);
    assert_eq!(property(&rows, "flag"), [json!(true), json!(false), json!(true)]);
    assert_eq!(property(&rows, "amount"), ["1,234.50", "19.99", "1e3"]);
    assert_eq!(property(&rows, "price"), [json!(12.5), json!(3.0), json!(19.99)]);
    assert_eq!(property(&rows, "id"), ["12345678901234567890", "1", "2"]);
    assert_eq!(property(&rows, "mixed"), [json!(1), Value::Null, Value::Null]);
    let named = read_as("type;userId;zip;amount\no;a;1;1,50\no;b;2;x\n", "strings = ['zip']\nnumbers = ['amount']\ndecimal = ','\n");
    assert_eq!(property(&named, "zip"), ["1", "2"]);
    assert_eq!(property(&named, "amount"), [json!(1.5), json!("x")]);
}

#[test]
fn what_stands_for_nothing_is_nothing_unless_it_is_quoted() {
    let rows = read("type,anonymousId,userId,amount,quoted\nbuy,a,NULL,NULL,\"NULL\"\nbuy,b,ada,12,\"x\"\n");
    assert_eq!(
        rows[0].1.as_ref().unwrap(),
        &json!({"eventId": ID.to_string(), "type": "buy", "anonymousId": "a", "properties": {"quoted": "NULL"}})
    );
    assert_eq!(property(&rows, "amount"), [Value::Null, json!(12)]);
}

/// Whether the first row says a time, or why the table is refused.
fn first_has_time(text: &str, map: &str) -> Result<bool, String> {
    let map = MapConfig::parse(map)?;
    let begin = || {
        let mut rows = rows(text.as_bytes());
        Table::begin(&mut rows, &map, None, Times::default()).map(|table| (rows, table))
    };
    let (mut rows, table) = begin()?;
    table.survey(&mut rows)?;
    let (mut rows, table) = begin()?;
    let row = table.next(&mut rows).unwrap().unwrap();
    let Timed { line, has_time } = table.event(&row, ID).unwrap();
    assert_eq!(has_time, serde_json::from_slice::<Value>(&line).unwrap().get("timestamp").is_some());
    Ok(has_time)
}

#[test]
fn a_table_with_a_time_that_is_not_named_is_refused_unless_it_is_of_now() {
    let table = "type,userId,created_at\nbuy,u,2024-03-30\n";
    let problem = first_has_time(table, "").unwrap_err();
    for part in ["no column is `timestamp`", "`created_at` looks like a time", "timestamp = \"created_at\"", "timestamp = \"now\""] {
        assert!(problem.contains(part), "{problem}");
    }
    // As little as one that is left out of the events.
    assert!(first_has_time(table, "unmapped = 'ignore'\n").is_err());
    assert_eq!(first_has_time(table, "[defaults]\ntimestamp = 'now'\n"), Ok(false));
    assert_eq!(first_has_time(table, "timezone = 'UTC'\n[columns]\ntimestamp = 'created_at'\n"), Ok(true));
    let refused = |name: &str, cells: &[&str]| {
        let rows: String = cells.iter().map(|cell| format!("buy,u,{cell}\n")).collect();
        first_has_time(&format!("type,userId,{name}\n{rows}"), "").is_err()
    };
    for (name, cells) in [
        ("Datum", &["30.03.2024"][..]),
        ("when", &["1711791000", "1711791001"]),
        ("orderDate", &["20240330", ""]),
        ("Event Time", &["30/03/2024 09:30"]),
        // By what it holds, whatever it is called.
        ("ordered", &["2024-03-30 09:30:00", "\\N", "2024-03-31"]),
        ("momento", &["", "2024-03-30T09:30:00Z"]),
        ("valid until", &["\"2024/03/30 09:30\""]),
    ] {
        assert!(refused(name, cells), "{name}");
    }
    for (name, cells) in [
        ("total", &["12.50"][..]),
        ("response_time", &["120", "95"]),
        ("time zone", &["Europe/Berlin"]),
        ("timeOfDay", &["morning"]),
        ("update", &["7"]),
        ("created_by", &["u7"]),
        ("data", &["12"]),
        ("zip", &["90210-1234"]),
        ("number", &["1711791000"]),
        ("note", &["2024-03-30", "soon"]),
        ("date", &["", "NULL"]),
    ] {
        assert!(!refused(name, cells), "{name}");
    }
}

#[test]
fn a_table_in_which_nothing_is_a_time_is_of_the_time_of_the_import() {
    for table in [
        "type,anonymousId,zip,quoted,version,flag,amount\no,a,02134,\"21546\",1.10,true,\"1,234.50\"\n",
        "type,anonymousId,order,total\norder,u1,1001,1.5\n",
        "Type;AnonymousId\nbuy;c\n",
    ] {
        assert_eq!(first_has_time(table, ""), Ok(false), "{table}");
    }
}

#[test]
fn delimiters_are_recognised_declared_or_named() {
    let plans = |text: &str| property(&read(text), "plan");
    assert_eq!(plans("type;anonymousId;plan\nbuy;a;pro, max\nbuy;b;free\n"), ["pro, max", "free"]);
    assert_eq!(plans("type\tanonymousId\tplan\nbuy\ta\tpro\n"), ["pro"]);
    assert_eq!(plans("type|anonymousId|plan\nbuy|a|pro\n"), ["pro"]);
    assert_eq!(plans("sep=;\ntype;anonymousId;plan\nbuy;a;pro\n"), ["pro"]);
    assert_eq!(plans("sep=#\ntype#anonymousId#plan\nbuy#a#pro\n"), ["pro"]);
    assert_eq!(plans("\"type\",\"anonymousId\",\"a;b;c;d\",plan\nbuy,a,1,pro\n"), ["pro"]);
    let named = read_as("type#anonymousId#plan\nbuy#a#pro\n", "delimiter = '#'\n");
    assert_eq!(property(&named, "plan"), ["pro"]);
    for name in ["", "ab", "\"", "a", "1"] {
        assert!(Dialect::named(name).is_err(), "{name}");
    }
    assert_eq!(Dialect::named("tab"), Dialect::named("\t"));
    // Better said once than of every row.
    let problem = table("kind,who", "").unwrap_err();
    assert!(problem.contains("`type`") && problem.contains("`kind`, `who`"), "{problem}");
    assert!(table("type,who", "").unwrap_err().contains("`anonymousId` or `userId`"));
}

#[test]
fn columns_are_fields_whatever_their_capitals() {
    let rows = read("Type,Anonymous_ID,USERID,Event_Id\nbuy,a,u,1001\n");
    let event = rows[0].1.as_ref().unwrap();
    assert_eq!(event, &json!({"type": "buy", "anonymousId": "a", "userId": "u", "eventId": "1001"}));
}

#[test]
fn a_quote_that_is_never_closed_costs_its_own_row() {
    let outcome = |rows: &[(u64, Result<Value, &'static str>)]| {
        let dead: Vec<(u64, &str)> =
            rows.iter().filter_map(|(number, event)| event.as_ref().err().map(|reason| (*number, *reason))).collect();
        (rows.len(), dead)
    };
    let mut lines: Vec<String> = (0..1_000).map(|n| format!("buy,u{n},{n}.5")).collect();
    let text = |lines: &[String]| format!("type,anonymousId,total\n{}\n", lines.join("\n"));
    lines[10] = "buy,u10,\"5 inch".to_owned();
    assert_eq!(outcome(&read(&text(&lines))), (1_000, vec![(12, "quote_open")]));
    // Another one further down closes it by chance.
    for closing in ["buy,u500,\"7 inch", "buy,u500,7 inch\"", "\"buy\",\"u500\",\"7\"", "buy,u500,\"\""] {
        lines[500] = closing.to_owned();
        let (read, dead) = outcome(&read(&text(&lines)));
        assert_eq!((read, &dead[0]), (1_000, &(12, "quote_open")), "{closing}");
        assert!(dead.len() <= 2, "{closing}: {dead:?}");
    }
    // One after the other, and at the very end.
    let all = text(&(0..50).map(|n| format!("buy,u{n},\"{n}")).collect::<Vec<_>>());
    assert_eq!(outcome(&read(&all)).0, 50);
}

#[test]
fn tables_one_behind_the_other_are_one_table() {
    let one = "type,anonymousId,total\r\nbuy,a,12.5\r\n";
    let rows = read(&format!("{one}{one}{}", one.trim_end()));
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 4, 6]);
    assert_eq!(property(&rows, "total"), [json!(12.5), json!(12.5), json!(12.5)]);
}

#[test]
fn a_row_of_empty_cells_says_nothing() {
    let rows = read("type,anonymousId,total\nbuy,a,1\n,,\n , ,\n,b,2\n,,\n");
    assert_eq!(rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 5]);
}

#[test]
fn text_over_several_lines_stays_as_it_is() {
    let rows = read("type,anonymousId,note\r\nbuy,a,\"one\r\n\r\n  \r\ntwo, three\"\r\nbuy,b,plain\r\n");
    assert_eq!(property(&rows, "note"), ["one\r\n\r\n  \r\ntwo, three", "plain"]);
    assert_eq!(rows[1].0, 6);
}

#[test]
fn quotes_may_be_escaped_by_backslashes() {
    let rows = read("type,anonymousId,say\nbuy,b,\"he said \\\"hi\\\", twice\"\nbuy,c,\"C:\\\"\nbuy,d,a\\b\n");
    assert_eq!(property(&rows, "say"), ["he said \"hi\", twice", "C:\\", "a\\b"]);
}

#[test]
fn times_are_given_their_zone_by_the_map() {
    let rows = read_as("type,userId,timestamp\nbuy,u,30/03/2024 09:30\n", "timezone = 'Europe/Berlin'\ntime_format = '%d/%m/%Y %H:%M'\n");
    assert_eq!(rows[0].1.as_ref().unwrap()["timestamp"], "2024-03-30T08:30:00Z");
    assert_eq!(read("type,userId,timestamp\nbuy,u,2024-03-30 09:30:00\n")[0].1, Err("time_without_zone"));
    assert_eq!(read("type,userId,timestamp\nbuy,u,1711791000\n")[0].1.as_ref().unwrap()["timestamp"], "2024-03-30T09:30:00Z");
}

proptest! {
    #[test]
    fn every_line_of_a_table_is_in_one_row(lines in proptest::collection::vec("[a\",\\\\]{0,8}x", 1..12)) {
        let mut source = rows(lines.join("\n").as_bytes());
        let mut next = 1;
        while let Some(row) = source.next(Dialect { delimiter: b',' }, 3).unwrap() {
            prop_assert_eq!(row.number, next);
            next += row.bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        }
        prop_assert_eq!(next, lines.len() as u64 + 1);
    }

    #[test]
    fn rows_written_by_another_program_are_read_whole(rows in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 3), 1..6)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        let mut source = super::tests::rows(&writer.into_inner().unwrap());
        let dialect = Dialect { delimiter: b',' };
        let mut read: Vec<Vec<String>> = Vec::new();
        // As wide as no line can be by itself, so that no text is taken for rows.
        while let Some(row) = source.next(dialect, 100).unwrap() {
            let cells = dialect.cells(&row.bytes, row.quoting.unwrap()).unwrap();
            read.push(cells.iter().map(|cell| String::from_utf8(cell.text.to_vec()).unwrap()).collect());
        }
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn arbitrary_bytes_give_an_object_or_a_defect(row in proptest::collection::vec(any::<u8>(), 0..100)) {
        let table = table("type,userId,b", "").unwrap();
        let mut source = super::tests::rows(&row.iter().map(|byte| if *byte == 0 { b'0' } else { *byte }).collect::<Vec<_>>());
        while let Ok(Some(row)) = table.next(&mut source) {
            if let Ok(Timed { line: event, .. }) = table.event(&row, ID) {
                prop_assert!(serde_json::from_slice::<Value>(&event).unwrap().is_object());
            }
        }
    }
}
