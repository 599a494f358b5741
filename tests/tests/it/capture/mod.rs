//! Captured connections: applications connect to where they always did, netfilter brings the connection to the agent, and
//! a bystander on the wire sees nothing but TLS. A scenario that carries data runs over every road, the one without an
//! agent among them, with the same assertions.

mod crashes;
mod data;
mod names;
mod outside;
mod programs;
mod rules;
mod sources;
mod strays;
mod workloads;
