//! The machine that a measurement ran on, and what disturbed the measurement.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::platform::machine_facts::{self, MachineFacts};
use crate::platform::sensors::{Reading, Sensors};

/// CPUs that other programs may keep busy before a measurement counts as disturbed.
const OTHER_LOAD: f64 = 0.2;
/// Share of the time that the hypervisor may withhold.
const STOLEN: f64 = 0.01;
/// Factor by which the clock of the measuring CPU may vary.
const CLOCK_RANGE: f64 = 1.05;

/// A machine, as the kernel describes it.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The board or computer.
    pub model: Option<String>,
    pub cpu: String,
    pub cpus: usize,
    pub arch: &'static str,
    /// Instructions that matter to the kernels.
    pub cpu_features: Vec<String>,
    pub kernel: String,
    /// A kernel with PREEMPT_RT.
    pub realtime_kernel: bool,
    /// A hypervisor was found: times depend on its other guests too.
    pub virtual_machine: bool,
    pub libc: Option<String>,
    pub memory_bytes: Option<u64>,
    /// Governor of the first CPU; `None` if the kernel does not control the clock.
    pub governor: Option<String>,
    /// Clock of the measuring CPU during the measurement.
    pub clock_khz: Option<ClockRange>,
    /// Load averages before and after.
    pub load_average: [Option<String>; 2],
    /// CPUs that other programs kept busy during the measurement; 1.0 is one of them, all the time.
    pub other_load_cpus: Option<f64>,
    /// Sensors before the measurement.
    pub before: Reading,
    /// Sensors after the measurement.
    pub after: Reading,
}

/// The lowest and highest clock seen, in kHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClockRange {
    pub min: u64,
    pub max: u64,
}

/// Monitors the machine from the beginning of a measurement to its end.
pub struct MachineMonitor {
    sensors: Sensors,
    machine: Machine,
    start: CpuTimes,
}

impl MachineMonitor {
    /// Begins a measurement.
    pub fn start() -> MachineMonitor {
        let sensors = Sensors::of_this_machine();
        let machine = Machine::of_this(sensors.read());
        MachineMonitor { sensors, machine, start: CpuTimes::now() }
    }

    /// Begins the measurement again and forgets what was seen before.
    pub fn restart(&mut self) {
        self.machine.before = self.sensors.read();
        self.machine.clock_khz = None;
        self.start = CpuTimes::now();
    }

    /// Notes the clock of the calling CPU. Reads a file, so it is not called within a measured stage.
    pub fn sample(&mut self) {
        // SAFETY: takes nothing and only returns a number.
        let cpu = unsafe { libc::sched_getcpu() };
        let Some(khz) = number(&format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq")) else { return };
        let seen = self.machine.clock_khz.unwrap_or(ClockRange { min: khz, max: khz });
        self.machine.clock_khz = Some(ClockRange { min: seen.min.min(khz), max: seen.max.max(khz) });
    }

    /// Ends the measurement, and returns the machine with what disturbed the measurement.
    pub fn finish(mut self) -> (Machine, Vec<String>) {
        let passed = CpuTimes::now().since(&self.start);
        self.machine.after = self.sensors.read();
        self.machine.load_average[1] = load_average();
        self.machine.other_load_cpus = passed.other_cpus();
        let mut troubles = passed.troubles();
        if let Some(ClockRange { min, max }) = self.machine.clock_khz
            && max as f64 > min as f64 * CLOCK_RANGE
        {
            troubles.push(format!("the clock moved between {} and {} MHz", min / 1000, max / 1000));
        }
        troubles.extend(self.machine.after.invalid_since(&self.machine.before));
        (self.machine, troubles)
    }
}

impl Machine {
    fn of_this(before: Reading) -> Machine {
        let facts = MachineFacts::read(Path::new("/"));
        Machine {
            model: facts.model,
            cpu: facts.cpu,
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            arch: std::env::consts::ARCH,
            cpu_features: facts.cpu_features,
            realtime_kernel: facts.realtime_kernel,
            kernel: facts.kernel.unwrap_or_else(|| "unknown".to_owned()),
            virtual_machine: facts.virtual_machine,
            libc: libc_version(),
            memory_bytes: facts.memory_bytes,
            governor: text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            clock_khz: None,
            load_average: [load_average(), None],
            other_load_cpus: None,
            after: before.clone(),
            before,
        }
    }

    /// Returns one line for people.
    pub fn describe(&self) -> String {
        let model = self.model.as_ref().map(|model| format!("{model}: ")).unwrap_or_default();
        let governor = self.governor.as_ref().map(|governor| format!(", governor {governor}")).unwrap_or_default();
        let place = if self.virtual_machine { ", virtual machine" } else { "" };
        format!("{model}{} ({} CPUs, {}), Linux {}{place}{governor}", self.cpu, self.cpus, self.arch, self.kernel)
    }
}

/// CPU time of the machine and of this process, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    stolen: u64,
    total: u64,
    own: u64,
    /// Number of CPUs: together they count this many times the wall clock.
    cpus: u64,
}

