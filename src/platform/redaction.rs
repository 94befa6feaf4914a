//! Removes credentials from texts before they reach a log, a message or a result.

/// Stands for what was removed.
const REMOVED: &str = "***";
/// Characters at which an address or a value ends.
const ENDS: [char; 7] = [' ', '\t', '\n', '"', '\'', '<', '>'];
/// Parts of the names of properties whose values are secret: `user-pw=`, `password=`, `api_key=`.
const SECRET_NAMES: [&str; 6] = ["pw", "pass", "secret", "token", "key", "auth"];

/// Returns a text without the user names, passwords and queries of the addresses in it, and without the values of properties
/// whose names speak of a secret.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        out.push_str(&without_secret_values(before));
        let end = address.find(ENDS).unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        // A password may contain a slash that was not escaped: the last @ ends it in either case.
        let (place, query) = address.split_once('?').map_or((address, None), |(place, query)| (place, Some(query)));
        // An @ after the question mark belongs to a password with a question mark in it.
        let has_late_at = query.is_some_and(|query| query.contains('@')) && !place.contains('@');
        match has_late_at {
            true => out.push_str(address.rsplit_once('@').map_or(REMOVED, |(_, place)| before_query(place))),
            false => {
                out.push_str(place.rsplit_once('@').map_or(place, |(_, place)| place));
                if query.is_some() {
                    out.push('?');
                    out.push_str(REMOVED);
                }
            }
        }
        rest = after;
    }
    out.push_str(&without_secret_values(rest));
    out
}

fn before_query(place: &str) -> &str {
    place.split('?').next().unwrap_or_default()
}

/// Removes the values of properties such as `user-pw=...`.
fn without_secret_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, value) = rest.split_at(at + 1);
        let name_start = before[..at]
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let name = before[name_start..at].to_ascii_lowercase();
        out.push_str(before);
        let quote = value.chars().next().filter(|c| *c == '"' || *c == '\'');
        rest = match (SECRET_NAMES.iter().any(|secret| name.contains(secret)), quote) {
            (false, _) => value,
            (true, Some(quote)) => {
                out.push_str(REMOVED);
                value[1..].split_once(quote).map_or("", |(_, after)| after)
            }
            (true, None) => {
                out.push_str(REMOVED);
                &value[value.find(ENDS).unwrap_or(value.len())..]
            }
        };
    }
    out.push_str(rest);
    out
}

/// Returns the secrets of an address, so that they are removed also where another program prints them alone: user name and
/// password, each as it stands and decoded.
pub(crate) fn secrets_of(text: &str) -> Vec<String> {
    let mut secrets = Vec::new();
    for piece in text.split(ENDS) {
        let Some((_, address)) = piece.split_once("://") else { continue };
        let Some((user_info, _)) = address.rsplit_once('@') else { continue };
        let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
        for secret in [user_info, password, user] {
            let decoded = percent_decoded(secret);
            secrets.extend([secret.to_owned(), decoded]);
        }
    }
    // A text of one or two letters would blacken half of every message.
    secrets.retain(|secret| secret.len() > 2);
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Returns a text of another program without credentials, and without the secrets that it was given.
pub(crate) fn without_secrets(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), REMOVED);
    }
    without_credentials(&text)
}

/// Decodes `%40` and the like; what is no such code stays.
pub(crate) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_removed_from_addresses() {
        for (text, expected) in [
            ("rtsp://admin:geheim@10.0.0.5:554/h264?channel=1", "rtsp://10.0.0.5:554/h264?***"),
            ("rtsp://10.0.0.5/a", "rtsp://10.0.0.5/a"),
            ("cannot open http://u:p@h/x: 401", "cannot open http://h/x: 401"),
            ("rtsp://user:p/w@rd@host/a", "rtsp://host/a"),
            ("rtsp://user:pw?x@host/a?token=1", "rtsp://host/a"),
            ("http://h/cgi?user=a&password=b 'http://h?pwd=c'", "http://h/cgi?*** 'http://h?***'"),
            (
                "rtspsrc location=rtsp://a:bcd@h/s user-pw=xyz user-id=\"me\" ! x",
                "rtspsrc location=rtsp://h/s user-pw=*** user-id=\"me\" ! x",
            ),
            ("souphttpsrc proxy-pw=\"a b\" is-live=true", "souphttpsrc proxy-pw=*** is-live=true"),
            ("x://", "x://"),
            ("é=1 ünkey=ß", "é=1 ünkey=***"),
            ("/dev/video0", "/dev/video0"),
        ] {
            assert_eq!(without_credentials(text), expected, "{text}");
        }
    }

    #[test]
    fn secrets_are_found_encoded_and_decoded() {
        let secrets = secrets_of("rtsp://admin:p%40ss@host/a");
        let line = "Authorization: admin with p@ss and p%40ss at rtsp://admin:p%40ss@host/a";
        let shown = without_secrets(line, &secrets);
        assert_eq!(shown, "Authorization: *** with *** and *** at rtsp://host/a");
        assert!(
            secrets_of("rtsp://host/a@b").iter().all(|secret| secret == "host/a"),
            "{:?}",
            secrets_of("rtsp://host/a@b")
        );
        assert!(secrets_of("demo").is_empty());
        assert_eq!(percent_decoded("%4"), "%4");
        assert_eq!(percent_decoded("%é%41"), "%éA");
    }
}
