//! Names for visitors whom their client does not name: trackers without cookies leave it to the server.
//!
//! A name is a keyed hash of the day, the address and the agent: the same for a day on every instance, another one the next day and in
//! another project, and nobody without the project's secret finds the address behind it. The address itself is not kept. Clients of an access
//! log have a name by their address alone, which lasts: their lines come again from other machines and on other days.

use std::fmt::Write as _;
use std::net::IpAddr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

const DAY_MS: i64 = 86_400_000;
/// Bytes of the hash that are kept.
const KEPT: usize = 16;
/// Bytes of a block of the hash: longer secrets are cut, shorter ones filled up with zeros.
const BLOCK: usize = 64;

/// What a name is made of.
pub(super) struct Unnamed<'a> {
    /// The project's, if it has one.
    pub(super) secret: Option<Secret>,
    /// Receipt, milliseconds since 1970: the day counts.
    pub(super) received_ms: i64,
    pub(super) address: IpAddr,
    pub(super) agent: &'a str,
}

/// The name of who has this address and agent today.
pub(super) fn name(of: &Unnamed<'_>) -> String {
    let Unnamed { secret, received_ms, address, agent } = of;
    let secret = secret.as_ref().map_or("", |secret| secret.reveal());
    hashed(secret, &format!("{} {address} {agent}", received_ms.div_euclid(DAY_MS)))
}

/// The name that a client of an imported access log has by its address, from whichever machine and whenever it is imported.
pub(super) fn lasting_name(secret: &Secret, address: IpAddr) -> String {
    hashed(secret.reveal(), &format!("import {address}"))
}

fn hashed(secret: &str, text: &str) -> String {
    let mut block = [0; BLOCK];
    block.iter_mut().zip(secret.bytes()).for_each(|(byte, key)| *byte = key);
    let mac = Hmac::<Sha256>::new(&block.into()).chain_update(text).finalize();
    mac.into_bytes().iter().take(KEPT).fold(String::with_capacity(2 * KEPT), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_secret_and_one_text() {
        let names = [hashed("k", "a"), hashed("k", "b"), hashed("l", "a"), hashed("", "a")];
        let distinct: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!((distinct.len(), hashed("k", "a") == names[0], names[0].len()), (4, true, 32));
    }

    #[test]
    fn the_mac_is_that_of_rfc_4231() {
        // Test case 1, of whose digest half is kept.
        assert_eq!(hashed(&"\u{b}".repeat(20), "Hi There"), "b0344c61d8db38535ca8afceaf0bf12b");
    }
}
