//! `faceptor gallery push`: what a vector store gets, what is deleted there, and servers that fail.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use faceptor_gallery::{Details, Gallery, KeySource, Network, PassphraseCost, StoredTemplate, Template};
use faceptor_identity::PLATFORM;
use serde_json::{Value, json};

use crate::gallery_place::Place;
use crate::program::{Output, command, finish};
use crate::vector_store::{Fault, Server, http};

const DIMENSION: usize = 8;

/// Makes a gallery of people with so many templates each; the last person's enrolment is over in the year 2001.
pub(crate) fn filled(network: u8, templates: &[usize]) -> Place {
    let place = Place::new();
    let key = KeySource::from_file_content(&fs::read(&place.key).expect("made")).expect("a key");
    let network = Network { name: "test".into(), recognition: [network; 32], dimension: DIMENSION };
    // A copy is used: a program that another test starts at this moment may inherit this one's lock until it runs.
    let made = place.folder.path().join("made.gallery");
    let gallery = Gallery::create(&made, &key, &network, PassphraseCost::default(), PLATFORM, 0);
    let mut gallery = gallery.expect("made");
    for (person, &count) in templates.iter().enumerate() {
        let is_last = person + 1 == templates.len();
        let details = Details {
            name: format!("Person {person}"),
            enrolled_at: 0,
            enrolled_by: "Secret Clerk".into(),
            purpose: "secret door".into(),
            expires_at: is_last.then_some(1_000_000_000).or((person == 1).then_some(4_000_000_000)),
        };
        let template = |index: usize| {
            let numbers = (0..DIMENSION).map(|place| ((person * 31 + index * 7 + place * 13) % 255) as i8).collect();
            let template = Template::from_numbers(numbers, DIMENSION).expect("a direction");
            StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None }
        };
        assert!(gallery.enrol(details, (0..count).map(template).collect(), 0).expect("written"));
    }
    drop(gallery);
    fs::copy(&made, &place.gallery).expect("copied");
    place
}

impl Place {
    pub(crate) fn push(&self, url: &str, more: &[&str]) -> Output {
        self.run(&[&["gallery", "push", url], more].concat())
    }

    fn report(&self, url: &str, more: &[&str]) -> Value {
        self.push(url, &[&["--json"], more].concat()).expect(0).json().remove(0)
    }
}

fn counts(report: &Value) -> [u64; 4] {
    ["people", "pushed", "deleted", "unchanged"].map(|key| report[key].as_u64().expect("a number"))
}

