//! How many connections there may be, of all clients and of one.
//!
//! Promises: one client cannot use up what all clients share; when the limit is reached, health checks are still answered on a few spare
//! connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections beyond the limit: they answer health checks, and refuse anything else at once.
const SPARE: usize = 64;

/// The connections of a listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit {
    most: usize,
    most_of_one: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Taken {
    /// Counts one more of `client`, unless it has `most`.
    fn count(&mut self, client: IpAddr, most: usize) -> bool {
        let of_one = self.by_client.entry(client).or_default();
        let has_room = *of_one < most;
        *of_one += usize::from(has_room);
        has_room
    }
}

/// Allows one connection; given back when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limit: ConnectionLimit,
    client: Option<IpAddr>,
    /// Whether it is one of the spare ones.
    pub(super) is_spare: bool,
}

impl ConnectionLimit {
    pub(super) fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, taken: Arc::default() }
    }

    /// Whether [`Self::take`] may succeed.
    pub(super) fn has_room(&self) -> bool {
        self.taken().all < self.most.saturating_add(SPARE)
    }

    /// A permit for a connection from `address`, unless that client has as many as it may; `None` stands for a proxy, whose connections
    /// are those of many.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Option<ConnectionPermit> {
        let client = address.map(client);
        let mut taken = self.taken();
        let is_spare = taken.all >= self.most;
        if taken.all >= self.most.saturating_add(SPARE) || !client.is_none_or(|client| taken.count(client, self.most_of_one)) {
            return None;
        }
        taken.all += 1;
        Some(ConnectionPermit { limit: self.clone(), client, is_spare })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Counts the connection as that of `address`, which its proxy has named; `false` if that client has as many as it may.
    pub(super) fn belongs_to(&mut self, address: IpAddr) -> bool {
        let client = client(address);
        let has_room = self.client.is_some() || self.limit.taken().count(client, self.limit.most_of_one);
        self.client = self.client.or(has_room.then_some(client));
        has_room
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut taken = self.limit.taken();
        taken.all -= 1;
        let Some(client) = self.client else { return };
        if let Some(of_one) = taken.by_client.get_mut(&client) {
            *of_one -= 1;
            if *of_one == 0 {
                taken.by_client.remove(&client);
            }
        }
    }
}

/// The client behind an address. A subscriber of IPv6 has a whole network of addresses.
pub fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(limit: &ConnectionLimit, address: &str) -> Option<ConnectionPermit> {
        limit.take(Some(address.parse().unwrap()))
    }

    #[test]
    fn one_client_gets_its_share_and_everybody_else_the_rest() {
        let limit = ConnectionLimit::new(5, 2);
        let held = [take(&limit, "2001:db8::1"), take(&limit, "2001:db8::ffff:2")];
        assert!(held.iter().all(Option::is_some));
        assert!(take(&limit, "2001:db8::3").is_none(), "the same network");
        let other = take(&limit, "2001:db8:0:1::1").unwrap();
        assert!(!other.is_spare);
        drop(held);
        assert!(take(&limit, "2001:db8::3").is_some());
        drop(other);
        assert_eq!(limit.taken().all, 0);
        assert!(limit.taken().by_client.is_empty());
    }

    #[test]
    fn beyond_the_last_slot_there_are_spare_ones_and_then_none() {
        let limit = ConnectionLimit::new(3, 1);
        let held: Vec<ConnectionPermit> = std::iter::from_fn(|| limit.take(None)).collect();
        assert_eq!(held.len(), 3 + SPARE);
        assert!(held.iter().enumerate().all(|(number, slot)| slot.is_spare == (number >= 3)));
        assert!(!limit.has_room());
        drop(held);
        assert!(limit.has_room());
    }
}
