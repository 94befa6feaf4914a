//! The page of metrics: OpenMetrics text, or the older text format of Prometheus.

use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

use crate::live::run_stats::{RunReport, RunStats};
use crate::outputs::buses::metrics::{FrameMetrics, Histogram, LIMITS_US};
use crate::outputs::http::request::{HttpRefusal, HttpRequest};
use crate::outputs::http::response;
use crate::outputs::http::server::HttpServer;
use crate::outputs::sinks::sink::SinkCounters;
use crate::platform::thermal::HeatMonitor;

/// Sources of the numbers.
pub(crate) struct MetricsSources {
    /// The names of the sources, if there are several.
    pub names: Vec<String>,
    /// One for each source.
    pub frames: Vec<Arc<FrameMetrics>>,
    pub run_stats: Vec<Arc<RunStats>>,
    pub heat: Option<Arc<HeatMonitor>>,
    /// Outputs by name; several of a name are those of several sources.
    pub outputs: Vec<(&'static str, Arc<SinkCounters>)>,
}

/// The two text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Prometheus,
}

/// Serves the page at `/metrics`.
///
/// # Errors
/// When the address cannot be used.
pub(crate) fn start(address: SocketAddr, sources: MetricsSources) -> Result<HttpServer> {
    let serve = move |stream: &mut TcpStream, request: &HttpRequest| answer(stream, request, &sources);
    let server = HttpServer::start("metrics", address, serve);
    let server = server.with_context(|| format!("cannot serve the metrics at {address}"))?;
    if !server.address().ip().is_loopback() {
        log::warn!("the metrics at {} can be read by everyone on the network", server.address());
    }
    log::info!("metrics: http://{}/metrics", server.address());
    Ok(server)
}

