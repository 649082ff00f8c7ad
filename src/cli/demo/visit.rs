//! One visit: the way of somebody through the shop, as the events that its page would send.

use serde_json::{Map, Value, json};

use super::calendar::{Day, HOUR_MS};
use super::person::Person;
use super::random::Random;

const SITE: &str = "https://tea.example";
/// Chance that somebody who comes to the shop leaves at once, by the first page alone.
const BOUNCE: f64 = 0.34;

/// A line of NDJSON, and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at_ms: i64,
    pub(super) line: String,
}

/// Where somebody lives: the beginning of addresses there.
struct Country {
    share: f64,
    network: &'static str,
    locale: &'static str,
    zone: &'static str,
}

const fn country(share: f64, network: &'static str, locale: &'static str, zone: &'static str) -> Country {
    Country { share, network, locale, zone }
}

const COUNTRIES: [Country; 14] = [
    country(24.0, "91.12", "de-DE", "Europe/Berlin"),
    country(14.0, "79.200", "de-DE", "Europe/Berlin"),
    country(9.0, "84.115", "de-AT", "Europe/Vienna"),
    country(7.0, "85.3", "de-CH", "Europe/Zurich"),
    country(11.0, "86.140", "en-GB", "Europe/London"),
    country(9.0, "90.20", "fr-FR", "Europe/Paris"),
    country(6.0, "84.26", "nl-NL", "Europe/Amsterdam"),
    country(4.0, "79.20", "it-IT", "Europe/Rome"),
    country(4.0, "83.40", "es-ES", "Europe/Madrid"),
    country(3.0, "81.230", "sv-SE", "Europe/Stockholm"),
    country(3.0, "83.10", "pl-PL", "Europe/Warsaw"),
    country(3.0, "73.15", "en-US", "America/New_York"),
    country(1.5, "126.30", "ja-JP", "Asia/Tokyo"),
    country(1.5, "1.130", "en-AU", "Australia/Sydney"),
];

/// What somebody looks at the shop with, and how well they get through its checkout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Device {
    share: u32,
    agent: &'static str,
    screen: [u32; 2],
    pays: u32,
    is_iphone: bool,
}

const DEVICES: [Device; 6] = [
    Device {
        share: 26,
        agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
        screen: [1920, 1080],
        pays: 82,
        is_iphone: false,
    },
    Device {
        share: 12,
        agent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
        screen: [1440, 900],
        pays: 84,
        is_iphone: false,
    },
    Device {
        share: 6,
        agent: "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0",
        screen: [1680, 1050],
        pays: 80,
        is_iphone: false,
    },
    Device {
        share: 30,
        agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
        screen: [390, 844],
        pays: 70,
        is_iphone: true,
    },
    Device {
        share: 22,
        agent: "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Mobile Safari/537.36",
        screen: [412, 915],
        pays: 66,
        is_iphone: false,
    },
    Device {
        share: 4,
        agent: "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
        screen: [820, 1180],
        pays: 74,
        is_iphone: false,
    },
];
const CRAWLER: &str = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";

/// Where somebody comes from: how often at first and later, what the browser says, and what the address says.
struct Source {
    first: f64,
    later: f64,
    referrer: &'static str,
    query: &'static str,
}

const fn source(first: f64, later: f64, referrer: &'static str, query: &'static str) -> Source {
    Source { first, later, referrer, query }
}

const SOURCES: [Source; 10] = [
    source(29.0, 24.0, "https://www.google.com/", ""),
    source(20.0, 48.0, "", ""),
    source(13.0, 5.0, "https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=brand&gclid=Cj0KCQjw"),
    source(11.0, 6.0, "https://l.instagram.com/", "?utm_source=instagram&utm_medium=social&utm_campaign=spring-harvest"),
    source(8.0, 3.0, "https://steeped.example/guides/first-flush", ""),
    source(6.0, 3.0, "https://chatgpt.com/", "?utm_source=chatgpt.com"),
    source(4.0, 3.0, "https://www.bing.com/", ""),
    source(4.0, 2.0, "https://www.youtube.com/", ""),
    source(3.0, 4.0, "https://www.facebook.com/", ""),
    source(2.0, 2.0, "https://duckduckgo.com/", ""),
];
const SALE: Source = source(0.0, 0.0, "https://www.google.com/", "?utm_source=google&utm_medium=cpc&utm_campaign=tea-days&gclid=Cj0KCQjx");
const LETTER: Source = source(0.0, 0.0, "", "?utm_source=newsletter&utm_medium=email&utm_campaign=tuesday-tea");

struct Product {
    share: f64,
    name: &'static str,
    category: &'static str,
    price: f64,
}

const fn product(share: f64, name: &'static str, category: &'static str, price: f64) -> Product {
    Product { share, name, category, price }
}

