use proptest::prelude::*;
use serde_json::json;

use super::*;

const ID: Uuid = Uuid::from_u128(7);

fn table(header: &str, map: &str) -> Result<Table, String> {
    Table::new(header.as_bytes(), &MapConfig::parse(map)?)
}

fn event(table: &Table, row: &str) -> Result<Value, Malformed> {
    table.event(row.as_bytes(), ID).map(|event| serde_json::from_slice(&event).unwrap())
}

#[test]
fn columns_go_where_the_map_says_and_the_rest_are_properties() {
    let map = "strings = ['zip']\n[columns]\nuserId = 'customer'\n'properties.paid' = 'amount'\n'context.page.url' = 'url'\n[defaults]\ntype = 'row'\n";
    let table = table("customer,amount,url,zip,plan,timestamp,eventId", map).unwrap();
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
    let table = table("type,a,eventId", "[defaults]\ntype = 'row'\n'properties.b' = 'x'\n").unwrap();
    assert_eq!(event(&table, "buy,,0b7a").unwrap(), json!({"eventId": "0b7a", "type": "buy", "properties": {"b": "x"}}));
    assert_eq!(event(&table, ",1,").unwrap(), json!({"eventId": ID.to_string(), "type": "row", "properties": {"a": 1, "b": "x"}}));
}

#[test]
fn unmapped_columns_can_be_ignored() {
    let table = table("type,a,", "unmapped = 'ignore'\n").unwrap();
    assert_eq!(event(&table, "buy,1,2").unwrap(), json!({"eventId": ID.to_string(), "type": "buy"}));
}

#[test]
fn only_numbers_that_survive_are_numbers() {
    for (text, expected) in
        [("0", json!(0)), ("-1.5", json!(-1.5)), ("1e3", json!(1e3)), ("123456789012345", json!(123_456_789_012_345_i64))]
    {
        assert_eq!(number(text), Some(expected), "{text}");
    }
    for text in ["", "007", "+1", " 1", "1 ", "1.", ".5", "0x1", "NaN", "inf", "1e999", "1234567890123456", "1,5", "-"] {
        assert_eq!(number(text), None, "{text}");
    }
}

#[test]
fn a_map_that_cannot_be_meant_is_refused_by_name() {
    let problem = |map: &str| table("a,b", map).unwrap_err();
    assert!(problem("[columns]\nuser = 'a'\n").contains("`user` is neither"));
    assert!(problem("[columns]\nuserId = 'c'\n").contains("`c` of the map is not in the header"));
    assert!(problem("unmaped = 'ignore'\n").contains("unmaped"));
    assert!(table("a,a", "").unwrap_err().contains("`a` is in the header twice"));
    assert!(problem("[columns]\n'properties.a' = 'b'\n").contains("two columns"));
    assert!(table("a,b", "[columns]\n'context.' = 'a'\n").is_err());
}

#[test]
fn a_row_of_another_width_or_with_an_open_quote_is_a_defect() {
    let table = table("type,a", "").unwrap();
    assert_eq!(event(&table, "buy").unwrap_err().0, "1 cells where the header has 2");
    assert_eq!(event(&table, "buy,1,2").unwrap_err().0, "3 cells where the header has 2");
    assert_eq!(event(&table, "buy,\"1").unwrap_err().0, "a quote is not closed");
    assert_eq!(event(&table, "buy,5\" disk").unwrap()["properties"]["a"], "5\" disk");
}

proptest! {
    #[test]
    fn rows_written_by_another_program_are_read_whole(rows in proptest::collection::vec(proptest::collection::vec("[a\",\n\r é]{0,6}", 3), 1..6)) {
        let mut writer = ::csv::Writer::from_writer(Vec::new());
        rows.iter().for_each(|row| writer.write_record(row).unwrap());
        let text = writer.into_inner().unwrap();
        let mut lines = crate::cli::import::lines::Lines::new(std::io::Cursor::new(text)).unwrap();
        let mut read: Vec<Vec<String>> = Vec::new();
        loop {
            let mut quotes = Quotes::default();
            let Some(line) = lines.next(|line| quotes.continues(line)).unwrap() else { break };
            read.push(record(line.bytes).unwrap().iter().map(|cell| String::from_utf8(cell.to_vec()).unwrap()).collect());
        }
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn arbitrary_bytes_give_an_object_or_a_defect(row in proptest::collection::vec(any::<u8>(), 0..100)) {
        let table = table("type,a,b", "").unwrap();
        if let Ok(event) = table.event(&row, ID) {
            prop_assert!(serde_json::from_slice::<Value>(&event).unwrap().is_object());
        }
        // As a header, too.
        drop(Table::new(&row, &MapConfig::default()));
    }
}
