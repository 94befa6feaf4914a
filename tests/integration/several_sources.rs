//! Several sources in one run: they share the network and the time, each has its name in every output, and each fails, ends, is
//! lost and is found by itself.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use faceptor_test_support::{repository, skip};
use image::{RgbImage, imageops};
use serde_json::Value;

use crate::buses::{NO_MOSQUITTO, broker, fetch, has_mosquitto, hook, message, run_until, sample, subscribe};
use crate::control::Run;
use crate::films::y4m;
use crate::pictures::{jpeg, portrait};
use crate::program::{Folder, PATIENCE, faceptor, wait_until};
use crate::streams::{free_port, script};

/// The head of the portrait, which moves right from frame to frame.
fn head(width: u32, height: u32, frames: u32) -> Vec<RgbImage> {
    let portrait = portrait();
    let cut = |frame: u32| imageops::crop_imm(&portrait, 90 - 4 * frame, 0, 320, 256).to_image();
    let pictures = (0..frames).map(cut);
    pictures.map(|picture| imageops::resize(&picture, width, height, imageops::FilterType::Triangle)).collect()
}

/// Divides lines by their source, whose name is taken out of them.
fn by_source(lines: Vec<Value>) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for mut line in lines {
        let name = line.as_object_mut().and_then(|fields| fields.remove("source")).expect("each line has a source");
        found.entry(name.as_str().expect("a name").to_owned()).or_default().push(line);
    }
    found
}

fn status(run: &Run) -> Value {
    run.ctl(&["status", "--json"]).expect(0).json().remove(0)
}

#[test]
fn each_source_has_the_results_that_it_has_alone() {
    let folder = Folder::new();
    // Grey frames, JPEGs of another size, photos of a third, the clip; each of another length.
    let grey = folder.write("grey.y4m", &y4m(&head(320, 256, 7)));
    let jpegs: Vec<u8> = head(240, 192, 9).iter().flat_map(jpeg).collect();
    let jpegs = folder.write("jpegs.mjpg", &jpegs);
    fs::create_dir(folder.path().join("photos")).expect("writable");
    for (number, picture) in head(400, 320, 3).iter().enumerate() {
        folder.write(&format!("photos/{number}.jpg"), &jpeg(picture));
    }
    let photos = folder.file("photos");
    let rest = ["--json", "--tasks", "landmarks,age,attributes"];
    let alone = |source: &str| {
        let lines = faceptor(&[&["run", "--source", source], &rest[..]].concat()).expect(0).json();
        assert!(lines.iter().all(|line| line.get("source").is_none()), "one source has no name");
        lines
    };
    let all = ["run", "--source", &grey, "--source", &format!("fast={jpegs}"), "--source", &photos, "--source", &grey];
    let output = faceptor(&[&all, &rest[..]].concat()).expect(0);
    let found = by_source(output.json());
    assert_eq!(found.keys().collect::<Vec<_>>(), ["fast", "grey", "grey-2", "photos"]);
    let what = |line: &Value| ["path", "width", "frame", "sequence", "faces"].map(|field| line[field].clone());
    for (name, place) in [("grey", &grey), ("grey-2", &grey), ("fast", &jpegs), ("photos", &photos)] {
        let (shared, alone) = (&found[name], alone(place));
        assert_eq!(shared.len(), alone.len(), "{name}");
        for (shared, alone) in shared.iter().zip(&alone) {
            assert_eq!(what(shared), what(alone), "{name}");
        }
        assert!(output.err.contains(&format!("{name}: {} frames\n", shared.len())), "{}", output.err);
    }
    // One that is named has no name in its lines either.
    assert_eq!(alone(&format!("door={grey}")).len(), 7);
    // For people.
    let text = faceptor(&["run", "--source", &grey, "--source", &photos, "--tasks", "none"]).expect(0).out;
    assert!(text.contains("grey: frame 6: ") && text.contains("photos: frame 2 /"), "{text}");
}