const PRODUCTS: [Product; 12] = [
    product(20.0, "Darjeeling First Flush", "black", 16.9),
    product(15.0, "Sencha", "green", 12.5),
    product(12.0, "Earl Grey", "black", 8.9),
    product(10.0, "Jasmine Pearls", "green", 19.8),
    product(8.0, "Matcha", "green", 29.0),
    product(7.0, "Assam", "black", 9.9),
    product(7.0, "Rooibos", "herbal", 6.9),
    product(6.0, "Oolong", "oolong", 21.5),
    product(5.0, "White Peony", "white", 18.0),
    product(4.0, "Pu-erh", "dark", 24.0),
    product(3.0, "Cast Iron Teapot", "pots", 64.0),
    product(3.0, "Tasting Set", "sets", 34.0),
];
const SEARCHES: [&str; 8] = ["green tea", "matcha", "teapot", "gift", "decaf", "earl grey", "chai", "organic"];
const NAMES: [&str; 16] =
    ["Ada", "Ben", "Chloe", "Deniz", "Elif", "Finn", "Grace", "Hugo", "Ines", "Jonas", "Kaya", "Lena", "Milo", "Nora", "Oskar", "Paula"];
const SURNAMES: [&str; 12] =
    ["Abel", "Brandt", "Costa", "Dupont", "Ek", "Fischer", "Garcia", "Huber", "Ito", "Jansen", "Kowalski", "Lindner"];

/// Somebody's browser in the shop.
struct Tab<'a> {
    person: Person,
    day: Day,
    clock_ms: i64,
    device: &'a Device,
    source: &'a Source,
    is_known: bool,
    visitor: String,
    address: String,
    country: &'a Country,
    version: String,
    made: u32,
    begin_ms: i64,
}

/// Appends the events of a visit of `person` that begins at `at_ms`.
pub(super) fn write(person: Person, day: Day, at_ms: i64, random: &mut Random, events: &mut Vec<Event>) {
    let Some(mut tab) = Tab::open(person, day, at_ms, random) else { return };
    let is_out = day.outage_ms().is_some_and(|from_ms| (from_ms..from_ms + HOUR_MS).contains(&at_ms));
    if is_out {
        // The page of most never loads, and then nothing is sent.
        if random.is(0.2) {
            events.push(tab.event("error", "/", json!({"code": "503", "message": "The shop does not answer"}), random));
        }
        return;
    }
    tab.walk(random, events);
}

/// Appends a look of a search engine at a product.
pub(super) fn write_bot(number: i64, at_ms: i64, random: &mut Random, events: &mut Vec<Event>) {
    let Some(product) = random.one_of(&PRODUCTS, |product| product.share) else { return };
    let line = json!({
        "eventId": format!("demo-bot-{at_ms}-{number}"), "type": "page_view", "anonymousId": format!("demo-bot-{}", number % 5), "timestamp": at_ms,
        "context": {"ip": format!("66.249.66.{}", 1 + random.below(200)), "userAgent": CRAWLER, "page": {"url": format!("{SITE}{}", product.path())}},
    });
    events.push(Event { at_ms, line: line.to_string() });
}

impl Product {
    fn path(&self) -> String {
        format!("/tea/{}", self.name.to_lowercase().replace(' ', "-"))
    }
}

impl<'a> Tab<'a> {
    fn open(person: Person, day: Day, at_ms: i64, random: &mut Random) -> Option<Self> {
        let is_first = person.first == day;
        let mut own = person.random(4);
        let country = own.one_of(&COUNTRIES, |country| country.share)?;
        let address = format!("{}.{}.{}", country.network, own.below(250), 1 + own.below(250));
        let main = own.one_of(&DEVICES, |device| f64::from(device.share))?;
        // Some come back with another device, and say who they are.
        let is_other = !is_first && person.is_member() && own.is(0.4) && random.is(0.4);
        let device = if is_other { own.one_of(&DEVICES, |device| f64::from(device.share))? } else { main };
        let source = match () {
            () if day.has_letter() && person.is_member() && !is_first && random.is(0.6) => &LETTER,
            () if day.is_sale() && random.is(if is_first { 0.45 } else { 0.15 }) => &SALE,
            () => random.one_of(&SOURCES, |source| if is_first { source.first } else { source.later })?,
        };
        let visitor = format!("demo-{:016x}", person.random(5 + i64::from(is_other)).next());
        let version = day.version();
        let is_known = !is_first && person.is_member();
        Some(Self { person, day, clock_ms: at_ms, device, source, is_known, visitor, address, country, version, made: 0, begin_ms: at_ms })
    }

