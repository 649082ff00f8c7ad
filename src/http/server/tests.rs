//! The listener as a raw socket sees it.
#![allow(clippy::disallowed_methods, reason = "tests own their tasks")]

mod encrypted;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::http::body::{self, BodyLimits};
use crate::http::budget::Claim;
use crate::http::respond::json_response;

/// Longest time for anything that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: usize = 1 << 20;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), std::io::Error>>,
}

/// Answers the number of bytes of the body and the path, or what the path asks for.
async fn routes(call: Call) -> Response<Body> {
    let mut path = call.request.uri().path().to_owned();
    let headers = call.request.headers();
    match path.as_str() {
        "/ip" => path = call.peer.client_ip(headers).to_string(),
        "/host" => path = headers[header::HOST].to_str().unwrap().to_owned(),
        "/scheme" => path = if call.peer.is_https(headers) { "https" } else { "http" }.to_owned(),
        "/panic" => panic!("on purpose"),
        "/refuse" => return ApiError::new(StatusCode::UNAUTHORIZED, "invalid_key", "no").into_response(&call.request_id),
        _ => {}
    }
    let timeout = if path == "/held" { PATIENCE } else { Duration::from_secs(1) };
    let limits = BodyLimits { max_wire: LIMIT, max_inflated: LIMIT, timeout, claim: Claim::Live, finds_gzip: false };
    match body::read(call.request, limits).await {
        Ok(bytes) => json_response(StatusCode::OK, format!("<{path} {}>", bytes.len()).into_bytes()),
        Err(error) => error.into_response(&call.request_id),
    }
}

fn config() -> HttpConfig {
    HttpConfig {
        listen: "127.0.0.1:0".to_owned(),
        header_timeout: Duration::from_millis(500),
        body_timeout: Duration::from_secs(1),
        ..HttpConfig::default()
    }
}

async fn start() -> Running {
    start_with(config()).await
}

async fn start_with(config: HttpConfig) -> Running {
    let server = Server::bind(&config).await.unwrap();
    let stop = CancellationToken::new();
    let address = server.address().unwrap();
    let ended = tokio::spawn(server.serve(routes, stop.clone()));
    Running { address, stop, ended }
}

