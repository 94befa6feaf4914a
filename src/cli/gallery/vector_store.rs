//! A collection of a Qdrant vector store, by its REST interface.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::UsageError;
use crate::outputs::http::address::{Address, AddressError, NotPermitted};
use crate::outputs::http::client::{Answer, Call};
use crate::outputs::http::tls::Encryption;
use crate::platform::redaction;

/// The port of Qdrant's REST interface.
const PORT: u16 = 6333;
/// Most bytes of an answer: a page of points has a third of a megabyte.
const MOST_ANSWER: usize = 16 << 20;
/// Points that are listed by a call.
const PAGE: usize = 1000;
/// Most characters of a server's own words in a message.
const MOST_WORDS: usize = 300;
/// Characters that Qdrant does not take in a collection's name, and its longest name in bytes.
const FORBIDDEN: &[char] = &['<', '>', ':', '"', '/', '\\', '|', '?', '*'];
const MOST_NAME: usize = 255;
/// The keys of a payload by which points are found.
const INDEXED: [&str; 3] = ["gallery", "network", "person"];

/// A point as it is written. Qdrant scales the numbers to unit length itself, because the collection's distance is the cosine.
#[derive(Serialize)]
pub(super) struct Point<'a> {
    pub id: String,
    pub vector: &'a [i8],
    pub payload: Payload<'a>,
}

/// What a point holds beside its vector.
#[derive(Serialize)]
pub(super) struct Payload<'a> {
    /// Number of the gallery.
    pub gallery: &'a str,
    /// Hash of the network's recognition: only its templates can be compared.
    pub network: &'a str,
    /// Number of the person in this gallery.
    pub person: String,
    /// Place among the person's templates.
    pub template: usize,
    /// End of the enrolment, Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
}

/// A page of points.
#[derive(Deserialize)]
struct Page {
    points: Vec<Found>,
    #[serde(default)]
    next_page_offset: Option<Value>,
}

#[derive(Deserialize)]
struct Found {
    id: Value,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct Counted {
    count: usize,
}

/// A collection, which need not exist. Printed without the key.
pub(super) struct Collection {
    address: Address,
    name: String,
    /// The path of its calls.
    path: String,
    access: Access,
}

/// How a store is reached.
#[derive(Default)]
pub(super) struct Access {
    pub api_key: Option<Zeroizing<String>>,
    /// The file of the authorities whose certificates are trusted.
    pub authorities: Option<PathBuf>,
    /// Other machines than this may be connected to.
    pub insecure: bool,
    /// Longest time of a call.
    pub patience: Duration,
}

impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.name)
    }
}

impl Collection {
    /// Parses `qdrant://HOST[:PORT]/COLLECTION`.
    ///
    /// # Errors
    /// A text for the user, without the address, which may contain a secret.
    pub fn parse(text: &str, access: Access) -> Result<Collection, String> {
        const FORM: &str = "qdrant://HOST[:PORT]/COLLECTION is needed";
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        let address = match scheme.as_str() {
            "https" if !Encryption::EXISTS => Err(AddressError::Encrypted("qdrant")),
            _ => Address::parse(text, "qdrant", [PORT, PORT]),
        };
        let address = address.map_err(|error| match error {
            AddressError::Scheme(_) if Encryption::EXISTS => format!("the vector store: {FORM} (qdrants:// with TLS)"),
            AddressError::Scheme(_) => format!("the vector store: {FORM}"),
            AddressError::Encrypted(_) => format!(
                "the vector store: {error}; to another machine: an encrypted tunnel (ssh -L {PORT}:127.0.0.1:{PORT} HOST), and \
                 qdrant://127.0.0.1:{PORT}/COLLECTION here"
            ),
            error => format!("the vector store: {error}; {FORM}"),
        })?;
        if address.credentials.is_some() {
            return Err("the vector store: an API key does not belong into the address, which others can see: give \
                        --api-key-file FILE"
                .into());
        }
        let name = redaction::percent_decoded(address.path.strip_prefix('/').unwrap_or_default());
        let is_bad = |c: char| c.is_control() || FORBIDDEN.contains(&c);
        if address.path.contains('?') || name.is_empty() || name.len() > MOST_NAME || name.contains(is_bad) {
            return Err(format!(
                "the vector store: the address has no collection, or one whose name Qdrant does not take (1 to {MOST_NAME} \
                 bytes without < > : \" / \\ | ? *): {FORM}"
            ));
        }
        if name.starts_with('.') {
            return Err("the vector store: the collection's name begins with a dot: give it another name".into());
        }
        let address =
            address.trusting(access.authorities.as_deref()).map_err(|error| format!("the vector store: {error}"))?;
        let path = format!("/collections/{}", percent_encoded(&name));
        Ok(Collection { address, name, path, access })
    }

