//! Tests of the whole: real engine, real files.

mod trends;
