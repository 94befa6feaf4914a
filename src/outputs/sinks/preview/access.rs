//! Access control of the preview: refuses requests that another page makes a browser send.

use std::net::IpAddr;

use crate::outputs::http::request::{HttpRefusal, HttpRequest};

/// The host names by which a browser may address this program.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    /// Only this machine can reach the server.
    pub loopback: bool,
    /// The machine's own name.
    pub machine: String,
}

impl KnownHosts {
    /// Refuses a host name that a DNS server made point here (DNS rebinding), and requests on behalf of another page.
    ///
    /// # Errors
    /// The refusal, with status 403.
    pub fn check(&self, request: &HttpRequest) -> Result<(), HttpRefusal> {
        if !self.knows(&request.host) {
            return Err(HttpRefusal::new(403, "this name is not known here: use an IP address or localhost"));
        }
        let own = format!("http://{}", request.host);
        if request.origin.as_ref().is_some_and(|origin| !origin.eq_ignore_ascii_case(&own)) {
            return Err(HttpRefusal::new(403, "requests of other pages are refused"));
        }
        // The page itself may be reached by a link from anywhere.
        let site = request.fetch_site.as_deref().filter(|_| request.path != "/");
        if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err(HttpRefusal::new(403, "requests of other pages are refused"));
        }
        Ok(())
    }

    /// Returns whether the name is one of this server's. Every port is accepted: it may have been forwarded.
    fn knows(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, _)) => name,
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        if let Ok(address) = name.parse::<IpAddr>() {
            return address.is_loopback() || !self.loopback;
        }
        let name = name.to_ascii_lowercase();
        let machine = self.machine.to_ascii_lowercase();
        let own = !self.loopback && !machine.is_empty() && (name == machine || name == format!("{machine}.local"));
        name == "localhost" || own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_origins_and_hosts_are_refused() {
        let check = |loopback: bool, path: &str, host: &str, origin: Option<&str>, site: Option<&str>| {
            let names = KnownHosts { loopback, machine: "Robot".to_owned() };
            let request = HttpRequest {
                path: path.to_owned(),
                host: host.to_owned(),
                origin: origin.map(str::to_owned),
                fetch_site: site.map(str::to_owned),
                ..HttpRequest::default()
            };
            names.check(&request).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "127.9.9.9"] {
            assert!(check(true, "/", host, None, None), "{host}");
        }
        for host in ["evil.example:8080", "192.168.1.5", "localhost.evil.example", "", "robot", "[::1", "127.0.0.1.a"] {
            assert!(!check(true, "/", host, None, None), "{host}");
        }
        for (host, known) in [("192.168.1.5:80", true), ("robot:80", true), ("robot.local", true), ("evil.lan", false)]
        {
            assert_eq!(check(false, "/", host, None, None), known, "{host}");
        }
        let origin = |origin| check(true, "/tasks", "127.0.0.1:80", Some(origin), None);
        assert!(origin("http://127.0.0.1:80"));
        assert!(!origin("http://127.0.0.1:81") && !origin("null") && !origin("https://127.0.0.1:80"));
        let site = |path, site| check(true, path, "127.0.0.1:80", None, Some(site));
        assert!(site("/", "cross-site") && site("/stream.mjpg", "same-origin") && site("/stream.mjpg", "none"));
        assert!(!site("/stream.mjpg", "cross-site") && !site("/events", "same-site"));
    }
}
