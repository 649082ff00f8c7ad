//! `context`: what clients collect by themselves. Wrong types cost the field, never the event.

use std::net::IpAddr;

use simd_json::{Node, StaticNode};

use super::decode::next;
use super::event::{Out, clip, with_text};
use super::warning::{UNKNOWN_FIELD, VALUE_TRUNCATED, VALUE_UNREADABLE};
use crate::event::address::parse_forwarded;
use crate::event::field::Field;

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
pub(super) fn write(nodes: &[Node<'_>], at: usize, out: &mut Out<'_, '_>) -> Given {
    let mut given = Given::default();
    match nodes.get(at) {
        Some(Node::Object { .. } | Node::Array { len: 0, .. }) => {}
        _ => out.warnings.add(VALUE_UNREADABLE, &["context"]),
    }
    members(nodes, at, |key, value| {
        let Some(node) = nodes.get(value).filter(|node| !is_null(node)) else { return };
        match key {
            "ip" => given.address = address(node),
            "locale" => text((Field::Locale, node), &["locale"], out),
            "timezone" => text((Field::Timezone, node), &["timezone"], out),
            "userAgent" => {
                given.has_agent = matches!(node, Node::String(text) if !text.is_empty());
                text((Field::UserAgent, node), &["userAgent"], out);
            }
            "app" | "browser" | "device" | "os" | "page" | "campaign" | "screen" => match node {
                Node::Object { .. } => members(nodes, value, |inner, at| nested((key, inner), nodes.get(at), out)),
                Node::Array { len: 0, .. } => {}
                _ => out.warnings.add(VALUE_UNREADABLE, &["context.", key]),
            },
            _ => out.warnings.add(UNKNOWN_FIELD, &["context.", key]),
        }
    });
    if given.address == Address::Unreadable {
        out.warnings.add(VALUE_UNREADABLE, &["context.ip"]);
    }
    given
}

fn is_null(node: &Node<'_>) -> bool {
    matches!(node, Node::Static(StaticNode::Null))
}

fn address(node: &Node<'_>) -> Address {
    let text = if let Node::String(text) = node { text } else { "" };
    parse_forwarded(text).map_or(Address::Unreadable, Address::Known)
}

/// Shows each key of the object at `at`, and where its value stands.
pub(super) fn members<'i>(nodes: &[Node<'i>], at: usize, mut show: impl FnMut(&'i str, usize)) {
    let Some(Node::Object { len, .. }) = nodes.get(at) else { return };
    let mut at = at + 1;
    for _ in 0..*len {
        if let Some(Node::String(key)) = nodes.get(at) {
            show(key, at + 1);
        }
        at = next(nodes, at + 1);
    }
}

fn nested((outer, inner): (&str, &str), node: Option<&Node<'_>>, out: &mut Out<'_, '_>) {
    let Some(node) = node.filter(|node| !is_null(node)) else { return };
    if outer == "screen" {
        screen(inner, node, out);
    } else if let Some(field) = field(outer, inner) {
        text((field, node), &[outer, ".", inner], out);
    } else {
        out.warnings.add(UNKNOWN_FIELD, &["context.", outer, ".", inner]);
    }
}

/// Writes a field of text; a number is text too: builds and versions often come as one.
fn text((field, node): (Field, &Node<'_>), name: &[&str], out: &mut Out<'_, '_>) {
    let max = match field {
        Field::PageUrl | Field::PageSearch => MAX_WHOLE_URL,
        Field::Referrer | Field::PagePath => MAX_URL,
        Field::UserAgent => MAX_AGENT,
        _ => MAX_TEXT,
    };
    let is_cut = with_text(node, |text| {
        let kept = clip(text, max);
        out.writer.field(field, kept.as_bytes());
        kept.len() < text.len()
    });
    let code = match is_cut {
        Some(false) => return,
        Some(true) => VALUE_TRUNCATED,
        None => VALUE_UNREADABLE,
    };
    match *name {
        [outer, dot, inner] => out.warnings.add(code, &["context.", outer, dot, inner]),
        [name] => out.warnings.add(code, &["context.", name]),
        _ => {}
    }
}

fn screen(inner: &str, node: &Node<'_>, out: &mut Out<'_, '_>) {
    let field = match inner {
        "width" => Field::ScreenWidth,
        "height" => Field::ScreenHeight,
        "density" => Field::ScreenDensity,
        _ => return out.warnings.add(UNKNOWN_FIELD, &["context.screen.", inner]),
    };
    let number = match node {
        Node::String(text) => text.trim().parse().unwrap_or(f64::NAN),
        Node::Static(StaticNode::I64(number)) => *number as f64,
        Node::Static(StaticNode::U64(number)) => *number as f64,
        Node::Static(StaticNode::F64(number)) => *number,
        _ => f64::NAN,
    };
    if field == Field::ScreenDensity && number > 0.0 && number < 100.0 {
        out.writer.field(field, &(number as f32).to_le_bytes());
    } else if field != Field::ScreenDensity && (0.0..=f64::from(u16::MAX)).contains(&number) {
        out.writer.field(field, &(number as u16).to_le_bytes());
    } else {
        out.warnings.add(VALUE_UNREADABLE, &["context.screen.", inner]);
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
    use crate::event::packed::EventWriter;
    use crate::ingest::warning::Warnings;

    fn address(ip: &str) -> Address {
        let mut text = format!(r#"{{"locale":"en"{ip}}}"#).into_bytes();
        let tape = simd_json::to_tape(&mut text).unwrap();
        let mut out = Vec::new();
        write(&tape.0, 0, &mut Out { writer: &mut EventWriter::begin(&mut out), warnings: &mut Warnings::default() }).address
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
