//! The web console as a browser and a program see it: its answers over HTTP, and its pages in
//! headless Chromium.
//!
//! The pages are served over objects as the controller leaves them, without an API server: the
//! watch is a reflector's store that the tests fill. [`browser`] drives Chromium through a pipe, by
//! its debugging protocol; where there is no Chromium those tests say so and pass.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails"
)]

mod answers;
mod browser;
mod pages;
mod stage;
mod watch;
