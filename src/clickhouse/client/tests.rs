use super::*;

#[test]
fn the_code_is_read_from_the_text_of_the_exception() {
    let error = ClickHouseError::of_text("Code: 469. DB::Exception: Constraint `fenced` is violated".to_owned());
    assert!(matches!(error, ClickHouseError::Server { code: 469, .. }));
    let error = ClickHouseError::of_text("60".to_owned());
    assert!(matches!(error, ClickHouseError::Server { code: 60, .. }));
    assert!(matches!(ClickHouseError::of_text("<html>".to_owned()), ClickHouseError::Network(_)));
}

#[test]
fn a_database_name_that_is_no_identifier_is_refused() {
    let config = ClickHouseConfig { database: "a`b".to_owned(), ..ClickHouseConfig::default() };
    assert_eq!(config.check().unwrap_err(), "clickhouse.database: `a`b` is not a plain identifier");
}
