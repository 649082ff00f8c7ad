//! How many events a second a single key sends, and a single address.
//!
//! A bucket for each, as projects have them, but of this instance alone. Bounded: so many buckets are kept, and one that makes room for
//! others is full again when it comes back; who sends from more addresses than that is limited by the rate of the project.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::http::client_network;
use crate::ingest::refusal::Refusal;

/// Buckets that are kept of each kind.
const MOST: usize = 16_384;

/// Whose bucket it is, in words.
const KEY: &str = "key";
const ADDRESS: &str = "address";

/// The buckets of single keys and addresses.
pub(in crate::ingest) struct SingleRates {
    keys: Cache<u32, SharedLevel>,
    clients: Cache<IpAddr, SharedLevel>,
    /// Events a second of one address; 0: no limit.
    per_client: u32,
}

/// What a request is charged to, besides its project.
#[derive(Clone, Copy, Debug)]
pub(in crate::ingest) struct Single {
    /// The key, and the rate that it has of its own.
    pub(in crate::ingest) key: u32,
    pub(in crate::ingest) rate: Option<u32>,
    /// The address; none where addresses do not count.
    pub(in crate::ingest) client: Option<IpAddr>,
}

type SharedLevel = Arc<Mutex<Level>>;

/// Events that may be taken at `at`; below 0: taken too much.
struct Level {
    level: f64,
    at: Instant,
}

/// A bucket, whose it is, and its rate.
struct Bucket {
    level: SharedLevel,
    whose: &'static str,
    rate: f64,
}

impl Bucket {
    fn of<K: Hash + Eq>(cache: &Cache<K, SharedLevel>, key: K, whose: &'static str, rate: u32) -> Self {
        let rate = f64::from(rate);
        let level = cache.get(&key).unwrap_or_else(|| {
            let full = Arc::new(Mutex::new(Level { level: rate, at: Instant::now() }));
            cache.insert(key, Arc::clone(&full));
            full
        });
        Self { level, whose, rate }
    }

    fn take(&self, events: u32) -> Result<(), Refusal> {
        let mut bucket = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        bucket.level = (bucket.level + self.rate * now.duration_since(bucket.at).as_secs_f64()).min(self.rate);
        bucket.at = now;
        if bucket.level <= 0.0 {
            let seconds = (-bucket.level / self.rate).ceil().max(1.0) as u32;
            return Err(Refusal::TooFast { whose: self.whose, per_second: self.rate, seconds });
        }
        bucket.level -= f64::from(events);
        Ok(())
    }

    fn give_back(&self, events: u32) {
        let mut bucket = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.level = (bucket.level + f64::from(events)).min(self.rate);
    }
}

impl SingleRates {
    /// `per_client`: events a second of one address; 0: no limit.
    pub(in crate::ingest) fn new(per_client: u32) -> Self {
        Self { keys: Cache::new(MOST), clients: Cache::new(MOST), per_client }
    }

    /// Whether a request is worth reading.
    pub(in crate::ingest) fn admits(&self, of: Single) -> Result<(), Refusal> {
        self.charge(of, 0)
    }

    /// Whether a request of an address is worth a look.
    pub(in crate::ingest) fn admits_client(&self, client: IpAddr) -> Result<(), Refusal> {
        self.bucket_of(client).map_or(Ok(()), |bucket| bucket.take(0))
    }

    /// Takes what was refused of an address.
    pub(in crate::ingest) fn charge_client(&self, client: IpAddr, refused: u32) {
        if let Some(bucket) = self.bucket_of(client) {
            // In debt already, it owes no more for it.
            drop(bucket.take(refused));
        }
    }

    /// Takes the events of a request, or nothing.
    pub(in crate::ingest) fn charge(&self, of: Single, events: u32) -> Result<(), Refusal> {
        let client = self.client(of);
        client.as_ref().map_or(Ok(()), |client| client.take(events))?;
        let Some(key) = self.key(of) else { return Ok(()) };
        key.take(events).inspect_err(|_| client.iter().for_each(|client| client.give_back(events)))
    }

