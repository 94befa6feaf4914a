//! Walks over the MCUs of a scan: restart markers, lost parts, and the count of what was really there.

use heapless::Vec as ShortVec;

use super::bits::{Bits, Mark};
use super::frame::{Frame, MAX_COMPONENTS};
use crate::error::{Result, bail, ensure};

/// Most blocks of an MCU (T.81, B.2.3).
const MAX_BLOCKS: usize = 10;
/// So many zero bytes in a row are not the work of an encoder where they decode to coefficients that are not zero.
const ZERO_BYTES: usize = 64;

/// A component of a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanComponent {
    /// Index among the frame's components.
    pub index: usize,
    /// Numbers of its Huffman tables.
    pub dc: usize,
    pub ac: usize,
    /// Blocks of one MCU of this scan.
    across: usize,
    down: usize,
}

/// The scan header (SOS).
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub components: ShortVec<ScanComponent, MAX_COMPONENTS>,
    /// First and last coefficient, in zigzag order.
    pub band: [usize; 2],
    /// Bit position of the scan before over these coefficients (0: there was none) and of this one.
    pub high: u32,
    pub low: u32,
    pub mcus: [usize; 2],
}

impl Scan {
    /// Reads the body of an SOS segment.
    ///
    /// # Errors
    /// When it contradicts the frame.
    pub(crate) fn read(body: &[u8], frame: &Frame) -> Result<Scan> {
        let count = body.first().copied().map_or(0, usize::from);
        let cut = body.len() < 4 + 2 * count;
        ensure!((1..=MAX_COMPONENTS).contains(&count) && !cut, Image, "broken JPEG: a scan header is cut off");
        let mut components: ShortVec<ScanComponent, MAX_COMPONENTS> = ShortVec::new();
        for entry in body[1..].as_chunks::<2>().0.iter().take(count) {
            let [id, tables] = *entry;
            let taken = |index: usize| components.iter().any(|component| component.index == index);
            let found = frame.components.iter().enumerate().position(|(index, c)| c.id == id && !taken(index));
            let Some(index) = found else { bail!(Image, "broken JPEG: a scan of channel {id}, which does not exist") };
            let (across, down) = match count {
                1 => (1, 1),
                _ => (frame.components[index].across, frame.components[index].down),
            };
            let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            let _ = components.push(ScanComponent { index, dc, ac, across, down });
        }
        let blocks: usize = components.iter().map(|component| component.across * component.down).sum();
        ensure!(blocks <= MAX_BLOCKS, Image, "broken JPEG: an MCU of {blocks} blocks");
        let [first, last, bits] = [1, 2, 3].map(|step| body[2 * count + step]);
        let (band, high, low) = if frame.is_progressive {
            ([usize::from(first), usize::from(last)], u32::from(bits >> 4), u32::from(bits & 15))
        } else {
            ([0, 63], 0, 0)
        };
        let [from, to] = band;
        // DC coefficients have scans of their own, and AC coefficients one for each component.
        let good = from <= to && to < 64 && low <= 13 && (high == 0 || high == low + 1);
        let good = good && (!frame.is_progressive || if from == 0 { to == 0 } else { count == 1 });
        ensure!(good, Image, "broken JPEG: a scan of the coefficients {from} to {to}, bits {high} to {low}");
        let mcus = match (count, components.first()) {
            (1, Some(component)) => frame.components[component.index].blocks,
            _ => frame.mcus,
        };
        Ok(Scan { components, band, high, low, mcus })
    }
}

/// A code that does not exist, or a run beyond the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadCode;

/// Decodes the blocks of one kind of scan.
pub(crate) trait BlockCoder {
    /// Begins anew: at the start of the scan and after a restart marker.
    fn reset(&mut self);

    /// Decodes the block at column and row `place` of the scan's component `slot`, whose index in the frame is `index`.
    /// Returns true if the data set a coefficient that is not zero.
    fn block(&mut self, bits: &mut Bits, slot: usize, index: usize, place: [usize; 2]) -> Result<bool, BadCode>;

    /// Takes note that a block cannot be decoded.
    fn lose(&mut self, index: usize, place: [usize; 2]);

    /// Ends a row of MCUs.
    fn end_row(&mut self, row: usize);
}

/// Measured contents of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// MCUs decoded and MCUs that the frame header promises.
    pub read: usize,
    pub total: usize,
    /// Number of restart markers that were missing or in disorder.
    pub disorders: usize,
    /// Most bytes between an MCU and the marker after it, without zeros, which some cameras fill up with.
    pub left: usize,
}

