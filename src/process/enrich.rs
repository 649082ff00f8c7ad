//! What can be learned about an event from what it carries. Pure tables and parsers.

pub mod agent;
pub mod bot;
pub mod campaign;
pub mod channel;
pub mod place;
pub mod referrer;