    /// Gives back what was taken for a request that was refused after all.
    pub(in crate::ingest) fn give_back(&self, of: Single, events: u32) {
        self.client(of).into_iter().chain(self.key(of)).for_each(|bucket| bucket.give_back(events));
    }

    fn key(&self, of: Single) -> Option<Bucket> {
        of.rate.map(|rate| Bucket::of(&self.keys, of.key, KEY, rate))
    }

    fn client(&self, of: Single) -> Option<Bucket> {
        self.bucket_of(of.client?)
    }

    fn bucket_of(&self, client: IpAddr) -> Option<Bucket> {
        (self.per_client > 0).then(|| Bucket::of(&self.clients, client_network(client), ADDRESS, self.per_client))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn from(client: &str) -> Single {
        Single { key: 1, rate: None, client: Some(client.parse().unwrap()) }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_gets_its_rate_and_a_network_of_ipv6_is_one() {
        let rates = SingleRates::new(100);
        assert_eq!(rates.charge(from("192.0.2.1"), 250), Ok(()));
        let too_fast = Refusal::TooFast { whose: "address", per_second: 100.0, seconds: 2 };
        assert_eq!(rates.admits(from("192.0.2.1")), Err(too_fast.clone()));
        assert_eq!(rates.admits(from("::ffff:192.0.2.1")), Err(too_fast.clone()));
        assert_eq!(rates.admits(from("192.0.2.2")), Ok(()));
        assert_eq!(rates.charge(from("2001:db8::1"), 250), Ok(()));
        assert_eq!(rates.admits(from("2001:db8::ffff:2")), Err(too_fast));
        assert_eq!(rates.admits(from("2001:db8:0:1::1")), Ok(()));
        tokio::time::advance(Duration::from_millis(1_600)).await;
        assert_eq!(rates.admits(from("192.0.2.1")), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_key_may_not_send_is_not_charged_to_the_address() {
        let rates = SingleRates::new(1_000);
        let by = |key| Single { key, rate: Some(10), ..from("192.0.2.1") };
        assert_eq!(rates.charge(by(1), 30), Ok(()));
        for _ in 0..100 {
            assert_eq!(rates.charge(by(1), 500), Err(Refusal::TooFast { whose: "key", per_second: 10.0, seconds: 2 }));
        }
        assert_eq!(rates.charge(by(2), 960), Ok(()), "another key of the same address");
        rates.give_back(by(2), 960);
        assert_eq!(rates.admits(by(2)), Ok(()));
        assert_eq!(SingleRates::new(0).charge(from("192.0.2.1"), 1 << 30), Ok(()), "no limit");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_charged_to_the_address() {
        let rates = SingleRates::new(10);
        let client = "2001:db8::1".parse().unwrap();
        assert_eq!(rates.admits_client(client), Ok(()));
        (0..10).for_each(|_| rates.charge_client(client, 1));
        let too_fast = Refusal::TooFast { whose: "address", per_second: 10.0, seconds: 1 };
        assert_eq!(rates.admits_client("2001:db8::2".parse().unwrap()), Err(too_fast.clone()));
        assert_eq!(rates.admits(from("2001:db8::3")), Err(too_fast), "of events too");
        tokio::time::advance(Duration::from_millis(200)).await;
        rates.charge_client(client, 50);
        rates.charge_client(client, 1_000_000);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(rates.admits_client(client), Ok(()), "what is refused while it owes costs nothing");
        let unlimited = SingleRates::new(0);
        unlimited.charge_client(client, 1 << 30);
        assert_eq!(unlimited.admits_client(client), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_without_number_take_bounded_room() {
        let rates = SingleRates::new(1);
        for number in 0..200_000_u32 {
            drop(rates.charge(Single { client: Some(std::net::Ipv4Addr::from_bits(number).into()), ..from("::") }, 5));
        }
        assert!(rates.clients.len() <= MOST);
    }
}
