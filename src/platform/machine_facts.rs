//! Facts about the machine that do not change while it runs, read from the kernel's files.

use std::fs;
use std::path::Path;

/// Instructions that the compute kernels use, as `/proc/cpuinfo` names them: first x86, then arm.
const CPU_FEATURES: [&str; 16] = [
    "sse4_2",
    "avx2",
    "fma",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "fphp",
    "asimdhp",
    "asimddp",
    "i8mm",
    "sve",
];

/// Names of arm CPUs by implementer and part; the kernel knows only the numbers.
const ARM_CPUS: [(&str, &str, &str); 8] = [
    ("0x41", "0xd03", "Cortex-A53"),
    ("0x41", "0xd05", "Cortex-A55"),
    ("0x41", "0xd07", "Cortex-A57"),
    ("0x41", "0xd08", "Cortex-A72"),
    ("0x41", "0xd0b", "Cortex-A76"),
    ("0x41", "0xd42", "Cortex-A78AE"),
    ("0x41", "0xd0c", "Neoverse-N1"),
    ("0x4e", "0x004", "NVIDIA Carmel"),
];

/// The machine, as the kernel describes it.
#[derive(Clone, Debug)]
pub(crate) struct MachineFacts {
    /// Name of the board or computer.
    pub model: Option<String>,
    /// Name of the CPU; several kinds are joined by ` + `.
    pub cpu: String,
    /// Number of CPUs in `/proc/cpuinfo`.
    pub listed_cpus: usize,
    /// The CPU features that the compute kernels use.
    pub cpu_features: Vec<String>,
    /// Release of the running kernel.
    pub kernel: Option<String>,
    /// True for a kernel with PREEMPT_RT.
    pub realtime_kernel: bool,
    pub virtual_machine: bool,
    pub memory_bytes: Option<u64>,
    pub available_memory_bytes: Option<u64>,
}

impl MachineFacts {
    /// Reads the files below `root`: `/`, or another folder in tests. Files that are missing are no error.
    pub(crate) fn read(root: &Path) -> MachineFacts {
        let text = |name: &str| text(&root.join(name));
        let cpuinfo = text("proc/cpuinfo").unwrap_or_default();
        let meminfo = text("proc/meminfo").unwrap_or_default();
        let version = text("proc/version").unwrap_or_default();
        let emulated = |name: &str| text(name).is_some_and(|name| name.contains("virt") || name.contains("QEMU"));
        let hypervisor =
            field(&cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|f| f == "hypervisor"));
        MachineFacts {
            model: text("proc/device-tree/model").or_else(|| text("sys/class/dmi/id/product_name")),
            cpu: cpu_name(&cpuinfo),
            listed_cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            cpu_features: cpu_features(&cpuinfo),
            kernel: text("proc/sys/kernel/osrelease"),
            realtime_kernel: text("sys/kernel/realtime").as_deref() == Some("1") || version.contains("PREEMPT_RT"),
            virtual_machine: hypervisor
                || emulated("proc/device-tree/compatible")
                || emulated("sys/class/dmi/id/sys_vendor"),
            memory_bytes: memory(&meminfo, "MemTotal:"),
            available_memory_bytes: memory(&meminfo, "MemAvailable:"),
        }
    }
}

/// Reads a small file without white space and zeros at its ends; `None` when it is empty or cannot be read.
pub(crate) fn text(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads the value of a line of `/proc/meminfo` or `/proc/self/status`, bytes.
pub(crate) fn memory(lines: &str, key: &str) -> Option<u64> {
    let line = lines.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Returns the value of the first line of `/proc/cpuinfo` with this key.
fn field<'a>(cpuinfo: &'a str, key: &str) -> Option<&'a str> {
    fields(cpuinfo, key).next()
}

fn fields<'a>(cpuinfo: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    lines.filter(move |(name, _)| name.trim() == key).map(|(_, value)| value.trim())
}

fn cpu_name(cpuinfo: &str) -> String {
    if let Some(name) = field(cpuinfo, "model name") {
        return name.to_owned();
    }
    let mut names: Vec<String> = Vec::new();
    for (implementer, part) in fields(cpuinfo, "CPU implementer").zip(fields(cpuinfo, "CPU part")) {
        let known = ARM_CPUS.iter().find(|(i, p, _)| (*i, *p) == (implementer, part));
        let name =
            known.map_or_else(|| format!("implementer {implementer} part {part}"), |(.., name)| name.to_string());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.is_empty() {
        true => field(cpuinfo, "Hardware").unwrap_or("unknown CPU").to_owned(),
        false => names.join(" + "),
    }
}

fn cpu_features(cpuinfo: &str) -> Vec<String> {
    let flags = field(cpuinfo, "flags").or_else(|| field(cpuinfo, "Features")).unwrap_or_default();
    let flags: Vec<&str> = flags.split_whitespace().collect();
    CPU_FEATURES.iter().filter(|feature| flags.contains(feature)).map(|feature| feature.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm_cpus_have_names() {
        let info = "processor : 0\nFeatures : fp asimd asimddp\nCPU implementer : 0x41\nCPU part : 0xd0b\n\n\
                    processor : 1\nCPU implementer : 0x41\nCPU part : 0xd0b\n\nCPU implementer : 0x41\nCPU part : 0xfff\n";
        assert_eq!(cpu_name(info), "Cortex-A76 + implementer 0x41 part 0xfff");
        assert_eq!(cpu_features(info), ["asimd", "asimddp"]);
        assert_eq!(cpu_name("processor : 0\nHardware : BCM2835\n"), "BCM2835");
        assert_eq!(cpu_name(""), "unknown CPU");
    }

    #[test]
    fn this_machine_has_a_kernel_and_memory() {
        let facts = MachineFacts::read(Path::new("/"));
        assert!(facts.kernel.is_some_and(|release| release.contains('.')) && facts.listed_cpus > 0);
        assert!(facts.memory_bytes >= facts.available_memory_bytes && facts.available_memory_bytes.is_some());
    }

    #[test]
    fn missing_files_are_no_error() {
        let facts = MachineFacts::read(Path::new("/no-such-folder"));
        assert_eq!((facts.cpu.as_str(), facts.listed_cpus, facts.memory_bytes), ("unknown CPU", 0, None));
    }
}