#[test]
fn the_store_holds_what_the_gallery_holds() {
    let (server, place) = (Server::start(), filled(7, &[2, 3, 1]));
    let url = server.url("front%20door");
    let report = place.report(&url, &[]);
    assert_eq!((counts(&report), &report["created"]), ([2, 5, 0, 0], &true.into()));
    assert_eq!(report["collection"], format!("qdrant://127.0.0.1:{}/front door", server.port));
    {
        let state = server.state();
        let kind = &state.collections["front%20door"]["config"]["params"]["vectors"];
        assert_eq!(*kind, json!({"size": DIMENSION, "distance": "Cosine"}));
        let list = place.run(&["gallery", "list", "--json"]).expect(0).json().remove(0);
        let ids: Vec<&Value> = list["people"].as_array().expect("people").iter().map(|person| &person["id"]).collect();
        assert_eq!(ids.len(), 2, "the expired person is removed");
        let points = state.points_of("front%20door");
        for (person, count) in [(0, 2), (1, 3)] {
            for index in 0..count {
                let wanted = |point: &&&Value| {
                    point["payload"]["person"] == *ids[person] && point["payload"]["template"] == index
                };
                let point = points.iter().find(wanted).expect("every template is there");
                let numbers: Vec<i8> =
                    (0..DIMENSION).map(|place| ((person * 31 + index * 7 + place * 13) % 255) as i8).collect();
                assert_eq!(point["vector"], json!(numbers));
                let (id, payload) = (point["id"].as_str().expect("text"), point["payload"].as_object().expect("keys"));
                assert!(id.len() == 36 && id.as_bytes()[14] == b'8', "{id}");
                assert_eq!(payload["network"], "07".repeat(32));
                assert_eq!(payload.get("expires_at"), (person == 1).then(|| json!(4_000_000_000u64)).as_ref());
                let keys = ["gallery", "network", "person", "template", "expires_at"];
                assert!(payload.keys().all(|key| keys.contains(&key.as_str())), "{payload:?}");
            }
        }
        let schema = &state.collections["front%20door"]["payload_schema"];
        assert!(["gallery", "network", "person"].iter().all(|key| schema[*key]["data_type"] == "keyword"), "{schema}");
        for request in &state.requests {
            let text = format!("{}{}", request.head, request.body);
            assert!(!["Person ", "Secret", "secret"].iter().any(|word| text.contains(word)), "{text}");
        }
    }
    // Pushing again changes nothing.
    server.lines();
    assert_eq!(counts(&place.report(&url, &[])), [2, 0, 0, 5]);
    let lines = server.lines();
    assert!(!lines.iter().any(|line| line.starts_with("PUT") || line.contains("delete")), "{lines:?}");
    // Names come and go by request.
    let names = |server: &Server| {
        let state = server.state();
        let points = state.points_of("front%20door").into_iter();
        points.filter(|point| point["payload"]["name"].as_str().is_some_and(|name| name.starts_with("Person "))).count()
    };
    assert_eq!((counts(&place.report(&url, &["--with-names"])), names(&server)), ([2, 5, 0, 0], 5));
    assert_eq!((counts(&place.report(&url, &["--with-names"])), names(&server)), ([2, 0, 0, 5], 5));
    assert_eq!((counts(&place.report(&url, &[])), names(&server)), ([2, 5, 0, 0], 0));
    // Another gallery of the same network shares the collection.
    let other = filled(7, &[4, 1]);
    assert_eq!(counts(&other.report(&url, &[])), [1, 4, 0, 0]);
    // What is removed from the gallery is removed there, and a point that claims to be the gallery's.
    let mut strange = server.state().points_of("front%20door")[0].clone();
    strange["id"] = json!(17);
    strange["payload"]["gallery"] = server.state().requests.iter().rev().find_map(gallery_of).expect("named");
    server.state().points.insert(("front%20door".into(), "17".into()), strange);
    assert_eq!(counts(&other.report(&url, &[])), [1, 0, 1, 4]);
    place.run(&["gallery", "remove", "Person 1"]).expect(0);
    assert_eq!(counts(&place.report(&url, &[])), [1, 0, 3, 2]);
    assert_eq!(server.state().points_of("front%20door").len(), 6);
    let run = place.push(&url, &["--delete", "--by", "the data officer"]).expect(0);
    assert!(run.out.contains("2 templates of this gallery deleted, none are left"), "{run:?}");
    assert_eq!(server.state().points_of("front%20door").len(), 4, "the other gallery's");
    assert_eq!(counts(&place.report(&url, &["--delete"])), [0, 0, 0, 0]);
    place.push(&server.url("none"), &["--delete"]).expect(0);
    assert!(!server.state().collections.contains_key("none"));
    let audit = place.run(&["gallery", "audit", "--json"]).expect(0).json();
    let events: Vec<(&str, u64)> = audit
        .iter()
        .filter(|line| line["place"] == format!("qdrant://127.0.0.1:{}/front door", server.port))
        .map(|line| (line["event"].as_str().expect("text"), line["templates"].as_u64().expect("a number")))
        .collect();
    let pushed = [("pushed", 5); 5];
    assert_eq!(events, [&pushed[..], &[("pushed", 2), ("withdrawn", 2), ("withdrawn", 0)]].concat());
    assert!(audit.iter().any(|line| line["by"] == "the data officer" && line["at"].is_string()), "{audit:?}");
    let text = place.run(&["gallery", "audit"]).expect(0).out;
    assert!(text.contains(" withdrawn, 2 photos, by the data officer, qdrant://127.0.0.1:"), "{text}");
    place.run(&["gallery", "verify"]).expect(0);
}

/// Returns the number of the gallery by which a request filters.
fn gallery_of(request: &crate::vector_store::Request) -> Option<Value> {
    let condition = &request.body["filter"]["must"][0];
    (condition["key"] == "gallery").then(|| condition["match"]["value"].clone())
}