    /// Makes the collection if it does not exist, or checks that it can hold the templates of this network. Returns whether it
    /// was made.
    ///
    /// # Errors
    /// When the store fails, or the collection is of another kind or holds anything else.
    pub fn prepare(&self, dimension: usize, network: &str) -> Result<bool> {
        let found = self.call("GET", "", None).context("cannot look at the collection")?;
        let is_new = found.is_none();
        match &found {
            Some(found) => {
                check_kind(found, dimension)?;
                let others = json!({ "must_not": [matches("network", network)] });
                let page = self.page(&others, 1, &Value::Null).context("cannot look for other points")?;
                ensure!(
                    page.points.is_empty(),
                    "the collection holds points of another network or another program, which cannot be compared with these \
                     templates: choose another collection (those that this gallery has pushed before a change of its network are \
                     deleted by --delete)"
                );
            }
            None => {
                let kind = json!({ "vectors": { "size": dimension, "distance": "Cosine" } });
                self.needed("PUT", "", &kind).context("cannot make the collection")?;
            }
        }
        // Qdrant's cloud finds points by indexed keys only.
        let schema = found.as_ref().map_or(&Value::Null, |found| &found["payload_schema"]);
        for key in INDEXED.into_iter().filter(|key| schema[*key].is_null()) {
            let index = json!({ "field_name": key, "field_schema": "keyword" });
            self.needed("PUT", "/index?wait=true", &index).context("cannot make an index of the collection")?;
        }
        Ok(is_new)
    }

    /// Returns id and payload of all points of a gallery; none if the collection does not exist.
    ///
    /// # Errors
    /// When the store fails, or lists a point twice.
    pub fn points(&self, gallery: &str) -> Result<Vec<(Value, Value)>> {
        let within = "cannot list the points of this gallery";
        if self.call("GET", "", None).context(within)?.is_none() {
            return Ok(Vec::new());
        }
        let filter = json!({ "must": [matches("gallery", gallery)] });
        let (mut all, mut seen, mut offset) = (Vec::new(), HashSet::new(), Value::Null);
        loop {
            let page = self.page(&filter, PAGE, &offset).context(within)?;
            let is_empty = page.points.is_empty();
            for Found { id, payload } in page.points {
                // Without this check, a server that goes in a circle would never be left.
                ensure!(seen.insert(id.to_string()), "{within}: the server lists a point twice; run the command again");
                all.push((id, payload));
            }
            match page.next_page_offset {
                Some(next) if !next.is_null() && !is_empty => offset = next,
                _ => return Ok(all),
            }
        }
    }

