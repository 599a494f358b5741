//! To be written by its room's first commit.
