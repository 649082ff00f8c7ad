//! The real binary, the real engine, over real HTTP: every promise from outside.

mod brokers;
mod cache;
mod cluster;
mod contract;
mod crash;
mod dead;
mod deploy;
mod edge;
mod engine;
mod faults;
mod harness;
mod import;
mod kafka;
mod layers;
mod limits;
mod overlap;
mod owners;
mod power;
mod readme;
mod redis;
mod refusals;
mod replay;
mod signals;
mod slow;
mod tls;
mod trends;
