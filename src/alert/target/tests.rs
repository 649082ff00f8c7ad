use super::*;

fn guarded(text: &str) -> Result<Target, String> {
    Target::new(text, Trust::Key(Arc::default()))
}

fn networks(texts: &[&str]) -> Trust {
    Trust::Key(Arc::new(Reach { networks: texts.iter().map(|text| text.parse().unwrap()).collect(), hosts: Vec::new() }))
}

#[test]
fn where_hosts_are_listed_no_other_is_taken() {
    let hosts = ["hooks.Example.com", "*.slack.com", "8.8.8.8", "2001:4860:4860::8888", "bücher.example"];
    let hosts = hosts.iter().map(|text| HostPattern::parse(text).unwrap()).collect();
    let trust = Trust::Key(Arc::new(Reach { networks: Vec::new(), hosts }));
    let is_taken = |text: &str| Target::new(text, trust.clone()).is_ok();
    for address in [
        "https://hooks.example.com/a",
        "https://HOOKS.example.com.:8443/",
        "https://hooks.slack.com/services/x",
        "https://a.b.slack.com/",
        "https://8.8.8.8/",
        "https://[2001:4860:4860::8888]/",
        "https://xn--bcher-kva.example/",
    ] {
        assert!(is_taken(address), "{address}");
    }
    for address in [
        "https://example.com/",
        "https://a.hooks.example.com/",
        "https://slack.com/",
        "https://evilslack.com/",
        "https://slack.com.evil.example/",
        "https://8.8.4.4/",
        // Public and listed are both needed.
        "https://127.0.0.1/",
    ] {
        assert!(!is_taken(address), "{address}");
    }
    for text in ["", "*", "*.", "a.*", "*.*.com", "https://a.example", "a/b", "*.8.8.8.8", "a b"] {
        assert_eq!(HostPattern::parse(text), None, "{text}");
    }
}

#[test]
fn no_address_of_a_network_of_ones_own_is_taken_however_it_is_written() {
    for address in [
        "http://example.com/",
        "https://127.1/",
        "https://0x7f.1/",
        "https://2130706433/",
        "https://017700000001/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[fd00::1]/",
        "https://[fe80::1]/",
        "https://localhost/",
        "https://localhost./",
        "https://a.localhost/",
        "https://printer/",
        "https://db.internal/",
        "https://user@example.com/",
        "https://example.com/#@evil.example",
        "https://example.com\\@127.0.0.1/",
        "https://exa\tmple.com/",
        "https://exa\nmple.com/",
        "https://127\u{3002}0\u{3002}0\u{3002}1/",
        "https://\u{ff11}27.0.0.1/",
        "https://\u{2460}27.0.0.1/",
        "https://10.1.2.3/",
        "https://100.64.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://172.31.0.1/",
        "https://192.168.0.1/",
        "https://198.18.0.1/",
        "https://0.0.0.0/",
        "https://224.0.0.1/",
        "https://255.255.255.255/",
        "https://example.com:8123/",
        "https://example.com:6379/",
        "https://example.com:9000/",
        "https://example.com:9092/",
        "https://example.com:22/",
        "gopher://example.com/",
        "file:///etc/passwd",
        "unix:/var/run/docker.sock",
        "//example.com/",
        "",
    ] {
        assert!(guarded(address).is_err(), "{address}");
    }
    for address in ["https://example.com/a?b=c", "https://example.com:8443/", "https://93.184.216.34/", "https://[2606:2800:220:1::1]/"] {
        assert!(guarded(address).is_ok(), "{address}");
    }
    assert!(Target::new("http://127.0.0.1:9093/api", Trust::Operator).is_ok());
}

#[test]
fn names_of_this_network_may_be_meant_where_a_network_is_allowed() {
    let allowed = networks(&["10.0.0.0/8"]);
    assert!(Target::new("https://alertmanager:8443/", allowed.clone()).is_ok());
    assert!(Target::new("https://127.0.0.1/", allowed).is_err());
}

#[tokio::test]
async fn a_status_counts_whether_its_body_ends_or_not() {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new(&format!("http://{}/", listener.local_addr().unwrap()), Trust::Operator).unwrap();
    let receiver = crate::lifecycle::spawn_apart(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nand so on").await.unwrap();
        // Until the other side has had enough.
        drop(stream.read(&mut [0; 4096]).await);
    });
    assert_eq!(target.post(Outgoing::json(&serde_json::json!({}))).await, Sent::Done);
    receiver.await.unwrap();
}

/// What comes of sending to a receiver that says so many times `100 Continue`, and then that it is done.
async fn sent_to_one_that_continues(times: usize) -> Sent {
    use tokio::io::AsyncWriteExt;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target::new(&format!("http://{}/", listener.local_addr().unwrap()), Trust::Operator).unwrap();
    let receiver = crate::lifecycle::spawn_apart(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        for _ in 0..times {
            if stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                return;
            }
        }
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
        // Until the other side has had enough.
        drop(stream.read(&mut [0; 4096]).await);
    });
    let sent = target.post(Outgoing::json(&serde_json::json!({}))).await;
    receiver.await.unwrap();
    sent
}

