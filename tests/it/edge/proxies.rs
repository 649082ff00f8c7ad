//! Who is behind a proxy: as it says by the PROXY protocol or in a header, and nobody else is believed.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::harness::{Http, PATIENCE, Pulse};

/// Where the proxy of these tests is; what asks for answers is at another address, of no proxy.
const PROXY: &str = "127.0.0.2:0";
const STRANGER: &str = "127.0.0.1:0";
const ENVIRONMENT: [(&str, &str); 2] =
    [("PULSE__HTTP__TRUSTED_PROXIES", "127.0.0.2"), ("PULSE__PROJECTS__DEFAULT__INTERNAL_NETWORKS", "192.0.2.0/24, 2001:db8::/48")];

/// Sends an event from an address behind these bytes, with this line in its head; what comes back.
async fn send(http: &Http, from: &str, beginning: &[u8], line: &str, who: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(from.parse().unwrap()).unwrap();
    let address: SocketAddr = http.address().trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let body = json!({"type": "view", "anonymousId": who, "eventId": who}).to_string();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: shop.example\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n{line}\r\n",
        http.write_key,
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = async {
        // It may be closed in the middle.
        drop(stream.write_all(&[beginning, head.as_bytes(), body.as_bytes()].concat()).await);
        drop(stream.read_to_end(&mut answer).await);
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap();
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

/// Why each of these is left out.
async fn reasons(http: &Http) -> Value {
    http.settled().await;
    let all = http.events().await;
    all.iter().map(|event| (event["anonymousId"].as_str().unwrap().to_owned(), event["context"]["bot"].clone())).collect()
}

/// A header of version 2.
fn binary(command: u8, source: [u8; 4]) -> Vec<u8> {
    let addresses = [&source[..], &[10, 0, 0, 1], &[0x12, 0x34, 0, 80]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, 0x11, 0, 12][..], &addresses].concat()
}

const TAKEN: &str = "HTTP/1.1 200 OK";

#[tokio::test]
async fn who_is_behind_a_proxy_is_who_its_first_bytes_name() {
    let pulse = Pulse::start_with(&[&ENVIRONMENT[..], &[("PULSE__HTTP__PROXY_PROTOCOL", "true")]].concat()).await;
    let http = &pulse.http;
    let line = |source: &str| format!("PROXY TCP4 {source} 10.0.0.1 4660 80\r\n").into_bytes();
    let forwarded = "forwarded: for=192.0.2.9\r\nx-forwarded-for: 192.0.2.9\r\n";
    for (who, beginning, head) in [
        ("line", line("192.0.2.7"), ""),
        ("line of version 6", b"PROXY TCP6 2001:db8::5 ::1 4660 80\r\n".to_vec(), ""),
        ("bytes", binary(0x21, [192, 0, 2, 8]), ""),
        ("the proxy itself", binary(0x20, [192, 0, 2, 8]), ""),
        ("somebody else", line("198.51.100.7"), ""),
        // A client behind the proxy is none.
        ("a client that says it is another", line("198.51.100.7"), forwarded),
    ] {
        assert_eq!(send(http, PROXY, &beginning, head, who).await, TAKEN, "{who}");
    }
    // Without the header, with half of one and with one that lies about its length nothing is taken.
    for beginning in [Vec::new(), b"PROXY TCP4 192.0.2.7\r\n".to_vec(), binary(0x21, [192, 0, 2, 8])[..20].to_vec()] {
        let answer = send(http, PROXY, &beginning, "", "nobody").await;
        assert_ne!(answer, TAKEN, "{beginning:?}");
    }
    assert_eq!(send(http, STRANGER, b"", forwarded, "a stranger").await, TAKEN);
    assert_ne!(send(http, STRANGER, &line("192.0.2.7"), "", "a stranger who claims to be a proxy").await, TAKEN);
    let internal = json!("internal:network");
    assert_eq!(
        reasons(http).await,
        json!({
            "line": internal, "line of version 6": internal, "bytes": internal, "the proxy itself": null, "somebody else": null,
            "a client that says it is another": null, "a stranger": null,
        })
    );
}

/// What pulse makes of requests by that header: who, from where, and the lines of the head.
async fn reasons_by(header: &str, requests: &[(&str, &str, &str)]) -> Value {
    let pulse = Pulse::start_with(&[&ENVIRONMENT[..], &[("PULSE__HTTP__FORWARDED_HEADER", header)]].concat()).await;
    for (who, from, head) in requests {
        assert_eq!(send(&pulse.http, from, b"", head, who).await, TAKEN, "{who}");
    }
    reasons(&pulse.http).await
}

#[tokio::test]
async fn who_is_behind_a_proxy_is_who_the_header_names_last_that_it_writes() {
    let internal = json!("internal:network");
    let by_one = reasons_by(
        "forwarded",
        &[
            ("one", PROXY, "forwarded: for=192.0.2.9;proto=https\r\n"),
            ("one of version 6", PROXY, "forwarded: for=\"[2001:db8::5]:4711\"\r\n"),
            // What stands in front of the last one may be said by anybody, and so may the other header.
            ("claimed", PROXY, "forwarded: for=192.0.2.9, for=198.51.100.7\r\n"),
            ("claimed by the other header", PROXY, "x-forwarded-for: 192.0.2.9\r\n"),
            ("unknown", PROXY, "forwarded: for=unknown\r\n"),
            ("a stranger", STRANGER, "forwarded: for=192.0.2.9\r\n"),
        ],
    );
    assert_eq!(
        by_one.await,
        json!({
            "one": internal, "one of version 6": internal, "claimed": null, "claimed by the other header": null, "unknown": null, "a stranger": null,
        })
    );
    let by_other = reasons_by(
        "x-forwarded-for",
        &[
            ("one", PROXY, "x-forwarded-for: 198.51.100.7, 192.0.2.9\r\n"),
            ("behind two proxies", PROXY, "x-forwarded-for: 192.0.2.9, 127.0.0.2\r\n"),
            ("claimed", PROXY, "x-forwarded-for: 192.0.2.9, 198.51.100.7\r\n"),
            ("claimed by the other header", PROXY, "forwarded: for=192.0.2.9\r\n"),
            ("a stranger", STRANGER, "x-forwarded-for: 192.0.2.9\r\n"),
        ],
    );
    assert_eq!(
        by_other.await,
        json!({"one": internal, "behind two proxies": internal, "claimed": null, "claimed by the other header": null, "a stranger": null})
    );
}
