//! Lists a camera's modes: pixel formats, frame sizes and frame rates, as its driver reports them.

use v4l::FourCC;

/// Time from frame to frame in seconds, a fraction as in V4L2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub numerator: u32,
    pub denominator: u32,
}

impl Interval {
    /// Converts a rate in frames per second, to a thousandth of a frame.
    pub(crate) fn from_fps(fps: f64) -> Interval {
        if fps.fract() == 0.0 {
            return Interval { numerator: 1, denominator: fps as u32 };
        }
        Interval { numerator: 1000, denominator: (fps * 1000.0).round() as u32 }
    }

    /// Returns the rate, frames per second.
    pub(crate) fn fps(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator.max(1))
    }

    pub(crate) fn period_us(self) -> u64 {
        u64::from(self.numerator) * 1_000_000 / u64::from(self.denominator.max(1))
    }
}

/// One entry of the driver's list of formats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FormatEntry {
    pub fourcc: FourCC,
    pub description: String,
    /// True when a library converts the frames from another format in software.
    pub emulated: bool,
}

/// Width and height in pixels that a format has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    Discrete(Vec<[u32; 2]>),
    Range {
        min: [u32; 2],
        max: [u32; 2],
        step: [u32; 2],
    },
    /// The driver does not list them.
    Unknown,
}

impl Sizes {
    /// Returns the sizes to consider for `wanted`: every discrete one; of a range the nearest, smallest and largest.
    pub(crate) fn near(&self, wanted: [u32; 2]) -> Vec<[u32; 2]> {
        match self {
            Sizes::Discrete(sizes) => sizes.clone(),
            Sizes::Range { min, max, step } => {
                let nearest = |i: usize| {
                    let step = step[i].max(1);
                    let steps = (wanted[i].clamp(min[i], max[i].max(min[i])) - min[i] + step / 2) / step;
                    let size = min[i] + steps * step;
                    if size > max[i] { size.saturating_sub(step).max(min[i]) } else { size }
                };
                let mut sizes = vec![[nearest(0), nearest(1)], *min, *max];
                sizes.dedup();
                sizes
            }
            Sizes::Unknown => vec![wanted],
        }
    }
}

/// Frame intervals that a format has at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rates {
    Discrete(Vec<Interval>),
    Range {
        shortest: Interval,
        longest: Interval,
    },
    /// The driver does not list them.
    Unknown,
}

impl Rates {
    /// Returns the interval to use when `fps` frames per second are wanted and `enough` are acceptable: the highest rate
    /// between the two, else the lowest above `fps`, else the highest below. `None` when the driver lists no rates.
    pub(crate) fn nearest(&self, fps: f64, enough: f64) -> Option<Interval> {
        match self {
            Rates::Discrete(intervals) => {
                let valid = intervals.iter().copied().filter(|i| i.numerator > 0 && i.denominator > 0);
                let rank = |i: &Interval| match i.fps() {
                    f if f >= enough - 0.01 && f <= fps + 0.01 => (2, f),
                    f if f > fps => (1, -f),
                    f => (0, f),
                };
                valid.max_by(|a, b| {
                    let (a, b) = (rank(a), rank(b));
                    a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
                })
            }
            Rates::Range { shortest, longest } => {
                let (high, low) = (shortest.fps(), longest.fps());
                Some(match fps {
                    _ if fps >= high => *shortest,
                    _ if fps <= low => *longest,
                    _ => Interval::from_fps(fps),
                })
            }
            Rates::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_give_the_nearest_size_and_rate() {
        let sizes = Sizes::Range { min: [48, 32], max: [1922, 1080], step: [16, 2] };
        assert_eq!(sizes.near([640, 480])[0], [640, 480]);
        assert_eq!(sizes.near([5000, 10])[0], [1920, 32]);
        assert_eq!(Sizes::Unknown.near([640, 480]), [[640, 480]]);
        assert_eq!(Sizes::Range { min: [8, 8], max: [8, 8], step: [0, 0] }.near([640, 480]), [[8, 8]]);
        let rates = Rates::Range {
            shortest: Interval { numerator: 1, denominator: 60 },
            longest: Interval { numerator: 1, denominator: 10 },
        };
        let fps = |wanted| rates.nearest(wanted, wanted).map(Interval::fps);
        assert_eq!((fps(29.97), fps(100.0), fps(1.0)), (Some(29.97), Some(60.0), Some(10.0)));
        assert_eq!(Rates::Discrete(vec![Interval { numerator: 0, denominator: 0 }]).nearest(30.0, 25.0), None);
    }

    #[test]
    fn intervals_are_seconds() {
        let ntsc = Interval { numerator: 1001, denominator: 30_000 };
        assert_eq!(ntsc.period_us(), 33_366);
        assert_eq!(Interval::from_fps(30.0), Interval { numerator: 1, denominator: 30 });
        assert_eq!(Interval::from_fps(12.5), Interval { numerator: 1000, denominator: 12_500 });
    }
}