    /// The next event; then some time passes.
    fn event(&mut self, kind: &str, path: &str, properties: Value, random: &mut Random) -> Event {
        let is_entry = self.made == 0;
        let (query, referrer) = if is_entry { (self.source.query, self.source.referrer) } else { ("", "https://tea.example/") };
        let [width, height] = self.device.screen;
        let mut line = json!({
            "eventId": format!("{}-{}-{}", self.visitor, self.begin_ms, self.made), "type": kind, "anonymousId": self.visitor, "timestamp": self.clock_ms,
            "context": {
                "app": {"name": "tea", "version": self.version}, "locale": self.country.locale, "timezone": self.country.zone, "ip": self.address,
                "screen": {"width": width, "height": height}, "userAgent": self.device.agent,
                "page": {"url": format!("{SITE}{path}{query}"), "referrer": referrer},
            },
            "properties": properties,
        });
        if self.is_known
            && let Some(event) = line.as_object_mut()
        {
            event.insert("userId".to_owned(), Value::from(self.user()));
        }
        let event = Event { at_ms: self.clock_ms, line: line.to_string() };
        self.made += 1;
        self.clock_ms += 3_000 + random.below(70_000) as i64;
        event
    }

    fn user(&self) -> String {
        format!("customer-{}-{}", self.person.first.0, self.person.number)
    }

    fn walk(&mut self, random: &mut Random, events: &mut Vec<Event>) {
        let wanted = random.one_of(&PRODUCTS, |product| product.share);
        let product = wanted.unwrap_or(&PRODUCTS[0]);
        let entry = match random.below(10) {
            0..5 => "/".to_owned(),
            5..7 => format!("/category/{}", product.category),
            7 => "/magazine/how-to-brew".to_owned(),
            _ => product.path(),
        };
        events.push(self.event("page_view", &entry, json!({}), random));
        if self.person.first == self.day && self.person.is_member() && !self.is_known {
            self.sign_up(random, events);
        }
        if random.is(BOUNCE) {
            return;
        }
        for _ in 0..random.below(3) {
            self.browse(product, random, events);
        }
        if random.is(0.66) {
            self.shop(product, random, events);
        }
    }

    fn browse(&mut self, product: &Product, random: &mut Random, events: &mut Vec<Event>) {
        if random.is(0.3) {
            let query = SEARCHES.get(random.below(SEARCHES.len() as u64) as usize).copied().unwrap_or_default();
            let properties = json!({"query": query, "results": random.below(24)});
            events.push(self.event("search", "/search", properties, random));
        } else {
            events.push(self.event("page_view", &format!("/category/{}", product.category), json!({}), random));
        }
    }

    fn sign_up(&mut self, random: &mut Random, events: &mut Vec<Event>) {
        let plan = if random.is(0.25) { "club" } else { "free" };
        events.push(self.event("page_view", "/account/new", json!({}), random));
        events.push(self.event("signup", "/account/new", json!({"plan": plan}), random));
        self.is_known = true;
        let pick = |names: &[&str], random: &mut Random| {
            names.get(random.below(names.len() as u64) as usize).copied().unwrap_or_default().to_owned()
        };
        let name = format!("{} {}", pick(&NAMES, random), pick(&SURNAMES, random));
        events.push(self.event("identify", "/account/new", json!({"name": name, "plan": plan}), random));
    }

    /// From the look at a product to the order, for those who get so far.
    fn shop(&mut self, product: &Product, random: &mut Random, events: &mut Vec<Event>) {
        let Product { name, category, price, .. } = product;
        let seen = json!({"product": name, "category": category, "price": price});
        events.push(self.event("product_viewed", &product.path(), seen, random));
        let is_drawn = self.is_known || self.day.is_sale();
        if !random.is(if is_drawn { 0.42 } else { 0.26 }) {
            return;
        }
        let quantity = 1 + random.below(3);
        let added = json!({"product": name, "category": category, "price": price, "quantity": quantity});
        events.push(self.event("cart_added", &product.path(), added, random));
        if !random.is(0.62) {
            return;
        }
        let value = (price * quantity as f64 * 100.0).round() / 100.0;
        events.push(self.event("checkout_started", "/checkout", json!({"value": value, "items": quantity}), random));
        self.pay(value, quantity, random, events);
    }

    fn pay(&mut self, value: f64, items: u64, random: &mut Random, events: &mut Vec<Event>) {
        if self.device.is_iphone && self.day.is_broken() && random.is(0.95) {
            let failed = json!({"code": "payment_failed", "message": "The wallet did not open"});
            events.push(self.event("error", "/checkout", failed, random));
            return;
        }
        if !random.is(f64::from(self.device.pays) / 100.0) {
            return;
        }
        let payment = ["card", "paypal", "invoice", "wallet"].get(random.below(4) as usize).copied().unwrap_or_default();
        let discount = if self.day.is_sale() { 0.85 } else { 1.0 };
        let mut order = Map::from_iter([
            ("value".to_owned(), json!((value * discount * 100.0).round() / 100.0)),
            ("items".to_owned(), json!(items)),
            ("payment".to_owned(), json!(payment)),
        ]);
        if self.day.is_sale() {
            order.insert("coupon".to_owned(), json!("TEADAYS"));
        }
        events.push(self.event("order_completed", "/thanks", Value::Object(order), random));
    }
}
