//! A small database of networks, in the format of MaxMind.

/// The length of the tree's records, bits.
const RECORD: u32 = 24;

/// A database of IPv4 networks: address, length of its prefix, number of the autonomous system and who operates it.
pub(crate) fn networks(networks: &[([u8; 4], u32, u32, &str)]) -> Vec<u8> {
    // Two places a node: nothing, another node, or a network.
    let mut nodes: Vec<[Place; 2]> = vec![[Place::Nothing; 2]];
    for (number, (address, length, ..)) in networks.iter().enumerate() {
        let mut at = 0;
        for bit in 0..*length {
            let side = (u32::from_be_bytes(*address) >> (31 - bit) & 1) as usize;
            at = match nodes[at][side] {
                _ if bit + 1 == *length => {
                    nodes[at][side] = Place::Network(number);
                    break;
                }
                Place::Node(next) => next,
                _ => {
                    nodes.push([Place::Nothing; 2]);
                    let next = nodes.len() - 1;
                    nodes[at][side] = Place::Node(next);
                    next
                }
            };
        }
    }
    let (mut data, mut starts) = (Vec::new(), Vec::new());
    for (_, _, system, operator) in networks {
        starts.push(data.len());
        head(&mut data, 7, 2);
        text(&mut data, "autonomous_system_number");
        number(&mut data, 6, *system);
        text(&mut data, "autonomous_system_organization");
        text(&mut data, operator);
    }
    let mut out = Vec::new();
    for place in nodes.iter().flatten() {
        let record = match place {
            Place::Nothing => nodes.len(),
            Place::Node(node) => *node,
            Place::Network(number) => nodes.len() + 16 + starts[*number],
        };
        out.extend_from_slice(&(record as u32).to_be_bytes()[1..]);
    }
    out.extend_from_slice(&[0; 16]);
    out.extend_from_slice(&data);
    out.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    head(&mut out, 7, 9);
    for (key, value) in [("node_count", nodes.len() as u32), ("build_epoch", 1)] {
        text(&mut out, key);
        // Times are of 64 bits.
        number(&mut out, if key == "build_epoch" { 9 } else { 6 }, value);
    }
    for (key, value) in [("record_size", RECORD), ("ip_version", 4), ("binary_format_major_version", 2), ("binary_format_minor_version", 0)]
    {
        text(&mut out, key);
        number(&mut out, 5, value);
    }
    text(&mut out, "database_type");
    text(&mut out, "Test-ASN");
    text(&mut out, "languages");
    head(&mut out, 11, 0);
    text(&mut out, "description");
    head(&mut out, 7, 0);
    out
}

#[derive(Clone, Copy)]
enum Place {
    Nothing,
    Node(usize),
    Network(usize),
}

/// What begins a value: its type and its size.
fn head(out: &mut Vec<u8>, kind: u8, size: usize) {
    let (code, more) = if size < 29 { (size as u8, None) } else { (29, Some((size - 29) as u8)) };
    if kind < 8 {
        out.push(kind << 5 | code);
    } else {
        out.extend_from_slice(&[code, kind - 7]);
    }
    out.extend(more);
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 2, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn number(out: &mut Vec<u8>, kind: u8, value: u32) {
    let bytes = value.to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    head(out, kind, bytes.len());
    out.extend_from_slice(bytes);
}
