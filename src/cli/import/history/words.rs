//! What products call browsers and systems, in the words of live events, which are those of uap-core: what was counted before a change of
//! product and after it stands in one line. Kinds of devices are named anew where an event comes in.

use serde_json::{Map, Value as Json};

/// Versions of Windows that products take for a part of its name.
const WINDOWS: [&str; 12] = ["3.11", "95", "98", "ME", "2000", "XP", "Vista", "7", "8", "8.1", "10", "11"];

/// Puts the words of live events into the circumstances of an event.
pub(super) fn as_live(event: &mut Map<String, Json>) {
    let Some(context) = event.get_mut("context").and_then(Json::as_object_mut) else { return };
    let said = |context: &Map<String, Json>, [group, key]: [&str; 2]| Some(context.get(group)?.get(key)?.as_str()?.to_owned());
    let named = said(context, ["os", "name"]);
    let (os, of_name) = named.as_deref().map_or(("", None), system);
    let version = |name: &str| said(context, [name, "version"]).map(|version| short(&version).to_owned());
    let words = [
        (["browser", "name"], said(context, ["browser", "name"]).map(|name| browser(&name, os).to_owned())),
        (["browser", "version"], version("browser")),
        (["os", "name"], named.as_ref().map(|_| os.to_owned())),
        (["os", "version"], version("os").or(of_name.map(str::to_owned))),
    ];
    for ([group, key], word) in words {
        if let (Some(group), Some(word)) = (context.get_mut(group).and_then(Json::as_object_mut), word) {
            group.insert(key.to_owned(), word.into());
        }
    }
}

/// A system, and its version where the name holds it.
fn system(name: &str) -> (&str, Option<&str>) {
    let version = name.strip_prefix("Windows ").filter(|version| WINDOWS.contains(version));
    let name = match name {
        _ if version.is_some() => "Windows",
        "Mac" | "Macintosh" | "Mac OS" | "MacOS" | "macOS" => "Mac OS X",
        "Android OS" => "Android",
        "GNU/Linux" => "Linux",
        "iPadOS" => "iOS",
        "ChromeOS" => "Chrome OS",
        "Open BSD" => "OpenBSD",
        other => other,
    };
    (name, version)
}

/// A browser on a system of pulse's own name.
fn browser<'n>(name: &'n str, os: &str) -> &'n str {
    let of = |android, ios, desk| match os {
        "Android" => android,
        "iOS" => ios,
        _ => desk,
    };
    match name {
        "chrome" | "Chrome" => of("Chrome Mobile", "Chrome Mobile iOS", "Chrome"),
        "crios" => "Chrome Mobile iOS",
        "chromium-webview" | "Android Webview" => "Chrome Mobile WebView",
        "firefox" | "Firefox" => of("Firefox Mobile", "Firefox iOS", "Firefox"),
        "fxios" => "Firefox iOS",
        "safari" | "Safari" => of("Safari", "Mobile Safari", "Safari"),
        "ios" => "Mobile Safari",
        "ios-webview" | "Safari (in-app)" => "Mobile Safari UI/WKWebView",
        "edge" | "edge-chromium" | "Edge" | "Microsoft Edge" => of("Edge Mobile", "Edge Mobile", "Edge"),
        "edge-ios" => "Edge Mobile",
        "samsung" | "Samsung Browser" => "Samsung Internet",
        "opera" | "Opera" => of("Opera Mobile", "Opera", "Opera"),
        "opera-mini" => "Opera Mini",
        "yandexbrowser" | "YaBrowser" => "Yandex Browser",
        "silk" | "Mobile Silk" => "Amazon Silk",
        "miui" | "MIUI Browser" => "MiuiBrowser",
        "ie" | "Internet Explorer" => "IE",
        "pie" => "IE Mobile",
        "android" | "Android Browser" => "Android",
        "facebook" => "Facebook",
        "instagram" => "Instagram",
        "DuckDuckGo Privacy Browser" => "DuckDuckGo Mobile",
        "Mobile App" => of("Chrome Mobile WebView", "Mobile Safari UI/WKWebView", "Mobile App"),
        other => other,
    }
}

