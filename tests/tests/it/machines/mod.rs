//! Machines that boot a real Debian, and what an operator does with them: the package is installed, upgraded, removed, and
//! the applications of one reach the services of another.

mod crash;
mod drop_ins;
mod furnish;
mod package;
mod pair;
mod upgrade;
