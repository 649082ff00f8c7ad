//! Several servers as one store.
//!
//! Owns what pulse knows of a cluster: its name, its shards and their replicas, and what that makes of names and engines. The
//! event table keeps its name on every node; queries read a database of Distributed tables of the same names beside it
//! ([`Fleet::read_database`]), so no query knows how many servers there are.

use super::ClickHouseConfig;
use super::Client;
use super::statement::Identifier;
use crate::secret::{Address, without_passwords};

/// The servers of a cluster: the checked form of `cluster`, `shards`, `replicated` and `replica_path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name in the servers' `remote_servers`.
    pub cluster: String,
    /// Addresses of the replicas of each shard; neither list is empty.
    pub shards: Vec<Vec<Address>>,
    /// Path of a replicated table in Keeper; `None` if tables are not replicated.
    pub replica_path: Option<String>,
}

/// One server.
#[derive(Clone)]
pub struct Node {
    /// Host and port, for people; empty if there is only one server.
    pub name: String,
    /// Inserts, and reads what concerns inserts.
    pub writer: Client,
    /// Changes the schema.
    pub migrator: Client,
}

/// The servers that hold the same rows; at least one.
#[derive(Clone)]
pub struct Shard {
    first: Node,
    others: Vec<Node>,
}

impl Shard {
    /// A shard of these replicas; `None` if there is none.
    pub(super) fn of(replicas: impl IntoIterator<Item = Node>) -> Option<Self> {
        let mut replicas = replicas.into_iter();
        Some(Self { first: replicas.next()?, others: replicas.collect() })
    }

    /// All its servers.
    pub fn replicas(&self) -> impl Iterator<Item = &Node> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// One of its servers.
    pub fn first(&self) -> &Node {
        &self.first
    }

    /// The replica that serves a log partition: its inserts, and what is read back of them.
    pub fn replica_of(&self, partition: u16) -> &Node {
        let index = usize::from(partition) % (self.others.len() + 1);
        self.replicas().nth(index).unwrap_or(&self.first)
    }
}

impl Fleet {
    /// The database whose tables show all shards, beside `database`, whose tables are each node's own.
    pub fn read_database(database: &Identifier) -> Identifier {
        database.with("_all")
    }

    /// Reads the keys of a cluster; `None` if one server is all there is.
    pub(super) fn check(config: &ClickHouseConfig) -> Result<Option<Self>, String> {
        let ClickHouseConfig { cluster, shards, replicated, replica_path, .. } = config;
        if shards.is_empty() {
            if !cluster.is_empty() {
                return Err(format!("clickhouse.cluster: `{cluster}` needs its servers in clickhouse.shards"));
            }
            if *replicated {
                return Err("clickhouse.replicated: `true` needs its servers in clickhouse.shards".to_owned());
            }
            return Ok(None);
        }
        let is_name = !cluster.is_empty() && cluster.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if !is_name {
            return Err(format!("clickhouse.cluster: `{cluster}` is not a name in remote_servers, which clickhouse.shards needs"));
        }
        let shards = checked_shards(shards, *replicated)?;
        let replica_path = replicated.then(|| checked_path(replica_path, shards.len())).transpose()?;
        Ok(Some(Self { cluster: cluster.clone(), shards, replica_path }))
    }
}

/// Replicas are separated by commas or, because the environment separates shards by commas, by blanks.
fn checked_shards(written: &[Address], replicated: bool) -> Result<Vec<Vec<Address>>, String> {
    let mut shards: Vec<Vec<Address>> = Vec::new();
    for shard in written {
        let mut replicas: Vec<Address> = Vec::new();
        for url in shard.split([',', ' ']).map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty()) {
            checked_url("clickhouse.shards", url)?;
            // Twice in the list, a server would count and answer everything twice.
            if replicas.iter().chain(shards.iter().flatten()).any(|known| **known == *url) {
                return Err(format!("clickhouse.shards: `{}` is there twice", without_passwords(url)));
            }
            replicas.push(url.into());
        }
        match replicas.len() {
            0 => return Err(format!("clickhouse.shards: `{shard}` names no server")),
            1 => {}
            _ if !replicated => return Err(format!("clickhouse.shards: `{shard}`: several replicas need clickhouse.replicated = true")),
            _ => {}
        }
        shards.push(replicas);
    }
    Ok(shards)
}

