//! What clients call the circumstances of an event that write them flat, among its properties: PostHog, Mixpanel and those who took
//! their names over.

use crate::event::field::Field;
use crate::event::ids::{IdParts, event_id_of, is_random};
use crate::ingest::draft::{Draft, FactKind, Scope};
use crate::ingest::tape::Value;

/// What a client says where it knows of no referrer.
pub(super) const DIRECT: &str = "$direct";

/// The address of a page as Amplitude's SDK for browsers has it: with its query, and without.
pub(super) const AMPLITUDE_LOCATION: &str = "[Amplitude] Page Location";
const AMPLITUDE_URL: &str = "[Amplitude] Page URL";

/// What an event is called that says what a group is.
pub(super) const GROUP: &str = "$groupidentify";

/// What sends an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A page: its browser's agent says what it runs on, in one way for all clients.
    Page,
    /// An application on a visitor's device.
    App,
    /// A server: its system is not the visitor's.
    Server,
}

/// Notes the circumstances among the properties.
pub(super) fn note<'t>(properties: Value<'t>, source: Source, draft: &mut Draft<'t, '_>) {
    // Found once: a hostile event says the other a hundred thousand times.
    let has_location = properties.member(AMPLITUDE_LOCATION).is_some();
    for (key, value) in properties.members().filter(|(_, value)| !value.is_null() && value.text() != Some(DIRECT)) {
        let of_device = || device(key).filter(|_| source == Source::App);
        if key == "$ip" {
            draft.address = Some(value);
        } else if has_location && key == AMPLITUDE_URL {
            // The same without its query.
        } else if let Some(field) = field(key).or_else(of_device) {
            draft.note(FactKind::Of(field), value, Scope::Event);
        }
    }
}

/// By what a copy of an event is known: by its `$insert_id`, or with name, second and user where that was not made to be unique: one order
/// has several events.
pub(super) fn known_by<'t>(insert_id: Value<'t>, id: Option<Value<'t>>, draft: &mut Draft<'t, '_>) {
    let is_name = match insert_id.text() {
        Some(text) => !is_random(text) && event_id_of(text).is_some(),
        None => insert_id.number().is_some(),
    };
    draft.event_id = Some(insert_id);
    if is_name {
        let mut parts = IdParts::default();
        add(draft.name, &mut parts);
        parts.second(draft.timestamp.and_then(Value::time).map(|at_ms| at_ms.div_euclid(1_000)));
        add(id, &mut parts);
        add(Some(insert_id), &mut parts);
        draft.made_id = Some(parts.id());
    }
}

/// Adds a value. Pages of Mixpanel's have an id of parts with every event: texts and numbers are not copied.
fn add(value: Option<Value<'_>>, parts: &mut IdParts) {
    match value.map(|value| (value, value.text())) {
        None => parts.json("null"),
        Some((_, Some(text))) => parts.text(text),
        Some((value, None)) => match value.with_text(|number| parts.json(number)) {
            Some(()) => {}
            None => parts.json(&value.to_json().to_string()),
        },
    }
}

/// Keeps the `$insert_id` that is only a part of the event's id, so that the event is found by it. What is said of users and groups is no
/// place for it: their properties are traits.
pub(super) fn note_insert_id(draft: &mut Draft<'_, '_>) {
    if draft.made_id.is_some() && !matches!(draft.called, Some("identify" | "alias" | "group")) {
        draft.note_property("$insert_id", draft.event_id);
    }
}

/// Whether a property is one that [`note`] reads.
pub(super) fn is_noted(key: &str) -> bool {
    key == "$ip" || field(key).is_some() || is_of_device(key)
}

/// Whether a property is one of the device or the browser.
pub(super) fn is_of_device(key: &str) -> bool {
    device(key).is_some() || is_of_browser(key)
}

/// The field that a property is, of pages and of apps alike.
fn field(key: &str) -> Option<Field> {
    Some(match key {
        "$current_url" | AMPLITUDE_LOCATION | AMPLITUDE_URL => Field::PageUrl,
        "$host" | "[Amplitude] Page Domain" => Field::PageHost,
        "$pathname" | "[Amplitude] Page Path" => Field::PagePath,
        "current_page_title" | "[Amplitude] Page Title" => Field::PageTitle,
        "$referrer" => Field::Referrer,
        "$raw_user_agent" => Field::UserAgent,
        "$timezone" => Field::Timezone,
        "$locale" | "$browser_language" => Field::Locale,
        "$screen_width" => Field::ScreenWidth,
        "$screen_height" => Field::ScreenHeight,
        "$pixel_ratio" => Field::ScreenDensity,
        _ => return utm(key),
    })
}

/// The field that a parameter of an address is, where it is a property.
fn utm(key: &str) -> Option<Field> {
    Some(match key {
        "utm_source" => Field::CampaignSource,
        "utm_medium" => Field::CampaignMedium,
        "utm_campaign" => Field::CampaignName,
        "utm_term" => Field::CampaignTerm,
        "utm_content" => Field::CampaignContent,
        _ => return None,
    })
}

/// What an application says of its device. Of a browser its agent says it, in one way for all clients.
fn device(key: &str) -> Option<Field> {
    Some(match key {
        "$os" | "$os_name" => Field::Os,
        "$os_version" => Field::OsVersion,
        "$device_type" => Field::DeviceType,
        "$device_model" | "$model" => Field::DeviceModel,
        "$device_manufacturer" | "$manufacturer" => Field::DeviceManufacturer,
        "$app_name" => Field::AppName,
        "$app_version" | "$app_version_string" => Field::AppVersion,
        "$app_build" | "$app_build_number" => Field::AppBuild,
        _ => return None,
    })
}

/// What the agent of a browser says as well.
fn is_of_browser(key: &str) -> bool {
    matches!(key, "$browser" | "$browser_version" | "$referring_domain" | "$browser_language_prefix")
}

/// What an event is called whose client names it in a way that is kept for pulse: without the `$`, and a page is called a page.
pub(super) fn name(name: &str) -> &str {
    match name {
        "$pageview" | "$mp_web_page_view" | "[Amplitude] Page Viewed" => "page",
        "$create_alias" | "$merge_dangerously" => "alias",
        GROUP => "group",
        "$set" | "$set_once" => "identify",
        "$pageleave" => "page_leave",
        _ => name.trim_start_matches('$'),
    }
}