#[test]
fn a_source_that_fails_does_not_end_the_others() {
    let folder = Folder::new();
    let film = folder.write("film.y4m", &y4m(&head(320, 256, 3)));
    for (place, reason) in [
        (folder.file("missing.y4m"), "it does not exist"),
        (folder.write("empty.y4m", b""), "it is empty"),
        (folder.write("text.y4m", b"no film\n"), "not YUV4MPEG2"),
        (folder.write("none.y4m", b"YUV4MPEG2 W64 H64 F30:1 Cmono\n"), "gave no frame"),
        (folder.write("photo.jpg", b"no photo"), "photo.jpg"),
    ] {
        let arguments = ["run", "--json", "--tasks", "none", "--source", &film, "--source", &format!("bad={place}")];
        let output = faceptor(&arguments).expect(1);
        assert_eq!(by_source(output.json())["film"].len(), 3, "{place}");
        assert!(output.err.contains(&place) && output.err.contains(reason), "{place}: {}", output.err);
        let first = format!("bad={place}");
        let output = faceptor(&["run", "--json", "--tasks", "none", "--source", &first, "--source", &film]).expect(1);
        assert_eq!(by_source(output.json())["film"].len(), 3, "{place} first");
    }
    let missing = [folder.file("a.y4m"), folder.file("b.y4m")];
    let none = faceptor(&["run", "--source", &missing[0], "--source", &missing[1]]).expect(1);
    assert!(none.err.contains("it does not exist"), "{}", none.err);
    // The number of frames is that of each source, which starts over.
    let arguments = ["run", "--json", "--tasks", "none", "--frames", "5", "--source", &film, "--source", "demo"];
    let found = by_source(faceptor(&arguments).expect(0).json());
    assert_eq!((found["film"].len(), found["demo"].len()), (5, 5));
}

#[test]
fn combinations_that_cannot_be_right_are_refused() {
    let folder = Folder::new();
    let film = folder.write("film.y4m", &y4m(&head(64, 48, 2)));
    let png = folder.file("last.png");
    let refused = |sources: &[&str], more: &[&str], expected: &str| {
        let sources = sources.iter().flat_map(|source| ["--source", source]);
        let arguments: Vec<&str> = ["run"].into_iter().chain(sources).chain(more.iter().copied()).collect();
        let output = faceptor(&arguments).expect(2);
        assert!(output.err.contains(expected) && output.out.is_empty(), "{arguments:?}: {}", output.err);
    };
    refused(&["demo"; 9], &[], "9 sources are given: a run reads at most 8");
    refused(&["a=demo", &format!("a={film}")], &[], "two sources have the name a");
    refused(&["a/b=demo", "tür=demo"], &[], "\"tür\" is no name of a source");
    refused(&["my cam=demo", "demo"], &[], "\"my cam\" is no name of a source");
    refused(&["..=demo", "demo"], &[], "is no name of a source");
    refused(&["door=", "demo"], &[], "has a name and no place");
    refused(&["-", "a=-"], &[], "- is given twice");
    refused(&["/dev/video77", "b=/dev/video77"], &[], "/dev/video77 is given twice");
    refused(&["gst:videotestsrc", &film], &[], "--fps F plays all of them");
    refused(&["demo", &film], &["--display", "fb:/dev/fb0"], "--display shows the picture of one source");
    refused(&["demo", &film], &["--record-video", &folder.file("f.mp4")], "--record-video shows");
    refused(&["demo", &film], &["--video", "-"], "--video");
    // Files of the sources are inputs, which no output replaces.
    let output = faceptor(&["run", "--source", "demo", "--source", &format!("x={film}"), "--record", &film, "--force"]);
    assert!(output.status == Some(1) && output.err.contains("input"), "{output:?}");
    // The last frame of each.
    faceptor(&[
        "run",
        "--source",
        "demo",
        "--source",
        &format!("x={film}"),
        "--tasks",
        "none",
        "--frames",
        "2",
        "--out",
        &png,
    ])
    .expect(0);
    let size = |name: &str| image::image_dimensions(folder.file(name)).expect("a picture");
    assert_eq!((size("last-demo.png"), size("last-x.png")), ((640, 480), (64, 48)));
    assert!(!folder.path().join("last.png").exists());
}

