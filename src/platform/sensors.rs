//! Reads temperatures and clocks of the machine from the kernel's files.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Degrees below its critical trip point at which a zone without a passive one is assumed to slow down...
const BELOW_CRITICAL: f32 = 20.0;
/// ...but not above this temperature, at which a Raspberry Pi 4 slows down.
const PASSIVE_AT_MOST: f32 = 80.0;
/// Trip points below this temperature are placeholders (0) or control a fan.
const LEAST_TRIP: f32 = 45.0;
/// Readings outside this range are those of a sensor that is switched off.
const PLAUSIBLE: std::ops::Range<f32> = -60.0..250.0;

/// The files of a machine's sensors, found once at the start.
#[derive(Clone, Debug, Default)]
pub struct Sensors {
    zones: Vec<Zone>,
    policies: Vec<Policy>,
    /// Files that count each CPU's throttling (x86).
    throttle_counts: Vec<PathBuf>,
    /// File with the flags of a Raspberry Pi.
    firmware: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Zone {
    name: String,
    temperature: PathBuf,
    passive: Option<f32>,
    critical: Option<f32>,
}

#[derive(Clone, Debug)]
struct Policy {
    folder: PathBuf,
    cpus: String,
}

/// A thermal zone at one time, in degrees Celsius.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Temperature {
    pub zone: String,
    pub celsius: f32,
    /// The temperature at which the kernel or the firmware begins to slow the CPU down; absent for other zones.
    pub passive_celsius: Option<f32>,
    /// The temperature at which the machine switches itself off.
    pub critical_celsius: Option<f32>,
}

/// The clock of a group of CPUs at one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Clock {
    /// The CPUs as the kernel writes them, for instance `0 1 2 3`.
    pub cpus: String,
    pub governor: String,
    pub current_khz: u64,
    /// The highest clock that the governor may choose now; falls when the kernel slows a hot CPU down.
    pub limit_khz: u64,
    pub hardware_khz: u64,
}

/// All sensors at one time; the lists are empty on a machine without sensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reading {
    pub temperatures: Vec<Temperature>,
    pub clocks: Vec<Clock>,
    /// How often CPUs have throttled since boot.
    pub throttle_count: u64,
    /// A Raspberry Pi's flags; bits 0 to 3: undervoltage, clock capped, throttled, soft temperature limit.
    pub firmware_flags: Option<u32>,
}

impl Sensors {
    /// Finds the sensors of this machine.
    pub fn of_this_machine() -> Sensors {
        Sensors::below(Path::new("/sys"))
    }

    /// Finds the sensors of a folder laid out like `/sys`.
    pub fn below(sys: &Path) -> Sensors {
        let cpus = sys.join("devices/system/cpu");
        let policies = folders(&cpus.join("cpufreq"), "policy");
        let throttled = |folder: PathBuf| folder.join("thermal_throttle/core_throttle_count");
        let firmware = folders(&sys.join("devices/platform"), "soc").into_iter().flat_map(|soc| folders(&soc, "soc"));
        Sensors {
            zones: folders(&sys.join("class/thermal"), "thermal_zone").iter().map(|folder| zone(folder)).collect(),
            policies: policies
                .into_iter()
                .map(|folder| Policy { cpus: text(&folder.join("related_cpus")).unwrap_or_default(), folder })
                .collect(),
            throttle_counts: folders(&cpus, "cpu").into_iter().map(throttled).filter(|file| file.exists()).collect(),
            firmware: firmware.map(|folder| folder.join("get_throttled")).find(|file| file.exists()),
        }
    }

    /// Returns true if there is no sensor.
    pub fn is_empty(&self) -> bool {
        self.zones.is_empty() && self.policies.is_empty() && self.throttle_counts.is_empty() && self.firmware.is_none()
    }

    /// Reads all sensors; a sensor without a valid value is left out.
    pub fn read(&self) -> Reading {
        let firmware = self.firmware.as_deref().and_then(text);
        Reading {
            temperatures: self.zones.iter().filter_map(Zone::read).collect(),
            clocks: self.policies.iter().filter_map(Policy::read).collect(),
            throttle_count: self.throttle_counts.iter().filter_map(|file| number(file)).sum(),
            firmware_flags: firmware.and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()),
        }
    }
}

