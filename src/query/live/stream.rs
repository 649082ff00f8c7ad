//! The messages of one reader.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{Message, Shown};
use crate::clock;
use crate::query::ask::fields::shortened;
use crate::query::ask::filter::of_event::EventFilters;
use crate::query::ask::filter::parse_all;
use crate::query::ask::{CanonicalForm, Context, Fields};
use crate::query::error::QueryError;

/// Browsers come back after this when they were cut off.
const FIRST: Bytes = Bytes::from_static(b"retry: 2000\n\n");
/// Most types that a reader may ask for.
const MOST_TYPES: usize = 100;

/// One who watches.
pub(in crate::query) struct Watch {
    /// Whether it goes on where it was cut off.
    pub(super) is_resumed: bool,
    /// What was dropped meanwhile.
    pub(super) missed: Missed,
    /// Messages that it has not seen.
    pub(super) kept: VecDeque<Message>,
    pub(super) receiver: broadcast::Receiver<Message>,
}

/// How many messages a reader was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    Messages(u64),
    /// Some: who has sent the last one is not here to say.
    Unknown,
}

/// Which messages a reader wants.
#[derive(Debug, Default)]
pub(in crate::query) struct Wanted {
    /// Whether events are shown.
    events: bool,
    /// Of which types; of all if there are none.
    types: BTreeSet<String>,
    /// Whether those of bots are shown, too.
    bots: bool,
    /// What is counted and shown; and the same for equal filters, 0 without any.
    pub(super) filters: Arc<EventFilters>,
    pub(super) filters_key: u64,
}

impl Wanted {
    /// Reads the parameters `events` and `include_bots` (`true` or `false`), `type`, which may be given several times, and `filters`, as
    /// questions have them.
    ///
    /// # Errors
    /// 400: another parameter, or a value that makes no sense; as [`EventFilters::of`].
    pub(in crate::query) fn parse(query: &str) -> Result<Self, QueryError> {
        let mut wanted = Self { events: true, ..Self::default() };
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match (&*key, &*value) {
                ("events", "true") => wanted.events = true,
                ("events", "false") => wanted.events = false,
                ("events", _) => return Err(QueryError::invalid("invalid_live", no_flag(&key, &value))),
                ("include_bots", "true") => wanted.bots = true,
                ("include_bots", "false") => wanted.bots = false,
                ("include_bots", _) => return Err(QueryError::invalid("invalid_include_bots", no_flag(&key, &value))),
                ("filters", filters) => wanted.filter(filters)?,
                ("type", "") => return Err(QueryError::invalid("invalid_live", "`type` is the name of an event")),
                ("type", name) => drop(wanted.types.insert(name.to_owned())),
                _ => {
                    return Err(QueryError::invalid(
                        "invalid_live",
                        "a live view has the parameters `events`, `filters`, `include_bots` and `type`",
                    ));
                }
            }
        }
        if wanted.types.len() > MOST_TYPES {
            return Err(QueryError::invalid("invalid_live", format!("at most {MOST_TYPES} times `type`")));
        }
        Ok(wanted)
    }

    fn filter(&mut self, written: &str) -> Result<(), QueryError> {
        let refused = |_| QueryError::invalid("invalid_filter", "`filters` is a list of filters as JSON");
        let body = json!({"filters": serde_json::from_str::<Value>(written).map_err(refused)?});
        let context = Context::new(clock::now_ms());
        let filters = parse_all(Fields::open(&body, &["filters"])?, &context)?;
        self.filters = Arc::new(EventFilters::of(&filters).map_err(|problem| placed(problem, &body, &context))?);
        if !filters.is_empty() {
            let mut form = CanonicalForm::of("", "live");
            form.set("filters", &filters);
            self.filters_key = (form.fingerprint() as u64).max(1);
        }
        Ok(())
    }

    fn takes(&self, message: &Message) -> bool {
        let is_of_type = |event: &Shown| match self.types.is_empty() {
            true => !event.is_for_few,
            false => self.types.contains(&*event.event_type),
        };
        message.event.as_ref().is_none_or(|event| self.events && (self.bots || !event.is_of_bot) && is_of_type(event))
    }
}

fn no_flag(key: &str, value: &str) -> String {
    format!("`{key}` is `{}`: it must be `true` or `false`", shortened(value))
}

/// What an event alone does not tell, with the first of the filters of `body` that asks for it.
fn placed(problem: QueryError, body: &Value, context: &Context) -> QueryError {
    let is_untold = |filter: &Value| {
        let alone = json!({"filters": [filter]});
        let parsed = Fields::open(&alone, &["filters"]).and_then(|fields| parse_all(fields, context));
        parsed.and_then(|filters| EventFilters::of(&filters)).is_err()
    };
    let asks = body["filters"].as_array().into_iter().flatten().enumerate().find(|(_, filter)| is_untold(filter));
    match asks {
        Some((number, filter)) => match filter["field"].as_str() {
            Some(field) => problem.within(&format!("filters[{number}].field `{}`", shortened(field))),
            None => problem.within(&format!("filters[{number}]")),
        },
        None => problem,
    }
}

