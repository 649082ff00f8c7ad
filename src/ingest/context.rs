//! `context`: what clients collect by themselves. Wrong types cost the field, never the event.

use std::net::IpAddr;

use simd_json::{Node, StaticNode};

use super::decode::next;
use super::event::clip;
use crate::event::address::parse_forwarded;
use crate::event::field::Field;
use crate::event::packed::EventWriter;

const MAX_URL: usize = 2_048;
/// Addresses whose query is still to be read: it is cut only when it has been (load keeps less).
const MAX_WHOLE_URL: usize = 16 << 10;
const MAX_TEXT: usize = 512;
const MAX_AGENT: usize = 1_024;

/// What the context says of the client's address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Address {
    /// Nothing: the peer is the client.
    #[default]
    Missing,
    /// Something that names no address. The peer is a server that sends for a client which it does not know.
    Unreadable,
    /// The address.
    Known(IpAddr),
}

/// What the context said that is not a field of the event.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Given {
    /// The client's address, to be resolved and forgotten.
    pub(super) address: Address,
    /// Whether it named the user agent.
    pub(super) has_agent: bool,
}

/// Writes the fields of the context at `at`.
pub(super) fn write(nodes: &[Node<'_>], at: usize, writer: &mut EventWriter<'_>) -> Given {
    let mut given = Given::default();
    members(nodes, at, |key, value| match nodes.get(value) {
        None | Some(Node::Static(StaticNode::Null)) => {}
        Some(node) if key == "ip" => given.address = address(node),
        Some(Node::Object { .. }) => members(nodes, value, |inner, at| nested(key, inner, nodes.get(at), writer)),
        Some(Node::String(text)) => match key {
            "locale" => writer.field(Field::Locale, clip(text, MAX_TEXT).as_bytes()),
            "timezone" => writer.field(Field::Timezone, clip(text, MAX_TEXT).as_bytes()),
            "userAgent" => {
                given.has_agent = !text.is_empty();
                writer.field(Field::UserAgent, clip(text, MAX_AGENT).as_bytes());
            }
            _ => {}
        },
        _ => {}
    });
    given
}

fn address(node: &Node<'_>) -> Address {
    let text = if let Node::String(text) = node { text } else { "" };
    parse_forwarded(text).map_or(Address::Unreadable, Address::Known)
}

fn members<'i>(nodes: &[Node<'i>], at: usize, mut show: impl FnMut(&'i str, usize)) {
    let Some(Node::Object { len, .. }) = nodes.get(at) else { return };
    let mut at = at + 1;
    for _ in 0..*len {
        if let Some(Node::String(key)) = nodes.get(at) {
            show(key, at + 1);
        }
        at = next(nodes, at + 1);
    }
}

fn nested(outer: &str, inner: &str, node: Option<&Node<'_>>, writer: &mut EventWriter<'_>) {
    match (outer, node) {
        ("screen", Some(Node::Static(number))) => screen(inner, number, writer),
        (_, Some(Node::String(text))) => {
            if let Some(field) = field(outer, inner) {
                let max = match field {
                    Field::PageUrl | Field::PageSearch => MAX_WHOLE_URL,
                    Field::Referrer | Field::PagePath => MAX_URL,
                    _ => MAX_TEXT,
                };
                writer.field(field, clip(text, max).as_bytes());
            }
        }
        _ => {}
    }
}

fn screen(inner: &str, number: &StaticNode, writer: &mut EventWriter<'_>) {
    let number = match number {
        StaticNode::I64(number) => *number as f64,
        StaticNode::U64(number) => *number as f64,
        StaticNode::F64(number) => *number,
        _ => return,
    };
    let pixels = |number: f64| (number >= 0.0 && number <= f64::from(u16::MAX)).then_some(number as u16);
    match inner {
        "width" => {
            if let Some(pixels) = pixels(number) {
                writer.field(Field::ScreenWidth, &pixels.to_le_bytes());
            }
        }
        "height" => {
            if let Some(pixels) = pixels(number) {
                writer.field(Field::ScreenHeight, &pixels.to_le_bytes());
            }
        }
        "density" if number > 0.0 && number < 100.0 => writer.field(Field::ScreenDensity, &(number as f32).to_le_bytes()),
        _ => {}
    }
}

fn field(outer: &str, inner: &str) -> Option<Field> {
    Some(match (outer, inner) {
        ("app", "name") => Field::AppName,
        ("app", "version") => Field::AppVersion,
        ("app", "build") => Field::AppBuild,
        ("browser", "name") => Field::Browser,
        ("browser", "version") => Field::BrowserVersion,
        ("device", "type") => Field::DeviceType,
        ("device", "model") => Field::DeviceModel,
        ("device", "manufacturer") => Field::DeviceManufacturer,
        ("os", "name") => Field::Os,
        ("os", "version") => Field::OsVersion,
        ("page", "url") => Field::PageUrl,
        ("page", "host") => Field::PageHost,
        ("page", "path") => Field::PagePath,
        ("page", "title") => Field::PageTitle,
        ("page", "search") => Field::PageSearch,
        ("page", "referrer") => Field::Referrer,
        ("campaign", "source") => Field::CampaignSource,
        ("campaign", "medium") => Field::CampaignMedium,
        ("campaign", "name") => Field::CampaignName,
        ("campaign", "term") => Field::CampaignTerm,
        ("campaign", "content") => Field::CampaignContent,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str) -> Address {
        let mut text = format!(r#"{{"locale":"en"{ip}}}"#).into_bytes();
        let tape = simd_json::to_tape(&mut text).unwrap();
        let mut out = Vec::new();
        write(&tape.0, 0, &mut EventWriter::begin(&mut out)).address
    }

    #[test]
    fn an_address_that_cannot_be_read_is_not_the_senders() {
        for bad in [r#""""#, r#""unknown""#, r#""8.8.8.0/24""#, "5", "true", "[]", "{}", r#"{"v4":"8.8.8.8"}"#, r#"["8.8.8.8"]"#] {
            assert_eq!(address(&format!(r#","ip":{bad}"#)), Address::Unreadable, "{bad}");
        }
        assert_eq!(address(""), Address::Missing);
        assert_eq!(address(r#","ip":null"#), Address::Missing);
    }

    #[test]
    fn an_address_is_read_as_frameworks_and_proxies_write_it() {
        let expected = Address::Known("8.8.8.8".parse().unwrap());
        for good in ["8.8.8.8", " 8.8.8.8", "8.8.8.8:51008", "8.8.8.8, 10.0.0.1", "::ffff:8.8.8.8", "for=8.8.8.8;proto=https"] {
            assert_eq!(address(&format!(r#","ip":"{good}""#)), expected, "{good}");
        }
    }
}
