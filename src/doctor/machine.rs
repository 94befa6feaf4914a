//! Checks the board, its kernel, CPU, compute kernels, clocks, temperatures and memory.

use crate::doctor::check::{Check, Root};
use crate::platform::machine_facts::MachineFacts;
use crate::platform::sensors::{Clock, Reading, Sensors};
use crate::platform::thermal;
use faceptor_nn::cpu::Kernel;

/// Available memory that the program, its network and the buffers of a camera need.
const LEAST_MEMORY_MIB: u64 = 64;
/// Available memory below which the kernel may have to write pages to disk.
const AMPLE_MEMORY_MIB: u64 = 256;

pub(crate) fn checks(root: &Root) -> Vec<Check> {
    let facts = MachineFacts::read(root.folder());
    let reading = Sensors::below(&root.path("sys")).read();
    vec![board(&facts), kernel(&facts), cpu(&facts), kernels(), clocks(&reading), heat(&reading), memory(&facts)]
}

fn board(facts: &MachineFacts) -> Check {
    Check::ok("board", facts.model.as_deref().unwrap_or("unknown"))
}

fn kernel(facts: &MachineFacts) -> Check {
    let release = facts.kernel.as_deref().unwrap_or("of unknown release");
    match facts.realtime_kernel {
        true => Check::ok("kernel", format!("Linux {release}, PREEMPT_RT")),
        false => Check::warn(
            "kernel",
            format!("Linux {release}, not PREEMPT_RT"),
            "wake-up latency is not bounded under load; a real-time kernel bounds it (Debian: linux-image-rt-arm64)",
        ),
    }
}

fn cpu(facts: &MachineFacts) -> Check {
    let features = match facts.cpu_features.is_empty() {
        true => "none of the features that the compute kernels use".to_owned(),
        false => facts.cpu_features.join(" "),
    };
    Check::ok("cpu", format!("{} x {}: {features}", facts.listed_cpus, facts.cpu))
}

fn kernels() -> Check {
    let usable: Vec<&str> = Kernel::available().map(Kernel::name).collect();
    let fastest = usable.last().copied().unwrap_or("none");
    let found = |chosen: &str| format!("{chosen} chosen of {}", usable.join(", "));
    let advice = |what: &str| format!("{what} {}", faceptor_nn::cpu::OVERRIDE);
    match Kernel::choose() {
        Err(reason) => Check::fail("kernels", reason.to_string(), advice("unset")),
        Ok(kernel) if kernel.name() != fastest => {
            Check::warn("kernels", found(kernel.name()), advice(&format!("{fastest} is faster: unset")))
        }
        Ok(Kernel::SCALAR) if Kernel::known_names().nth(1).is_some() => Check::warn(
            "kernels",
            found("scalar"),
            "this CPU lacks the instructions of every fast kernel: expect several times their latency",
        ),
        Ok(kernel) => Check::ok("kernels", found(kernel.name())),
    }
}

fn clocks(reading: &Reading) -> Check {
    if reading.clocks.is_empty() {
        return Check::ok("clocks", "not controlled by the kernel (fixed, or a virtual machine)");
    }
    let describe =
        |c: &Clock| format!("CPUs {}: {}, {} MHz of {}", c.cpus, c.governor, mhz(c.current_khz), mhz(c.hardware_khz));
    let found = reading.clocks.iter().map(describe).collect::<Vec<_>>().join("; ");
    if let Some(clock) = reading.clocks.iter().find(|clock| clock.limit_khz < clock.hardware_khz) {
        let advice = format!(
            "CPUs {} are limited to {} MHz, by heat, power or a setting: see scaling_max_freq in \
             /sys/devices/system/cpu/cpufreq, on a Jetson nvpmodel and jetson_clocks",
            clock.cpus,
            mhz(clock.limit_khz)
        );
        return Check::warn("clocks", found, advice);
    }
    if reading.clocks.iter().any(|clock| clock.governor != "performance") {
        let advice = "clocks rise only some time after the load; for steady latency: `echo performance | sudo tee \
                      /sys/devices/system/cpu/cpufreq/policy*/scaling_governor`";
        return Check::warn("clocks", found, advice);
    }
    Check::ok("clocks", found)
}

fn mhz(khz: u64) -> u64 {
    khz / 1000
}

fn heat(reading: &Reading) -> Check {
    let hottest = reading.temperatures.iter().max_by(|a, b| a.celsius.total_cmp(&b.celsius));
    let found = hottest.map_or("no thermal zones".to_owned(), |t| {
        let limit = t.passive_celsius.map(|limit| format!(", slows down at {limit:.0} C")).unwrap_or_default();
        format!("{} zones, hottest {} at {:.0} C{limit}", reading.temperatures.len(), t.zone, t.celsius)
    });
    let (level, reasons) = thermal::level_of(reading);
    let advice = "cool the CPU (heat sink, fan, air), or reduce its load: fewer tasks, fewer frames";
    match level {
        0 if reading.firmware_flags.is_some_and(|flags| flags >> 16 != 0) => Check::warn(
            "heat",
            format!("{found}; the firmware has throttled since boot"),
            "see `vcgencmd get_throttled`: a stronger power supply, or better cooling",
        ),
        0 => Check::ok("heat", found),
        level => {
            let found = format!("{found}; {}: {}", thermal::LEVELS[usize::from(level)], reasons.join(", "));
            if level == thermal::MAX_LEVEL {
                Check::fail("heat", found, advice)
            } else {
                Check::warn("heat", found, advice)
            }
        }
    }
}

