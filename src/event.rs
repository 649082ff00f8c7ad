//! The stage types of an event, and the packed records that carry them between roles.
//!
//! Owns ids, the fields an event may have and their binary form. Promises that what was encoded decodes to the same
//! event, that fields unknown to this version survive, and that no input bytes make decoding panic. Knows no I/O.

pub mod ids;