/// What the reader is sent: those that it has not seen, then what comes. Ends when the instance stops, and with the first counters for
/// which `is_admitted` says no.
pub(in crate::query) fn messages(
    watch: Watch,
    wanted: Wanted,
    is_admitted: impl Fn() -> bool + Send + 'static,
) -> impl Stream<Item = Bytes> + Send + 'static {
    let Watch { is_resumed, missed, kept, receiver } = watch;
    let mut first = VecDeque::from([FIRST]);
    if missed != Missed::Messages(0) {
        first.push_back(told_of(missed));
    }
    first.extend(kept.into_iter().filter(|message| wanted.takes(message)).map(|message| message.text));
    // Who is new learns at once that the stream stands.
    if !is_resumed {
        first.push_back(Bytes::from_static(b": watching\n\n"));
    }
    stream::unfold((first, receiver, wanted, is_admitted), async |(mut first, mut receiver, wanted, is_admitted)| {
        if let Some(text) = first.pop_front() {
            return Some((text, (first, receiver, wanted, is_admitted)));
        }
        loop {
            match receiver.recv().await {
                // Counters come each second, so a key that opens nothing any more is noticed then.
                Ok(message) if message.event.is_none() && !is_admitted() => return None,
                Ok(message) if wanted.takes(&message) => return Some((message.text, (first, receiver, wanted, is_admitted))),
                Ok(_) => {}
                Err(RecvError::Lagged(missed)) => return Some((told_of(Missed::Messages(missed)), (first, receiver, wanted, is_admitted))),
                Err(RecvError::Closed) => return None,
            }
        }
    })
}

