use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn letters_read_back_equal(message in ".{0,40}", original in prop::collection::vec(any::<u8>(), 0..100), line: u64, offset: i64) {
        let letter = DeadLetter {
            project: ProjectId(4),
            received_ms: 12,
            reason: DeadReason::LineMalformed,
            message: &message,
            source: "access.log",
            line,
            original: &original,
            id: DeadLetterId::of("1001"),
            position: LogPosition { epoch: LogEpoch(1), partition: 2, offset, index: 3 },
        };
        let mut out = Vec::new();
        letter.put(&mut out);
        let mut input = out.as_slice();
        prop_assert_eq!(DeadLetter::take(&mut input), Some(letter));
        prop_assert!(input.is_empty());
    }

    #[test]
    fn an_id_is_the_same_in_every_spelling_of_a_uuid(bytes: [u8; 16], text in "[^0-9a-fA-F{u]\\PC{0,20}") {
        let uuid = Uuid::from_bytes(bytes);
        for spelling in [uuid.to_string(), uuid.simple().to_string(), uuid.to_string().to_uppercase()] {
            prop_assert_eq!(DeadLetterId::of(&spelling), DeadLetterId(bytes));
        }
        let event = serde_json::json!({"type": "", "eventId": text}).to_string();
        prop_assert_eq!(DeadLetterId::of_event(event.as_bytes()), DeadLetterId::of(&text));
        prop_assert_eq!(DeadLetterId::of_event(b"{\"eventId\":null}"), DeadLetterId::NONE);
    }

    #[test]
    fn every_place_and_event_has_an_id_of_its_own(one: (u64, u16, i64, u32, u32), other: (u64, u16, i64, u32, u32)) {
        let id = |(epoch, partition, offset, index, nth)| LogPosition { epoch: LogEpoch(epoch), partition, offset, index }.event_id(nth);
        prop_assert_eq!(one == other, id(one) == id(other));
        prop_assert_eq!(uuid::Uuid::from_bytes(id(one)).get_version_num(), 8);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = DeadLetter::take(&mut bytes.as_slice());
    }

    #[test]
    fn whatever_letters_hold_they_fit_records_of_the_limit_and_all_come_back(
        sizes in prop::collection::vec((0_usize..200_000, any::<bool>()), 1..6), long in 0_usize..5_000, limit in 65_536_usize..200_000,
    ) {
        let text = "ü".repeat(long);
        let originals: Vec<Vec<u8>> = sizes.iter().map(|(size, is_noise)| original(*size, *is_noise)).collect();
        let letters = (0..).zip(&originals).map(|(index, original)| letter(index, original, &text));
        let records = pack(letters, limit);
        prop_assert!(records.iter().all(|record| record.len() <= limit));
        let read: Vec<DeadLetterRecord> = records.iter().map(|record| DeadLetterRecord::decode(record).unwrap()).collect();
        let read: Vec<DeadLetter<'_>> = read.iter().flat_map(DeadLetterRecord::letters).collect();
        prop_assert_eq!(read.iter().map(|letter| letter.position.index).collect::<Vec<_>>(), (0..originals.len() as u32).collect::<Vec<_>>());
        for (letter, original) in read.iter().zip(&originals) {
            prop_assert!(original.starts_with(letter.original) && letter.original.len() >= original.len().min(limit / 2));
            prop_assert_eq!(letter.message.ends_with(" (original cut)"), letter.original.len() < original.len());
        }
    }
}

/// Bytes that compress to nothing, or not at all.
fn original(size: usize, is_noise: bool) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|_| if is_noise { next() } else { b'x' }).collect()
}

fn letter<'a>(index: u32, original: &'a [u8], text: &'a str) -> DeadLetter<'a> {
    DeadLetter {
        project: ProjectId(4),
        received_ms: 12,
        reason: DeadReason::LineMalformed,
        message: text,
        source: text,
        line: 1,
        original,
        id: DeadLetterId::NONE,
        position: LogPosition { epoch: LogEpoch(1), partition: 2, offset: 9, index },
    }
}

#[test]
fn letters_that_are_much_alike_take_little_room_together() {
    let originals: Vec<Vec<u8>> = (0..1_000).map(|line| format!("{line} {}", "x".repeat(600)).into_bytes()).collect();
    let records = pack(originals.iter().map(|original| letter(0, original, "no object")), 8 << 20);
    let size: usize = records.iter().map(Vec::len).sum();
    assert!(records.len() < 10 && size < 60_000, "{} records of {size} bytes", records.len());
}

#[test]
fn of_a_line_of_seventeen_mebibytes_the_beginning_is_kept_and_of_a_record_all_of_it() {
    let whole = vec![b'x'; 17 << 20];
    for (reason, kept) in [(DeadReason::LineMalformed, 1 << 20), (DeadReason::RecordUndecodable, 17 << 20)] {
        let records = pack([DeadLetter { reason, ..letter(0, &whole, "no object") }], 8 << 20);
        assert_eq!(records.len(), 1);
        let record = DeadLetterRecord::decode(&records[0]).unwrap();
        assert_eq!(record.letters().map(|letter| letter.original.len()).collect::<Vec<_>>(), [kept]);
    }
}

#[test]
fn the_rest_of_a_record_is_known_as_that_also_when_it_was_cut() {
    let noise = original(300_000, true);
    let records = pack([letter(0, &noise, REST_UNREADABLE)], 65_536);
    let record = DeadLetterRecord::decode(&records[0]).unwrap();
    let read = record.letters().next().unwrap();
    assert!(read.is_rest() && read.original.len() < noise.len());
}

#[test]
fn a_letter_of_a_later_release_is_kept_and_so_are_those_behind_it() {
    let mut bytes = Vec::new();
    letter(1, b"one", "").put(&mut bytes);
    letter(2, b"two", "").put(&mut bytes);
    // Behind project and time.
    bytes[16] = 250;
    let mut input = bytes.as_slice();
    let read = [DeadLetter::take(&mut input).unwrap(), DeadLetter::take(&mut input).unwrap()];
    assert_eq!(read.map(|letter| (letter.reason == DeadReason::OfLaterRelease, letter.original)), [(true, &b"one"[..]), (false, b"two")]);
    bytes[16] = 100;
    assert_eq!(DeadLetter::take(&mut bytes.as_slice()), None, "a code that is no reason");
}
