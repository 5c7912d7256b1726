//! Ports of this machine's loopback.

use std::net::TcpListener;

/// A port of this machine's loopback that is free right now: the wanted one, or the next.
pub fn free_port(wanted: u16) -> Option<u16> {
    candidates(wanted).next()
}

/// Ports to try, in order: those that are free right now.
pub(crate) fn candidates(wanted: u16) -> impl Iterator<Item = u16> {
    let free = |port: u16| {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        listener.local_addr().ok().map(|it| it.port())
    };
    let range = if wanted == 0 { 0..=0 } else { wanted..=wanted.saturating_add(100) };
    range.filter_map(free)
}
