//! Several instances of pulse on one Kafka and one ClickHouse.

use super::Pulse;
use super::clickhouse::Cluster;
use super::kafka::Kafka;

/// Settings of an instance of a fleet on a Kafka and a ClickHouse.
pub(crate) fn environment(kafka: &Kafka, cluster: &Cluster, roles: &str) -> Vec<(&'static str, String)> {
    [kafka.environment("owners"), cluster.environment(), vec![("PULSE__ROLES", roles.to_owned())]].concat()
}

/// An instance of a fleet, with the keys of another one.
pub(crate) async fn instance(kafka: &Kafka, cluster: &Cluster, roles: &str, beside: Option<&Pulse>) -> Pulse {
    let environment = environment(kafka, cluster, roles);
    match beside {
        Some(first) => Pulse::start_beside(first, &environment).await,
        None => Pulse::start_with(&environment).await,
    }
}
