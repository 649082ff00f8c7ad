//! The protobuf encoding of what [`super`] reads, and of its answers.
//!
//! Read where it stands, one record at a time: a library would make all messages of a body at once, and of two bytes each those are
//! a hundred times as large as the body. Promises: a record becomes at most [`MAX_VALUES`] values, nested at most [`MAX_DEPTH`] deep; no
//! bytes make it panic.

use serde_json::{Map, Value as Json};

use super::record::{Record, Resource, checked};
use crate::ingest::refusal::Refusal;
use crate::ingest::verdict::Rejection;
use crate::outcome::Defect;

/// Most values of a record: more than an event may have properties, many times over.
const MAX_VALUES: usize = 10_000;
const MAX_DEPTH: usize = 16;

/// One field of a message.
enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message in order, with their tags; the last is an error if the message is broken.
struct Fields<'b>(&'b [u8]);

/// The bytes are no message.
#[derive(Debug)]
struct Broken;

impl<'b> Fields<'b> {
    fn varint(&mut self) -> Result<u64, Broken> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Broken)?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit more.
            if bits << shift >> shift != bits {
                return Err(Broken);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Broken)
    }

    fn bytes(&mut self, length: u64) -> Result<&'b [u8], Broken> {
        let (bytes, rest) = usize::try_from(length).ok().and_then(|length| self.0.split_at_checked(length)).ok_or(Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Broken> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Broken)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn field(&mut self) -> Result<(u64, Field<'b>), Broken> {
        let key = self.varint()?;
        let field = match key & 7 {
            0 => Field::Number(self.varint()?),
            1 => Field::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = self.varint()?;
                Field::Bytes(self.bytes(length)?)
            }
            5 => Field::Number(u32::from_le_bytes(self.fixed()?).into()),
            _ => return Err(Broken),
        };
        if key >> 3 == 0 { Err(Broken) } else { Ok((key >> 3, field)) }
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Field<'b>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The messages of a message that have this tag.
fn messages(message: &[u8], tag: u64) -> impl Iterator<Item = Result<&[u8], Broken>> {
    Fields(message).filter_map(move |field| match field {
        Ok((own, Field::Bytes(bytes))) if own == tag => Some(Ok(bytes)),
        Ok((own, Field::Number(_))) if own == tag => Some(Err(Broken)),
        Ok(_) => None,
        Err(broken) => Some(Err(broken)),
    })
}

/// Takes each record of a body to `take`, with its resource; of one with more than `max_size` bytes nothing is read, for a byte may become six
/// of JSON. No bytes are an export without records.
pub(super) fn each(
    body: &[u8],
    max_size: usize,
    mut take: impl FnMut(Result<Record, Rejection>, &Resource) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    for resource_logs in messages(body, 1) {
        let resource_logs = resource_logs?;
        let resource = Reader::default().resource(resource_logs).map_err(Rejection::from).and_then(checked);
        for scope_logs in messages(resource_logs, 2) {
            for record in messages(scope_logs?, 2) {
                let record = record?;
                let read = match record.len() {
                    size if size > max_size => Err(Unreadable::TooLarge { size, max_size }),
                    _ => Reader::default().record(record),
                };
                take(read.map_err(Rejection::from), &resource)?;
            }
        }
    }
    Ok(())
}

/// Reads one record, or one resource.
#[derive(Default)]
struct Reader {
    values: usize,
    depth: usize,
}

/// Why a record cannot be read.
enum Unreadable {
    Broken,
    NotText,
    TooMuch,
    TooLarge { size: usize, max_size: usize },
}

impl Reader {
    /// The attributes of the resource that a message says its records are of.
    fn resource(&mut self, resource_logs: &[u8]) -> Result<Map<String, Json>, Unreadable> {
        let mut attributes = Map::new();
        for resource in messages(resource_logs, 1) {
            for attribute in messages(resource?, 1) {
                self.attribute(attribute?, &mut attributes)?;
            }
        }
        Ok(attributes)
    }

