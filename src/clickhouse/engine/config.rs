//! What the engine is told: its configuration, its users and what each may do.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{EngineConfig, EngineError, io};
use crate::clickhouse::Identifier;

/// Names of the users; no request is let in as anybody else.
pub(super) const WRITER: &str = "pulse_writer";
pub(super) const READER: &str = "pulse_reader";
pub(super) const MIGRATOR: &str = "pulse_migrator";
pub(super) const SQL: Identifier = Identifier::known("pulse_sql");

/// What is written into the engine's configuration besides [`EngineConfig`].
pub(super) struct Access<'a> {
    pub(super) folder: &'a Path,
    pub(super) port: u16,
    /// The database that its users may use; a plain identifier.
    pub(super) database: &'a str,
    pub(super) passwords: &'a Passwords,
}

/// Made for one life of pulse.
pub(super) struct Passwords {
    pub(super) writer: String,
    pub(super) reader: String,
    pub(super) migrator: String,
    pub(super) sql: String,
}

impl Passwords {
    pub(super) fn new() -> Self {
        let random = || uuid::Uuid::new_v4().simple().to_string();
        Self { writer: random(), reader: random(), migrator: random(), sql: random() }
    }
}

pub(super) fn write(config: &EngineConfig, access: &Access<'_>) -> Result<(), EngineError> {
    std::fs::create_dir_all(access.folder.join("data")).map_err(io("create the engine's folder"))?;
    let users = access.folder.join("users.xml");
    write_private(&users, &users_xml(config, access))?;
    write_private(&access.folder.join("config.xml"), &config_xml(config, access, &users))
}

fn write_private(path: &Path, text: &str) -> Result<(), EngineError> {
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())
    };
    write().map_err(io("write the engine's configuration"))
}

/// Text inside an XML element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The in-process session that starts the listener is always `default`, without a password. So that nobody else is, the listener only
/// passes on requests that name one of our users in the header that decides who asks (a second way to name one is refused by the
/// server), and answers 403 to all others. With options of our own the server ignores a wish for CORS headers.
const LISTENER: &str = "<http_options_response><header><name>Vary</name><value>Origin</value></header></http_options_response>\n\
    <http_handlers>\n\
    <rule><headers><X-ClickHouse-User>regex:pulse_(writer|reader|migrator|sql)</X-ClickHouse-User></headers>\
    <handler><type>dynamic_query_handler</type><query_param_name>query</query_param_name></handler></rule>\n\
    <rule><handler><type>static</type><status>403</status><content_type>text/plain</content_type>\
    <response_content>only pulse may ask\n</response_content></handler></rule>\n\
    </http_handlers>\n";

/// A part is on the disk before its insert is answered, and the result of a merge before its sources may go: the log's copy of an event
/// may go once load has committed it. Parts that are damaged nevertheless are set aside whatever their number: pulse looks for what
/// they held and fills it in from the log, where a table that does not load would wait for a person.
const DURABILITY: &str = "<fsync_after_insert>1</fsync_after_insert>\n\
    <fsync_part_directory>1</fsync_part_directory>\n\
    <min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>\n\
    <min_compressed_bytes_to_fsync_after_merge>1</min_compressed_bytes_to_fsync_after_merge>\n\
    <max_suspicious_broken_parts>1000000</max_suspicious_broken_parts>\n\
    <max_suspicious_broken_parts_bytes>1000000000000000</max_suspicious_broken_parts_bytes>\n";

fn config_xml(config: &EngineConfig, access: &Access<'_>, users: &Path) -> String {
    let users = escaped(&users.display().to_string());
    let log = escaped(&access.folder.join("engine.log").display().to_string());
    let merge_threads = config.merge_threads;
    format!(
        "<clickhouse>\n\
         <users_config>{users}</users_config>\n\
         <http_port>{}</http_port>\n\
         <listen_reuse_port>1</listen_reuse_port>\n\
         {LISTENER}\
         <logger><log>{log}</log><size>10M</size><count>1</count></logger>\n\
         <max_server_memory_usage>{}</max_server_memory_usage>\n\
         <mark_cache_size>67108864</mark_cache_size>\n\
         <index_mark_cache_size>16777216</index_mark_cache_size>\n\
         <uncompressed_cache_size>0</uncompressed_cache_size>\n\
         <background_pool_size>{merge_threads}</background_pool_size>\n\
         <background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>\n\
         <merge_tree>\n\
         <number_of_free_entries_in_pool_to_lower_max_size_of_merge>1</number_of_free_entries_in_pool_to_lower_max_size_of_merge>\n\
         <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>\n\
         <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>\n\
         {DURABILITY}\
         </merge_tree>\n\
         <background_schedule_pool_size>4</background_schedule_pool_size>\n\
         <asynchronous_metrics_update_period_s>60</asynchronous_metrics_update_period_s>\n\
         </clickhouse>\n",
        access.port, config.max_memory
    )
}

