//! The tea shop of the demo: who comes on which day.
//!
//! Everything follows from the number of a day and of the person among those who came first on it, so the same day has the same events
//! under the same ids whenever it is asked for: a second run stores nothing twice, and one of tomorrow adds a day.

use super::calendar::Day;
use super::person::Person;
use super::random::Random;
use super::visit::{self, Event};

/// Days after which nobody comes back.
const MEMORY: i64 = 27;
/// Of so many persons, one comes for the first time on a day: then as many as the shop has are seen in a month.
const FIRST_ONE_IN: f64 = 40.0;

/// A shop that so many people visit in a month.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shop {
    pub(super) people: u32,
}

impl Shop {
    /// The events of all visits that begin on a day, in the order of their times.
    pub(super) fn events(self, day: Day) -> Vec<Event> {
        let mut events = Vec::new();
        for first in (day.0 - MEMORY..=day.0).map(Day) {
            for number in 0..self.newcomers(first) {
                let person = Person { first, number };
                let mut random = Random::of(&[first.0, number, 0, day.0]);
                if first == day || person.comes_back(day, &mut random) {
                    let at_ms = day.moment_ms(&mut random);
                    visit::write(person, day, at_ms, &mut random, &mut events);
                }
            }
        }
        for number in 0..self.newcomers(day) / 6 {
            let mut random = Random::of(&[day.0, number, 2]);
            let at_ms = day.moment_ms(&mut random);
            visit::write_bot(number, at_ms, &mut random, &mut events);
        }
        events.sort_by_key(|event| event.at_ms);
        events
    }

    fn newcomers(self, day: Day) -> i64 {
        let by_sale = if day.is_sale() { 1.6 } else { 1.0 };
        let varies = 0.92 + 0.16 * Random::of(&[day.0, 3]).fraction();
        (f64::from(self.people) / FIRST_ONE_IN * day.weight() * by_sale * varies).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use serde_json::Value;

    use super::super::calendar::HOUR_MS;
    use super::*;

    /// A Wednesday with an outage; the first day of a four weeks is 20,720.
    const OUTAGE: Day = Day(20_733);

    fn read(event: &Event) -> Value {
        serde_json::from_str(&event.line).unwrap()
    }

    fn month(people: u32) -> Vec<Value> {
        (20_720..20_748).flat_map(|day| Shop { people }.events(Day(day))).map(|event| read(&event)).collect()
    }

    #[test]
    fn a_day_is_the_same_whenever_it_is_asked_for_and_no_id_comes_twice() {
        let shop = Shop { people: 2_000 };
        assert_eq!(shop.events(OUTAGE), shop.events(OUTAGE));
        let ids: Vec<String> = month(2_000).iter().map(|event| event["eventId"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        // A larger shop has the visits of a smaller one too.
        let all: HashSet<String> = Shop { people: 4_000 }.events(OUTAGE).into_iter().map(|event| event.line).collect();
        assert!(shop.events(OUTAGE).iter().all(|event| all.contains(&event.line)));
    }

    #[test]
    fn as_many_people_come_as_the_shop_has_and_fewer_get_further() {
        let events = month(4_000);
        let of = |kind: &str| {
            let of_kind = events.iter().filter(|event| event["type"] == kind);
            of_kind.map(|event| event["anonymousId"].as_str().unwrap()).collect::<HashSet<_>>().len()
        };
        let visitors = events.iter().map(|event| event["anonymousId"].as_str().unwrap()).collect::<HashSet<_>>().len();
        assert!((3_500..5_000).contains(&visitors), "{visitors}");
        let steps = ["page_view", "product_viewed", "cart_added", "checkout_started", "order_completed"].map(of);
        assert!(steps.windows(2).all(|pair| pair[1] * 10 < pair[0] * 8), "{steps:?}");
        assert!(steps[4] > 80, "{steps:?}");
    }

    #[test]
    fn in_the_hour_of_the_outage_hardly_anything_arrives() {
        let shop = Shop { people: 20_000 };
        let in_hour = |day: Day| {
            let from_ms = OUTAGE.outage_ms().unwrap() + (day.0 - OUTAGE.0) * 24 * HOUR_MS;
            shop.events(day).iter().filter(|event| (from_ms..from_ms + HOUR_MS).contains(&event.at_ms)).count()
        };
        assert!(in_hour(OUTAGE) * 3 < in_hour(Day(OUTAGE.0 + 1)), "{} {}", in_hour(OUTAGE), in_hour(Day(OUTAGE.0 + 1)));
    }

    #[test]
    fn who_has_a_device_is_one_person_and_payment_fails_on_iphones_until_it_is_mended() {
        let events = month(8_000);
        let mut users = HashMap::new();
        for event in events.iter().filter(|event| event["userId"].is_string()) {
            assert_eq!(users.entry(&event["anonymousId"]).or_insert(&event["userId"]), &&event["userId"]);
        }
        let of = |kind: &str, is_broken: bool| {
            let is = |event: &&Value| {
                let day = Day::of_ms(event["timestamp"].as_i64().unwrap());
                event["type"] == kind && event["context"]["userAgent"].as_str().unwrap().contains("iPhone") && day.is_broken() == is_broken
            };
            events.iter().filter(is).count() as f64
        };
        let paid = |is_broken| of("order_completed", is_broken) / of("checkout_started", is_broken);
        assert!(paid(true) < 0.3 * paid(false), "{} {}", paid(true), paid(false));
    }

    /// As the rule `conversion-fell` of the examples says it: a day beside the same one a week before.
    #[test]
    fn while_payment_fails_conversion_falls_so_far_that_the_rule_of_the_examples_fires() {
        let shop = Shop { people: 20_000 };
        let paid = |day: i64| {
            let events: Vec<Value> = shop.events(Day(day)).iter().map(read).collect();
            let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).count() as f64;
            of("order_completed") / of("checkout_started")
        };
        let month: Vec<f64> = (20_720..20_748).map(paid).collect();
        let fell: Vec<usize> = (7..28).filter(|day| month[*day] < 0.8 * month[day - 7]).collect();
        assert!(fell.len() >= 3 && fell.iter().all(|day| (11..19).contains(day)), "{fell:?} of {month:?}");
    }
}