/// `126.0` of `126.0.6478.56`, `10.15` of `Macintosh Intel 10.15.7`; anything else as it is.
fn short(version: &str) -> &str {
    let last = version.rsplit(' ').next().unwrap_or(version);
    let is_number =
        last.starts_with(|first: char| first.is_ascii_digit()) && last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match last.match_indices('.').nth(1) {
        _ if !is_number => version,
        Some((second, _)) => last.get(..second).unwrap_or(last),
        None => last,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::field::Field;
    use crate::process::AgentParser;

    fn live(browser: [&str; 2], os: [&str; 2]) -> [String; 4] {
        let part = |[name, version]: [&str; 2]| match version {
            "" => json!({"name": name}),
            version => json!({"name": name, "version": version}),
        };
        let context = json!({"browser": part(browser), "os": part(os)});
        let mut event = Map::from_iter([("context".to_owned(), context)]);
        as_live(&mut event);
        let context = &event["context"];
        let places = [["browser", "name"], ["browser", "version"], ["os", "name"], ["os", "version"]];
        places.map(|[group, key]| context[group][key].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn what_products_say_is_what_the_agent_says_live() {
        const MAC: &str =
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";
        const ANDROID: &str =
            "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Mobile Safari/537.36";
        const IPHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1";
        const EDGE: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.2592.56";
        let parser = AgentParser::new();
        let told = |agent: &str| {
            let agent = parser.parse(agent);
            [Field::Browser, Field::BrowserVersion, Field::Os, Field::OsVersion].map(|field| agent.get(field).to_owned())
        };
        // As Google Analytics and as Plausible say it; Umami says no versions but that of Windows.
        assert_eq!(live(["Chrome", "126.0.0.0"], ["Macintosh", "Macintosh Intel 10.15"]), told(MAC));
        assert_eq!(live(["Chrome", "126.0"], ["Mac", "10.15"]), told(MAC));
        assert_eq!(live(["Microsoft Edge", "126.0"], ["Windows", "10"]), told(EDGE));
        assert_eq!(live(["Safari", "17.5"], ["iOS", "iOS 17.5"]), told(IPHONE));
        let nameless = |agent: &str, versions: [usize; 2]| {
            let mut told = told(agent);
            versions.iter().for_each(|at| told[*at] = String::new());
            told
        };
        assert_eq!(live(["chrome", ""], ["Mac OS", ""]), nameless(MAC, [1, 3]));
        assert_eq!(live(["chrome", ""], ["Android OS", ""]), nameless(ANDROID, [1, 3]));
        assert_eq!(live(["ios", ""], ["iOS", ""]), nameless(IPHONE, [1, 3]));
        // The word for the version of Windows is told of its name.
        assert_eq!(live(["edge-chromium", "126.0"], ["Windows 10", ""]), told(EDGE));
    }

    #[test]
    fn what_is_not_known_stays_and_nothing_is_made_up() {
        let of = |os: &str| live(["Konqueror", "Trident"], [os, ""]);
        assert_eq!(of("BeOS"), ["Konqueror", "Trident", "BeOS", ""]);
        assert_eq!(of("Windows Phone")[2..4], ["Windows Phone", ""]);
        for context in [json!({}), json!({"os": 5, "browser": {"name": 5}})] {
            let mut event = Map::from_iter([("context".to_owned(), context.clone())]);
            as_live(&mut event);
            assert_eq!(event["context"], context);
        }
        assert_eq!(
            (short("126"), short("126.0.1"), short("Windows XP"), short("1.2-beta"), short("")),
            ("126", "126.0", "Windows XP", "1.2-beta", "")
        );
    }
}
