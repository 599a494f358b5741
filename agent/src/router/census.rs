//! How many bound names in use are up, and how the endpoints behind some names stand: the counts that alerts go by. It
//! looks, and brings nothing into use.

use super::Router;
use crate::balance::Tally;
use crate::naming::Addrs;
use adit_protocol::Name;
use std::collections::BTreeMap;

/// What there is of a router's bound names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Census {
    /// Bound names in use, by [`Standing::label`].
    pub names: BTreeMap<Standing, usize>,
    /// The endpoints of each bound name that a name which was asked for leads to.
    pub endpoints: BTreeMap<(Name, Name), Tally>,
}

/// How a bound name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// An endpoint is up.
    Up,
    /// It has endpoints, and none is up.
    Down,
    /// An authority says that there is none.
    Negative,
    /// Nothing is known, for the look-up failed.
    Failed,
    /// The first look-up is under way.
    Pending,
}

impl Standing {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Negative, Self::Failed, Self::Pending];

    /// For a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Negative => "negative",
            Self::Failed => "failed",
            Self::Pending => "pending",
        }
    }

    fn of(addrs: &Addrs, tally: Tally) -> Self {
        match addrs {
            Addrs::Pending => Self::Pending,
            Addrs::Failed(_) => Self::Failed,
            Addrs::Neg => Self::Negative,
            Addrs::Bound(_) if tally.up > 0 => Self::Up,
            Addrs::Bound(_) => Self::Down,
        }
    }
}

impl Router {
    /// Counts all bound names, and the endpoints behind these names as far as they are in use. Streams wait for none of it
    /// but for the list of the names.
    #[must_use]
    pub fn census<'a>(&self, names: impl IntoIterator<Item = &'a Name>) -> Census {
        let (roads, routes) = {
            let tables = self.inner.tables();
            let routes = names.into_iter().filter_map(|name| Some((name.clone(), tables.kept(name)?)));
            (tables.roads(), routes.collect::<Vec<_>>())
        };
        let mut census = Census { names: Standing::ALL.map(|standing| (standing, 0)).into(), ..Census::default() };
        for road in roads {
            let (addrs, balancer) = road.told();
            *census.names.entry(Standing::of(&addrs, balancer.tally())).or_default() += 1;
        }
        for (name, route) in routes {
            for way in route.tree.leaves() {
                census.endpoints.insert((name.clone(), way.bound().clone()), way.tally());
            }
        }
        census
    }
}