#[test]
fn a_configuration_lists_sources_and_the_command_line_replaces_them() {
    let folder = Folder::new();
    let film = folder.write("film, 1.y4m", &y4m(&head(64, 48, 2)));
    let config = format!("source = [\"door={film}\", \"{film}\"]\ntasks = \"none\"\njson = true\n");
    let config = folder.write("faceptor.toml", config.as_bytes());
    let names = |more: &[&str]| {
        let output = faceptor(&[&["run", "--config", &config], more].concat()).expect(0);
        output.json().iter().map(|line| line["source"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    let mut found = names(&[]);
    found.sort_unstable();
    assert_eq!(found, ["door", "door", "film--1", "film--1"]);
    assert_eq!(names(&["--source", &film]), ["-", "-"]);
}

#[test]
fn commands_name_their_source_and_the_time_is_shared() {
    let folder = Folder::new();
    let film = format!("yard={}", folder.write("film.y4m", &y4m(&head(320, 256, 4))));
    let arguments = ["--json", "--tasks", "age", "--fps", "10", "--frames", "1000000"];
    let sources = ["--source", "door=demo", "--source", &film];
    let run = Run::with(folder, &[&sources, &arguments[..]].concat(), true);
    let mut seen = BTreeMap::<String, u64>::new();
    run_until(&run, "both give frames", || {
        let line = run.frame();
        *seen.entry(line["source"].as_str().expect("a name").to_owned()).or_default() += 1;
        seen.len() == 2 && seen.values().all(|count| *count >= 10)
    });
    let all = status(&run);
    assert!(all.get("frames").is_none() && all["tasks"] == Value::from(vec!["age"]), "{all}");
    for (name, place) in [("door", "demo"), ("yard", "film.y4m")] {
        let of = &all["sources"][name];
        assert!(
            of["frames"].as_u64() > Some(0) && of["source"].as_str().is_some_and(|text| text.ends_with(place)),
            "{all}"
        );
        let alone = run.ctl(&["status", "--json", "--source", name]).expect(0).json().remove(0);
        assert!(alone["frames"].as_u64() >= of["frames"].as_u64() && alone.get("sources").is_none(), "{alone}");
        let file = run.folder.file(&format!("{name}.png"));
        run.ctl(&["snapshot", &file, "--source", name]).expect(0);
        let width = if name == "door" { 640 } else { 320 };
        assert_eq!(image::image_dimensions(&file).map(|size| size.0).expect("a picture"), width);
    }
    // Each source gives ten frames a second, so a frame has a twentieth.
    assert_eq!(run.ctl(&["budget", "--json"]).expect(0).json()[0]["budget_ms"], 50.0);
    run.ctl(&["budget", "20"]).expect(0);
    run_until(&run, "the budget is that of both", || run.frame()["deadline"]["budget_us"] == 20_000);
    let stats = run.ctl(&["stats", "--json"]).expect(0).json().remove(0);
    assert!(stats["sources"]["yard"]["stages"]["total"]["n"].as_u64() > Some(0), "{stats}");
    let which = run.ctl(&["snapshot", &run.folder.file("x.png")]).expect(2);
    assert!(which.err.contains("which source? Name one of door, yard"), "{}", which.err);
    let unknown = run.ctl(&["status", "--source", "roof"]).expect(2);
    assert!(unknown.err.contains("there is no source \"roof\": door, yard"), "{}", unknown.err);
    run.ctl(&["set-tasks", "none"]).expect(0);
    run_until(&run, "both have other tasks", || {
        let (one, other) = (run.frame(), run.frame());
        one["source"] != other["source"]
            && [one, other].iter().all(|line| line["timing_us"]["decode"].get("age").is_none())
    });
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
}

#[test]
fn a_camera_that_comes_late_is_lost_and_comes_back_leaves_the_others_alone() {
    let folder = Folder::new();
    // It is there when the file is. Each start gives frames until it is gone.
    let text = "cd \"${0%/*}\"\nwhile test -e there; do head -c 6144 /dev/zero | tr '\\0' '\\200'; sleep 0.1; done\n\
                echo unplugged >&2; exit 3";
    script(&folder, "libcamera-vid", text);
    let there = folder.path().join("there");
    let sources = ["--source", "cam=libcamera", "--source", "demo", "--size", "64x64", "--fps", "10"];
    let arguments = [&sources[..], &["--json", "--tasks", "none", "--frames", "1000000", "-v"]].concat();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let run = Run::prepared(folder, &arguments, true, |command| _ = command.env("PATH", path));
    let from = |name: &str| {
        wait_until(name, || run.frame()["source"] == name);
    };
    let counter = |name: &str| status(&run)["sources"]["cam"]["source_counters"][name].as_u64().unwrap_or(0);
    from("demo");
    assert_eq!(counter("frames"), 0);
    fs::write(&there, b"").expect("writable");
    from("cam");
    fs::remove_file(&there).expect("it was there");
    run_until(&run, "it is lost", || counter("lost") == 1);
    from("demo");
    fs::write(&there, b"").expect("writable");
    run_until(&run, "it is found", || counter("reopened") == 1);
    from("cam");
    from("demo");
    run.signal(libc::SIGTERM);
    let (ended, _) = run.end();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert!(ended.err.contains("unplugged; trying again") && ended.err.contains("frames again after"), "{}", ended.err);
    // A loss of one ends the run where that is asked for.
    let folder = Folder::new();
    script(&folder, "libcamera-vid", "head -c 6144 /dev/zero\nexit 3");
    let mut command = crate::program::command(&[&["run", "--exit-on-lost"], &arguments[..]].concat());
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display()));
    let ended = crate::program::finish(command);
    assert_eq!(ended.status, Some(1), "{}", ended.err);
}

#[test]
fn the_preview_and_the_metrics_have_each_source() {
    let (preview, metrics) = (free_port(), free_port());
    let arguments = ["--json", "--tasks", "age", "--fps", "10", "--frames", "1000000"];
    let sources = ["--source", "door=demo", "--source", "demo"];
    let addresses = ["--preview", &preview.to_string(), "--metrics", &metrics.to_string()];
    let run = Run::with(Folder::new(), &[&sources[..], &arguments, &addresses].concat(), true);
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", preview)).expect("it listens");
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes())
            .expect("taken");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).expect("text");
        text
    };
    let all = get("/");
    assert!(all.contains("src=\"door/stream.mjpg\"") && all.contains("href=\"demo/\""), "{all}");
    assert!(get("/state").contains("\"sources\":[\"door\",\"demo\"]"));
    assert!(get("/door/").contains("page.js") && get("/demo/page.js").contains("EventSource"));
    for (path, expected) in
        [("/stream.mjpg", " 404 "), ("/roof/stream.mjpg", " 404 "), ("/door", " 404 "), ("/roof/", " 404 ")]
    {
        assert!(get(path).lines().next().is_some_and(|line| line.contains(expected)), "{path}");
    }
    for name in ["door", "demo"] {
        run_until(&run, "the newest frame of the source", || {
            let state = get(&format!("/{name}/state"));
            let body = state.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            let state: Value = serde_json::from_str(body).expect("JSON");
            state["newest"]["frame"]["source"] == *name && state["source"] == *name
        });
    }
    run_until(&run, "frames of both are counted", || {
        let page = fetch(metrics, "/metrics", "text/plain");
        ["door", "demo"].iter().all(|name| sample(&page, &format!("faceptor_frames_total{{source=\"{name}\"}}")) > 3.0)
    });
    let text = fetch(metrics, "/metrics", "text/plain");
    assert_eq!(sample(&text, "faceptor_faces{source=\"door\"}"), 1.0);
    check_dashboard(&text);
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
}

