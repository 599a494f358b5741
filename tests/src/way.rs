//! The oracle of a tunnel is no tunnel: a scenario is told a way to its service, direct or through two agents, and
//! asserts the same of both.

use tempfile::TempDir;

use crate::{
    address::{Address, Wire},
    end::End,
    listener::Listener,
    mesh::Mesh,
};

/// The logical name that a road's service has on the mesh.
const NAME: &str = "/svc/service";

/// How an application gets to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Straight, with no agent.
    Direct(Wire),
    /// Through the agents of two hosts.
    Through(Wire),
}

/// A way that was built, to one service.
#[derive(Debug)]
pub struct Road {
    front: Address,
    mesh: Option<Mesh>,
}

/// A road to a service that the test itself plays.
#[derive(Debug)]
pub struct Stage {
    road: Road,
    listener: Listener,
    _dir: TempDir,
}

impl Way {
    /// Which wire the application and the service use.
    #[must_use]
    pub fn wire(self) -> Wire {
        match self {
            Self::Direct(wire) | Self::Through(wire) => wire,
        }
    }

    /// A road to a service that runs at `service`.
    #[must_use]
    pub fn to(self, service: &Address) -> Road {
        match self {
            Self::Direct(_) => Road { front: service.clone(), mesh: None },
            Self::Through(_) => Road::of(Mesh::plan().service(NAME, service).start()),
        }
    }

    /// The same, where one application opens more streams than half of what an agent may have: the share that a peer has
    /// by default. B is told to give this peer more.
    #[must_use]
    pub fn to_for_a_crowd(self, service: &Address) -> Road {
        match self {
            Self::Direct(_) => self.to(service),
            Self::Through(_) => {
                let more = "\n[limits]\ntunnels_per_peer = 9500\n";
                Road::of(Mesh::plan().service(NAME, service).b_also(more).start())
            }
        }
    }

    /// The same, where the application insists on a unix socket of this path (used only when the way is through).
    #[must_use]
    pub fn to_with_front_at(self, service: &Address, front: &Address) -> Road {
        match self {
            Self::Direct(_) => self.to(service),
            Self::Through(_) => Road::of(Mesh::plan().service_at(NAME, service, front).start()),
        }
    }

    /// A road to a service that the test itself plays.
    #[must_use]
    pub fn stage(self) -> Stage {
        let dir = tempfile::tempdir().expect("a temporary folder can be made");
        let listener = Listener::bind(self.wire(), dir.path(), "service.sock");
        Stage { road: self.to(listener.address()), listener, _dir: dir }
    }
}

impl Road {
    fn of(mesh: Mesh) -> Self {
        Self { front: mesh.front(NAME), mesh: Some(mesh) }
    }

    /// Where the application connects to.
    #[must_use]
    pub fn front(&self) -> &Address {
        &self.front
    }

    /// The agents, if any are on this road.
    #[must_use]
    pub fn mesh(&self) -> Option<&Mesh> {
        self.mesh.as_ref()
    }
}

impl Stage {
    /// A new connection's two ends: the application's and the service's.
    #[must_use]
    pub fn ends(&self) -> (End, End) {
        let client = End::connect(&self.road.front);
        (client, self.listener.accept())
    }

    /// The road to here.
    #[must_use]
    pub fn road(&self) -> &Road {
        &self.road
    }
}

/// Makes each scenario, a function of a [`Way`], into a test per way: `scenario::direct`, `scenario::through`, and,
/// listed under `unix`, `scenario::direct_unix` and `scenario::through_unix`.
#[macro_export]
macro_rules! both_ways {
    ($($scenario:ident: $($wire:ident)+;)+) => {
        $(mod $scenario { $($crate::both_ways!(@ $scenario $wire);)+ })+
    };
    (@ $scenario:ident tcp) => {
        #[test]
        fn direct() {
            super::$scenario($crate::way::Way::Direct($crate::address::Wire::Tcp));
        }
        #[test]
        fn through() {
            super::$scenario($crate::way::Way::Through($crate::address::Wire::Tcp));
        }
    };
    (@ $scenario:ident unix) => {
        #[test]
        fn direct_unix() {
            super::$scenario($crate::way::Way::Direct($crate::address::Wire::Unix));
        }
        #[test]
        fn through_unix() {
            super::$scenario($crate::way::Way::Through($crate::address::Wire::Unix));
        }
    };
}