/// Sends bytes and reads until the server closes.
async fn exchange(running: &Running, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The server may refuse before all is sent.
    drop(stream.write_all(bytes.as_ref()).await);
    rest_of(&mut stream).await
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the server does not close"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until `marker` was read.
async fn read_until(stream: &mut TcpStream, marker: &str) -> String {
    let mut answer = String::new();
    let read = async {
        while !answer.contains(marker) {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).await.unwrap();
            assert!(length > 0, "closed after {answer}");
            answer.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("no answer");
    answer
}

/// The next request, on a connection of its own, is answered.
async fn good(running: &Running) {
    assert!(exchange(running, post("/good", "connection: close\r\n", "abc")).await.contains("</good 3>"));
}

fn post(path: &str, headers: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn what_is_no_proper_request_is_refused_and_the_connection_closed() {
    let running = start().await;
    let many: String = (0..65).map(|number| format!("x-{number}: a\r\n")).collect();
    let table = [
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc".to_owned(), "400"),
        ("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n".to_owned(), "400"),
        (format!("GET /a HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
        (format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(1 << 20)), "431"),
        (format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(70_000)), "414"),
        ("GET /a\r\n\r\n".to_owned(), "400"),
        ("\u{1}\u{2}garbage\r\n\r\n".to_owned(), "400"),
        ("\u{16}\u{3}\u{1}\0\u{2}\u{1}\0\u{1}\r\n\r\n".to_owned(), "400"),
        ("GET /a HTTP/9.9\r\nhost: a\r\n\r\n".to_owned(), "400"),
        ("GET /a HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /a HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n".to_owned(), "400"),
        ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(), "501"),
        ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity, chunked\r\n\r\n0\r\n\r\n".to_owned(), "501"),
        ("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "501"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\nconnection: close\r\n\r\n".to_owned(), "405"),
    ];
    for (request, status) in table {
        let answer = exchange(&running, &request).await;
        let beginning: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{beginning:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{beginning:?}: {answer}");
        good(&running).await;
    }
    // HTTP/2 is not spoken, so nothing can be answered in it either.
    assert_eq!(exchange(&running, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await, "");
    good(&running).await;
}

#[tokio::test]
async fn what_rfc_9112_has_a_server_refuse_is_refused_and_the_connection_closed() {
    let running = start().await;
    let get = |line: &str| format!("GET /a HTTP/1.1\r\nhost: a\r\n{line}\r\n\r\n");
    let chunked = |body: &str| format!("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
    for (section, request) in [
        ("2.2, a bare CR", get("x: a\rb")),
        ("2.2, a blank before the first field", "GET /a HTTP/1.1\r\n host: a\r\n\r\n".to_owned()),
        ("2.3, the name of the protocol in small letters", "GET /a http/1.1\r\nhost: a\r\n\r\n".to_owned()),
        ("3.2, a blank in the target", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        ("5.1, a blank before the colon", get("x : a")),
        ("5.1, no name", get(": a")),
        ("5.2, a folded line", get("x: a\r\n b")),
        ("9110 5.5, NUL", get("x: a\0b")),
        ("6.1, a coding in HTTP/1.0", "POST /a HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
        ("6.1, chunks that are not the last coding", get("transfer-encoding: chunked, gzip")),
        ("6.3, a list of lengths", get("content-length: 2, 2") + "ab"),
        ("6.3, a length with a sign", get("content-length: +2") + "ab"),
        ("6.3, an empty length", get("content-length:")),
        ("7.1, a chunk whose size is none", chunked("x\r\nabc\r\n0\r\n\r\n")),
        ("7.1, a chunk beyond any size", chunked("fffffffffffffffff\r\nabc\r\n0\r\n\r\n")),
        ("7.1, a chunk that is longer than it says", chunked("2\r\nabc\r\n0\r\n\r\n")),
        ("7.1.1, an extension with a bare LF", chunked("3;a\nabc\r\n0\r\n\r\n")),
    ] {
        let answer = exchange(&running, request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{section}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{section}: {answer}");
        good(&running).await;
    }
}

#[tokio::test]
async fn what_rfc_9112_has_a_server_read_is_read() {
    let running = start().await;
    let request = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{more}\r\n");
    let chunked = |body: &str| request("POST /a", "transfer-encoding: Chunked\r\n") + body;
    for (section, request, said) in [
        ("2.2, an empty line before the request", format!("\r\n{}", request("GET /a", "")), "</a 0>"),
        ("3.2.2, a target that names another host", request("GET http://b.example:80/host", ""), "<b.example:80 0>"),
        ("6.3, the same length twice", request("POST /a", "content-length: 2\r\ncontent-length: 2\r\n") + "ab", "</a 2>"),
        ("7.1.1, an extension", chunked("3;a=\"b\"\r\nabc\r\n0\r\n\r\n"), "</a 3>"),
        ("7.1.2, a trailer", chunked("3\r\nabc\r\n0\r\nx: a\r\n\r\n"), "</a 3>"),
        ("9110 9.3.2, HEAD", request("HEAD /a", ""), "\r\n\r\n"),
        ("9110 10.1.1, what is expected beside 100-continue", request("GET /a", "expect: x\r\n"), "</a 0>"),
    ] {
        let answer = exchange(&running, request).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(said), "{section}: {answer}");
    }
}

#[tokio::test]
async fn a_request_with_two_lengths_smuggles_no_second_one() {
    let running = start().await;
    let smuggler = "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /smuggled HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(&running, smuggler).await;
    assert!(!answer.contains("smuggled"), "{answer}");
}

#[tokio::test]
async fn a_target_in_absolute_form_is_a_path_of_ours_and_nothing_is_fetched() {
    let running = start().await;
    let answer = exchange(&running, "GET http://evil.example/x HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("</x 0>"), "{answer}");
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_at_once() {
    let running = start().await;
    let head = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 107374182400\r\n";
    assert!(exchange(&running, format!("{head}\r\n")).await.starts_with("HTTP/1.1 413"));
    // A client that asks for leave to send is refused without it.
    let answer = exchange(&running, "POST /a HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2000000\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_body_around_the_limit_is_read_or_refused_and_the_refusal_arrives() {
    let running = start().await;
    for (size, status) in [(LIMIT, "200"), (LIMIT + 1, "413"), (LIMIT * 3 / 2, "413")] {
        let answer = exchange(&running, post("/a", "connection: close\r\n", &"x".repeat(size))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{size}: {answer}");
        let chunked = format!(
            "POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(size)
        );
        let answer = exchange(&running, chunked).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{size} chunked: {answer}");
    }
    // Who goes on for long finds the connection reset, and may not see why.
    let answer = exchange(&running, post("/a", "", &"x".repeat(LIMIT * 10))).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    let endless =
        format!("POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{}", LIMIT * 20, "x".repeat(LIMIT * 10));
    let answer = exchange(&running, endless).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(exchange(&running, post("/next", "connection: close\r\n", "abc")).await.contains("</next 3>"));
}

#[tokio::test]
async fn a_connection_stays_usable_after_a_body_that_nobody_wanted() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    for size in [10, 100_000, LIMIT * 2] {
        stream.write_all(post("/refuse", "", &"x".repeat(size)).as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "\"no\"").await.starts_with("HTTP/1.1 401"));
        stream.write_all(post("/next", "", "abc").as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "</next 3>").await.starts_with("HTTP/1.1 200"), "{size}");
    }
}

#[tokio::test]
async fn whoever_stops_sending_is_told_or_closed() {
    let running = start().await;
    assert!(exchange(&running, "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345").await.starts_with("HTTP/1.1 408"));
    assert!(exchange(&running, "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n12345").await.starts_with("HTTP/1.1 408"));
    assert!(!exchange(&running, "POST /a HT").await.contains("200"));
    assert_eq!(exchange(&running, "").await, "");
}

#[tokio::test]
async fn a_body_that_trickles_is_ended_by_the_deadline_for_the_whole() {
    let running = start().await;
    let (mut read, mut write) = TcpStream::connect(running.address).await.unwrap().into_split();
    let trickle = async {
        drop(write.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n").await);
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut answer = [0; 12];
    let first = tokio::select! {
        () = trickle => "",
        read = tokio::time::timeout(PATIENCE, read.read_exact(&mut answer)) => {
            read.unwrap().unwrap();
            std::str::from_utf8(&answer).unwrap()
        }
    };
    assert_eq!(first, "HTTP/1.1 408");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = start().await;
    let mut requests: String = (0..10_000).map(|number| post(&format!("/{number}"), "", "x")).collect();
    requests.push_str(&post("/last", "connection: close\r\n", ""));
    let (mut read, mut write) = TcpStream::connect(running.address).await.unwrap().into_split();
    let mut answers = Vec::new();
    let (sent, received) = tokio::join!(write.write_all(requests.as_bytes()), read.read_to_end(&mut answers));
    sent.unwrap();
    received.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    let order: Vec<&str> = answers.split("</").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    let expected: Vec<String> = (0..10_000).map(|number| number.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_panic_is_the_500_of_its_request_only() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(post("/panic", "", "").as_bytes()).await.unwrap();
    let answer = read_until(&mut stream, "\"internal\"").await;
    assert!(answer.starts_with("HTTP/1.1 500") && !answer.contains("purpose"), "{answer}");
    stream.write_all(post("/next", "", "").as_bytes()).await.unwrap();
    read_until(&mut stream, "</next 0>").await;
}

#[tokio::test]
async fn a_drain_answers_what_was_begun_and_closes_what_idles() {
    let running = start().await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    idle.write_all(post("/idle", "", "").as_bytes()).await.unwrap();
    read_until(&mut idle, "</idle 0>").await;
    let mut busy = TcpStream::connect(running.address).await.unwrap();
    busy.write_all(post("/first", "", "").as_bytes()).await.unwrap();
    read_until(&mut busy, "</first 0>").await;
    // The head of a request that is begun: the server asks for its body once it has read it.
    busy.write_all(b"POST /busy HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    read_until(&mut busy, "100 Continue\r\n\r\n").await;
    running.stop.cancel();
    assert_eq!(rest_of(&mut idle).await, "");
    busy.write_all(b"body").await.unwrap();
    assert!(rest_of(&mut busy).await.contains("</busy 4>"));
    tokio::time::timeout(PATIENCE, running.ended).await.expect("the listener does not end").unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn http_1_0_needs_no_host_and_a_page_may_read_why_it_is_refused() {
    let running = start().await;
    assert!(exchange(&running, "GET /a HTTP/1.0\r\n\r\n").await.contains("</a 0>"));
    let answer = exchange(&running, "GET /a HTTP/1.1\r\n\r\n").await;
    assert!(answer.contains("access-control-allow-origin: *") && answer.contains("\"invalid_host\""), "{answer}");
    for host in ["a b", "a/b", "http://a", "a:b", "ada@a", "[::1", "a\"", "\u{e4}"] {
        let answer = exchange(&running, &format!("GET /a HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("\"invalid_host\""), "{host}: {answer}");
    }
    for host in ["", "a", "a:80", "127.0.0.1:8080", "[::1]:80", "xn--bcher-kva.example", "pulse_1"] {
        let answer = exchange(&running, &format!("GET /a HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.contains("</a 0>"), "{host}: {answer}");
    }
    let answer = exchange(&running, post("/panic", "connection: close\r\n", "")).await;
    assert!(answer.contains("access-control-expose-headers: retry-after"), "{answer}");
}

#[tokio::test]
async fn a_head_has_a_sane_size_also_behind_others_on_the_connection() {
    let running = start().await;
    let head = |size: usize| format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(size));
    // Each by itself: what came before counts for nothing.
    let answers = exchange(&running, head(20_000).repeat(8) + &head(100_000)).await;
    assert_eq!(answers.matches("</a 0>").count(), 8);
    assert!(answers.ends_with('}') && answers.contains("HTTP/1.1 431") && answers.contains("\"headers_too_large\""), "{answers}");
    let answer = exchange(&running, format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(40_000))).await;
    assert!(answer.starts_with("HTTP/1.1 414") && answer.contains("\"uri_too_long\""), "{answer}");
}

/// Sends requests until the server stops taking them, and reads no answer.
async fn deaf_client(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address).await.unwrap();
    let requests = post("/deaf", "", "").repeat(1_000);
    // Until nothing can be written for a while.
    while tokio::time::timeout(Duration::from_secs(1), stream.writable()).await.is_ok() {
        match stream.try_write(requests.as_bytes()) {
            Ok(_) => {}
            Err(problem) => assert_eq!(problem.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    stream
}

/// Waits until a request is answered with 200.
async fn answered(running: &Running) -> String {
    let ask = async {
        loop {
            let answer = exchange(running, post("/next", "connection: close\r\n", "")).await;
            if answer.starts_with("HTTP/1.1 200") {
                return answer;
            }
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: "), "{answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.expect("no slot becomes free")
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_slot_and_health_checks_need_none() {
    let running = start_with(HttpConfig { max_connections: 1, write_timeout: Duration::from_secs(2), ..config() }).await;
    let deaf = deaf_client(&running).await;
    let health = exchange(&running, post("/healthz", "", "")).await;
    assert!(health.contains("</healthz 0>") && health.contains("connection: close"), "{health}");
    assert!(answered(&running).await.contains("</next 0>"));
    drop(deaf);
}

#[tokio::test]
async fn one_client_gets_no_more_than_its_share() {
    let running = start_with(HttpConfig { max_connections_per_client: 2, header_timeout: PATIENCE, ..config() }).await;
    let held = [TcpStream::connect(running.address).await.unwrap(), TcpStream::connect(running.address).await.unwrap()];
    assert_eq!(exchange(&running, post("/next", "connection: close\r\n", "")).await, "");
    drop(held);
    let ask = async {
        while !exchange(&running, post("/next", "connection: close\r\n", "")).await.contains("</next 0>") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ask).await.expect("no slot becomes free");
}

#[tokio::test]
async fn a_drain_waits_neither_for_a_slot_nor_for_who_does_not_move() {
    let patient = HttpConfig { write_timeout: PATIENCE * 10, body_timeout: PATIENCE * 10, header_timeout: PATIENCE * 10, ..config() };
    let running = start_with(HttpConfig { max_connections: 2, ..patient }).await;
    let deaf = deaf_client(&running).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345").await.unwrap();
    // All slots are taken once the third finds none.
    let refused = exchange(&running, post("/next", "", "")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    running.stop.cancel();
    tokio::time::timeout(PATIENCE, running.ended).await.expect("the listener does not end").unwrap().unwrap();
    drop((deaf, silent));
}

#[tokio::test]
async fn what_bodies_hold_together_is_bounded_and_what_does_not_fit_may_come_again() {
    let running = start_with(HttpConfig { max_body_memory: LIMIT, body_timeout: PATIENCE, ..config() }).await;
    let head = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {LIMIT}\r\n\r\n");
    let mut held = TcpStream::connect(running.address).await.unwrap();
    held.write_all(head("/held").as_bytes()).await.unwrap();
    held.write_all(&vec![b'x'; LIMIT / 2]).await.unwrap();
    // Held or not yet: more than three quarters do not fit.
    let answer = exchange(&running, head("/b") + &"x".repeat(LIMIT)).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(exchange(&running, post("/small", "connection: close\r\n", "abc")).await.contains("</small 3>"));
    drop(held);
}

#[tokio::test]
async fn the_room_that_bodies_were_given_counts_and_not_what_came_of_them() {
    let running = start_with(HttpConfig { max_body_memory: 1 << 20, body_timeout: PATIENCE, ..config() }).await;
    let begun = [b"POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 65536\r\n\r\n".as_slice(), &[b'x'; 40 << 10]].concat();
    // What came of all would fit; the room for sixteen does.
    let sent: Vec<_> = (0..25).map(|_| exchange(&running, &begun)).collect();
    let refused = sent.into_iter().collect::<FuturesUnordered<_>>().take(9).collect::<Vec<_>>();
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("more is held than there is room for");
    assert!(refused.iter().all(|answer| answer.starts_with("HTTP/1.1 503")), "{refused:?}");
}

#[tokio::test]
async fn large_heads_together_are_bounded_and_those_that_do_not_fit_may_come_again() {
    // Room for two.
    let running = start_with(HttpConfig { max_body_memory: 256 << 10, header_timeout: PATIENCE, ..config() }).await;
    let head = format!("GET /a HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(20_000));
    let mut held = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 4096];
        match tokio::time::timeout(Duration::from_millis(300), stream.read(&mut answer)).await {
            Ok(read) => break String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned(),
            Err(_) => held.push(stream),
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert_eq!(held.len(), 2);
    assert!(exchange(&running, post("/small", "connection: close\r\n", "abc")).await.contains("</small 3>"));
    // One that is answered gives its room back, also while its connection stays.
    let mut answered = held.swap_remove(0);
    answered.write_all(b"\r\n\r\n").await.unwrap();
    read_until(&mut answered, "</a 0>").await;
    let mut next = TcpStream::connect(running.address).await.unwrap();
    next.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    assert!(rest_of(&mut next).await.contains("</a 0>"));
}
