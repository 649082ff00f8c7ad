//! Identities that an import gives: the same file imported again gives the same, so nothing counts twice.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::event::{address, mask};
use crate::ingest::Geo;

/// File in the data directory that holds the secret of [`AddressHasher`].
const SECRET_FILE: &str = "import.secret";
/// Bytes of a block of SHA-256.
const BLOCK: usize = 64;
/// Bytes of an address's hash that are kept: 128 bits, 32 digits.
const KEPT: usize = 16;
/// Digits of a name that stand for an address in a line that is kept: enough to tell the clients of a log apart.
const MASK_DIGITS: usize = 12;

/// Gives every line of one file an event id: a UUID (version 8) of project, format, source, the line itself and how often the
/// same line came before it. Cryptographic, because clients choose part of what a line holds. Remembers 12 bytes of every
/// distinct line.
#[derive(Debug)]
pub(super) struct EventIds {
    prefix: Sha256,
    seen: HashMap<u64, u32, foldhash::fast::RandomState>,
}

impl EventIds {
    /// For one file. `source` tells servers apart whose logs may hold equal lines.
    pub(super) fn new(project: &str, format: &str, source: Option<&str>) -> Self {
        let mut prefix = Sha256::new();
        for part in [project, format].into_iter().chain(source) {
            prefix.update((part.len() as u64).to_le_bytes());
            prefix.update(part);
        }
        Self { prefix, seen: HashMap::default() }
    }

    /// The id of the next line.
    pub(super) fn next(&mut self, line: &[u8]) -> Uuid {
        let mut hasher = self.prefix.clone();
        hasher.update(line);
        let hash: [u8; 32] = hasher.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        // Two lines that agree in these 64 bits only share a count: their ids still differ by the rest.
        let count = self.seen.entry(u64::from_le_bytes([a, b, c, d, e, f, g, h])).or_insert(0);
        let nth = *count;
        *count = count.saturating_add(1);
        let whole: [u8; 32] = Sha256::new().chain_update(hash).chain_update(nth.to_le_bytes()).finalize().into();
        Builder::from_custom_bytes(leading(&whole)).into_uuid()
    }
}

fn leading(hash: &[u8; 32]) -> [u8; KEPT] {
    let mut out = [0; KEPT];
    out.iter_mut().zip(hash).for_each(|(out, byte)| *out = *byte);
    out
}

/// Turns addresses of lines that are kept into names that only the holder of the secret can connect with them: HMAC-SHA256 (RFC 2104). The names of
/// visitors are pulse's own.
#[derive(Clone, Debug)]
pub(super) struct AddressHasher {
    mac: Hmac<Sha256>,
}

impl AddressHasher {
    /// With the secret of a data directory, made on first use.
    pub(super) fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(SECRET_FILE);
        match fs::read(&path) {
            Ok(secret) => Self::checked(&secret),
            Err(problem) if problem.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(data_dir)?;
                create(&path)?;
                Self::checked(&fs::read(&path)?)
            }
            Err(problem) => Err(problem),
        }
    }

    fn checked(secret: &[u8]) -> io::Result<Self> {
        let secret = <[u8; 32]>::try_from(secret)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("has {} bytes, not 32", secret.len())))?;
        Ok(Self::new(&secret))
    }

    /// With a given secret.
    pub(super) fn new(secret: &[u8; 32]) -> Self {
        // A short key is filled up with zeros to a block.
        let mut block = [0; BLOCK];
        block.iter_mut().zip(secret).for_each(|(byte, key)| *byte = *key);
        Self { mac: Hmac::new(&block.into()) }
    }

    /// The name for an address, 32 hexadecimal digits.
    pub(super) fn name(&self, address: &[u8]) -> String {
        let mac = self.mac.clone().chain_update(address).finalize();
        mac.into_bytes().iter().take(KEPT).fold(String::with_capacity(2 * KEPT), |mut out, byte| {
            // Writing to a string cannot fail.
            let _ = write!(out, "{byte:02x}");
            out
        })
    }
}

/// Takes addresses out of lines that are kept: what remains is where they are and the beginning of their name.
pub(super) struct Masker {
    pub(super) addresses: AddressHasher,
    pub(super) geo: Geo,
}

impl Masker {
    /// A line of a file. `has_names`: where an address should be stands something else, which may say as much.
    pub(super) fn line(&self, line: &[u8], has_names: bool) -> Vec<u8> {
        let masked = mask::masked(line, |address| self.mask(address));
        if has_names { self.without_names(&masked) } else { masked.into_owned() }
    }