fn told_of(missed: Missed) -> Bytes {
    let messages = match missed {
        Missed::Messages(messages) => json!(messages),
        Missed::Unknown => Value::Null,
    };
    format!("event: missed\ndata: {{\"messages\":{messages}}}\n\n").into()
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::event::ids::ProjectId;
    use crate::query::live::{KEPT, Live, MOST_FILTERS};

    const PROJECT: ProjectId = ProjectId(7);

    fn say(live: &Live, event_type: Option<&str>, messages: usize) {
        let event = event_type.map(|event_type| Shown {
            event_type: event_type.into(),
            is_of_bot: event_type == "crawl",
            is_for_few: event_type == "rare",
        });
        for number in 0..messages {
            let mut projects = live.projects();
            let channels = projects.get_mut(&PROJECT).unwrap().values_mut();
            channels.for_each(|channel| channel.send("counters", event.clone(), &number.to_string()));
        }
    }

    /// What a reader is sent without waiting.
    fn sent(stream: &mut (impl Stream<Item = Bytes> + Unpin)) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some(Some(text)) = stream.next().now_or_never() {
            sent.push(String::from_utf8(text.to_vec()).unwrap());
        }
        sent
    }

    /// The id of a message to those who watch all events.
    fn id_of(live: &Live, number: u64) -> String {
        format!("{:x}-{number}", live.projects()[&PROJECT][&0].id)
    }

    fn stream(live: &Live, parameters: &str, last_id: Option<&str>) -> impl Stream<Item = Bytes> + Unpin + use<> {
        let wanted = Wanted::parse(parameters).unwrap();
        Box::pin(messages(live.watch(PROJECT, &wanted, last_id).unwrap(), wanted, || true))
    }

    #[test]
    fn a_reader_that_is_slow_or_comes_back_late_is_told_how_many_messages_it_missed() {
        let live = Live::new();
        let mut slow = stream(&live, "", None);
        assert_eq!(sent(&mut slow).len(), 2);
        say(&live, None, KEPT + 10);
        let seen = sent(&mut slow);
        assert_eq!((seen.len(), &*seen[0]), (KEPT + 1, "event: missed\ndata: {\"messages\":10}\n\n"));
        // It goes on behind the third, of which the next seven are not kept any more.
        let seen = sent(&mut stream(&live, "", Some(&id_of(&live, 3))));
        assert_eq!((seen.len(), &*seen[1]), (KEPT + 2, "event: missed\ndata: {\"messages\":7}\n\n"));
        let seen = sent(&mut stream(&live, "", Some(&id_of(&live, KEPT as u64 + 9))));
        assert_eq!(seen.len(), 2);
        assert_eq!(sent(&mut stream(&live, "", Some(""))).len(), 2);
        for of_others in ["1-5", "x", "x-y"] {
            let seen = sent(&mut stream(&live, "", Some(of_others)));
            assert_eq!((seen.len(), &*seen[1]), (3, "event: missed\ndata: {\"messages\":null}\n\n"), "{of_others}");
        }
    }

    #[test]
    fn those_who_filter_alike_share_a_channel_of_which_there_are_few() {
        let live = Live::new();
        let filtered = |country: &str| {
            let filters = json!([{"field": "country", "value": country}]).to_string();
            url::form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters).finish()
        };
        let channels = || live.projects().values().map(std::collections::HashMap::len).sum::<usize>();
        let own = stream(&live, &filtered("DE"), None);
        let (_same, _all) = (stream(&live, &filtered("DE"), None), stream(&live, "filters=[]", None));
        assert_eq!(channels(), 2);
        // The number of a message of one channel says nothing in another.
        say(&live, None, 3);
        let last_of_all = id_of(&live, 2);
        assert_eq!(sent(&mut stream(&live, "", Some(&last_of_all))).len(), 2);
        assert_eq!(sent(&mut stream(&live, &filtered("DE"), Some(&last_of_all))).len(), 3, "something was missed");
        let many: Vec<_> = (1..MOST_FILTERS / 2).map(|number| stream(&live, &filtered(&number.to_string()), None)).collect();
        let refused = live.watch(PROJECT, &Wanted::parse(&filtered("x")).unwrap(), None);
        assert!(refused.is_err_and(|problem| problem.code == "too_many_watch"));
        assert!(live.watch(PROJECT, &Wanted::parse(&filtered("DE")).unwrap(), None).is_ok());
        drop((own, many));
    }

    #[test]
    fn streams_end_with_the_instance_and_none_begins_then() {
        let live = Live::new();
        let mut stream = stream(&live, "", None);
        sent(&mut stream);
        live.end();
        assert!(matches!(stream.next().now_or_never(), Some(None)));
        let refused = live.watch(PROJECT, &Wanted::parse("").unwrap(), None);
        assert!(refused.is_err_and(|problem| (problem.code, problem.retry_after) == ("stopping", Some(1))));
    }

    #[test]
    fn a_stream_ends_with_its_key() {
        let live = Live::new();
        let is_valid = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        let known = std::sync::Arc::clone(&is_valid);
        let is_admitted = move || known.load(std::sync::atomic::Ordering::Relaxed);
        let wanted = Wanted::parse("").unwrap();
        let mut stream = Box::pin(messages(live.watch(PROJECT, &wanted, None).unwrap(), wanted, is_admitted));
        say(&live, None, 1);
        assert_eq!(sent(&mut stream).len(), 3);
        is_valid.store(false, std::sync::atomic::Ordering::Relaxed);
        say(&live, None, 2);
        assert!(matches!(stream.next().now_or_never(), Some(None)));
    }

    #[test]
    fn a_reader_gets_counters_and_the_events_that_it_wants() {
        let live = Live::new();
        let mut streams = ["", "events=false", "type=view&type=buy", "type=buy"].map(|parameters| stream(&live, parameters, None));
        streams.iter_mut().for_each(|stream| drop(sent(stream)));
        say(&live, None, 1);
        say(&live, Some("view"), 10);
        assert_eq!(streams.each_mut().map(|stream| sent(stream).len()), [11, 1, 11, 1]);
        say(&live, Some("crawl"), 3);
        assert_eq!(streams.each_mut().map(|stream| sent(stream).len()), [0, 0, 0, 0]);
        say(&live, Some("rare"), 1);
        assert_eq!(streams.each_mut().map(|stream| sent(stream).len()), [0, 0, 0, 0]);
        let mut rare = stream(&live, "type=rare", None);
        sent(&mut rare);
        say(&live, Some("rare"), 1);
        assert_eq!(sent(&mut rare).len(), 1);
        let mut bots = stream(&live, "include_bots=true&type=crawl", None);
        sent(&mut bots);
        say(&live, Some("crawl"), 3);
        assert_eq!(sent(&mut bots).len(), 3);
        for parameters in ["events=1", "type=", "else=1", "include_bots=yes", "filters=x", "filters={}", "filters=[{}]"] {
            assert!(Wanted::parse(parameters).is_err(), "{parameters}");
        }
        let filters =
            |filters: Value| url::form_urlencoded::Serializer::new(String::new()).append_pair("filters", &filters.to_string()).finish();
        let country = json!({"field": "country", "value": "DE"});
        for (parameters, named) in [
            ("events=1".to_owned(), "`events` is `1`"),
            (filters(json!([country, {"field": "session.pages", "op": "gte", "value": 2}])), "filters[1].field `session.pages`: "),
            (filters(json!([{"any": [country, {"field": "person.plan", "value": "pro"}]}])), "filters[0]: "),
        ] {
            let refused = Wanted::parse(&parameters).unwrap_err().to_string();
            assert!(refused.contains(named), "{refused}");
        }
    }
}