fn checked_path(path: &str, shards: usize) -> Result<String, String> {
    let refused = |why: &str| Err(format!("clickhouse.replica_path: `{path}` {why}"));
    if !path.starts_with('/') || path.contains(['\'', '\\']) {
        return refused("is not a path in Keeper");
    }
    if !path.contains("{table}") {
        return refused("has no {table}: tables would share their replicas");
    }
    if shards > 1 && !path.contains("{shard}") {
        return refused("has no {shard}: shards would hold the same rows");
    }
    Ok(path.to_owned())
}

/// An address of an HTTP port.
pub(super) fn checked_url(key: &str, text: &str) -> Result<(), String> {
    let shown = without_passwords(text);
    let url = url::Url::parse(text).map_err(|problem| format!("{key}: `{shown}`: {problem}"))?;
    if matches!(url.scheme(), "http" | "https") { Ok(()) } else { Err(format!("{key}: `{shown}` is neither http nor https")) }
}

/// Host and port of an address, without the password it may hold.
pub(super) fn host_and_port(text: &str) -> String {
    let Ok(url) = url::Url::parse(text) else { return text.to_owned() };
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}", url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, shards: &[&str]) -> ClickHouseConfig {
        ClickHouseConfig {
            cluster: cluster.to_owned(),
            shards: shards.iter().map(|shard| Address::from(*shard)).collect(),
            ..ClickHouseConfig::default()
        }
    }

    fn refused(config: &ClickHouseConfig) -> String {
        config.check().unwrap_err()
    }

    #[test]
    fn without_shards_there_is_one_server() {
        assert_eq!(Fleet::check(&config("", &[])), Ok(None));
    }

    #[test]
    fn queries_ask_the_first_replica_of_the_first_shard_unless_told_otherwise() {
        let written = config("main", &["http://ch1:8123", "http://ch2:8123/"]);
        let settings = written.check().unwrap();
        assert_eq!(&*settings.url, "http://ch1:8123");
        assert_eq!(settings.fleet.unwrap().shards, [["http://ch1:8123".into()], ["http://ch2:8123".into()]]);
        let written = ClickHouseConfig { url: "http://any:8123".into(), ..written };
        assert_eq!(&*written.check().unwrap().url, "http://any:8123");
    }

    #[test]
    fn replicas_are_separated_by_commas_or_blanks() {
        let written = ClickHouseConfig { replicated: true, ..config("main", &["http://a:1, http://b:1", "http://c:1 http://d:1"]) };
        let fleet = Fleet::check(&written).unwrap().unwrap();
        assert_eq!(fleet.shards, [["http://a:1", "http://b:1"].map(Address::from), ["http://c:1", "http://d:1"].map(Address::from)]);
        assert_eq!(fleet.replica_path.as_deref(), Some("/clickhouse/tables/{shard}/{database}/{table}"));
    }

    #[test]
    fn what_is_wrong_is_said_with_key_and_value() {
        let replicated =
            |shards: &[&str], path: &str| ClickHouseConfig { replicated: true, replica_path: path.to_owned(), ..config("main", shards) };
        let two = ["http://a:1", "http://b:1"];
        let cases = [
            (config("main", &[]), "clickhouse.cluster: `main` needs its servers in clickhouse.shards"),
            (config("", &two), "clickhouse.cluster: `` is not a name in remote_servers, which clickhouse.shards needs"),
            (config("it's", &two), "clickhouse.cluster: `it's` is not a name in remote_servers, which clickhouse.shards needs"),
            (config("main", &["ftp://a"]), "clickhouse.shards: `ftp://a` is neither http nor https"),
            (config("main", &[" , "]), "clickhouse.shards: ` , ` names no server"),
            (config("main", &["http://a:1", "http://a:1/"]), "clickhouse.shards: `http://a:1` is there twice"),
            (
                config("main", &["http://a:1,http://b:1"]),
                "clickhouse.shards: `http://a:1,http://b:1`: several replicas need clickhouse.replicated = true",
            ),
            (
                ClickHouseConfig { replicated: true, ..config("", &[]) },
                "clickhouse.replicated: `true` needs its servers in clickhouse.shards",
            ),
            (replicated(&two, "pulse/{table}"), "clickhouse.replica_path: `pulse/{table}` is not a path in Keeper"),
            (replicated(&two, "/{shard}"), "clickhouse.replica_path: `/{shard}` has no {table}: tables would share their replicas"),
            (replicated(&two, "/{table}"), "clickhouse.replica_path: `/{table}` has no {shard}: shards would hold the same rows"),
        ];
        for (written, expected) in cases {
            assert_eq!(refused(&written), expected);
        }
    }

    #[test]
    fn a_node_is_named_without_its_password() {
        assert_eq!(host_and_port("https://ada:secret@ch1/"), "ch1:443");
    }
}