    /// Writes points; those with the same id are replaced.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put(&self, points: &[Point]) -> Result<()> {
        self.needed("PUT", "/points?wait=true", &Points { points }).context("cannot write points").map(drop)
    }

    /// Deletes points.
    ///
    /// # Errors
    /// When the store fails.
    pub fn delete(&self, ids: &[Value]) -> Result<()> {
        let ids = json!({ "points": ids });
        self.needed("POST", "/points/delete?wait=true", &ids).context("cannot delete points").map(drop)
    }

    /// Checks that the collection holds so many points of a gallery; a collection that does not exist holds none.
    ///
    /// # Errors
    /// When the store fails, or it holds more or fewer.
    pub fn check_count(&self, gallery: &str, expected: usize) -> Result<()> {
        let request = json!({ "filter": { "must": [matches("gallery", gallery)] }, "exact": true });
        let body = serde_json::to_vec(&request)?;
        let count = match self.call("POST", "/points/count", Some(&body)).context("cannot count the points")? {
            Some(result) => parsed::<Counted>(result)?.count,
            None => 0,
        };
        ensure!(
            count == expected,
            "the store holds {count} points of this gallery where {expected} were expected: another program may change the \
             collection; run the command again"
        );
        Ok(())
    }

    fn page(&self, filter: &Value, limit: usize, offset: &Value) -> Result<Page> {
        let request =
            json!({ "filter": filter, "limit": limit, "offset": offset, "with_payload": true, "with_vector": false });
        parsed(self.needed("POST", "/points/scroll", &request)?)
    }

    /// Makes a call whose subject has to exist.
    fn needed(&self, method: &'static str, below: &str, body: &impl Serialize) -> Result<Value> {
        let result = self.call(method, below, Some(&serde_json::to_vec(body)?))?;
        result.context(
            "the server does not know the collection (status 404): it was deleted, or this is no Qdrant server",
        )
    }

    /// Makes a call. Returns the result of the answer; `None` for the status 404.
    fn call(&self, method: &'static str, below: &str, body: Option<&[u8]>) -> Result<Option<Value>> {
        let path = format!("{}{below}", self.path);
        let header = self.access.api_key.as_ref().map(|key| ("api-key", key.as_str()));
        let may = |ip: IpAddr| self.access.insecure || self.address.is_encrypted || ip.is_loopback();
        let stream = self.address.connect_where(may).map_err(|error| match error.get_ref() {
            Some(reason) if reason.is::<NotPermitted>() => anyhow::Error::from(UsageError(format!(
                "{} is another machine, and qdrant:// is not encrypted: everyone on the way could read the templates, \
                 which are biometric data, and the API key. Use an encrypted tunnel (ssh -L {}:127.0.0.1:{} HOST, and \
                 qdrant://127.0.0.1 here), or give --insecure in a network that you trust",
                self.address.host, self.address.port, self.address.port
            ))),
            _ => anyhow::Error::from(error)
                .context("cannot connect: is Qdrant running there, and is this the port of its REST interface?"),
        })?;
        let call = Call { method, path: &path, header, body: body.unwrap_or_default(), patience: self.access.patience };
        let answer = call.answer(&self.address, stream, MOST_ANSWER).context("no answer that can be used")?;
        self.result(&answer)
    }

    /// Returns the result of an answer, or what went wrong and what to do.
    fn result(&self, answer: &Answer) -> Result<Option<Value>> {
        let content = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        if answer.status == 200 {
            let result = content.get("result").filter(|result| !result.is_null());
            let result = result.context(
                "the answer is not one of Qdrant's REST interface: is this another server, or a proxy before it?",
            )?;
            return Ok(Some(result.clone()));
        }
        if answer.status == 404 {
            return Ok(None);
        }
        let remedy = match answer.status {
            300..=399 => "the server refers to another address: give that one",
            401 | 403 if self.access.api_key.is_some() => "the server refuses the API key: give one that may write",
            401 | 403 => "the server asks for an API key: --api-key-file FILE",
            413 => "the server, or a proxy before it, takes no calls of half a megabyte: raise its limit",
            408 | 429 | 503 => "the server is busy: run the command again later, it continues where it stopped",
            500..=599 => "the server failed: see its log, then run the command again, it continues where it stopped",
            _ => "the server refuses this call: is it a Qdrant server, of a version of the last years?",
        };
        match self.words(&content) {
            Some(words) => bail!("status {}: {remedy} (its words: {words})", answer.status),
            None => bail!("status {}: {remedy}", answer.status),
        }
    }

    /// Returns the reason that the server gives, on one line, short, and without the key.
    fn words(&self, content: &Value) -> Option<String> {
        let words = content["status"]["error"].as_str().filter(|words| !words.is_empty())?;
        let secrets: Vec<String> = self.access.api_key.iter().map(|key| key.to_string()).collect();
        let words: String = redaction::without_secrets(words, &secrets)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MOST_WORDS)
            .collect();
        Some(words)
    }
}

#[derive(Serialize)]
struct Points<'a> {
    points: &'a [Point<'a>],
}

fn matches(key: &str, value: &str) -> Value {
    json!({ "key": key, "match": { "value": value } })
}

