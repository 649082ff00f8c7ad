//! The order of statements over several servers, which note what they are told and do nothing.
#![allow(clippy::disallowed_methods, reason = "tests own their tasks")]

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clickhouse::ClickHouseConfig;
use crate::event::ids::LogEpoch;

/// What servers were told, in order: which of them, and what.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(usize, String)>>>);

impl Told {
    /// Servers that answer nothing but that a partition is taken and that a table `rebuilt` is ready. Returns their addresses.
    async fn servers(&self, number: usize) -> Vec<String> {
        let mut addresses = Vec::new();
        for server in 0..number {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(format!("http://{}", listener.local_addr().unwrap()));
            let told = self.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(told.clone().note(server, stream));
                }
            });
        }
        addresses
    }

    /// Notes the statements of a connection until it ends.
    async fn note(self, server: usize, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let Some(end) = end_of_request(&bytes) else {
                match stream.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                }
            };
            let request = String::from_utf8_lossy(&bytes.drain(..end).collect::<Vec<_>>()).into_owned();
            let answer = match () {
                () if request.contains("SELECT log_partition") => "[3]\n".to_owned(),
                () if request.contains("SELECT name, comment") => format!("[\"rebuilt\",\"{READY}rebuilt\"]\n"),
                () => String::new(),
            };
            self.0.lock().unwrap().push((server, request));
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    /// Where in the order a text was told, and whom.
    fn places(&self, text: &str) -> Vec<(usize, usize)> {
        let told = self.0.lock().unwrap();
        let told = told.iter().enumerate().filter(|(_, (_, request))| request.contains(text));
        told.map(|(place, (server, _))| (place, *server)).collect()
    }
}

/// Where the first request ends, once all of it is there.
fn end_of_request(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let end = head + length.map_or(0, |length| length.trim().parse().unwrap());
    (bytes.len() >= end).then_some(end)
}

fn servers_of(told: &[(usize, usize)]) -> Vec<usize> {
    told.iter().map(|(_, server)| *server).collect()
}

fn store(shards: Vec<String>, replicated: bool) -> ClickHouse {
    let config = ClickHouseConfig {
        cluster: "main".to_owned(),
        shards: shards.into_iter().map(Into::into).collect(),
        replicated,
        ..ClickHouseConfig::default()
    };
    ClickHouse::new(&config.check().unwrap())
}

#[tokio::test]
async fn every_server_has_lost_its_owners_before_the_first_lets_anyone_into_the_new_tables() {
    let told = Told::default();
    let store = store(told.servers(2).await, false);
    open(&store, &Identifier::known("rebuilt")).await.unwrap();
    let (shut, opened) = (told.places("INSERT INTO pulse.fence VALUES (3, 0)"), told.places("ADD CONSTRAINT fenced"));
    assert_eq!(servers_of(&shut), [0, 1]);
    assert!(!opened.is_empty() && opened.iter().all(|(place, _)| *place > shut[1].0), "{shut:?} {opened:?}");
    // And behind no table is a moment in which one server asks the new fence and another one none.
    assert_eq!(servers_of(&opened), [0, 1].repeat(opened.len() / 2));
}

/// What is in front of a replicated table is there on all its replicas at once, also where that table has not taken its place yet.
#[tokio::test]
async fn every_replica_has_exchanged_its_tables_before_anybody_is_let_into_one_of_them() {
    let told = Told::default();
    let store = store(vec![told.servers(2).await.join(" ")], true);
    exchange(&store, &Identifier::known("rebuilt")).await.unwrap();
    let exchanged = told.places("EXCHANGE TABLES pulse.rebuilt AND pulse.events");
    let (shut, opened) = (told.places("INSERT INTO pulse.fence VALUES (3, 0)"), told.places("ADD CONSTRAINT fenced"));
    assert_eq!((servers_of(&exchanged), servers_of(&shut)), (vec![0, 1], vec![0, 1]));
    assert!(exchanged[1].0 < shut[0].0 && shut[1].0 < opened[0].0, "{exchanged:?} {shut:?} {opened:?}");
}

#[tokio::test]
async fn of_replicas_each_shard_has_what_the_others_accepted_before_its_days_are_counted() {
    let told = Told::default();
    let servers = told.servers(4).await;
    let shards = servers.chunks(2).map(|replicas| replicas.join(" ")).collect();
    let store = store(shards, true);
    let kept = Kept::new(LogEpoch(7), &[(0, 5..9)]);
    kept.copy(&store, &Identifier::known("rebuilt")).await.unwrap();
    let (caught_up, counted) = (told.places("SYSTEM SYNC REPLICA pulse.events LIGHTWEIGHT"), told.places("GROUP BY received_day"));
    assert_eq!((servers_of(&caught_up), servers_of(&counted)), (vec![0, 2], vec![0, 2]), "the first replica of each shard");
    assert!(caught_up.iter().zip(&counted).all(|(caught_up, counted)| caught_up.0 < counted.0), "{caught_up:?} {counted:?}");
}
