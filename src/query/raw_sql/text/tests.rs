use proptest::prelude::*;

use super::*;

/// What statements are made of, and what is to be read in one way only.
const PIECES: [&str; 40] = [
    "SELECT",
    "WITH",
    "FROM events",
    "file",
    "count",
    "(",
    ")",
    "()",
    "system",
    ".",
    "one",
    ",",
    ";",
    "-",
    "--",
    "--\n",
    "/",
    "*",
    "/*",
    "*/",
    "'",
    "''",
    "\\'",
    "\\",
    "\"",
    "`",
    "\"file\"",
    "'a'",
    "1",
    "0x",
    "1e5",
    " ",
    "\n",
    "SETTINGS",
    "format",
    "$$",
    "#",
    "\0",
    "\u{a0}",
    "?",
];

#[test]
fn a_statement_is_sent_as_it_is_without_its_comments() {
    for (written, sent) in [
        ("SELECT count() FROM events", "SELECT count() FROM events"),
        ("select 1 -- file('x')\n, 2;\n ;", "select 1  \n, 2"),
        ("SELECT 'it''s', 'a\\'b', 'ü' /* settings */ AS \"Größe\"", "SELECT 'it\\'s', 'a\\'b', 'ü'   AS \"Größe\""),
        ("(SELECT 1e5, 0xFF, 1.5e-3, x -> 1)", "(SELECT 1e5, 0xFF, 1.5e-3, x -> 1)"),
        (
            "WITH a AS (SELECT sumIf(numbers['x'], type = 'a') FROM events) SELECT * FROM a",
            "WITH a AS (SELECT sumIf(numbers['x'], type = 'a') FROM events) SELECT * FROM a",
        ),
        (
            "SELECT format('{}', 1), uniqExactIfOrNull(a, b) AS user, quantilesTDigest(0.5, 0.9)(x)",
            "SELECT format('{}', 1), uniqExactIfOrNull(a, b) AS user, quantilesTDigest(0.5, 0.9)(x)",
        ),
        (
            "SELECT arrayReduce('quantiles(0.5, 0.9)', x), arrayReduce('maxIf', x, y)",
            "SELECT arrayReduce('quantiles(0.5, 0.9)', x), arrayReduce('maxIf', x, y)",
        ),
        (
            r"SELECT 'a\x27\N', CAST(x AS Decimal(10, 2)), JSONExtract(s, concat('a', 'b'), 'Array(String)'), JSONExtract(s, 'a\'b', 'Int8')",
            r"SELECT 'a\x27\N', CAST(x AS Decimal(10, 2)), JSONExtract(s, concat('a', 'b'), 'Array(String)'), JSONExtract(s, 'a\'b', 'Int8')",
        ),
        (
            r"SELECT * FROM values('x String, y Int8', (concat('a\t', 'b'), -1)), (VALUES (1, NULL), (now(), 'b'))",
            r"SELECT * FROM values('x String, y Int8', (concat('a\t', 'b'), -1)), (VALUES (1, NULL), (now(), 'b'))",
        ),
        (
            "SELECT * FROM values('`x y` Tuple(a Array(String), b Nullable(Int8)), t DateTime64(3, ''UTC''), e Enum8(''a b'' = -1)', (x, y))",
            r"SELECT * FROM values('`x y` Tuple(a Array(String), b Nullable(Int8)), t DateTime64(3, \'UTC\'), e Enum8(\'a b\' = -1)', (x, y))",
        ),
        (
            "SELECT * FROM values('a', 'b'), values(('a b', [1.5])), CAST(x, 'DateTime(''UTC'')'), arrayReduce('groupConcat('', '')', x)",
            r"SELECT * FROM values('a', 'b'), values(('a b', [1.5])), CAST(x, 'DateTime(\'UTC\')'), arrayReduce('groupConcat(\', \')', x)",
        ),
        (
            "SELECT p.user, p.\"database\" FROM (SELECT type AS user, 1 AS `database` FROM events) AS p",
            "SELECT p.user, p.\"database\" FROM (SELECT type AS user, 1 AS `database` FROM events) AS p",
        ),
        ("SELECT 'settings; file(' AS \"settings\"", "SELECT 'settings; file(' AS \"settings\""),
    ] {
        assert_eq!(checked(written).as_deref(), Ok(sent));
    }
}

