//! Events of other dialects in pulse's own form: what exports hold is near to what the same clients send.
//!
//! Reads an event as its dialect does and writes down the draft instead of packing it, so that history is called what live events are
//! called. Checks nothing: that is for the contract, once the event comes in.

use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{amplitude, google, mixpanel, posthog, pulse, segment};
use crate::event::field::Field;
use crate::ingest::draft::{Draft, FactKind, ReadEvent};
use crate::ingest::json_bounds;
use crate::ingest::tape::{Value, with_tape};
use crate::ingest::warning::Warnings;
use crate::project::internal::GROUP;

/// A dialect that can be translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// PostHog's capture API.
    PostHog,
    /// Mixpanel's `/track`.
    Mixpanel,
    /// Amplitude's HTTP API V2.
    Amplitude,
    /// Segment's HTTP API.
    Segment,
}

/// What happened, in pulse's own form, and what was said of the user in passing, as an `identify` without an id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// The event.
    pub event: Map<String, Json>,
    /// What else it says of its user.
    pub traits: Option<Map<String, Json>>,
}

/// An event of a dialect in pulse's own form. Errors: it is none, in words.
pub fn translate(from: Spoken, event: &Map<String, Json>) -> Result<Translation, String> {
    let read = match from {
        Spoken::PostHog => posthog::event,
        Spoken::Mixpanel => mixpanel::event,
        Spoken::Amplitude => amplitude::event,
        Spoken::Segment => segment::call,
    };
    let text = serde_json::to_vec(event).map_err(|problem| problem.to_string())?;
    if !json_bounds::is_bounded(&text) {
        return Err(format!("the event has more than {} values", json_bounds::MAX_NODES));
    }
    let both = |value: Value<'_>| {
        let (event, also) = own(value, read)?;
        let traits = also.map(|read| own(value, read).map(|(traits, _)| traits)).transpose()?;
        Ok(Translation { event, traits })
    };
    with_tape(&text, both).unwrap_or_else(|| Err("not a JSON object".to_owned()))
}

/// The same of the Measurement Protocol: an event, and what stands around it.
pub fn translate_google(client: &Map<String, Json>, event: &Map<String, Json>) -> Translation {
    let object = |value: Json| if let Json::Object(members) = value { members } else { Map::new() };
    Translation { event: object(google::own(client, event)), traits: google::identify(client).map(object) }
}

/// What one reading of a value gives, and how else it is to be read.
fn own(value: Value<'_>, read: ReadEvent) -> Result<(Map<String, Json>, Option<ReadEvent>), String> {
    let (mut facts, mut warnings) = (Vec::new(), Warnings::default());
    let mut draft = Draft::new(value, &mut facts, &mut warnings);
    read(value, &mut draft).map_err(|rejection| rejection.message)?;
    let mut event = Map::new();
    let ids = [("userId", draft.user_id), ("anonymousId", draft.anonymous_id)];
    let ids = ids.map(|(name, id)| (name, id.map(|id| text(id, draft.id_prefix))));
    let previous_id = draft.previous_id.map(|id| id.text().map_or_else(|| id.to_json(), |_| text(id, draft.id_prefix)));
    let made = |id: Option<[u8; 16]>| id.map(|id| Json::from(Uuid::from_bytes(id).to_string()));
    let event_id = made(draft.made_id).or_else(|| draft.event_id.map(Value::to_json)).or_else(|| made(draft.fallback_id));
    let others = [
        ("eventId", event_id),
        ("previousId", previous_id),
        ("sessionId", draft.session_id.map(Value::to_json)),
        ("timestamp", draft.timestamp.map(Value::to_json)),
    ];
    event.extend(ids.into_iter().chain(others).filter_map(|(name, value)| Some((name.to_owned(), value?))));
    if let Some(name) = draft.called.map(Json::from).or_else(|| draft.name.map(Value::to_json)) {
        event.insert("type".to_owned(), name);
    }
    let (properties, leaves_out, address) = (draft.properties.or(draft.traits), draft.leaves_out, draft.address);
    let traits = draft.properties.and(draft.traits);
    let mut context = Map::new();
    if draft.is_of_group {
        put(Field::Bot, GROUP.into(), &mut context);
    }
    if let Some(address) = address {
        context.insert("ip".to_owned(), address.to_json());
    }
    let mut kept = Map::new();
    kept.extend(
        properties
            .into_iter()
            .flat_map(Value::members)
            .filter(|(key, _)| !leaves_out(key))
            .map(|(key, value)| (key.to_owned(), value.to_json())),
    );
    if let Some(traits) = traits {
        for (key, value) in traits.members().filter(|(key, _)| !leaves_out(key)) {
            kept.entry(key).or_insert_with(|| value.to_json());
        }
    }
    for (fact, value) in draft.facts().0 {
        match fact.kind {
            FactKind::Of(field) => put(field, value.to_json(), &mut context),
            FactKind::Property(name) => {
                kept.entry(name).or_insert_with(|| value.to_json());
            }
            FactKind::Unknown | FactKind::Unreadable => {}
        }
    }
    for (name, members) in [("context", context), ("properties", kept)] {
        if !members.is_empty() {
            event.insert(name.to_owned(), Json::Object(members));
        }
    }
    Ok((event, draft.also))
}

