use super::*;

fn reason(agent: &str, device_family: &str) -> Option<&'static str> {
    static BOTS: std::sync::OnceLock<Bots> = std::sync::OnceLock::new();
    BOTS.get_or_init(|| Bots::new().unwrap()).reason(agent, device_family)
}

#[test]
fn each_kind_has_its_reason() {
    for (agent, expected) in [
        ("curl/8.1", "agent_library"),
        ("python-requests/2.32", "agent_library"),
        ("PostmanRuntime/7.39.0", "agent_library"),
        ("Apache-HttpAsyncClient/4.1", "agent_library"),
        ("okhttp/4.9.2", "agent_library"),
        ("Ruby", "agent_library"),
        ("rest-client/2.1.0 (linux x86_64) ruby/3.2.2p53", "agent_library"),
        ("Sogou web spider/4.0", "agent_crawler"),
        ("Mozilla/5.0 (compatible; Perplexity-User/1.0)", "ai_agent"),
        ("User-Agent: Mozilla/5.0 (Windows NT 6.1; WOW64; rv:14.0) Gecko/20100101 Firefox/14.0.1", "agent_library"),
        ("Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/126.0", "agent_headless"),
        ("Pingdom.com_bot_version_1.4", "monitor"),
        ("ELB-HealthChecker/2.0", "monitor"),
        ("Consul Health Check", "monitor"),
        ("Uptime-Kuma/1.23.13", "monitor"),
        ("Feedly/1.0 (+http://www.feedly.com/fetcher.html; 5 subscribers)", "feed_reader"),
        ("UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/", "feed_reader"),
        ("Mozilla/5.0 zgrab/0.x", "scanner"),
        ("Nuclei - Open-source project (github.com/projectdiscovery/nuclei)", "scanner"),
        ("Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)", "ai_agent"),
        ("anthropic-ai", "ai_agent"),
        ("AhrefsBot/7.0", "agent_crawler"),
        ("Mozilla/5.0 (compatible; BeetleBot; )", "agent_crawler"),
        ("somebody (webmaster@example.org)", "agent_crawler"),
        ("thing/1.0 (https://example.org/thing)", "agent_crawler"),
    ] {
        assert_eq!(reason(agent, ""), Some(expected), "{agent}");
    }
    assert_eq!(reason("anything", "Spider"), Some("agent_crawler"));
    assert!(reason("Viber", "").is_some());
}

#[test]
fn people_have_none_whatever_they_hold_in_their_hands() {
    for agent in [
        "",
        "-",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 Edg/126.0.0.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0",
        "Mozilla/5.0 (Linux; Android 14; Cubot X) Chrome/126.0 Mobile",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/460.0.0.31]",
        "Mozilla/5.0 (Linux; Android 14; Pixel 8 Build/AP1A; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/126.0 Mobile Safari/537.36 Instagram 330.0",
        "Mozilla/5.0 (Linux; Android 13; wv) Chrome/120 Mobile Safari/537.36 Viber/20",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 DuckDuckGo/7 Safari/605.1.15",
        "Mozilla/5.0 (Linux; U; Android 9; KFMAWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/120 like Chrome/120 Safari/537.36",
        "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/AP1A.240505.004)",
        "Shop/310 (iPhone; iOS 17.5; Scale/3.00)",
        "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Mobile Safari/537.36 (Ecosia android@150.0.0.0)",
        "Shop/3.2 okhttp/4.9.2",
        "Mozilla/5.0 (Linux; U; Android 13; zh-CN; ruby Build/TP1A) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/100 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 13; V2218A) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/98.0 Mobile Safari/537.36 SogouMSE,SogouMobileBrowser/6.8.9",
        "Mozilla/5.0 (X11; Linux x86_64) SpiderMonkey/115",
        "Perplexity/2.1 (iPhone; iOS 17.5; Scale/3.00)",
        "Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16",
        "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.1; Embedded Web Browser from: http://bsalsa.com/)",
        "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/7.0 TV Safari/537.36",
    ] {
        assert_eq!(reason(agent, ""), None, "{agent}");
    }
}

#[test]
fn every_line_of_the_lists_has_a_known_reason() {
    let bots = Bots::new().unwrap();
    let known = [NONE, "agent_library", "agent_headless", "agent_crawler", "ai_agent", "feed_reader", "link_preview", "monitor", "scanner"];
    let reasons = bots.own.words.iter().chain(&bots.literals.words).map(|word| &word.reason).chain(&bots.pattern_reasons);
    for reason in reasons {
        assert!(known.contains(reason), "{reason}");
    }
    assert!(bots.literals.words.len() > 1_000 && bots.pattern_reasons.len() > 20);
}

#[test]
fn words_stand_where_their_marks_say() {
    let word = Word::own("^node$", "agent_library");
    assert_eq!((word.text, word.is_meant(0, "node"), word.is_meant(0, "node/1"), word.is_meant(1, "/node")), ("node", true, false, false));
    assert_eq!(reason("nodes of a shop/1.0", ""), None);
    // What the agent tables call a spider is none where our list says so.
    assert_eq!(reason("Spider-Man Unlimited/4.6 (iPhone; iOS 15.0; Scale/3.00)", "Spider"), None);
}