fn parsed<T: serde::de::DeserializeOwned>(result: Value) -> Result<T> {
    serde_json::from_value(result).context("the answer is not one of Qdrant's REST interface")
}

/// Checks that a collection has one vector a point, and compares as the gallery does.
fn check_kind(collection: &Value, dimension: usize) -> Result<()> {
    let vectors = &collection["config"]["params"]["vectors"];
    let is_plain =
        vectors["multivector_config"].is_null() && matches!(vectors["datatype"].as_str(), None | Some("float32"));
    let remedy = "choose another collection: one that does not exist yet is made as it has to be";
    ensure!(
        vectors["size"].is_u64() && vectors["distance"].is_string() && is_plain,
        "the collection does not hold one vector of float32 numbers a point, without a name: {remedy}"
    );
    ensure!(
        vectors["size"] == dimension && vectors["distance"] == "Cosine",
        "the collection holds vectors of {} numbers with the distance {}, the gallery has {dimension} numbers and needs Cosine: \
         {remedy}",
        vectors["size"],
        vectors["distance"].as_str().unwrap_or_default()
    );
    Ok(())
}

/// Encodes all but letters, digits, `-`, `_`, `.` and `~`.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_collection() {
        let parse = |text: &str| Collection::parse(text, Access::default());
        let collection = parse("QDRANT://localhost/front door").err().expect("a space");
        assert!(collection.contains("%20"), "{collection}");
        let collection = parse("QDRANT://localhost/Haust%C3%BCr%201").map_err(anyhow::Error::msg).expect("right");
        assert_eq!((collection.address.port, collection.path.as_str()), (6333, "/collections/Haust%C3%BCr%201"));
        assert_eq!(collection.to_string(), "qdrant://localhost:6333/Haustür 1");
        for (text, expected) in [
            ("faces", "qdrant://HOST"),
            ("http://localhost:6333/faces", "qdrant://HOST"),
            ("https://localhost:6333/faces", "ssh -L"),
            ("qdrants://localhost:6333/faces", "ssh -L"),
            ("qdrant://localhost", "no collection"),
            ("qdrant://localhost/", "no collection"),
            ("qdrant://localhost/a/b", "no collection"),
            ("qdrant://localhost/a%2Fb", "no collection"),
            ("qdrant://localhost/a%00", "no collection"),
            ("qdrant://localhost/a?wait=false", "no collection"),
            ("qdrant://localhost?a", "no collection"),
            ("qdrant://localhost/..", "a dot"),
            ("qdrant://localhost/%2e%2e", "a dot"),
            ("qdrant://:6333/a", "no host"),
            ("qdrant://localhost:0/a", "wrong port"),
            ("qdrant://user:secret@localhost/a", "--api-key-file"),
            ("qdrant://secret@localhost/a", "--api-key-file"),
        ] {
            let is_encrypted = text.starts_with("https") || text.starts_with("qdrants");
            let reason = parse(text).err().unwrap_or_default();
            if Encryption::EXISTS && is_encrypted {
                assert!(reason.is_empty() || reason.contains("qdrants://"), "{text}: {reason}");
                continue;
            }
            assert!(reason.contains(expected) && !reason.contains("secret"), "{text}: {reason}");
        }
        assert!(parse(&format!("qdrant://h/{}", "a".repeat(255))).is_ok());
        assert!(parse(&format!("qdrant://h/{}", "a".repeat(256))).is_err());
    }

    #[test]
    fn words_of_a_server_hold_no_key_and_no_control_characters() {
        let api_key = Some(Zeroizing::new("geheim123".to_owned()));
        let access = Access { api_key, ..Access::default() };
        let collection = Collection::parse("qdrant://localhost/a", access).map_err(anyhow::Error::msg).expect("right");
        let error = format!("bad key geheim123\u{1b}[31m\n{}", "x".repeat(1000));
        let body = json!({ "status": { "error": error } }).to_string().into_bytes();
        let error = collection.result(&Answer { status: 401, body }).expect_err("refused").to_string();
        assert!(
            error.starts_with("status 401: the server refuses the API key") && !error.contains("geheim"),
            "{error}"
        );
        assert!(!error.contains(char::is_control) && error.len() < 500, "{error}");
    }
}
