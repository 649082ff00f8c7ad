//! `[clickhouse]`: where the servers are, and who may do what there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::engine::EngineConfig;
use super::fleet::{Fleet, checked_url};
use super::statement::Identifier;
use crate::byte_size::written;
use crate::secret::{Address, Secret};

/// Shortest time in which anything can be answered, and least memory with which the engine begins at all.
const LEAST_TIME: Duration = Duration::from_secs(1);
const LEAST_MEMORY: u64 = 256 << 20;
/// Least [`EngineConfig::max_query_memory`].
const LEAST_QUERY_MEMORY: u64 = 16 << 20;
/// Most [`EngineConfig::merge_threads`].
const MOST_MERGE_THREADS: u32 = 256;

/// `[clickhouse]` as written in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Address of a server's HTTP port, such as `http://ch1:8123`; with `shards` the one that queries ask. Empty: the first of
    /// the shards, or the embedded engine.
    pub url: Address,
    /// Name of the cluster in the servers' `remote_servers`. Empty: one server.
    pub cluster: String,
    /// The shards of the cluster, each the addresses of its replicas, separated by commas or blanks.
    pub shards: Vec<Address>,
    /// Whether tables are replicated: needs Keeper.
    pub replicated: bool,
    /// Path of a replicated table in Keeper; the servers fill in the braces.
    pub replica_path: String,
    /// Database of pulse's tables.
    pub database: String,
    /// User that inserts; needs SELECT and INSERT on the database and SELECT on `system.processes`.
    pub user: String,
    /// Password of `user`.
    pub password: Secret,
    /// User of the query role, with `readonly = 1` in its profile. Empty: the same as `user`.
    pub reader_user: String,
    /// Password of `reader_user`.
    pub reader_password: Secret,
    /// User of `pulse migrate`. Empty: the same as `user`.
    pub migrator_user: String,
    /// Password of `migrator_user`.
    pub migrator_password: Secret,
    /// User of `POST /v1/query/sql`, who may read the views in `<database>_sql` and nothing else; they are read with the rights of a user
    /// called `<sql_user>_owner`. Empty: that path is not there.
    pub sql_user: String,
    /// Password of `sql_user`.
    pub sql_password: Secret,
    /// Longest time one request may take.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The embedded engine.
    pub engine: EngineConfig,
}

impl Default for ClickHouseConfig {
    fn default() -> Self {
        Self {
            url: Address::default(),
            cluster: String::new(),
            shards: Vec::new(),
            replicated: false,
            replica_path: "/clickhouse/tables/{shard}/{database}/{table}".to_owned(),
            database: "pulse".to_owned(),
            user: "default".to_owned(),
            password: Secret::default(),
            reader_user: String::new(),
            reader_password: Secret::default(),
            migrator_user: String::new(),
            migrator_password: Secret::default(),
            sql_user: String::new(),
            sql_password: Secret::default(),
            request_timeout: Duration::from_secs(30),
            engine: EngineConfig::default(),
        }
    }
}

/// Where ClickHouse is and who may do what: the checked form of [`ClickHouseConfig`].
#[derive(Clone, Debug)]
pub struct ClickHouseSettings {
    /// Address of the HTTP port that queries ask.
    pub url: Address,
    /// The cluster, if there is more than that one server.
    pub fleet: Option<Fleet>,
    /// Database of pulse's tables.
    pub database: Identifier,
    /// User that inserts.
    pub writer: Login,
    /// User that only reads.
    pub reader: Login,
    /// User that changes the schema.
    pub migrator: Login,
    /// User that asks what others have written.
    pub sql: Option<SqlLogin>,
    /// Longest time one request may take.
    pub request_timeout: Duration,
}

/// A user of ClickHouse.
#[derive(Clone, Debug)]
pub struct Login {
    /// Name.
    pub user: String,
    /// Password; empty if there is none.
    pub password: Secret,
}

/// Who asks what others have written.
#[derive(Clone, Debug)]
pub struct SqlLogin {
    /// The user.
    pub login: Login,
    /// The user with whose rights the views are read.
    pub owner: Identifier,
}

impl SqlLogin {
    /// The user called `user`, and the owner of the views that goes with it.
    pub(super) fn new(user: &Identifier, password: Secret) -> Self {
        Self { login: Login { user: user.to_string(), password }, owner: user.with("_owner") }
    }
}

