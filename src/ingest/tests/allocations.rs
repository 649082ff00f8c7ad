//! Decoding an event allocates next to nothing: everything is borrowed from the body or written into one buffer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;

use hyper::header::HeaderMap;

use super::{SHOP, decoded_as};
use crate::ingest::envelope;
use crate::ingest::intake::Intake;
use crate::ingest::protocol::pulse::ENVELOPE;
use crate::ingest::protocol::{Delivery, Received};
use crate::ingest::refusal::Refusal;
use crate::ingest::whole_request::WholeRequest;

/// The allocator of the tests: counts by thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count() {
    // A thread that ends allocates after its cells are gone.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(block, layout, size) }
    }
}

const FLAT: &str = r#""price":12.5,"count":3,"gift":false,"size":"XL""#;
const NESTED: &str = r#""nested":{"deep":{"er":"x"}}"#;
const ARRAY: &str = r#""tags":["a","b"]"#;

fn body(events: usize, properties: &str) -> String {
    let mut body = String::from("[");
    for number in 0..events {
        let comma = if number == 0 { "" } else { "," };
        write!(
            body,
            r#"{comma}{{"eventId":"00000000-0000-4000-8000-{number:012x}","type":"purchase","anonymousId":"visitor-{number}","userId":"user-{number}",
            "timestamp":"2026-09-21T14:13:20.000Z","page":{{"url":"https://shop.example/cart?a=b&utm_source=x","title":"Cart \u00fc","referrer":"https://www.google.com/"}},
            "device":{{"screen":{{"width":1440,"height":900}}}},"properties":{{"sku":"A-{number}",{properties}}}}}"#
        )
        .unwrap();
    }
    body + "]"
}

/// Allocations while a body of that many events is decoded.
fn allocations(events: usize, properties: &str) -> u64 {
    let body = body(events, properties);
    counted(events, |intake| envelope::json(body.as_bytes(), &ENVELOPE, intake))
}

/// Allocations while that many events are read.
fn counted(events: usize, read: impl FnOnce(&mut Intake<'_>) -> Result<(), Refusal>) -> u64 {
    let mut taken = 0;
    let decoded = decoded_as(
        SHOP,
        |_| {},
        |intake| {
            let before = ALLOCATIONS.get();
            let read = read(intake);
            taken = ALLOCATIONS.get() - before;
            read
        },
    );
    assert_eq!(decoded.unwrap().verdicts.accepted as usize, events);
    taken
}

/// The same of Mixpanel's, each with an id that its SDK for browsers makes.
fn of_mixpanel(events: usize) -> u64 {
    let event = |number: usize| {
        format!(
            r#"{{"event":"purchase","properties":{{"token":"k","time":1790000000.5,"distinct_id":"ada","$device_id":"d","$insert_id":"{number:016}",
            "mp_lib":"web","$os":"Linux",{FLAT}}}}}"#
        )
    };
    let body = format!("[{}]", (0..events).map(event).collect::<Vec<_>>().join(","));
    let WholeRequest { protocol, head, body } = WholeRequest::of("/track".parse().unwrap(), HeaderMap::new(), body.into()).unwrap();
    counted(events, |intake| protocol.events(&Received { head: &head, body: &body, delivery: &Delivery::Live }, intake))
}

/// Allocations that one more event takes. Buffers grow by doubling: some dozens for a request, however many events it has.
fn of_one_event(properties: &str) -> f64 {
    (allocations(1_000, properties) - allocations(100, properties)) as f64 / 900.0
}

#[test]
fn an_event_takes_no_allocation_of_its_own() {
    let flat = of_one_event(FLAT);
    assert!(flat < 0.1, "{flat:.2}");
}

#[test]
fn an_id_of_parts_takes_no_allocation_either() {
    let one = (of_mixpanel(1_000) - of_mixpanel(100)) as f64 / 900.0;
    assert!(one < 0.1, "{one:.2}");
}

#[test]
fn nested_objects_and_arrays_take_a_buffer_each() {
    let (nested, array) = (of_one_event(NESTED), of_one_event(ARRAY));
    // The flattened key grows once; an array is written as text first.
    assert!(nested < 2.1, "{nested:.2}");
    assert!(array < 2.1, "{array:.2}");
}
