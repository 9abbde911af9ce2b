//! The loop as a whole: what it promises whatever goes wrong, and how it does when it is told lies.

mod fault_simulation;
mod random_case;
mod watcher;
mod wrong_profile;
