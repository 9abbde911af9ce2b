//! Opening the page for a person who is there to see it.
//!
//! Tried once and forgotten: the address is in the terminal anyway. Without a terminal or a display
//! there is nobody to show it to.

use std::io::{self, IsTerminal};
use std::process::{Command, Stdio};

/// Opens `url` with the desktop's own opener, if there is a desktop.
pub(super) fn open(url: &str) {
    let Some(opener) = opener() else {
        return;
    };
    // A browser that does not open is no reason to stop, or to complain.
    let _ = Command::new(opener)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

fn opener() -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        return None;
    }
    if cfg!(target_os = "macos") {
        return Some("open");
    }
    let display = ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    display.then_some("xdg-open")
}
