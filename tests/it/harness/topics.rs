//! What an operator may do to the topics of a cluster.

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::PATIENCE;
use super::kafka::Kafka;

impl Kafka {
    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.addresses()).create().unwrap()
    }

    /// First offset held of a partition, and the one the next record gets.
    pub(crate) async fn bounds(&self, topic: &str, partition: i32) -> (i64, i64) {
        let (addresses, name) = (self.addresses(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || {
            let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", addresses).create().unwrap();
            client.fetch_watermarks(&name, partition, PATIENCE).unwrap()
        });
        asked.await.unwrap()
    }

    /// Deletes the records of a partition below an offset, as retention does.
    pub(crate) async fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(below)).unwrap();
        let deleted = self.admin().delete_records(&offsets, &AdminOptions::new()).await.unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Gives a topic more partitions.
    pub(crate) async fn grow(&self, topic: &str, partitions: usize) {
        let grown = self.admin().create_partitions(&[NewPartitions::new(topic, partitions)], &AdminOptions::new()).await.unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    /// The largest record that a topic takes.
    pub(crate) async fn max_message_bytes(&self, topic: &str) -> String {
        let asked = self.admin().describe_configs(&[ResourceSpecifier::Topic(topic)], &AdminOptions::new()).await;
        let found = asked.unwrap().remove(0).unwrap();
        found.get("max.message.bytes").unwrap().value.clone().unwrap()
    }

    /// Changes one setting of a topic and leaves the others.
    pub(crate) async fn alter(&self, topic: &str, key: &str, value: &str) {
        let (admin, options) = (self.admin(), AdminOptions::new());
        let found = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await.unwrap().remove(0).unwrap();
        let own = found.entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic && entry.name != key);
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let change = own.fold(change, |change, entry| change.set(&entry.name, entry.value.as_deref().unwrap_or_default()));
        let altered = admin.alter_configs(&[change], &options).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
    }
}
