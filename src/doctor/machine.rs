//! Board, kernel, CPU, clocks, temperatures, memory.

use crate::doctor::{Check, Root};
use crate::platform::sensors::{Clock, Reading, Sensors};
use crate::platform::thermal;
use faceptor_nn::cpu::Kernel;

/// CPU features that kernels of this program ask for.
const FEATURES: [&str; 9] = ["avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "asimd", "neon", "asimddp", "i8mm"];
/// Below this the program and its network do not fit beside a camera's buffers.
const LEAST_MEMORY_MIB: u64 = 64;
const AMPLE_MEMORY_MIB: u64 = 256;

pub fn checks(root: &Root) -> Vec<Check> {
    let reading = Sensors::below(&root.path("sys")).read();
    vec![board(root), kernel(root), cpu(root), kernels(), governor(&reading), heat(&reading), memory(root)]
}

fn board(root: &Root) -> Check {
    let names = ["proc/device-tree/model", "sys/class/dmi/id/product_name"];
    let name = names.iter().find_map(|name| root.text(name)).filter(|name| !name.is_empty());
    Check::ok("board", name.unwrap_or_else(|| "without a name".to_owned()))
}

fn kernel(root: &Root) -> Check {
    let release = root.text("proc/sys/kernel/osrelease").unwrap_or_else(|| "of unknown release".to_owned());
    let version = root.text("proc/version").unwrap_or_default();
    let realtime = root.text("sys/kernel/realtime").as_deref() == Some("1") || version.contains("PREEMPT_RT");
    match realtime {
        true => Check::ok("kernel", format!("Linux {release}, PREEMPT_RT")),
        false => Check::warn(
            "kernel",
            format!("Linux {release}, not PREEMPT_RT"),
            "under load wake-ups are not bounded; a real-time kernel bounds them (Debian: linux-image-rt-arm64)",
        ),
    }
}

fn cpu(root: &Root) -> Check {
    let info = root.text("proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let lines = info.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim())
    };
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let name = value("model name").or(value("Hardware")).unwrap_or("CPU");
    let flags: Vec<&str> = value("flags").or(value("Features")).unwrap_or("").split_whitespace().collect();
    let known: Vec<&str> = FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect();
    Check::ok(
        "cpu",
        format!("{count} x {name}: {}", if known.is_empty() { "plain".to_owned() } else { known.join(" ") }),
    )
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
            "this CPU has what none of the fast kernels needs: expect several times their latency",
        ),
        Ok(kernel) => Check::ok("kernels", found(kernel.name())),
    }
}

fn governor(reading: &Reading) -> Check {
    if reading.clocks.is_empty() {
        return Check::ok("clocks", "not governed by the kernel (fixed, or a virtual machine)");
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
        let advice = "clocks rise only after the load has come; steady latency: `echo performance | sudo tee \
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
    let advice = "cool it (heat sink, fan, air), or give it less to do: fewer tasks, fewer frames";
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

fn memory(root: &Root) -> Check {
    let info = root.text("proc/meminfo").unwrap_or_default();
    let mib = |key: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok()).map(|kib| kib / 1024)
    };
    let Some(available) = mib("MemAvailable") else {
        return Check::warn("memory", "unknown: /proc/meminfo does not say", "mount /proc");
    };
    let found = format!("{available} MiB available of {}", mib("MemTotal").unwrap_or(available));
    match available {
        0..LEAST_MEMORY_MIB => Check::fail("memory", found, format!("free {LEAST_MEMORY_MIB} MiB at least")),
        LEAST_MEMORY_MIB..AMPLE_MEMORY_MIB => {
            Check::warn("memory", found, "end other programs: a full memory makes every page late")
        }
        _ => Check::ok("memory", found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::doctor::tests::Tree;

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
            ("proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd evtstrm asimddp\n\nprocessor\t: 1\n"),
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
    fn a_board_as_it_comes() {
        let checks = checks(&pi().root());
        assert_eq!(state(&checks, "board"), (State::Ok, "Raspberry Pi 4 Model B Rev 1.4".to_owned()));
        assert_eq!(state(&checks, "kernel"), (State::Warn, "Linux 6.1.0-rpi, not PREEMPT_RT".to_owned()));
        assert_eq!(state(&checks, "cpu"), (State::Ok, "2 x CPU: asimd asimddp".to_owned()));
        assert_eq!(state(&checks, "clocks"), (State::Warn, "CPUs 0 1: ondemand, 600 MHz of 1500".to_owned()));
        let heat = "1 zones, hottest cpu-thermal at 50 C, slows down at 80 C".to_owned();
        assert_eq!(state(&checks, "heat"), (State::Ok, heat));
        assert_eq!(state(&checks, "memory"), (State::Ok, "2929 MiB available of 3906".to_owned()));
    }

    #[test]
    fn a_board_that_was_set_up_and_one_in_trouble() {
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
    fn a_container_that_shows_nothing_is_no_error() {
        let checks = checks(&Tree::new(&[]).root());
        assert_eq!(state(&checks, "memory").0, State::Warn);
        assert_eq!(state(&checks, "heat"), (State::Ok, "no thermal zones".to_owned()));
        assert_eq!(state(&checks, "clocks").0, State::Ok);
        assert!(checks.iter().all(|check| check.state != State::Fail), "{checks:?}");
    }
}
