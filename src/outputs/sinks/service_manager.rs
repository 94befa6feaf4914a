//! Notifies systemd (sd_notify(3)) that the program is ready, alive and stopping.
//!
//! Each message is one datagram to the socket that `NOTIFY_SOCKET` names. Without that variable nothing is sent. The socket
//! does not block, because messages are sent on the publisher's thread; the crate `sd-notify` sends with a blocking one.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Least time between two status lines.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// A service manager that expects notifications.
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Time between two messages to the watchdog, when the service has one, us.
    feed_every_us: Option<u64>,
    ready: bool,
    fed_us: u64,
    said_us: u64,
    /// A failing socket is logged once.
    failed: bool,
}

impl ServiceManager {
    /// Returns the manager that the environment names; `None` without one.
    ///
    /// # Errors
    /// When `NOTIFY_SOCKET` is not an address.
    pub fn from_environment() -> Result<Option<ServiceManager>> {
        let Some(address) = env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty()) else {
            return Ok(None);
        };
        let text = |name| env::var(name).ok();
        let watchdog = watchdog(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref());
        ServiceManager::new(address.as_bytes(), watchdog).map(Some)
    }

    /// Creates the sink for the socket at a path, or `@name` for an abstract one. `watchdog` is its timeout.
    ///
    /// # Errors
    /// When `address` is neither.
    pub fn new(address: &[u8], watchdog: Option<Duration>) -> Result<ServiceManager> {
        let shown = String::from_utf8_lossy(address).into_owned();
        let parsed = match address {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(Path::new(std::ffi::OsStr::from_bytes(address))),
            _ => bail!("NOTIFY_SOCKET={shown} is neither a path nor @name"),
        };
        let address = parsed.with_context(|| format!("NOTIFY_SOCKET={shown} cannot be used"))?;
        let socket = UnixDatagram::unbound().context("cannot make a socket for NOTIFY_SOCKET")?;
        socket.set_nonblocking(true).context("cannot use a socket for NOTIFY_SOCKET")?;
        // A quarter of its timeout: three messages may get lost.
        let feed_every_us = watchdog.map(|timeout| (timeout.as_micros() as u64 / 4).max(1));
        Ok(ServiceManager { socket, address, feed_every_us, ready: false, fed_us: 0, said_us: 0, failed: false })
    }

    /// Notes that a frame has been published at `now_us`. The first frame reports the service as ready; later ones reset the
    /// watchdog, so that it fires when frames stop. `status` is called when a status line is due.
    pub fn advance(&mut self, now_us: u64, status: impl FnOnce() -> String) {
        let due = |every: u64, last: u64| now_us.saturating_sub(last) >= every;
        let feed = self.feed_every_us.is_some_and(|every| due(every, self.fed_us));
        let say = !self.ready || due(STATUS_EVERY.as_micros() as u64, self.said_us);
        if self.ready && !feed && !say {
            return;
        }
        let mut message = String::new();
        if !self.ready {
            message += "READY=1\n";
        }
        if self.feed_every_us.is_some() && (feed || !self.ready) {
            message += "WATCHDOG=1\n";
            self.fed_us = now_us;
        }
        if say {
            message += &format!("STATUS={}\n", status().replace('\n', " "));
            self.said_us = now_us;
        }
        self.ready = true;
        self.send(&message);
    }

    /// Reports that the program ends.
    pub fn stop(&mut self) {
        self.send("STOPPING=1\n");
    }

    fn send(&mut self, message: &str) {
        let failure = match self.socket.send_to_addr(message.as_bytes(), &self.address) {
            Ok(_) => return,
            // The manager is busy; it gets the next message.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => error,
        };
        if !self.failed {
            self.failed = true;
            log::warn!("the service manager's socket (NOTIFY_SOCKET) takes no messages: {failure}");
        }
    }
}

/// Returns the timeout of the watchdog, if it watches this process.
fn watchdog(microseconds: Option<&str>, process: Option<&str>) -> Option<Duration> {
    let microseconds = microseconds?.parse().ok().filter(|&us: &u64| us > 0)?;
    let ours = process.is_none_or(|process| process == std::process::id().to_string());
    ours.then(|| Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        match socket.recv(&mut buffer) {
            Ok(count) => String::from_utf8_lossy(&buffer[..count]).into_owned(),
            Err(_) => String::new(),
        }
    }

    #[test]
    fn watchdog_is_reset_only_while_frames_advance() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("notify");
        let name = format!("@faceptor-notify-{}", std::process::id());
        let bound = [
            (path.as_os_str().as_bytes().to_vec(), UnixDatagram::bind(&path)?),
            (name.clone().into_bytes(), UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name[1..])?)?),
        ];
        for (address, manager) in bound {
            manager.set_nonblocking(true)?;
            let mut notifier = ServiceManager::new(&address, Some(Duration::from_secs(2)))?;
            assert_eq!(receive(&manager), "", "not ready before the first frame");
            notifier.advance(1_000_000, || "1 frame\nof 1".to_owned());
            assert_eq!(receive(&manager), "READY=1\nWATCHDOG=1\nSTATUS=1 frame of 1\n");
            // Frames follow, but the watchdog is fed every half second only.
            for now_us in (1_033_000..1_500_000).step_by(33_000) {
                notifier.advance(now_us, String::new);
            }
            assert_eq!(receive(&manager), "");
            notifier.advance(1_500_000, String::new);
            assert_eq!(receive(&manager), "WATCHDOG=1\n");
            notifier.advance(11_200_000, || "many".to_owned());
            assert_eq!(receive(&manager), "WATCHDOG=1\nSTATUS=many\n");
            notifier.stop();
            assert_eq!(receive(&manager), "STOPPING=1\n");
            drop(manager);
            // A closed socket is no failure.
            notifier.stop();
            notifier.stop();
            assert!(notifier.failed);
        }
        Ok(())
    }

    #[test]
    fn watchdog_of_another_process_is_ignored() -> Result<()> {
        let mine = std::process::id().to_string();
        assert_eq!(watchdog(Some("3000000"), Some(&mine)), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(watchdog(Some("3000000"), Some("1")), None);
        for wrong in ["0", "", "soon", "-1"] {
            assert_eq!(watchdog(Some(wrong), None), None);
        }
        assert!(ServiceManager::new(b"relative", None).is_err());
        assert!(ServiceManager::new(&[b'/'; 300], None).is_err());
        Ok(())
    }
}