/// Checks that every query of the dashboard is of a metric of this page, and asks for the source where the metric has it.
fn check_dashboard(page: &str) {
    let text = std::fs::read_to_string(repository().join("docs/grafana.json")).expect("a file");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets: Vec<&Value> = panels.flat_map(|panel| panel["targets"].as_array().expect("targets")).collect();
    let mut of_sources = 0;
    for target in &targets {
        let [query, legend] = ["expr", "legendFormat"].map(|key| target[key].as_str().expect("text"));
        for name in
            query.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|word| word.starts_with("faceptor_"))
        {
            let is_sample = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            let Some(line) = page.lines().find(is_sample) else {
                assert_eq!(name, "faceptor_temperature_celsius", "only a machine may have none: {query}");
                continue;
            };
            let asks = query.contains("source=~\"$source\"") && legend.contains("{{source}}");
            assert_eq!(asks, line.contains("source=\""), "{query} {legend}: {line}");
            of_sources += usize::from(asks);
        }
    }
    assert!(of_sources >= 8 && targets.len() >= 10, "{of_sources} of {}", targets.len());
}

#[test]
fn events_and_states_have_the_source() {
    let port = free_port();
    let events = hook(TcpListener::bind(("127.0.0.1", port)).expect("the port is free"));
    let address = format!("http://127.0.0.1:{port}/hook");
    let arguments = ["--json", "--tasks", "age", "--fps", "10", "--frames", "1000000", "--webhook", &address];
    let sources = ["--source", "door=demo", "--source", "yard=demo"];
    let (folder, mqtt) = (Folder::new(), free_port());
    let has_broker = has_mosquitto();
    let server = has_broker.then(|| broker(&folder, mqtt));
    let subscribed = has_broker.then(|| subscribe(mqtt));
    let broker_address = format!("mqtt://127.0.0.1:{mqtt}/home");
    let more: &[&str] = if has_broker { &["--mqtt", &broker_address] } else { &[] };
    let run = Run::with(Folder::new(), &[&sources[..], &arguments, more].concat(), true);
    let mut appeared = BTreeMap::new();
    while appeared.len() < 2 {
        let event = events.recv_timeout(PATIENCE).expect("an event");
        appeared.insert(event["source"].to_string(), event["event"].to_string());
        while run.lines.as_ref().is_some_and(|lines| lines.try_recv().is_ok()) {}
    }
    assert_eq!(appeared.keys().collect::<Vec<_>>(), ["\"door\"", "\"yard\""]);
    if let Some((_subscriber, messages)) = &subscribed {
        let state = message(&run, messages, "home/door/state ");
        assert!(state.contains("\"count\":1"), "{state}");
        message(&run, messages, "home/yard/");
    }
    run.ctl(&["quit"]).expect(0);
    assert_eq!(run.end().0.status, Some(0));
    drop(server);
    if !has_broker {
        skip(format!("the topics: {NO_MOSQUITTO}"));
    }
}