#[test]
fn what_rights_do_not_cover_is_refused_in_every_disguise() {
    for refused in [
        "SELECT file('/etc/passwd')",
        "SELECT FiLe ('/etc/passwd')",
        "SELECT file/**/('/etc/passwd')",
        "SELECT file--\n('/etc/passwd')",
        "SELECT \"file\"('/etc/passwd')",
        "SELECT `file`('/etc/passwd')",
        "SELECT arrayMap(file, ['/etc/passwd'])",
        "SELECT arrayMap(\"file\", ['/etc/passwd'])",
        "SELECT arrayMap(x -> file(x), ['/etc/passwd'])",
        "SELECT * APPLY file FROM (SELECT '/etc/passwd')",
        "SELECT * APPLY(file) FROM (SELECT '/etc/passwd')",
        "SELECT * FROM (SELECT 1 SETTINGS max_memory_usage = 0)",
        "SELECT 1 settings/**/readonly=0",
        "SELECT 1 FORMAT CSV",
        "SELECT 1 INTO OUTFILE 'x'",
        "SELECT bitmapBuild([1])",
        "SELECT subBitmap(bitmapBuild([1]), 0, 1)",
        r"SELECT maxMerge(x) FROM format(RowBinary, 'x \x41ggregateFunction(max, UInt8)', unhex('0105'))",
        "SELECT finalizeAggregation(CAST(unhex('0101fff4ab34'), 'AggregateFunction(max, Array(String))'))",
        "SELECT unhex('01')::SimpleAggregateFunction(max, UInt8)",
        r"SELECT finalizeAggregation(CAST(unhex('0105'), '\x41ggregateFunction(max, UInt8)'))",
        "SELECT finalizeAggregation(cast(unhex('0105'), concat('Aggregate', 'Function(max, UInt8)')))",
        "SELECT CAST(unhex('0105'), 'Aggregate' || 'Function(max, UInt8)')",
        "SELECT accurateCast(concat('a', unhex('0105')), char(65) || 'ggregateFunction(max, UInt8)')",
        "SELECT dynamicElement(type, type)",
        "SELECT unhex('01')::`aggregateFunction`(max, UInt8)",
        r"SELECT x[1] FROM values('x Array(Aggregate\x46unction(sum, UInt64))', [])",
        r"SELECT x[1] FROM `VALUES` ('x Array(Aggregate\NFunction(sum, UInt64))', [])",
        r"SELECT x FROM values('x `Aggregate\\x46unction`(sum, UInt64)', [])",
        "SELECT x[1] FROM values(concat('x Array(Aggregate', 'Function(sum, UInt64))'), [])",
        "SELECT x[1] FROM values(('x Array(Aggregate' || 'Function(sum, UInt64))'), [])",
        "WITH concat('x Aggregate', 'Function(sum, UInt64)') AS s SELECT * FROM values(s, 1)",
        r"SELECT 1 IN (SELECT c FROM events), CAST(x AS String), 'Aggregate\x46unction'",
        r"SELECT JSONExtract('{}', 'a', 'Aggregate\x46unction(max, UInt8)')",
        "SELECT JSONExtractKeysAndValues('{}', concat('Aggregate', 'Function(max, UInt8)'))",
        "SELECT reinterpret('a', 'Aggregate' || 'Function(max, UInt8)')",
        "SELECT getSubcolumn(1::Dynamic, concat('Aggregate', 'Function(sum, UInt64)'))",
        r"SELECT getSubcolumn(1::Dynamic, 'Aggregate\NFunction(sum, UInt64)')",
        "SELECT d.\"Array(AggregateFunction(sum, UInt64))\" FROM (SELECT 1::Dynamic AS d)",
        "SELECT d.`AggregateFunction(sum, UInt64)` FROM (SELECT 1::Dynamic AS d)",
        "SELECT y FROM values('x String, y String ALIAS file(x)', '/etc/passwd')",
        "SELECT y FROM values(('x String, y String ALIAS file(x)'), '/etc/passwd')",
        "SELECT y FROM values((('x String, y String ALIAS file(x)', 1).1), '/etc/passwd')",
        "SELECT y FROM values(['x String, y String ALIAS file(x)'][1], '/etc/passwd')",
        "WITH 'x String, y String ALIAS file(x)' AS s SELECT y FROM values(s, '/etc/passwd')",
        "SELECT y FROM values('x String,y String DEFAULT''a''||hostName()', 'a')",
        "SELECT y FROM values('x String, y String ALIAS currentUser', 'a')",
        "SELECT y FROM values('x String, y Tuple(a) ALIAS tuple(currentUser)', 'a')",
        "SELECT y FROM values('x String, y ALIAS currentUser', 'a')",
        "SELECT y FROM values('x String, y Array(file(x))', 'a')",
        r"SELECT y FROM values('x String, y Enum8(''\x27'' = 1)', 'a')",
        "SELECT arrayReduce('groupConcat(file(char(47, 101)))', ['a', 'b'])",
        "SELECT arrayReduce('groupArray(length(currentUser()))', [1])",
        "SELECT arrayReduce('groupConcat(currentUser)', ['a', 'b'])",
        "SELECT arrayReduceInRanges('groupConcat(hostName())', [(1, 2)], ['a', 'b'])",
        "SELECT sumState(1) FROM events",
        "SELECT [sumIfState(1, 1)], \"uniqState\"(type), uniqMergeState(x), maxSimpleState(1)",
        "SELECT countState()",
        "SELECT arrayReduce('sumState', [1])",
        "SELECT arrayReduce('quantileState(0.5)', [1])",
        "SELECT `arrayReduceInRanges`('uniqState', [(1, 1)], [1])",
        "SELECT arrayReduce(concat('sum', 'State'), [1])",
        r"SELECT arrayReduce('sum\x53tate', [1])",
        "SELECT arrayMap(levenshteinDistance, ['a'], ['b'])",
        "SELECT arrayMap(`editDistanceUTF8`, ['a'], ['b'])",
        "SELECT arrayMap(bitmapBuild, [[1, 2]])",
        "SELECT arrayMap(currentSchemas, [true]), arrayMap(\"dumpColumnStructure\", [1])",
        "SELECT current_user",
        "SELECT \"USER\"",
        "SELECT `Session_User`, 1 AS user",
        "SELECT currentUser, currentDatabase, current_database, database, SCHEMA",
        "SELECT _table FROM events",
        "SELECT getSetting('x')",
        "SELECT arrayMap(getSetting, ['x'])",
        "SELECT dictGet('a', 'b', 1)",
        "SELECT hostName()",
        "SELECT chdb()",
        "SELECT initialQueryID()",
        "SELECT sleep(3)",
        "SELECT fileIf('/etc/passwd', 1)",
        "SELECT * FROM system.one",
        "SELECT * FROM `System` /**/ . one",
        "SELECT * FROM url('http://127.0.0.1/')",
        "EXPLAIN SELECT 1",
        "SELECT * FROM (EXPLAIN SELECT 1)",
        "INSERT INTO events VALUES (1)",
        "SET readonly = 0",
        "",
    ] {
        assert_eq!(checked(refused).unwrap_err().code, "sql_not_allowed", "{refused}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for invalid in [
        "SELECT 1; SELECT 2",
        "SELECT \"\\x66ile\"('/etc/passwd')",
        "SELECT \"fi\"\"le\"('x')",
        "SELECT $$a$$",
        "SELECT 1 # comment",
        "SELECT ‘a’",
        "SELECT 1file('x')",
        "SELECT 0xfile('x')",
        "SELECT 'a",
        "SELECT 'a\\'",
        "SELECT /* a",
        "SELECT \"a",
        "SELECT 'a\0'",
        "SELECT @@version",
        "SELECT\u{a0}1",
        "SELECT 1\u{b}",
        "SELECT 'a'file('x')",
        "SELECT x'61'",
        r"SELECT 'a\x5g'",
        r"SELECT 'a\x'",
    ] {
        assert_eq!(checked(invalid).unwrap_err().code, "invalid_sql", "{invalid}");
    }
    assert_eq!(checked(&format!("SELECT '{}'", "a".repeat(MAX_BYTES))).unwrap_err().code, "invalid_sql");
}

#[test]
fn no_function_of_the_list_has_the_name_of_one_that_is_withheld() {
    let is_withheld =
        |name: &&&str| WITHHELD.contains(*name) || name.starts_with("dict") || name.starts_with("joinget") || name.starts_with("__");
    assert_eq!(FUNCTIONS.iter().filter(is_withheld).collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(WITHHELD.iter().all(|name| !is_function(name)));
}

proptest! {
    #[test]
    fn fuzz_of_statements(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..16), odd in "\\PC{0,4}", gap in "( |\n|)") {
        let sql = format!("SELECT {}{odd}", pieces.join(&gap));
        // What is sent is read the same way again: nothing of it can be taken for something else.
        if let Ok(sent) = checked(&sql) {
            prop_assert_eq!(checked(&sent), Ok(sent.clone()), "{}", sql);
        }
    }
}

#[test]
fn no_column_is_called_as_a_function_that_may_not_be_named() {
    assert!(crate::store::sql_views::columns().all(|name| !super::needs_table(name)));
    // Each function stands in one list.
    let is_withheld = |name: &str| WITHHELD.contains(&name) || WITHHELD_AS.iter().any(|beginning| name.starts_with(beginning));
    assert!(!UNLISTED.iter().any(|name| FUNCTIONS.contains(name) || is_withheld(name)));
}
