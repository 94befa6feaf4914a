//! The page of metrics: OpenMetrics text, or the older text format of Prometheus.

use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use crate::live::run_stats::{RunReport, RunStats};
use crate::outputs::buses::metrics::{FrameMetrics, Histogram, LIMITS_US};
use crate::outputs::sinks::preview::http_server::HttpServer;
use crate::outputs::sinks::preview::request::{HttpRefusal, HttpRequest};
use crate::outputs::sinks::preview::response;
use crate::outputs::sinks::sink::SinkCounters;
use crate::platform::thermal::HeatMonitor;

/// Sources of the numbers.
pub(crate) struct MetricsSources {
    pub frames: Arc<FrameMetrics>,
    pub run_stats: Arc<RunStats>,
    pub heat: Option<Arc<HeatMonitor>>,
    /// Outputs by name.
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
        let report = sources.run_stats.read();
        page.frames(&sources.frames);
        page.run(&report);
        let lost = sources.outputs.iter().map(|(name, counters)| (*name, counters.lost()));
        page.counter("faceptor_output_lost", "Frames that an output lost because it was busy.", "output", lost);
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

    fn frames(&mut self, frames: &FrameMetrics) {
        self.family("faceptor_build_info", "gauge", "The version of the program.");
        self.line(format_args!("faceptor_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        self.plain_counter("faceptor_frames", "Frames whose result was published.", read(&frames.frames));
        self.plain_counter("faceptor_tracks", "Faces that were followed.", read(&frames.tracks));
        self.plain_counter("faceptor_deadline_misses", "Frames that missed their budget.", read(&frames.misses));
        self.plain_counter("faceptor_deferred_tasks", "Tasks put off for lack of time.", read(&frames.deferred));
        self.gauge("faceptor_faces", "Faces in the newest frame.", read(&frames.faces) as f64);
        let name = "faceptor_latency_seconds";
        self.family(name, "histogram", "Time from the capture of a frame to its publication.");
        self.histogram(name, "", &frames.latency);
        let name = "faceptor_stage_seconds";
        self.family(name, "histogram", "Time of a stage of a frame.");
        for (stage, histogram) in
            [("find", &frames.find), ("align", &frames.align), ("encode", &frames.encode), ("decode", &frames.decode)]
        {
            self.histogram(name, &format!("stage=\"{stage}\","), histogram);
        }
    }

    fn run(&mut self, report: &RunReport) {
        let counters = &report.counters;
        let source = &counters.source;
        let lost = [
            ("never_arrived", source.sequence_gaps),
            ("stale", source.stale_dropped),
            ("unreadable", counters.bad_frames.max(source.decode_errors)),
            ("overload", counters.skipped_frames),
            ("unpublished", counters.dropped_results),
        ];
        self.counter("faceptor_frames_lost", "Frames that were lost, by reason.", "reason", lost.into_iter());
        let events = [
            ("timeout", source.timeouts),
            ("lost", source.lost),
            ("reopened", source.reopened),
            ("io_error", source.io_errors),
        ];
        self.counter("faceptor_source_events", "Failures of the source.", "event", events.into_iter());
        self.plain_counter("faceptor_late", "Results published after their time.", report.late);
        self.gauge("faceptor_degradation_level", "Work that is shed: 0 none to 5.", f64::from(counters.level));
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

    fn plain_counter(&mut self, name: &str, help: &str, value: u64) {
        self.counter_family(name, help);
        self.line(format_args!("{name}_total {value}"));
    }

    fn counter<'a>(&mut self, name: &str, help: &str, label: &str, values: impl Iterator<Item = (&'a str, u64)>) {
        self.counter_family(name, help);
        for (value, count) in values {
            self.line(format_args!("{name}_total{{{label}=\"{value}\"}} {count}"));
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
        MetricsSources {
            frames: Arc::default(),
            run_stats: Arc::default(),
            heat: None,
            outputs: vec![("preview", Arc::default())],
        }
    }

    #[test]
    fn each_sample_belongs_to_the_family_before_it() {
        for format in [Format::OpenMetrics, Format::Prometheus] {
            let page = Page::of(&sources(), format);
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
            assert_eq!(page.ends_with("# EOF\n"), format == Format::OpenMetrics);
            assert!(page.contains("faceptor_stage_seconds_bucket{stage=\"find\",le=\"0.033333\"} 0\n"), "{page}");
            assert!(page.contains("faceptor_output_lost_total{output=\"preview\"} 0\n"));
        }
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