/// Puts the value of a field in its place in the context; what is there stays.
fn put(field: Field, value: Json, context: &mut Map<String, Json>) {
    let Some((group, key)) = pulse::place(field) else { return };
    let target = match group {
        "" => Some(context),
        group => context.entry(group).or_insert_with(|| json!({})).as_object_mut(),
    };
    if let Some(target) = target {
        target.entry(key).or_insert(value);
    }
}

/// An id, which may be a number, without what is no part of it; anything else is as it was, for the contract to refuse.
fn text(id: Value<'_>, prefix: &str) -> Json {
    id.with_text(|id| Json::from(id.strip_prefix(prefix).unwrap_or(id))).unwrap_or_else(|| id.to_json())
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;
    use crate::ingest::envelope::{self, Envelope};
    use crate::ingest::tests::read::{Read, read};

    fn object(text: &str) -> Map<String, Json> {
        serde_json::from_str(text).unwrap()
    }

    fn packed(body: &Json, read_event: ReadEvent) -> Vec<Read> {
        let envelope = Envelope::bare(read_event);
        read(|intake| envelope::json(body.to_string().as_bytes(), &envelope, intake))
    }

    #[test]
    fn every_field_of_the_context_is_read_where_it_is_written() {
        let written: Vec<Field> = Field::VARIANTS.iter().copied().filter(|field| pulse::place(*field).is_some()).collect();
        for field in &written {
            let (group, key) = pulse::place(*field).unwrap();
            assert_eq!(pulse::field(group, key), Some(*field));
        }
        assert_eq!(written.len(), 32);
    }

    #[test]
    fn a_translated_event_is_the_one_that_its_dialect_reads() {
        let posthog = r#"{"event":"$pageview","uuid":"0195f1a0-0000-7000-8000-000000000001","timestamp":"2026-01-31T09:30:00.123Z","distinct_id":"ada",
            "properties":{"$device_id":"d","$session_id":"s","$current_url":"https://a.example/?utm_source=n","$referrer":"$direct","$os":"iOS",
            "utm_source":"n","plan":"pro","nested":{"a":[1,2.5,null,true]},"$set":{"team":"blue"},"$ip":"203.0.113.7"}}"#;
        let mixpanel = r#"{"event":"$mp_web_page_view","properties":{"distinct_id":7,"time":1789999990.123,"$insert_id":"i","mp_lib":"web","plan":"pro"}}"#;
        let amplitude = r#"{"event_type":"order","user_id":"ada","device_id":"d","insert_id":"i","time":1789999990000,"session_id":-1,"os_name":"iOS",
            "event_properties":{"total":12.5,"[Amplitude] Page URL":"https://a.example/"},"groups":{"team":"x"},"user_properties":{"$set":{"a":1},"$add":{"n":1}}}"#;
        let segment = r#"{"type":"group","groupId":"g","userId":"ada","messageId":"m","timestamp":"2026-01-31T09:30:00Z","traits":{"seats":5},
            "context":{"page":{"url":"https://a.example/"},"campaign":{"name":"x"},"library":{"name":"l"}}}"#;
        for (from, dialect, text) in [
            (Spoken::PostHog, posthog::event as ReadEvent, posthog),
            (Spoken::Mixpanel, mixpanel::event, mixpanel),
            (Spoken::Amplitude, amplitude::event, amplitude),
            (Spoken::Segment, segment::call, segment),
        ] {
            let live = packed(&serde_json::from_str(text).unwrap(), dialect);
            let Translation { event, traits } = translate(from, &object(text)).unwrap();
            let events = std::iter::once(event).chain(traits).map(Json::Object);
            let own: Vec<Read> = events.flat_map(|event| packed(&event, pulse::event)).collect();
            assert_eq!(own.len(), live.len(), "{text}");
            for (own, live) in own.iter().zip(&live) {
                assert_eq!((own.ids(), own.at_ms, own.properties()), (live.ids(), live.at_ms, live.properties()), "{text}");
                for field in
                    Field::VARIANTS.iter().filter(|field| !matches!(field, Field::ScreenWidth | Field::ScreenHeight | Field::ScreenDensity))
                {
                    assert_eq!(own.text(*field), live.text(*field), "{field:?} of {text}");
                }
            }
            assert_eq!(own[0].event_id, live[0].event_id, "{text}");
        }
    }

    #[test]
    fn a_group_is_nobody_in_history_too() {
        let group =
            r#"{"event":"$groupidentify","distinct_id":"$company_x","properties":{"$group_type":"company","$group_set":{"seats":5}}}"#;
        let Translation { event, .. } = translate(Spoken::PostHog, &object(group)).unwrap();
        assert_eq!((&event["type"], &event["context"]), (&json!("group"), &json!({"bot": "group"})));
    }

    #[test]
    fn what_is_too_much_to_be_an_event_is_refused() {
        let event = Map::from_iter([("properties".to_owned(), Json::from(vec![1; json_bounds::MAX_NODES]))]);
        assert!(translate(Spoken::PostHog, &event).unwrap_err().contains("values"));
    }
}