    /// A text for people.
    pub(super) fn text(&self, text: &str) -> String {
        mask::masked_text(text, |address| self.mask(address))
    }

    fn mask(&self, written: &str) -> String {
        let Some(address) = address::parse(written) else { return self.named("address", written, "") };
        self.named("address", &address.to_string(), &self.geo.country(address))
    }

    fn named(&self, kind: &str, text: &str, country: &str) -> String {
        let name = self.addresses.name(text.as_bytes());
        let name = name.get(..MASK_DIGITS).unwrap_or(&name);
        if country.is_empty() { format!("[{kind} {name}]") } else { format!("[{kind} {country} {name}]") }
    }

    /// Names of hosts in front of the time go, too: a provider's name for a line often holds its address.
    fn without_names(&self, line: &[u8]) -> Vec<u8> {
        let (head, rest) = line.split_at(memchr::memmem::find(line, b" [").unwrap_or(line.len()));
        let words = head.split(|byte| *byte == b' ').map(|word| match word.contains(&b'.') && word.iter().any(u8::is_ascii_alphabetic) {
            true => self.named("name", &String::from_utf8_lossy(word), "").into_bytes(),
            false => word.to_owned(),
        });
        [words.collect::<Vec<_>>().join(&b' '), rest.to_owned()].concat()
    }
}

/// Writes the file whole or not at all; where another process was first, its file stays.
fn create(path: &Path) -> io::Result<()> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|problem| io::Error::other(problem.to_string()))?;
    let draft = path.with_extension(format!("secret.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => Err(problem),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn ids(project: &str, format: &str, lines: &[&str]) -> Vec<Uuid> {
        ids_of(EventIds::new(project, format, None), lines)
    }

    fn ids_of(mut ids: EventIds, lines: &[&str]) -> Vec<Uuid> {
        lines.iter().map(|line| ids.next(line.as_bytes())).collect()
    }

    #[test]
    fn the_same_file_gives_the_same_ids_and_every_line_its_own() {
        let lines = ["a", "b", "a", "a"];
        let first = ids("shop", "csv", &lines);
        assert_eq!(first, ids("shop", "csv", &lines));
        assert_eq!(first.iter().collect::<HashSet<_>>().len(), 4);
        assert!(first.iter().all(|id| id.get_version_num() == 8));
    }

    #[test]
    fn project_and_format_are_part_of_an_id() {
        let all = [ids("shop", "csv", &["a"]), ids("sho", "pcsv", &["a"]), ids("shop", "ndjson", &["a"])];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 3);
    }

    #[test]
    fn equal_lines_of_two_servers_are_two_events() {
        let of = |source| ids_of(EventIds::new("shop", "combined", source), &["a"]);
        let all = [of(None), of(Some("web1")), of(Some("web2")), of(Some(""))];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4);
        assert_eq!(of(Some("web1")), of(Some("web1")));
    }

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        // Test case 1: its key is 20 bytes long, which zeros fill up to a block as they do here to 32.
        let mut secret = [0; 32];
        secret[..20].fill(0x0B);
        assert_eq!(AddressHasher::new(&secret).name(b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b");
    }

    #[test]
    fn a_line_that_is_kept_says_no_address_and_no_name_of_a_client() {
        let masker = Masker { addresses: AddressHasher::new(&[7; 32]), geo: Geo::default() };
        let kept = |line: &str, has_names| String::from_utf8(masker.line(line.as_bytes(), has_names)).unwrap();
        let name = &masker.addresses.name(b"203.0.113.7")[..MASK_DIGITS];
        // One address in two spellings is one.
        assert_eq!(kept("203.0.113.7 ::ffff:203.0.113.7 x", false), format!("[address {name}] [address {name}] x"));
        let kept = kept("ec2-203-0-113-7.compute.example - bob [10/Oct/2024:13:55:36 +0000] \"GET /a.html\"", true);
        assert!(kept.starts_with("[name ") && kept.ends_with("] - bob [10/Oct/2024:13:55:36 +0000] \"GET /a.html\""), "{kept}");
    }

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = AddressHasher::open(&dir.path().join("data")).unwrap().name(b"192.0.2.1");
        assert_eq!(AddressHasher::open(&dir.path().join("data")).unwrap().name(b"192.0.2.1"), first);
        let path = dir.path().join("data").join(SECRET_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        fs::write(&path, b"short").unwrap();
        assert!(AddressHasher::open(path.parent().unwrap()).is_err());
    }
}
