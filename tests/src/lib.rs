//! The rig and the scenarios.
