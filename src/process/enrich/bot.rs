//! Bots: flagged with the reason, never dropped. No agent at all is no bot: server SDKs send none.

/// What real browsers call themselves with no one at the screen.
const HEADLESS: [&str; 4] = ["HeadlessChrome", "PhantomJS", "Headless", "Puppeteer"];
/// Programs' libraries; matched at the start of the agent.
const LIBRARIES: [&str; 20] = [
    "curl/",
    "Wget/",
    "python-requests",
    "Python-urllib",
    "python-httpx",
    "aiohttp",
    "Go-http-client",
    "Java/",
    "okhttp",
    "Apache-HttpClient",
    "node-fetch",
    "axios/",
    "undici",
    "libwww-perl",
    "Ruby",
    "Faraday",
    "PHP/",
    "GuzzleHttp",
    "Scrapy",
    "HTTPie",
];
const MONITORS: [&str; 7] = ["Pingdom", "UptimeRobot", "StatusCake", "Site24x7", "NewRelicPinger", "DatadogSynthetics", "Better Uptime"];
/// Words that only crawlers have in their names, in lower case.
const CRAWLERS: [&str; 18] = [
    "bot/",
    "bot;",
    "bot)",
    "bot ",
    "crawler",
    "spider",
    "slurp",
    "facebookexternalhit",
    "mediapartners",
    "archiver",
    "feedfetcher",
    "ia_archiver",
    "bingpreview",
    "whatsapp/",
    "embedly",
    "lighthouse",
    "gptbot",
    "http://www.google.com/bot",
];

/// Why an agent is taken for a bot: `agent_headless`, `agent_library`, `monitor` or `agent_crawler`. `device_family` is what
/// the agent tables say of it.
pub fn reason(agent: &str, device_family: &str) -> Option<&'static str> {
    if agent.is_empty() {
        return None;
    }
    if HEADLESS.iter().any(|word| agent.contains(word)) {
        return Some("agent_headless");
    }
    if MONITORS.iter().any(|word| agent.contains(word)) {
        return Some("monitor");
    }
    if LIBRARIES.iter().any(|word| agent.starts_with(word)) {
        return Some("agent_library");
    }
    // Cubot makes telephones.
    let lower = agent.to_ascii_lowercase().replace("cubot", "");
    let is_crawler = device_family == "Spider" || lower.ends_with("bot") || CRAWLERS.iter().any(|word| lower.contains(word));
    is_crawler.then_some("agent_crawler")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_reason_and_people_have_none() {
        assert_eq!(reason("curl/8.1", ""), Some("agent_library"));
        assert_eq!(reason("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/126.0", ""), Some("agent_headless"));
        assert_eq!(reason("Pingdom.com_bot_version_1.4", ""), Some("monitor"));
        assert_eq!(reason("AhrefsBot/7.0", ""), Some("agent_crawler"));
        assert_eq!(reason("anything", "Spider"), Some("agent_crawler"));
        assert_eq!(reason("", ""), None);
        assert_eq!(reason("Mozilla/5.0 (Linux; Android 14; Cubot X) Chrome/126.0 Mobile", ""), None);
    }
}
