//! A name to a balancer.
