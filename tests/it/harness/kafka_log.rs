//! The log on a Kafka of the tests, without the rest of pulse.

use pulse::log::kafka::{KafkaLog, KafkaLogConfig};
use pulse::log::{GroupMember, PartitionReader};

use super::PATIENCE;
use super::kafka::Kafka;

pub(crate) fn config(kafka: &Kafka, prefix: &str) -> KafkaLogConfig {
    let options = [("session.timeout.ms", "2000"), ("heartbeat.interval.ms", "300")];
    KafkaLogConfig {
        brokers: kafka.addresses().split(',').map(str::to_owned).collect(),
        topic_prefix: prefix.to_owned(),
        partitions: 4,
        replication: 1,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..KafkaLogConfig::default()
    }
}

pub(crate) async fn open(config: KafkaLogConfig) -> KafkaLog {
    KafkaLog::open(config.check().unwrap(), true).await.unwrap()
}

/// The reader of partition 0; those of the others are dropped.
pub(crate) async fn reader_of_0<M: GroupMember>(member: &mut M) -> M::Reader {
    loop {
        let reader = tokio::time::timeout(PATIENCE, member.assigned()).await.expect("no partition is assigned").unwrap();
        if reader.partition() == 0 {
            return reader;
        }
    }
}