    fn record(&mut self, message: &[u8]) -> Result<Record, Unreadable> {
        let mut record = Record::default();
        for field in Fields(message) {
            match field? {
                (1, Field::Number(time_ns)) => record.time_ns = time_ns,
                (11, Field::Number(observed_ns)) => record.observed_ns = observed_ns,
                (3, Field::Bytes(text)) => record.severity = self::text(text)?.to_owned(),
                (5, Field::Bytes(value)) => record.body = self.value(value)?,
                (6, Field::Bytes(attribute)) => self.attribute(attribute, &mut record.attributes)?,
                (9, Field::Bytes(id)) => record.trace_id = hex(id),
                (10, Field::Bytes(id)) => record.span_id = hex(id),
                (12, Field::Bytes(name)) => record.event_name = text(name)?.to_owned(),
                (1 | 3 | 5 | 6 | 9..=12, _) => return Err(Unreadable::Broken),
                _ => {}
            }
        }
        Ok(record)
    }

    fn attribute(&mut self, message: &[u8], attributes: &mut Map<String, Json>) -> Result<(), Unreadable> {
        let (mut key, mut value) = ("", Json::Null);
        for field in Fields(message) {
            match field? {
                (1, Field::Bytes(bytes)) => key = text(bytes)?,
                (2, Field::Bytes(bytes)) => value = self.value(bytes)?,
                (1 | 2, _) => return Err(Unreadable::Broken),
                _ => {}
            }
        }
        self.count()?;
        attributes.insert(key.to_owned(), value);
        Ok(())
    }

    fn value(&mut self, message: &[u8]) -> Result<Json, Unreadable> {
        self.count()?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Unreadable::TooMuch);
        }
        let mut value = Json::Null;
        for field in Fields(message) {
            value = match field? {
                (1, Field::Bytes(bytes)) => text(bytes)?.into(),
                (2, Field::Number(number)) => (number != 0).into(),
                (3, Field::Number(number)) => number.cast_signed().into(),
                (4, Field::Number(bits)) => f64::from_bits(bits).into(),
                (5, Field::Bytes(list)) => messages(list, 1).map(|value| self.value(value?)).collect::<Result<_, _>>()?,
                (6, Field::Bytes(list)) => {
                    let mut members = Map::new();
                    for attribute in messages(list, 1) {
                        self.attribute(attribute?, &mut members)?;
                    }
                    Json::Object(members)
                }
                (7, Field::Bytes(bytes)) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into(),
                (1..=7, _) => return Err(Unreadable::Broken),
                _ => continue,
            };
        }
        self.depth -= 1;
        Ok(value)
    }

    fn count(&mut self) -> Result<(), Unreadable> {
        self.values += 1;
        if self.values > MAX_VALUES { Err(Unreadable::TooMuch) } else { Ok(()) }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    std::str::from_utf8(bytes).map_err(|_| Unreadable::NotText)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl From<Broken> for Refusal {
    fn from(_: Broken) -> Self {
        Self::NotProtobuf
    }
}

impl From<Broken> for Unreadable {
    fn from(_: Broken) -> Self {
        Self::Broken
    }
}

impl From<Unreadable> for Rejection {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Broken => Self::new(Defect::InvalidJson, "", "the log record or its resource is no protobuf message"),
            Unreadable::NotText => Self::new(Defect::InvalidUnicode, "", "a text of the log record or its resource is no UTF-8"),
            Unreadable::TooLarge { size, max_size } => {
                Self::new(Defect::EventTooLarge, "", format!("the log record has {size} bytes, more than {max_size}"))
            }
            Unreadable::TooMuch => Self::new(
                Defect::EventTooLarge,
                "",
                format!("the log record or its resource has more than {MAX_VALUES} values or nests deeper than {MAX_DEPTH}"),
            ),
        }
    }
}

/// `ExportLogsServiceResponse`: empty if nothing was refused.
pub(super) fn partial_success(refused: u64, why: &str) -> Vec<u8> {
    if refused == 0 {
        return Vec::new();
    }
    let mut outer = Vec::new();
    put_bytes(&mut outer, 1, &status(refused, why));
    outer
}

/// `google.rpc.Status`, whose fields are those of what was refused: a number and a sentence.
pub(super) fn status(number: u64, why: &str) -> Vec<u8> {
    let mut message = vec![1 << 3];
    put_varint(&mut message, number);
    put_bytes(&mut message, 2, why.as_bytes());
    message
}