impl CpuTimes {
    fn now() -> CpuTimes {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        CpuTimes { own: own_ticks(&own).unwrap_or(0), ..CpuTimes::of(&stat) }
    }

    /// Reads the text of `/proc/stat`.
    fn of(stat: &str) -> CpuTimes {
        let mut lines = stat.lines();
        let all = lines.next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<u64> = all.split_whitespace().skip(1).take(8).filter_map(|t| t.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, soft, stolen] = ticks[..] else { return CpuTimes::default() };
        let busy = user + nice + system + irq + soft;
        let cpus = lines.take_while(|line| line.starts_with("cpu")).count() as u64;
        CpuTimes { busy, stolen, total: busy + idle + wait + stolen, own: 0, cpus }
    }

    fn since(&self, earlier: &CpuTimes) -> CpuTimes {
        CpuTimes {
            busy: self.busy.saturating_sub(earlier.busy),
            stolen: self.stolen.saturating_sub(earlier.stolen),
            total: self.total.saturating_sub(earlier.total),
            own: self.own.saturating_sub(earlier.own),
            cpus: self.cpus,
        }
    }

    /// Returns how many CPUs other programs kept busy; `None` if too little time has passed.
    fn other_cpus(&self) -> Option<f64> {
        // Ticks are 10 ms: a twentieth of a second is too coarse.
        let wall = self.total.checked_div(self.cpus).filter(|&ticks| ticks >= 20)?;
        Some((self.busy.saturating_sub(self.own) as f64 / wall as f64 * 100.0).round() / 100.0)
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = Vec::new();
        let Some(other) = self.other_cpus() else { return troubles };
        if other > OTHER_LOAD {
            troubles.push(format!("other programs kept {other:.2} CPUs busy"));
        }
        let stolen = self.stolen as f64 / self.total.max(1) as f64;
        if stolen > STOLEN {
            troubles.push(format!("the hypervisor withheld {:.1} % of the time", stolen * 100.0));
        }
        troubles
    }
}

/// Returns the user and system ticks of a process from its `stat` file. The process's name may hold anything, so the
/// fields are counted from the bracket after it.
fn own_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn text(path: &str) -> Option<String> {
    machine_facts::text(Path::new(path))
}

fn number(path: &str) -> Option<u64> {
    text(path)?.parse().ok()
}

fn load_average() -> Option<String> {
    text("/proc/loadavg").map(|load| load.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}

#[cfg(target_env = "gnu")]
fn libc_version() -> Option<String> {
    // SAFETY: glibc returns a constant text that ends with zero.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    Some(format!("glibc {}", version.to_string_lossy()))
}

#[cfg(not(target_env = "gnu"))]
fn libc_version() -> Option<String> {
    None
}

/// Returns the resident memory of this process in bytes: now, and the most so far.
pub fn resident_bytes() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some((machine_facts::memory(&status, "VmRSS:")?, machine_facts::memory(&status, "VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 20 30 800 50 0 10 40 0 0\ncpu0 50 10 15 400 25 0 5 20 0 0\n\
                        cpu1 50 10 15 400 25 0 5 20 0 0\nintr 1 2 3\n";

    #[test]
    fn separates_the_cpu_time_of_other_programs() {
        let before = CpuTimes { own: 60, ..CpuTimes::of(STAT) };
        assert_eq!(before, CpuTimes { busy: 160, stolen: 40, total: 1050, own: 60, cpus: 2 });
        // 2000 ticks of two CPUs later: 10 s. We took 900 of 1000 busy ticks, others a tenth of a CPU.
        let after = CpuTimes { busy: 1160, stolen: 40, total: 3050, own: 960, cpus: 2 };
        assert_eq!(after.since(&before).other_cpus(), Some(0.1));
        assert!(after.since(&before).troubles().is_empty());
        let disturbed = CpuTimes { busy: 1460, stolen: 90, ..after }.since(&before).troubles();
        assert_eq!(disturbed, ["other programs kept 0.40 CPUs busy", "the hypervisor withheld 2.5 % of the time"]);
        assert_eq!(CpuTimes::of("nonsense"), CpuTimes::default());
        assert_eq!(CpuTimes::default().other_cpus(), None);
    }

    #[test]
    fn finds_the_ticks_of_a_process_with_an_odd_name() {
        let stat = "7 (a) b) c) R 1 7 7 0 -1 4194304 100 0 0 0 11 22 0 0 20 0 1 0 100 1000 10";
        assert_eq!(own_ticks(stat), Some(33));
        assert_eq!(own_ticks("nothing"), None);
    }

    #[test]
    fn describes_this_machine() {
        let mut watch = MachineMonitor::start();
        watch.sample();
        watch.restart();
        let (machine, _) = watch.finish();
        assert!(machine.kernel.contains('.') && machine.cpus > 0, "{}", machine.describe());
        assert!(resident_bytes().is_some_and(|(now, peak)| now > 0 && peak >= now));
    }
}
