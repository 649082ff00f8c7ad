//! The header of the PROXY protocol, versions 1 and 2, with which a proxy that passes bytes on begins a connection and says who is behind it.
//!
//! Promises: not a byte behind the header is read; a header is at most [`LONGEST`] bytes. Only what trusted proxies send is read so.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Longest header of version 1, its end of line included.
const LONGEST_LINE: usize = 107;
/// Longest rest of a header of version 2: the addresses, and what proxies add to them.
const LONGEST: usize = 4 << 10;

/// The address of the client behind a proxy; `None` if the proxy speaks for itself, or for somebody without an address.
///
/// # Errors
/// What comes is no such header, or ends in it.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>> {
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if begin != *SIGNATURE {
        return parse_line(&read_line(stream, begin.to_vec()).await?).ok_or_else(malformed);
    }
    let mut rest = [0; 4];
    stream.read_exact(&mut rest).await?;
    let [command, family, high, low] = rest;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(malformed());
    }
    let mut addresses = vec![0; length];
    stream.read_exact(&mut addresses).await?;
    match command {
        0x20 => Ok(None),
        0x21 => source(family, &addresses).ok_or_else(malformed),
        _ => Err(malformed()),
    }
}

/// The rest of a line of version 1.
async fn read_line(stream: &mut (impl AsyncRead + Unpin), mut line: Vec<u8>) -> Result<Vec<u8>> {
    if !line.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    // What is behind it belongs to the request.
    while !line.ends_with(b"\n") {
        if line.len() >= LONGEST_LINE {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    Ok(line)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`.
fn parse_line(line: &[u8]) -> Option<Option<IpAddr>> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = text.split(' ').skip(1);
    let (family, source) = (words.next()?, words.next());
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, rest): (&str, Vec<&str>) = (source?, words.collect());
    let [target, ports @ ..] = rest.as_slice() else { return None };
    let are_ports = ports.len() == 2 && ports.iter().all(|port| port.parse::<u16>().is_ok());
    let address: IpAddr = match family {
        "TCP4" => source.parse::<Ipv4Addr>().ok().filter(|_| target.parse::<Ipv4Addr>().is_ok())?.into(),
        "TCP6" => source.parse::<Ipv6Addr>().ok().filter(|_| target.parse::<Ipv6Addr>().is_ok())?.into(),
        _ => return None,
    };
    are_ports.then_some(Some(address))
}

/// Version 2: source, target, ports, and more that is not for us.
fn source(family: u8, addresses: &[u8]) -> Option<Option<IpAddr>> {
    match family >> 4 {
        1 if addresses.len() >= 12 => Some(Some(Ipv4Addr::from(*addresses.first_chunk::<4>()?).into())),
        2 if addresses.len() >= 36 => Some(Some(Ipv6Addr::from(*addresses.first_chunk::<16>()?).into())),
        1 | 2 => None,
        // A socket of the proxy's own machine, or nothing that is known here.
        _ => Some(None),
    }
}

fn malformed() -> Error {
    Error::new(ErrorKind::InvalidData, "no header of the PROXY protocol")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is read of `bytes`, and what is left of them.
    fn reading(bytes: &[u8]) -> (Option<Option<String>>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rest = bytes;
        let read = runtime.block_on(read(&mut rest)).ok();
        (read.map(|address| address.map(|address| address.to_string())), rest.to_vec())
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, addresses].concat()
    }

    #[test]
    fn the_client_of_either_version_is_known_and_nothing_behind_the_header_is_read() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 0, 81];
        let v6 = [[0x20; 32].as_slice(), &[0, 80, 0, 81]].concat();
        let cases = [
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), Some("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ::2 1 2\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &v4), Some("192.0.2.1")),
            (version_2(0x21, 0x11, &[v4.as_slice(), &[4; 3_000]].concat()), Some("192.0.2.1")),
            (version_2(0x21, 0x21, &v6), Some("2020:2020:2020:2020:2020:2020:2020:2020")),
            (version_2(0x20, 0, &[]), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
        ];
        for (header, address) in cases {
            let (read, rest) = reading(&[header.as_slice(), b"GET / HTTP/1.1\r\n"].concat());
            assert_eq!(read, Some(address.map(str::to_owned)), "{}", header.escape_ascii());
            assert_eq!(rest, b"GET / HTTP/1.1\r\n");
        }
    }

    #[test]
    fn what_is_no_header_is_none() {
        let cases = [
            b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n".to_vec(),
            b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n".to_vec(),
            [b"PROXY UNKNOWN ".as_slice(), &[b'a'; 200], b"\r\n"].concat(),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x11, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 11]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x21, 0x11, &[0; LONGEST + 1]),
            b"PROXY TCP4 192".to_vec(),
            Vec::new(),
        ];
        for bytes in cases {
            assert_eq!(reading(&bytes).0, None, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_a_header_or_none(begin in 0_usize..3, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let begin = [b"PROXY TCP4 ".as_slice(), SIGNATURE, b""][begin];
            reading(&[begin, &bytes].concat());
        }
    }
}