/// The state of a walk.
struct Walk {
    /// True when the next MCU can be decoded: the data before it was sound.
    is_sound: bool,
    /// True when there are no further restart markers.
    has_ended: bool,
    /// Number of the next restart marker.
    expected: u8,
    /// Number of intervals that are missing before the marker that was found.
    missing: u8,
    /// False when the markers' numbers are not in order, so that no missing interval can be concluded from them.
    is_numbered: bool,
    disorders: usize,
    left: usize,
}

impl Walk {
    /// Goes to the restart marker at the start of an interval.
    fn restart(&mut self, bits: &mut Bits) {
        let number = self.expected;
        self.expected = (self.expected + 1) & 7;
        if self.missing > 0 {
            self.missing -= 1;
            self.is_sound = self.missing == 0;
            if self.is_sound {
                bits.pass_marker();
            }
            return;
        }
        if self.has_ended {
            return;
        }
        if self.is_sound {
            let (left, zeros) = bits.left();
            self.left = self.left.max(left.saturating_sub(zeros));
        }
        match bits.seek_marker() {
            Mark::Restart(found) => {
                let ahead = found.wrapping_sub(number) & 7;
                self.disorders += usize::from(ahead != 0);
                self.is_numbered &= ahead <= 2;
                if self.is_numbered && ahead > 0 {
                    self.missing = ahead;
                    self.is_sound = false;
                } else {
                    bits.pass_marker();
                    self.is_sound = true;
                }
            }
            Mark::Other => {
                self.has_ended = true;
                self.is_sound = false;
            }
        }
    }
}

/// Decodes a scan. `interval`: number of MCUs between restart markers, 0 for none.
pub(crate) fn walk(scan: &Scan, interval: usize, bits: &mut Bits, coder: &mut impl BlockCoder) -> Contents {
    let [across, down] = scan.mcus;
    let total = across * down;
    let mut state =
        Walk { is_sound: true, has_ended: false, expected: 0, missing: 0, is_numbered: true, disorders: 0, left: 0 };
    let (mut read, mut before_zeros) = (0, 0);
    let mut until_restart = if interval == 0 { usize::MAX } else { interval };
    coder.reset();
    for row in 0..down {
        for column in 0..across {
            if until_restart == 0 {
                state.restart(bits);
                coder.reset();
                until_restart = interval;
            }
            until_restart -= 1;
            if state.is_sound && decode_mcu(scan, [column, row], bits, coder) {
                read += 1;
                if bits.zero_run() < ZERO_BYTES / 4 {
                    before_zeros = read;
                }
            } else {
                state.is_sound = false;
                lose_mcu(scan, [column, row], coder);
            }
        }
        coder.end_row(row);
    }
    let (left, zeros) = bits.left();
    // The last MCUs were decoded from zeros that go on after them: filling, not data.
    if state.is_sound && bits.zero_run() >= ZERO_BYTES && zeros >= ZERO_BYTES {
        read = before_zeros;
    }
    let left = state.left.max(if state.is_sound { left.saturating_sub(zeros) } else { 0 });
    Contents { read, total, disorders: state.disorders, left }
}

/// Calls `visit` with the slot, the component's index and the place of each block of an MCU, while it returns true.
#[inline(always)]
fn each_block(scan: &Scan, mcu: [usize; 2], mut visit: impl FnMut(usize, usize, [usize; 2]) -> bool) -> bool {
    for (slot, component) in scan.components.iter().enumerate() {
        for y in 0..component.down {
            for x in 0..component.across {
                let place = [mcu[0] * component.across + x, mcu[1] * component.down + y];
                if !visit(slot, component.index, place) {
                    return false;
                }
            }
        }
    }
    true
}

/// Decodes an MCU. Returns false when its data is not there.
#[inline(always)]
fn decode_mcu(scan: &Scan, mcu: [usize; 2], bits: &mut Bits, coder: &mut impl BlockCoder) -> bool {
    let mut is_active = false;
    let is_decoded = each_block(scan, mcu, |slot, index, place| match coder.block(bits, slot, index, place) {
        Ok(active) => {
            is_active |= active;
            true
        }
        Err(BadCode) => false,
    });
    is_decoded && !bits.is_overrun() && !(is_active && bits.zero_run() >= ZERO_BYTES)
}

#[cold]
fn lose_mcu(scan: &Scan, mcu: [usize; 2], coder: &mut impl BlockCoder) {
    each_block(scan, mcu, |_, index, place| {
        coder.lose(index, place);
        true
    });
}