impl Zone {
    fn read(&self) -> Option<Temperature> {
        Some(Temperature {
            zone: self.name.clone(),
            celsius: celsius(&self.temperature)?,
            passive_celsius: self.passive,
            critical_celsius: self.critical,
        })
    }
}

impl Policy {
    fn read(&self) -> Option<Clock> {
        let khz = |name: &str| number(&self.folder.join(name));
        Some(Clock {
            cpus: self.cpus.clone(),
            governor: text(&self.folder.join("scaling_governor")).unwrap_or_default(),
            current_khz: khz("scaling_cur_freq")?,
            limit_khz: khz("scaling_max_freq")?,
            hardware_khz: khz("cpuinfo_max_freq")?,
        })
    }
}

impl Reading {
    /// Returns the names of the firmware flags that are set now.
    pub fn firmware_troubles(&self) -> Vec<&'static str> {
        let names = ["undervoltage", "clock capped", "throttled", "soft temperature limit"];
        let flags = self.firmware_flags.unwrap_or(0);
        names.into_iter().enumerate().filter(|(bit, _)| flags >> bit & 1 == 1).map(|(_, name)| name).collect()
    }

    /// Returns why times measured between an earlier reading and this one are not valid; `None` if they are.
    pub fn invalid_since(&self, earlier: &Reading) -> Option<String> {
        let lowered = self.clocks.iter().zip(&earlier.clocks).find(|(now, before)| now.limit_khz != before.limit_khz);
        if let Some((now, before)) = lowered {
            let [before, after] = [before.limit_khz, now.limit_khz].map(|khz| khz / 1000);
            return Some(format!("clock limit of CPUs {} went from {before} to {after} MHz", now.cpus));
        }
        if self.throttle_count > earlier.throttle_count {
            return Some(format!("CPUs throttled {} times", self.throttle_count - earlier.throttle_count));
        }
        let troubles = self.firmware_troubles();
        if !troubles.is_empty() {
            return Some(format!("the firmware reports {}", troubles.join(", ")));
        }
        let hot = self.temperatures.iter().find(|t| t.passive_celsius.is_some_and(|limit| t.celsius >= limit));
        hot.map(|t| format!("{} at {:.0} C, where the machine slows down", t.zone, t.celsius))
    }
}

/// Reads a zone's name and its passive and critical trip points.
fn zone(folder: &Path) -> Zone {
    let (mut passive, mut critical) = (None::<f32>, None::<f32>);
    for index in 0..32 {
        let Some(kind) = text(&folder.join(format!("trip_point_{index}_type"))) else { break };
        let Some(at) = celsius(&folder.join(format!("trip_point_{index}_temp"))) else { continue };
        if at < LEAST_TRIP {
            continue;
        }
        match kind.as_str() {
            "passive" | "hot" => passive = Some(passive.map_or(at, |lowest| lowest.min(at))),
            "critical" => critical = Some(at),
            _ => {}
        }
    }
    let assumed = critical.map(|at| (at - BELOW_CRITICAL).min(PASSIVE_AT_MOST));
    let number = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Zone {
        name: text(&folder.join("type")).unwrap_or(number),
        temperature: folder.join("temp"),
        passive: passive.or(assumed),
        critical,
    }
}

/// Returns the folders whose names begin with `prefix`, sorted by number.
fn folders(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let begins = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(begins).collect();
    // thermal_zone10 comes after thermal_zone9.
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    found
}

fn text(file: &Path) -> Option<String> {
    fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
}

fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}