#[test]
fn a_push_that_broke_off_is_entered_and_continues() {
    // Batches of 500: one is written, the next is refused.
    let (server, place) = (Server::start(), filled(1, &[400, 400, 400, 1]));
    let url = server.url("faces");
    let busy = http("503 Service Unavailable", &json!({"status": {"error": "too busy"}}));
    (server.state().fault, server.state().good) = (Fault::Sends(busy), 6);
    let run = place.push(&url, &["--by", "me"]).expect(1);
    assert!(run.err.contains("status 503") && run.err.contains("continues where it stopped"), "{run:?}");
    assert!(run.err.contains("too busy") && run.err.contains(&url), "{run:?}");
    assert_eq!(server.state().points_of("faces").len(), 500);
    let audit = place.run(&["gallery", "audit", "--json"]).expect(0).json();
    let last = audit.last().expect("entries");
    assert_eq!((&last["event"], &last["templates"], &last["by"]), (&"pushed".into(), &1200.into(), &"me".into()));
    server.state().fault = Fault::None;
    assert_eq!(counts(&place.report(&url, &[])), [3, 700, 0, 500]);
    assert_eq!(server.state().points_of("faces").len(), 1200);
    // More points than a page lists.
    assert_eq!(counts(&place.report(&url, &[])), [3, 0, 0, 1200]);
}

#[test]
fn collections_of_other_kinds_and_networks_are_refused() {
    let (server, place) = (Server::start(), filled(1, &[2, 1]));
    let url = server.url("faces");
    for (vectors, expected) in [
        (json!({"size": 9, "distance": "Cosine"}), "vectors of 9 numbers"),
        (json!({"size": DIMENSION, "distance": "Euclid"}), "distance Euclid"),
        (json!({"size": DIMENSION, "distance": "Dot"}), "distance Dot"),
        (json!({"face": {"size": DIMENSION, "distance": "Cosine"}}), "one vector"),
        (json!({}), "one vector"),
        (json!({"size": DIMENSION, "distance": "Cosine", "datatype": "uint8"}), "one vector"),
        (
            json!({"size": DIMENSION, "distance": "Cosine", "multivector_config": {"comparator": "max_sim"}}),
            "one vector",
        ),
    ] {
        let kind = json!({"config": {"params": {"vectors": vectors}}});
        server.state().collections.insert("faces".into(), kind);
        let run = place.push(&url, &[]).expect(1);
        assert!(run.err.contains(expected) && run.err.contains("choose another collection"), "{run:?}");
    }
    server.state().collections.clear();
    filled(2, &[1, 1]).report(&url, &[]);
    server.lines();
    let run = place.push(&url, &[]).expect(1);
    assert!(run.err.contains("another network or another program") && run.err.contains(&url), "{run:?}");
    // A point of a program that knows no galleries.
    let mut state = server.state();
    state.points.clear();
    state.points.insert(("faces".into(), "1".into()), json!({"id": "1", "payload": {"colour": "red"}}));
    drop(state);
    assert!(place.push(&url, &[]).expect(1).err.contains("another program"));
    let lines = server.lines();
    assert!(!lines.iter().any(|line| line.contains("points?") || line.contains("delete")), "{lines:?}");
    let audit = place.run(&["gallery", "audit"]).expect(0).out;
    assert!(!audit.contains("pushed"), "nothing has left: {audit}");
}