fn memory(facts: &MachineFacts) -> Check {
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes >> 20);
    let Some(available) = mib(facts.available_memory_bytes) else {
        return Check::warn("memory", "unknown: /proc/meminfo cannot be read", "mount /proc");
    };
    let found = format!("{available} MiB available of {}", mib(facts.memory_bytes).unwrap_or(available));
    match available {
        0..LEAST_MEMORY_MIB => Check::fail("memory", found, format!("free at least {LEAST_MEMORY_MIB} MiB")),
        LEAST_MEMORY_MIB..AMPLE_MEMORY_MIB => {
            Check::warn("memory", found, "end other programs: when memory is short, pages are read from disk again")
        }
        _ => Check::ok("memory", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::State;
    use crate::doctor::check::samples::Tree;

    fn state(checks: &[Check], name: &str) -> (State, String) {
        let check = checks.iter().find(|check| check.check == name).expect("a check of that name");
        assert_eq!(check.advice.is_some(), check.state != State::Ok, "{check:?}");
        (check.state, check.found.clone())
    }

    fn pi() -> Tree {
        Tree::new(&[
            ("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0"),
            ("proc/sys/kernel/osrelease", "6.1.0-rpi\n"),
            ("proc/version", "Linux version 6.1.0-rpi (gcc) #1 SMP PREEMPT\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\nprocessor\t: 1\n",
            ),
            ("proc/meminfo", "MemTotal: 4000000 kB\nMemFree: 10 kB\nMemAvailable: 3000000 kB\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal"),
            ("sys/class/thermal/thermal_zone0/temp", "50000"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical"),
            ("sys/class/thermal/thermal_zone0/trip_point_0_temp", "110000"),
            ("sys/devices/system/cpu/cpufreq/policy0/related_cpus", "0 1"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "ondemand"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "600000"),
            ("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1500000"),
            ("sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1500000"),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "0"),
        ])
    }

    #[test]
    fn board_with_default_settings() {
        let checks = checks(&pi().root());
        assert_eq!(state(&checks, "board"), (State::Ok, "Raspberry Pi 4 Model B Rev 1.4".to_owned()));
        assert_eq!(state(&checks, "kernel"), (State::Warn, "Linux 6.1.0-rpi, not PREEMPT_RT".to_owned()));
        assert_eq!(state(&checks, "cpu"), (State::Ok, "2 x Cortex-A72: asimd asimddp".to_owned()));
        assert_eq!(state(&checks, "clocks"), (State::Warn, "CPUs 0 1: ondemand, 600 MHz of 1500".to_owned()));
        let heat = "1 zones, hottest cpu-thermal at 50 C, slows down at 80 C".to_owned();
        assert_eq!(state(&checks, "heat"), (State::Ok, heat));
        assert_eq!(state(&checks, "memory"), (State::Ok, "2929 MiB available of 3906".to_owned()));
    }

    #[test]
    fn each_setting_changes_its_check() {
        let tree = pi();
        let changes: [(&str, &str, &str, State); 9] = [
            ("kernel", "sys/kernel/realtime", "1\n", State::Ok),
            ("clocks", "sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance", State::Ok),
            ("clocks", "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000", State::Warn),
            ("heat", "sys/devices/platform/soc/soc:firmware/get_throttled", "50000", State::Warn),
            ("heat", "sys/devices/platform/soc/soc:firmware/get_throttled", "50005", State::Warn),
            ("heat", "sys/class/thermal/thermal_zone0/temp", "81000", State::Warn),
            ("heat", "sys/class/thermal/thermal_zone0/temp", "107000", State::Fail),
            ("memory", "proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 100000 kB\n", State::Warn),
            ("memory", "proc/meminfo", "MemTotal: 500000 kB\nMemAvailable: 10000 kB\n", State::Fail),
        ];
        for (name, file, text, expected) in changes {
            tree.set(file, text);
            let found = state(&checks(&tree.root()), name);
            assert_eq!(found.0, expected, "{file} {text:?}: {}", found.1);
        }
    }

    #[test]
    fn container_without_files_does_not_fail() {
        let checks = checks(&Tree::new(&[]).root());
        assert_eq!(state(&checks, "memory").0, State::Warn);
        assert_eq!(state(&checks, "heat"), (State::Ok, "no thermal zones".to_owned()));
        assert_eq!(state(&checks, "clocks").0, State::Ok);
        assert!(checks.iter().all(|check| check.state != State::Fail), "{checks:?}");
    }
}
