//! What the configuration file means: parsed once, cannot be wrong; no tokio, no clock.
#![forbid(unsafe_code)]

pub mod capture;
pub mod change;
mod config;
pub mod dtab;
pub mod error;
pub mod identity;
pub mod limits;
mod listen;
pub mod net;
pub mod peers;
pub mod policy;
mod print;
pub mod redirect;
pub mod service;
mod spec;
mod tls;
pub mod workload;

pub use capture::{CaptureMatch, CaptureRule, Captured, Captures, HostHas};
pub use change::{Change, Doors};
pub use config::{
    Admin, Config, Dns, Fs, Inbound, Listener, Log, LogFormat, LogLevel, Outbound, Runtime, Strict, Zone,
};
pub use dtab::Dtab;
pub use error::{Problem, Problems, Warning};
pub use identity::{Identity, IdentityError, IdentityPattern};
pub use limits::{Capacity, Limits};
pub use listen::{ListenAddr, TcpListen, UnixListen};
pub use net::{Net, Ports};
pub use peers::{
    BalancerKind, Expectation, NoRule, OnLeave, PeerMatch, PeerRule, PeerVerify, Peers, Settings, Unit, Verify,
};
pub use policy::{Admitted, Policy, Verdict};
pub use redirect::{Netfilter, Origin, Redirect, RedirectMode, Selector, Unmatched};
pub use service::{Backend, CaptureService, Reach, Service, Source, Target, TargetError};
pub use tls::{Authorities, Certificate, Spiffe, Tls};
pub use workload::{Glob, Ruling, Then, Who, Workload, WorkloadRule, Workloads};