fn answer(
    stream: &mut TcpStream,
    request: &HttpRequest,
    sources: &MetricsSources,
) -> Result<io::Result<()>, HttpRefusal> {
    let with_body = match request.method.as_str() {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(HttpRefusal::new(405, "only GET and HEAD")),
    };
    if !matches!(request.path.as_str(), "/metrics" | "/") {
        return Err(HttpRefusal::new(404, "the page is /metrics"));
    }
    let wants_open = request.accept.as_deref().is_some_and(|kinds| kinds.contains("application/openmetrics-text"));
    let (format, kind) = match wants_open {
        true => (Format::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        false => (Format::Prometheus, "text/plain; version=0.0.4; charset=utf-8"),
    };
    let page = Page::of(sources, format);
    Ok(response::respond(stream, 200, kind, page.as_bytes(), with_body))
}

/// Writes a page.
struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn of(sources: &MetricsSources, format: Format) -> String {
        let mut page = Page { text: String::with_capacity(16 << 10), format };
        let label = |place: usize| match sources.names.get(place) {
            Some(name) => format!("source=\"{}\",", escaped(name)),
            None => String::new(),
        };
        let frames: Vec<(String, &FrameMetrics)> =
            sources.frames.iter().enumerate().map(|(place, frames)| (label(place), &**frames)).collect();
        page.frames(&frames);
        let reports: Vec<(String, RunReport)> =
            sources.run_stats.iter().enumerate().map(|(place, run_stats)| (label(place), run_stats.read())).collect();
        page.run(&reports);
        page.counter_family("faceptor_output_lost", "Frames that an output lost because it was busy.");
        let mut lost: Vec<(&str, u64)> = Vec::new();
        for (name, counters) in &sources.outputs {
            match lost.iter_mut().find(|(other, _)| other == name) {
                Some((_, sum)) => *sum += counters.lost(),
                None => lost.push((name, counters.lost())),
            }
        }
        for (name, lost) in lost {
            page.line(format_args!("faceptor_output_lost_total{{output=\"{name}\"}} {lost}"));
        }
        if let Some(heat) = &sources.heat {
            let heat = heat.report();
            page.gauge("faceptor_heat_level", "Heat: 0 cool to 3 critical.", f64::from(heat.level));
            page.family("faceptor_temperature_celsius", "gauge", "Temperature of a thermal zone.");
            for zone in &heat.reading.temperatures {
                let label = escaped(&zone.zone);
                page.line(format_args!("faceptor_temperature_celsius{{zone=\"{label}\"}} {:.1}", zone.celsius));
            }
        }
        if format == Format::OpenMetrics {
            page.text.push_str("# EOF\n");
        }
        page.text
    }

    /// Writes the figures of the frames. Labels end with a comma, or are empty.
    fn frames(&mut self, sources: &[(String, &FrameMetrics)]) {
        self.family("faceptor_build_info", "gauge", "The version of the program.");
        self.line(format_args!("faceptor_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        type Count = fn(&FrameMetrics) -> &AtomicU64;
        let counters: [(&str, &str, Count); 4] = [
            ("faceptor_frames", "Frames whose result was published.", |frames| &frames.frames),
            ("faceptor_tracks", "Faces that were followed.", |frames| &frames.tracks),
            ("faceptor_deadline_misses", "Frames that missed their budget.", |frames| &frames.misses),
            ("faceptor_deferred_tasks", "Tasks put off for lack of time.", |frames| &frames.deferred),
        ];
        for (name, help, count) in counters {
            self.counter_family(name, help);
            for (label, frames) in sources {
                self.sample(&format!("{name}_total"), label, count(frames).load(Ordering::Relaxed) as f64);
            }
        }
        self.family("faceptor_faces", "gauge", "Faces in the newest frame.");
        for (label, frames) in sources {
            self.sample("faceptor_faces", label, frames.faces.load(Ordering::Relaxed) as f64);
        }
        let name = "faceptor_latency_seconds";
        self.family(name, "histogram", "Time from the capture of a frame to its publication.");
        for (label, frames) in sources {
            self.histogram(name, label, &frames.latency);
        }
        let name = "faceptor_stage_seconds";
        self.family(name, "histogram", "Time of a stage of a frame.");
        for (label, frames) in sources {
            for (stage, histogram) in [
                ("find", &frames.find),
                ("align", &frames.align),
                ("encode", &frames.encode),
                ("decode", &frames.decode),
            ] {
                self.histogram(name, &format!("{label}stage=\"{stage}\","), histogram);
            }
        }
    }

    /// Writes what the loop and the sources count.
    fn run(&mut self, sources: &[(String, RunReport)]) {
        self.counter_family("faceptor_frames_lost", "Frames that were lost, by reason.");
        for (label, report) in sources {
            let (counters, source) = (&report.counters, &report.counters.source);
            for (reason, count) in [
                ("never_arrived", source.sequence_gaps),
                ("stale", source.stale_dropped),
                ("unreadable", counters.bad_frames.max(source.decode_errors)),
                ("overload", counters.skipped_frames),
                ("unpublished", counters.dropped_results),
            ] {
                self.sample("faceptor_frames_lost_total", &format!("{label}reason=\"{reason}\","), count as f64);
            }
        }
        self.counter_family("faceptor_source_events", "Failures of the source.");
        for (label, report) in sources {
            let source = &report.counters.source;
            for (event, count) in [
                ("timeout", source.timeouts),
                ("lost", source.lost),
                ("reopened", source.reopened),
                ("io_error", source.io_errors),
            ] {
                self.sample("faceptor_source_events_total", &format!("{label}event=\"{event}\","), count as f64);
            }
        }
        self.counter_family("faceptor_late", "Results published after their time.");
        for (label, report) in sources {
            self.sample("faceptor_late_total", label, report.late as f64);
        }
        self.family("faceptor_degradation_level", "gauge", "Work that is shed: 0 none to 5.");
        for (label, report) in sources {
            self.sample("faceptor_degradation_level", label, f64::from(report.counters.level));
        }
    }

    /// Writes a sample. Labels end with a comma, or are empty.
    fn sample(&mut self, name: &str, labels: &str, value: f64) {
        match labels.trim_end_matches(',') {
            "" => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{labels}}} {value}")),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    /// Begins a family. The older format names a counter with its ending.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn counter_family(&mut self, name: &str, help: &str) {
        match self.format {
            Format::OpenMetrics => self.family(name, "counter", help),
            Format::Prometheus => self.family(&format!("{name}_total"), "counter", help),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.line(format_args!("{name} {value}"));
    }

    /// Writes a histogram. `labels` ends with a comma, or is empty.
    fn histogram(&mut self, name: &str, labels: &str, histogram: &Histogram) {
        let (counts, sum_us) = histogram.read();
        for (limit, count) in LIMITS_US.iter().zip(counts) {
            let seconds = *limit as f64 / 1e6;
            self.line(format_args!("{name}_bucket{{{labels}le=\"{seconds:?}\"}} {count}"));
        }
        let all = counts[LIMITS_US.len()];
        self.line(format_args!("{name}_bucket{{{labels}le=\"+Inf\"}} {all}"));
        let labels = labels.trim_end_matches(',');
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        self.line(format_args!("{name}_sum{labels} {:.6}", sum_us as f64 / 1e6));
        self.line(format_args!("{name}_count{labels} {all}"));
    }
}

/// Escapes the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> MetricsSources {
        let run_stats = vec![Arc::default()];
        MetricsSources {
            names: Vec::new(),
            frames: vec![Arc::default()],
            run_stats,
            heat: None,
            outputs: vec![("preview", Arc::default())],
        }
    }

    fn two_sources() -> MetricsSources {
        let names = ["door", "yard"].map(str::to_owned).to_vec();
        let two = || vec![Arc::default(), Arc::default()];
        let run_stats = vec![Arc::default(), Arc::default()];
        let outputs = vec![("mqtt", Arc::default()), ("mqtt", Arc::default())];
        MetricsSources { names, frames: two(), run_stats, heat: None, outputs }
    }

    #[test]
    fn each_sample_belongs_to_the_family_before_it() {
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let several = Page::of(&two_sources(), format);
            for sample in ["faceptor_frames_total{source=\"yard\"} 0", "faceptor_late_total{source=\"door\"} 0"] {
                assert!(several.contains(&format!("{sample}\n")), "{several}");
            }
            assert!(several.contains("faceptor_stage_seconds_count{source=\"door\",stage=\"find\"} 0\n"), "{several}");
            assert_eq!(several.matches("faceptor_output_lost_total{output=\"mqtt\"} 0\n").count(), 1);
            check_families(&several);
            let page = Page::of(&sources(), format);
            check_families(&page);
            assert_eq!(page.ends_with("# EOF\n"), format == Format::OpenMetrics);
            assert!(page.contains("faceptor_stage_seconds_bucket{stage=\"find\",le=\"0.033333\"} 0\n"), "{page}");
            assert!(page.contains("faceptor_output_lost_total{output=\"preview\"} 0\n"));
        }
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }

    fn check_families(page: &str) {
        let mut family = "";
        let mut families = std::collections::HashSet::new();
        for line in page.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap_or_default();
                assert!(families.insert(family), "{family} comes twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with(family), "{line} after {family}");
                let value = line.rsplit(' ').next().unwrap_or_default();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