impl ClickHouseConfig {
    /// The only way to make [`ClickHouseSettings`] for a server of one's own.
    pub fn check(&self) -> Result<ClickHouseSettings, String> {
        let database = checked_identifier("clickhouse.database", &self.database)?;
        self.check_sizes()?;
        if !self.url.is_empty() {
            checked_url("clickhouse.url", &self.url)?;
        }
        let fleet = Fleet::check(self)?;
        let first = fleet.as_ref().and_then(|fleet| fleet.shards.first()?.first()).filter(|_| self.url.is_empty());
        let writer = Login { user: self.user.clone(), password: self.password.clone() };
        let or_writer = |user: &String, password: &Secret| {
            if user.is_empty() { writer.clone() } else { Login { user: user.clone(), password: password.clone() } }
        };
        let sql = if self.sql_user.is_empty() { None } else { Some(checked_identifier("clickhouse.sql_user", &self.sql_user)?) };
        if sql.is_some() && fleet.is_some() {
            return Err("clickhouse.sql_user: statements are asked of one server, not of clickhouse.shards".to_owned());
        }
        Ok(ClickHouseSettings {
            sql: sql.map(|user| SqlLogin::new(&user, self.sql_password.clone())),
            url: first.unwrap_or(&self.url).clone(),
            fleet,
            database,
            reader: or_writer(&self.reader_user, &self.reader_password),
            migrator: or_writer(&self.migrator_user, &self.migrator_password),
            writer,
            request_timeout: self.request_timeout,
        })
    }
}

impl ClickHouseConfig {
    /// Refuses what nothing can work with: most likely another unit is meant.
    fn check_sizes(&self) -> Result<(), String> {
        let engine = &self.engine;
        let times = [
            ("request_timeout", self.request_timeout),
            ("engine.max_silence", engine.max_silence),
            ("engine.max_query_time", engine.max_query_time),
        ];
        if let Some((key, time)) = times.into_iter().find(|(_, time)| *time < LEAST_TIME) {
            return Err(format!("clickhouse.{key} = {time:?}: must be at least {LEAST_TIME:?}"));
        }
        if engine.max_memory < LEAST_MEMORY {
            let memory = written(engine.max_memory);
            return Err(format!("clickhouse.engine.max_memory = {memory}: must be at least 256MiB, or the engine could not begin"));
        }
        // To the engine 0 is no limit at all.
        let query_memory = engine.max_query_memory;
        if query_memory < LEAST_QUERY_MEMORY {
            let query_memory = written(query_memory);
            return Err(format!("clickhouse.engine.max_query_memory = {query_memory}: must be at least 16MiB"));
        }
        // The engine would refuse a query at the lesser of both, whatever is written here. Where nothing is, it is the lesser.
        if query_memory > engine.max_memory && query_memory != EngineConfig::default().max_query_memory {
            let (query_memory, memory) = (written(query_memory), written(engine.max_memory));
            return Err(format!(
                "clickhouse.engine.max_query_memory = {query_memory}: is more than clickhouse.engine.max_memory = {memory}"
            ));
        }
        if engine.max_rows_to_read == 0 {
            return Err("clickhouse.engine.max_rows_to_read = 0: must be at least 1, or no question would have a limit".to_owned());
        }
        if !(1..=MOST_MERGE_THREADS).contains(&engine.merge_threads) {
            let threads = engine.merge_threads;
            return Err(format!("clickhouse.engine.merge_threads = {threads}: must be from 1 to {MOST_MERGE_THREADS}"));
        }
        Ok(())
    }
}

fn checked_identifier(key: &str, name: &str) -> Result<Identifier, String> {
    Identifier::parse(name.to_owned()).ok_or_else(|| format!("{key}: `{name}` is not a plain identifier"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_can_work_with_is_refused_by_key() {
        let refused = |change: fn(&mut ClickHouseConfig)| {
            let mut config = ClickHouseConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(refused(|config| config.engine.max_memory = 3 << 20).starts_with("clickhouse.engine.max_memory = 3MiB"));
        assert!(refused(|config| config.request_timeout = Duration::from_millis(1)).starts_with("clickhouse.request_timeout = 1ms"));
        let short = refused(|config| config.engine.max_query_time = Duration::from_millis(500));
        assert!(short.starts_with("clickhouse.engine.max_query_time = 500ms"));
        assert!(refused(|config| config.engine.max_query_memory = 0).starts_with("clickhouse.engine.max_query_memory = 0: "));
        assert_eq!(
            refused(|config| config.engine.max_query_memory = 4 << 30),
            "clickhouse.engine.max_query_memory = 4GiB: is more than clickhouse.engine.max_memory = 3GiB"
        );
        assert!(refused(|config| config.engine.max_rows_to_read = 0).starts_with("clickhouse.engine.max_rows_to_read = 0: "));
        assert!(refused(|config| config.engine.merge_threads = 0).starts_with("clickhouse.engine.merge_threads = 0: "));
        assert!(refused(|config| config.engine.max_silence = Duration::ZERO).starts_with("clickhouse.engine.max_silence = 0ns"));
    }

    #[test]
    fn one_query_may_use_all_the_memory_of_the_engine() {
        let mut config = ClickHouseConfig::default();
        config.engine.max_memory = config.engine.max_query_memory;
        config.check().unwrap();
        // Where nothing is written of a query, it may use all that there is.
        config.engine.max_memory = 768 << 20;
        config.check().unwrap();
        assert_eq!(config.engine.query_memory(), 768 << 20);
    }

    #[test]
    fn a_database_name_that_is_no_identifier_is_refused() {
        let config = ClickHouseConfig { database: "a`b".to_owned(), ..ClickHouseConfig::default() };
        assert_eq!(config.check().unwrap_err(), "clickhouse.database: `a`b` is not a plain identifier");
    }
}