/// What granules a condition found nothing in is not remembered: some releases of the server remember it wrongly, and leave rows out of
/// later answers.
const SETTINGS: &str = "<use_query_condition_cache>0</use_query_condition_cache>";

/// What questions put aside on the disk, which the log shares: 4 GiB each, 8 GiB all that a user asks.
const ASIDE: &str = "<max_temporary_data_on_disk_size_for_query>4294967296</max_temporary_data_on_disk_size_for_query>\
    <max_temporary_data_on_disk_size_for_user>8589934592</max_temporary_data_on_disk_size_for_user>";

/// The limits of statements that others have written, beside those of all questions.
const SQL_LIMITS: &str = "<max_result_rows>1000000</max_result_rows><max_result_bytes>1073741824</max_result_bytes>\
    <function_range_max_elements_in_block>10000000</function_range_max_elements_in_block>\
    <cancel_http_readonly_queries_on_client_close>1</cancel_http_readonly_queries_on_client_close><readonly>1</readonly>";

/// The rights are those that `config/pulse.toml` asks for on a server of one's own: no files, no addresses, no other database.
fn users_xml(config: &EngineConfig, access: &Access<'_>) -> String {
    let Access { database, passwords, .. } = access;
    let user = |name: &str, password: &str, profile: &str, grants: &[String]| {
        let grants: String = grants.iter().map(|grant| format!("<query>GRANT {grant}</query>")).collect();
        format!(
            "<{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks><profile>{profile}</profile>\
             <quota>default</quota><grants>{grants}</grants></{name}>\n"
        )
    };
    let writes = [format!("SELECT, INSERT ON {database}.*"), "SELECT ON system.processes".to_owned()];
    let migrates = [
        format!("ALL ON {database}.*"),
        format!("ALL ON {database}_sql.*"),
        format!("SET DEFINER ON {SQL}_owner"),
        "TABLE ENGINE ON *".to_owned(),
        "SELECT ON system.mutations".to_owned(),
        "SELECT ON system.parts".to_owned(),
        "SELECT ON system.projections".to_owned(),
        "SELECT ON system.projection_parts".to_owned(),
    ];
    format!(
        "<clickhouse>\n<profiles>\n<default>{SETTINGS}</default>\n\
         <pulse_reader>{SETTINGS}<max_execution_time>{}</max_execution_time><max_memory_usage>{}</max_memory_usage>\
         <max_rows_to_read>{}</max_rows_to_read><max_result_rows>50000000</max_result_rows>\
         <max_result_bytes>4294967296</max_result_bytes>\
         <cancel_http_readonly_queries_on_client_close>1</cancel_http_readonly_queries_on_client_close>\
         <optimize_aggregation_in_order>1</optimize_aggregation_in_order>\
         <max_bytes_before_external_group_by>{}</max_bytes_before_external_group_by>\
         <max_bytes_before_external_sort>{}</max_bytes_before_external_sort>\
         {ASIDE}<readonly>1</readonly></pulse_reader>\n\
         <pulse_sql>{SETTINGS}<max_execution_time>{}</max_execution_time><max_memory_usage>{}</max_memory_usage>\
         <max_rows_to_read>{}</max_rows_to_read>{ASIDE}{SQL_LIMITS}</pulse_sql>\n\
         </profiles>\n<quotas><default/></quotas>\n<users>\n\
         <default><no_password/><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>\
         <grants><query>GRANT SYSTEM LISTEN ON *.*</query><query>GRANT READ ON FILE</query>\
         <query>GRANT CREATE TEMPORARY TABLE ON *.*</query></grants></default>\n\
         {}{}{}{}{}</users>\n</clickhouse>\n",
        config.max_query_time.as_secs().max(1),
        config.query_memory(),
        config.max_rows_to_read,
        // Merging what was put aside takes as much again.
        config.query_memory() / 5 * 2,
        config.query_memory() / 5 * 2,
        config.max_query_time.as_secs().max(1),
        config.query_memory(),
        config.max_rows_to_read,
        user(WRITER, &passwords.writer, "default", &writes),
        user(READER, &passwords.reader, "pulse_reader", &[format!("SELECT ON {database}.*")]),
        user(MIGRATOR, &passwords.migrator, "default", &migrates),
        user(&SQL, &passwords.sql, "pulse_sql", &[format!("SELECT ON {database}_sql.*")]),
        // Nobody is let in as this one, whose rights are those of the views.
        user(&SQL.with("_owner"), &Passwords::new().sql, "pulse_sql", &[format!("SELECT ON {database}.events")]),
    )
}