#[test]
fn servers_that_fail_are_named_with_the_remedy() {
    let (server, place) = (Server::start(), filled(1, &[2, 1]));
    let url = server.url("faces");
    let error = |words: &str| json!({"status": {"error": words}, "time": 0.0});
    let raw = |text: &str| text.as_bytes().to_vec();
    let faults = [
        (http("500 Internal Server Error", &error("disk\u{1b}[31m full")), "status 500: the server failed"),
        (http("401 Unauthorized", &error("no key")), "asks for an API key: --api-key-file"),
        (http("403 Forbidden", &json!("x")), "asks for an API key"),
        (http("413 Payload Too Large", &Value::Null), "raise its limit"),
        (http("301 Moved Permanently", &Value::Null), "refers to another address"),
        (http("400 Bad Request", &error("strange")), "strange"),
        (http("404 Not Found", &Value::Null), "no Qdrant server"),
        (http("200 OK", &json!({"name": "other server"})), "another server"),
        (http("200 OK", &json!([1, 2])), "another server"),
        (http("200 OK", &json!({"result": {"points": 7, "count": "x"}})), "the collection does not hold"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nrubbish!!"), "another server"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"result\""), "in the middle of its answer"),
        (raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{"), "more than 16777216 bytes"),
        (raw("220 mail.example ESMTP\r\n"), "not HTTP"),
        (Vec::new(), "without an answer"),
    ];
    for (bytes, expected) in faults {
        server.state().fault = Fault::Sends(bytes);
        let run = place.push(&url, &[]).expect(1);
        assert!(run.err.contains(expected) && run.err.contains(&url), "{expected}: {run:?}");
        assert!(!run.err.contains("\u{1b}[31m"), "{run:?}");
    }
    // Faults in the middle: the collection is right, but not what follows.
    for (good, expected) in [(1, "other points"), (2, "index"), (5, "list the points"), (6, "list the points")] {
        server.state().collections.clear();
        let kind = json!({"config": {"params": {"vectors": {"size": DIMENSION, "distance": "Cosine"}}}});
        server.state().collections.insert("faces".into(), kind);
        (server.state().fault, server.state().good) = (Fault::Sends(raw("nonsense")), good);
        let run = place.push(&url, &[]).expect(1);
        assert!(run.err.contains(expected) && run.err.contains("not HTTP"), "{good}: {run:?}");
    }
    server.state().fault = Fault::Hangs;
    let run = place.push(&url, &["--timeout", "1"]).expect(1);
    assert!(run.err.contains("no complete answer within 1 s") && run.err.contains(&url), "{run:?}");
    server.state().fault = Fault::None;
    place.report(&url, &[]);
    server.state().fault = Fault::GoesInCircles;
    let run = place.push(&url, &[]).expect(1);
    assert!(run.err.contains("lists a point twice"), "{run:?}");
    // A port on which nothing listens.
    let port = crate::streams::free_port();
    let run = place.push(&format!("qdrant://127.0.0.1:{port}/faces"), &[]).expect(1);
    assert!(run.err.contains("cannot connect: is Qdrant running there") && run.err.contains("refused"), "{run:?}");
}

#[test]
fn templates_and_keys_do_not_leave_unasked() {
    let (server, place) = (Server::start(), filled(1, &[1, 1]));
    // An address for documentation: no connection is tried without the option.
    let run = place.push("qdrant://192.0.2.1/faces", &[]).expect(2);
    assert!(run.err.contains("192.0.2.1 is another machine") && run.err.contains("--insecure"), "{run:?}");
    for (url, expected) in [
        ("http://127.0.0.1/faces", "qdrant://HOST[:PORT]/COLLECTION"),
        ("qdrant://key:geheim@127.0.0.1/faces", "--api-key-file"),
    ] {
        let run = place.push(url, &[]).expect(2);
        assert!(run.err.contains(expected) && !run.err.contains("geheim"), "{url}: {run:?}");
    }
    if cfg!(not(feature = "tls")) {
        for url in ["https://127.0.0.1/faces", "qdrants://127.0.0.1/faces"] {
            let run = place.push(url, &[]).expect(2);
            assert!(run.err.contains("no encryption (TLS)") && run.err.contains("ssh -L"), "{url}: {run:?}");
        }
    }
    let url = server.url("faces");
    let file = place.folder.write("api-key", b"geheim-123\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("own file");
    let run = place.push(&url, &["--api-key-file", &file]).expect(1);
    assert!(run.err.contains("mode 0644") && server.lines().is_empty(), "{run:?}");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("own file");
    let refused = http("401 Unauthorized", &json!({"status": {"error": "wrong key geheim-123"}}));
    server.state().fault = Fault::Sends(refused);
    let run = place.push(&url, &["--api-key-file", &file, "--verbose"]).expect(1);
    assert!(run.err.contains("refuses the API key") && !run.err.contains("geheim"), "{run:?}");
    server.state().fault = Fault::None;
    place.push(&url, &["--api-key-file", &file]).expect(0);
    let with_key = |server: &Server| {
        let requests = std::mem::take(&mut server.state().requests);
        requests.iter().filter(|request| request.head.contains("\r\napi-key: geheim-123\r\n")).count() == requests.len()
    };
    assert!(with_key(&server));
    let mut by_variable = command(&["gallery", "push", &url, "--gallery", &place.gallery, "--key", &place.key]);
    by_variable.env("FACEPTOR_QDRANT_API_KEY", "geheim-123");
    finish(by_variable).expect(0);
    assert!(with_key(&server));
    assert!(!place.run(&["gallery", "audit", "--json"]).expect(0).out.contains("geheim"));
    for bad in [&b""[..], b"\n", b"two words", b"a\r\nHost: b", "schlüssel".as_bytes(), b"\0"] {
        fs::write(&file, bad).expect("own file");
        let run = place.push(&url, &["--api-key-file", &file]).expect(1);
        assert!(run.err.contains("one line of visible ASCII") && run.err.contains(&file), "{run:?}");
    }
    assert!(server.lines().is_empty());
    // Names of who pushes that the list cannot hold.
    let run = place.push(&url, &["--by", "a\nb"]).expect(1);
    assert!(run.err.contains("name of who asks"), "{run:?}");
    assert!(!server.lines().iter().any(|line| line.contains("points?")));
}
