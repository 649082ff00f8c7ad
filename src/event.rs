//! Events as roles hand them on: packed, many in one record.
//!
//! Owns ids, the fields an event may have and their binary form. Promises that what was encoded decodes to the same
//! event, that fields unknown to this version survive, and that no input bytes make decoding panic. Knows no I/O.
//!
//! An event keeps one encoding from the edge to the loader ([`packed`]): the enriched record has the body of the raw one
//! as it was, and what process learned beside it. Many events of one partition make a [`record`], the unit of the log.

pub mod address;
pub mod dead_letter;
pub mod field;
pub mod ids;
pub mod mask;
pub mod packed;
pub mod page;
pub mod record;
pub mod session;
pub mod text;
pub mod time;
