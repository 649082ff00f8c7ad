use std::sync::Arc;

use proptest::prelude::*;

use super::super::group_insert::PendingBlock;
use super::*;
use crate::clickhouse::native::Column as _;
use crate::event::ids::{LogEpoch, PersonKey, VisitorKey};
use crate::event::packed::{EventHeader, EventWriter};

const KEY: PartitionKey = PartitionKey { epoch: LogEpoch(7), partition: 3 };

/// An event whose texts are few, so that parts share some of them and not others.
fn put(rows: &mut Rows, (number, text, properties): (u8, u8, u8)) {
    let mut bytes = Vec::new();
    let mut writer = EventWriter::begin(&mut bytes);
    let text = "x".repeat(usize::from(text));
    [Field::Type, Field::City, Field::PageUrl].iter().for_each(|field| writer.field(*field, text.as_bytes()));
    for property in 0..properties {
        writer.string(&[b'a' + property], text.as_bytes());
        writer.number(b"n", f64::from(number));
    }
    let at_ms = i64::from(number);
    let ids = ([number; 16], VisitorKey(1), PersonKey(2));
    let (event_id, visitor, person) = ids;
    writer.finish(&EventHeader { event_id, visitor, person, at_ms, received_ms: at_ms, ..EventHeader::default() });
    let event = EventView::take(&mut bytes.as_slice()).unwrap();
    rows.event(
        &event,
        &Fields::of(&event).unwrap(),
        Belonging { project: ProjectId(5), session: None, campaign: Campaign::NONE },
        RowOrigin { day: 1, offset: 2, index: 3 },
    );
}

fn block(rows: Rows) -> PendingBlock {
    PendingBlock { key: KEY, generation: 9, rows: Arc::new(rows) }
}

proptest! {
    #[test]
    fn rows_that_were_collected_apart_are_one_block_as_if_together(
        parts in prop::collection::vec(prop::collection::vec((any::<u8>(), 0..20_u8, 0..4_u8), 0..20), 1..5),
    ) {
        let (mut whole, mut apart) = (Rows::new(), Vec::new());
        for part in parts {
            let mut rows = Rows::new();
            for event in part {
                put(&mut rows, event);
                put(&mut whole, event);
            }
            apart.push(block(rows));
        }
        prop_assert!(encode(&apart).flatten().eq(encode(&[block(whole)]).flatten()));
    }
}

#[test]
fn many_values_in_two_parts_need_wider_places() {
    let part = |numbers: std::ops::Range<u32>| {
        let mut column = DictionaryColumn::default();
        numbers.for_each(|number| column.push(number.to_string().as_bytes()));
        column
    };
    let (mut joined, mut whole) = (Vec::new(), Vec::new());
    DictionaryColumn::put([&part(0..200), &part(150..400)].into_iter(), "c", &mut joined);
    let mut all = part(0..200);
    (150..400_u32).for_each(|number| all.push(number.to_string().as_bytes()));
    DictionaryColumn::put(std::iter::once(&all), "c", &mut whole);
    assert_eq!(joined, whole);
}

/// The text columns of one event that do not hold what is expected of them; those not named are to be empty.
fn unexpected(given: &[(Field, &str)], expected: &[(&str, &str)]) -> Vec<&'static str> {
    let (mut bytes, mut rows) = (Vec::new(), Rows::new());
    let mut writer = EventWriter::begin(&mut bytes);
    given.iter().for_each(|(field, text)| writer.field(*field, text.as_bytes()));
    let ids = ([1; 16], VisitorKey(1), PersonKey(2));
    let (event_id, visitor, person) = ids;
    writer.finish(&EventHeader { event_id, visitor, person, ..EventHeader::default() });
    let event = EventView::take(&mut bytes.as_slice()).unwrap();
    rows.event(
        &event,
        &Fields::of(&event).unwrap(),
        Belonging { project: ProjectId(5), session: None, campaign: Campaign::NONE },
        RowOrigin { day: 1, offset: 2, index: 3 },
    );
    let text = |name: &str| expected.iter().find(|(column, _)| *column == name).map_or("", |(_, text)| text);
    let texts = TEXTS.iter().zip(&rows.texts).filter(|(column, values)| {
        let mut expected = StringColumn::default();
        expected.push(text(column.name).as_bytes());
        encoded(*values) != encoded(&expected)
    });
    let few = DICTIONARIES.iter().zip(&rows.dictionaries).filter(|(column, values)| {
        let mut expected = DictionaryColumn::default();
        expected.push(text(column.name).as_bytes());
        encoded(*values) != encoded(&expected)
    });
    texts.map(|(column, _)| column.name).chain(few.map(|(column, _)| column.name)).collect()
}

fn encoded<C: native::Column>(column: &C) -> Vec<u8> {
    let mut out = Vec::new();
    C::put(std::iter::once(column), "c", &mut out);
    out
}

const NOTHING: [&str; 0] = [];

#[test]
fn what_a_page_is_follows_from_its_address_where_it_is_not_said() {
    let url = "https://Shop.Example:8443/Pricing?plan=pro#faq";
    let derived = [("page_url", url), ("page_path", "/Pricing"), ("page_search", "?plan=pro"), ("page_host", "shop.example")];
    assert_eq!(unexpected(&[(Field::PageUrl, url)], &derived), NOTHING);
    let said = [(Field::PageUrl, url), (Field::PagePath, "/p"), (Field::PageSearch, "?q"), (Field::PageHost, "WWW.example")];
    let kept = [("page_url", url), ("page_path", "/p"), ("page_search", "?q"), ("page_host", "www.example")];
    assert_eq!(unexpected(&said, &kept), NOTHING);
    assert_eq!(unexpected(&[(Field::PagePath, "/p")], &[("page_path", "/p")]), NOTHING);
}

#[test]
fn a_long_address_is_cut_only_after_it_was_read() {
    let path = format!("/{}", "\u{e4}".repeat(MAX_TEXT / 2));
    let url = format!("https://shop.example{path}?plan=pro");
    let cut = |text: &str| text[..text.floor_char_boundary(MAX_TEXT)].to_owned();
    let expected = [("page_url", &*cut(&url)), ("page_path", &*cut(&path)), ("page_search", "?plan=pro"), ("page_host", "shop.example")];
    assert_eq!(unexpected(&[(Field::PageUrl, &url)], &expected), NOTHING);
}

#[test]
fn a_block_has_the_columns_that_the_insert_names() {
    let into = with_columns(Statement::default());
    assert_eq!(into.text().matches(", ").count() + 1, columns::<PendingBlock>().len());
    assert!(into.text().starts_with(" (project_id, timestamp, ") && into.text().ends_with(", generation)"), "{}", into.text());
}