#[tokio::test]
async fn interim_answers_are_read_up_to_a_bound() {
    assert_eq!(sent_to_one_that_continues(3).await, Sent::Done);
    let broken = Sent::Later { why: "the connection broke".to_owned(), pause: None };
    assert_eq!(sent_to_one_that_continues(1_000_000).await, broken);
}

#[tokio::test]
async fn where_nobody_is_at_the_first_address_of_a_name_the_next_one_is_tried() {
    let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (there, gone) = (bind(), bind());
    let (there_at, gone_at) = (there.local_addr().unwrap(), gone.local_addr().unwrap());
    drop(gone);
    assert_eq!(connected(&[gone_at, gone_at, there_at]).await.unwrap().peer_addr().unwrap(), there_at);
    assert_eq!(connected(&[gone_at]).await.unwrap_err(), "cannot connect: connection refused");
    assert!(connected(&[gone_at, gone_at, gone_at, gone_at, there_at]).await.is_err(), "at most four are tried");
}

#[tokio::test]
async fn a_name_that_resolves_to_such_an_address_is_refused_when_it_is_used() {
    // What a name server said when it was saved does not count: a name of the hosts file stands for one that has moved.
    let target = Target { url: Url::parse("https://localhost:8443/").unwrap(), trust: Trust::Key(Arc::default()) };
    assert_eq!(target.post(Outgoing::default()).await, Sent::Never("the address is not a public one".to_owned()));
    let allowed = networks(&["127.0.0.0/8", "::1/128"]);
    let target = Target { url: Url::parse("https://localhost:8443/").unwrap(), trust: allowed };
    assert!(matches!(target.post(Outgoing::default()).await, Sent::Later { .. }), "nothing listens there");
}

#[test]
fn a_status_says_whether_it_is_tried_again() {
    let of = |status: u16, pause: &'static str| {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(pause))]);
        verdict(StatusCode::from_u16(status).unwrap(), &headers)
    };
    assert_eq!((of(204, ""), of(410, "")), (Sent::Done, Sent::Gone));
    assert_eq!(of(429, "7"), Sent::Later { why: "the receiver answers 429".to_owned(), pause: Some(Duration::from_secs(7)) });
    assert_eq!(of(503, "99999999"), Sent::Later { why: "the receiver answers 503".to_owned(), pause: Some(LONGEST_PAUSE) });
    assert!(matches!(of(500, "soon"), Sent::Later { pause: None, .. }));
    let now: Timestamp = "2026-10-21T07:26:00Z".parse().unwrap();
    for (text, seconds) in [("Wed, 21 Oct 2026 07:28:00 GMT", 120), ("Wed, 21 Oct 2026 07:00:00 GMT", 0), (" 7", 7)] {
        assert_eq!(pause_of(text.trim(), now), Some(Duration::from_secs(seconds)), "{text}");
    }
    for status in [301, 307, 400, 401, 404, 413] {
        assert!(matches!(of(status, ""), Sent::Never(_)), "{status}");
    }
}

proptest::proptest! {
    /// What is taken has a public address or a name that is none of this network, on a usual port, and is the same when it is read again.
    #[test]
    fn fuzz_of_addresses(
        scheme in "(https|HTTPS|http|ftp|//|https:|)",
        user in "(|a@|a:b@|@|#@|%40)",
        host in "([0-9.x]{1,16}|\\[[0-9a-f:.]{2,30}\\]|[a-z0-9.-]{1,20}|localhost\\.?|127\\.1|0x7f\\.1|[0-9]{1,11}|\\PC{1,12}|[a-z]{1,5}\\.(local|internal|localhost)\\.?)",
        rest in "(|:443|:8443|:80|:6379|:0|:99999)(|/|/a\\?b=c|#|/\\PC{0,10})",
    ) {
        let text = format!("{scheme}://{user}{host}{rest}");
        let Ok(target) = guarded(&text) else { return Ok(()) };
        let url = &target.url;
        proptest::prop_assert!(url.scheme() == "https" && PORTS.contains(&url.port_or_known_default().unwrap()), "{}", text);
        proptest::prop_assert!(url.username().is_empty() && url.password().is_none(), "{}", text);
        match url.host().unwrap() {
            Host::Ipv4(ip) => proptest::prop_assert!(is_public(IpAddr::V4(ip)), "{}", text),
            Host::Ipv6(ip) => proptest::prop_assert!(is_public(IpAddr::V6(ip)), "{}", text),
            Host::Domain(name) => proptest::prop_assert!(name.contains('.') && name.parse::<IpAddr>().is_err(), "{}", text),
        }
        proptest::prop_assert_eq!(&guarded(url.as_str()).unwrap().url, url);
    }
}

#[test]
fn certificates_that_could_not_be_read_are_read_again_and_those_that_were_are_kept() {
    let place = OnceLock::new();
    assert_eq!(made_once(&place, || None::<u8>), None);
    assert_eq!(made_once(&place, || Some(1)), Some(1));
    assert_eq!(made_once(&place, || panic!("they are there")), Some(1));
}