fn celsius(file: &Path) -> Option<f32> {
    let celsius = text(file)?.parse::<i64>().ok()? as f32 / 1000.0;
    PLAUSIBLE.contains(&celsius).then_some(celsius)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use faceptor_test_support::Folder;

    /// A folder like the `/sys` of a board with four CPUs; tests set the values.
    pub(crate) struct Board {
        folder: Folder,
    }

    impl Board {
        pub fn new() -> Board {
            let board = Board { folder: Folder::new() };
            let files = [
                ("class/thermal/thermal_zone0/type", "cpu-thermal"),
                ("class/thermal/thermal_zone0/temp", "45000"),
                ("class/thermal/thermal_zone0/trip_point_0_type", "active"),
                ("class/thermal/thermal_zone0/trip_point_0_temp", "50000"),
                ("class/thermal/thermal_zone0/trip_point_1_type", "passive"),
                ("class/thermal/thermal_zone0/trip_point_1_temp", "75000"),
                ("class/thermal/thermal_zone0/trip_point_2_type", "critical"),
                ("class/thermal/thermal_zone0/trip_point_2_temp", "95000"),
                ("class/thermal/thermal_zone1/type", "off"),
                ("class/thermal/thermal_zone1/temp", "-274000"),
                ("class/thermal/cooling_device0/type", "fan"),
                ("devices/system/cpu/cpufreq/policy0/related_cpus", "0 1 2 3"),
                ("devices/system/cpu/cpufreq/policy0/scaling_governor", "schedutil"),
                ("devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1500000"),
                ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1800000"),
                ("devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq", "1800000"),
                ("devices/platform/soc/soc:firmware/get_throttled", "0"),
            ];
            files.iter().for_each(|(name, text)| board.set(name, text));
            board
        }

        pub fn set(&self, name: &str, text: &str) {
            let file = self.folder.path().join(name);
            fs::create_dir_all(file.parent().expect("it has one")).expect("a folder");
            fs::write(file, format!("{text}\n")).expect("written");
        }

        pub fn heat_to(&self, celsius: i32) {
            self.set("class/thermal/thermal_zone0/temp", &(celsius * 1000).to_string());
        }

        pub fn sensors(&self) -> Sensors {
            Sensors::below(self.folder.path())
        }
    }

    #[test]
    fn reads_the_sensors_of_a_board() {
        let board = Board::new();
        let reading = board.sensors().read();
        let expected = Temperature {
            zone: "cpu-thermal".to_owned(),
            celsius: 45.0,
            passive_celsius: Some(75.0),
            critical_celsius: Some(95.0),
        };
        assert_eq!(reading.temperatures, [expected], "the zone that is switched off is left out");
        let clock = &reading.clocks[0];
        assert_eq!((clock.cpus.as_str(), clock.governor.as_str()), ("0 1 2 3", "schedutil"));
        assert_eq!((clock.current_khz, clock.limit_khz, clock.hardware_khz), (1_500_000, 1_800_000, 1_800_000));
        assert_eq!((reading.throttle_count, reading.firmware_flags), (0, Some(0)));
    }

    #[test]
    fn assumes_a_passive_trip_point_below_the_critical_one() {
        let board = Board::new();
        for (critical, passive) in [("110000", 80.0), ("90000", 70.0)] {
            board.set("class/thermal/thermal_zone2/type", "soc");
            board.set("class/thermal/thermal_zone2/temp", "40000");
            board.set("class/thermal/thermal_zone2/trip_point_0_type", "critical");
            board.set("class/thermal/thermal_zone2/trip_point_0_temp", critical);
            let reading = board.sensors().read();
            assert_eq!(reading.temperatures[1].passive_celsius, Some(passive));
        }
    }

    #[test]
    fn reads_nothing_on_a_machine_without_sensors() {
        let folder = Folder::new();
        let sensors = Sensors::below(folder.path());
        assert!(sensors.is_empty());
        assert_eq!(sensors.read(), Reading::default());
        assert_eq!(Reading::default().invalid_since(&Reading::default()), None);
    }

    #[test]
    fn leaves_out_sensors_without_a_valid_value() {
        let board = Board::new();
        board.set("class/thermal/thermal_zone0/temp", "warm");
        board.set("devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "<unknown>");
        board.set("devices/platform/soc/soc:firmware/get_throttled", "?");
        let reading = board.sensors().read();
        assert!(reading.temperatures.is_empty() && reading.clocks.is_empty() && reading.firmware_flags.is_none());
    }

    #[test]
    fn times_are_invalid_if_clocks_moved_or_the_machine_throttled() {
        let changes: [(&str, &str, &str); 4] = [
            ("devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1200000", "from 1800 to 1200 MHz"),
            ("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "7", "throttled 3 times"),
            ("devices/platform/soc/soc:firmware/get_throttled", "50005", "undervoltage, throttled"),
            ("class/thermal/thermal_zone0/temp", "76000", "cpu-thermal at 76 C"),
        ];
        for (file, text, reason) in changes {
            let board = Board::new();
            board.set("devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "4");
            let sensors = board.sensors();
            let before = sensors.read();
            assert_eq!(sensors.read().invalid_since(&before), None);
            board.set(file, text);
            let found = sensors.read().invalid_since(&before).expect("invalid");
            assert!(found.contains(reason), "{found}");
        }
    }
}