fn put_bytes(message: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    message.push(tag << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A field of bytes.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut field = Vec::new();
        put_bytes(&mut field, tag, bytes);
        field
    }

    fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
        [field(1, key.as_bytes()), field(2, value)].concat()
    }

    pub(in super::super) fn export(records: &[Vec<u8>]) -> Vec<u8> {
        let resource = field(1, &field(1, &attribute("service.name", &field(1, b"shop"))));
        let records: Vec<u8> = records.iter().flat_map(|record| field(2, record)).collect();
        field(1, &[resource, field(2, &records)].concat())
    }

    fn order() -> Vec<u8> {
        let time = [vec![1 << 3 | 1], 1_735_740_800_000_000_000_u64.to_le_bytes().to_vec()].concat();
        let total = [vec![4 << 3 | 1], 12.5_f64.to_le_bytes().to_vec()].concat();
        let tags = field(5, &[field(1, &field(1, b"a")), field(1, &[2 << 3, 1])].concat());
        let attributes = [
            attribute("user.id", &field(1, b"ada")),
            attribute("total", &total),
            attribute("count", &[3 << 3, 3]),
            attribute("tags", &tags),
        ];
        let attributes: Vec<u8> = attributes.iter().flat_map(|one| field(6, one)).collect();
        [time, attributes, field(12, b"order"), field(9, &[0x0a, 0xf7])].concat()
    }

    fn read(body: &[u8]) -> Result<Vec<Result<Record, Rejection>>, Refusal> {
        let mut records = Vec::new();
        each(body, 64 << 10, |record, resource| {
            assert_eq!(resource.as_ref().unwrap().get("service.name"), Some(&json!("shop")));
            records.push(record);
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn a_record_is_read() {
        let records = read(&export(&[order(), vec![]])).unwrap();
        let record = records[0].as_ref().unwrap();
        assert_eq!((record.event_name.as_str(), record.time_ns, record.trace_id.as_str()), ("order", 1_735_740_800_000_000_000, "0af7"));
        assert_eq!(Json::Object(record.attributes.clone()), json!({"user.id": "ada", "total": 12.5, "count": 3, "tags": ["a", true]}));
        assert_eq!(records[1].as_ref().unwrap(), &Record::default());
    }

    #[test]
    fn what_is_broken_or_too_much_costs_its_record() {
        let deep = (0..40).fold(field(1, b"x"), |value, _| field(5, &field(1, &value)));
        let wide = field(5, &field(1, b"").repeat(20_000));
        let endless = [&[1 << 3][..], &[0xff; 10], &[0]].concat();
        let overflowing = [&[1 << 3][..], &[0xff; 9], &[2]].concat();
        let latin = field(6, &attribute("a", &field(1, &[0xe9])));
        for bad in [
            vec![0xff],
            field(6, &attribute("a", &deep)),
            field(5, &wide),
            field(6, &[]).repeat(20_000),
            vec![12 << 3 | 2, 200],
            vec![12 << 3 | 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            vec![12 << 3, 1],
            vec![2, 0],
            vec![1 << 3 | 3],
            endless,
            overflowing,
            latin,
            field(12, &[0xff]),
            field(12, &[1; 65 << 10]),
        ] {
            let records = read(&export(&[bad, order()])).unwrap();
            assert!(records[0].is_err() && records[1].is_ok());
        }
        assert!(each(b"{}", 0, |_, _| Ok(())).is_err());
        assert_eq!(each(b"", 0, |_, _| Ok(())), Ok(()));
    }

    #[test]
    fn no_prefix_and_no_flipped_byte_makes_it_panic() {
        let whole = export(&[order(), order()]);
        for cut in 0..whole.len() {
            let _ = each(&whole[..cut], 1_000, |_, _| Ok(()));
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[cut] ^= 1 << bit;
                let _ = each(&flipped, 1_000, |_, _| Ok(()));
            }
        }
    }

    #[test]
    fn what_was_refused_is_told() {
        assert_eq!(partial_success(0, "x"), b"");
        assert_eq!(partial_success(300, "no"), b"\x0a\x07\x08\xac\x02\x12\x02no");
    }
}
