//! Stores decoded blocks: as samples at once when the only scan holds all components, else coefficients that are
//! kept until the last scan.

use super::bits::Bits;
use super::frame::{Frame, MAX_COMPONENTS};
use super::huffman::{HuffmanTable, HuffmanTables};
use super::idct;
use super::progressive::{EndOfBand, first_ac, first_dc, next_ac, next_dc};
use super::rows::{ColourModel, Rows};
use super::scan::{BadCode, BlockCoder, Scan};
use super::sequential::decode_block;
use crate::error::ErrorKind::Image;
use crate::error::{OrError, Result, ensure};

/// The tables of each component of a scan; those that the scan does not need may be undefined.
struct ScanTables<'a> {
    dc: [Option<&'a HuffmanTable>; MAX_COMPONENTS],
    ac: [Option<&'a HuffmanTable>; MAX_COMPONENTS],
}

impl<'a> ScanTables<'a> {
    fn new(scan: &Scan, tables: &'a HuffmanTables) -> Result<ScanTables<'a>> {
        let mut found = ScanTables { dc: [None; MAX_COMPONENTS], ac: [None; MAX_COMPONENTS] };
        let [from, to] = scan.band;
        for (slot, component) in scan.components.iter().enumerate() {
            found.dc[slot] = tables.dc(component.dc);
            found.ac[slot] = tables.ac(component.ac);
            let is_there =
                (from > 0 || scan.high > 0 || found.dc[slot].is_some()) && (to == 0 || found.ac[slot].is_some());
            ensure!(is_there, Image, "broken JPEG: a scan without its Huffman tables");
        }
        Ok(found)
    }
}

/// Writes the samples of each block at once.
pub(crate) struct ToPixels<'a> {
    tables: ScanTables<'a>,
    /// By component of the frame.
    quantizers: [&'a [u16; 64]; MAX_COMPONENTS],
    predictions: [i32; MAX_COMPONENTS],
    frame: &'a Frame,
    rows: &'a mut Rows,
    rgb: &'a mut [u8],
    pub model: ColourModel,
    block: [i16; 64],
}

impl<'a> ToPixels<'a> {
    /// # Errors
    /// When a table is missing.
    pub(crate) fn new(
        scan: &Scan,
        frame: &'a Frame,
        tables: &'a HuffmanTables,
        quantizers: &'a [Option<[u16; 64]>; 4],
        rows: &'a mut Rows,
        rgb: &'a mut [u8],
    ) -> Result<ToPixels<'a>> {
        let mut chosen = [&[0; 64]; MAX_COMPONENTS];
        for (chosen, component) in chosen.iter_mut().zip(&frame.components) {
            *chosen = quantizers[component.table].as_ref().or_error(Image, missing_quantizers)?;
        }
        Ok(ToPixels {
            tables: ScanTables::new(scan, tables)?,
            quantizers: chosen,
            predictions: [0; MAX_COMPONENTS],
            frame,
            rows,
            rgb,
            model: ColourModel::Grey,
            block: [0; 64],
        })
    }
}

fn missing_quantizers() -> String {
    "broken JPEG: a quantization table is missing".to_owned()
}

impl BlockCoder for ToPixels<'_> {
    fn reset(&mut self) {
        self.predictions = [0; MAX_COMPONENTS];
    }

    #[inline(always)]
    fn block(&mut self, bits: &mut Bits, slot: usize, index: usize, place: [usize; 2]) -> Result<bool, BadCode> {
        let (Some(dc), Some(ac)) = (self.tables.dc[slot], self.tables.ac[slot]) else { return Err(BadCode) };
        self.block.fill(0);
        let (last, is_active) = decode_block(bits, dc, ac, &mut self.predictions[slot], &mut self.block)?;
        let (out, stride) = self.rows.block(index, place);
        idct::inverse(&self.block, self.quantizers[index], last, out, stride);
        Ok(is_active)
    }

    fn lose(&mut self, index: usize, place: [usize; 2]) {
        let (out, stride) = self.rows.block(index, place);
        out.chunks_mut(stride).take(8).for_each(|row| row.iter_mut().take(8).for_each(|sample| *sample = 128));
    }

    fn end_row(&mut self, row: usize) {
        self.rows.emit(self.frame, self.model, row, self.rgb);
    }
}

/// The coefficients of a picture between its scans.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coefficients {
    /// By component: blocks of all MCUs, row by row.
    blocks: [Vec<[i16; 64]>; MAX_COMPONENTS],
    /// By component: its quantizers as its first scan found them.
    quantizers: [Option<[u16; 64]>; MAX_COMPONENTS],
}

impl Coefficients {
    /// Forgets the picture before.
    pub(crate) fn clear(&mut self) {
        self.blocks.iter_mut().for_each(Vec::clear);
        self.quantizers = [None; MAX_COMPONENTS];
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.iter().all(Vec::is_empty)
    }

    /// Allocates the coefficients before the first scan, and takes the quantizers of the scan's components.
    ///
    /// # Errors
    /// When a table is missing, or the memory does not suffice.
    pub(crate) fn prepare(&mut self, frame: &Frame, scan: &Scan, quantizers: &[Option<[u16; 64]>; 4]) -> Result<()> {
        if self.is_empty() {
            for (blocks, component) in self.blocks.iter_mut().zip(&frame.components) {
                let count = component.padded[0] * component.padded[1];
                let fits = blocks.try_reserve_exact(count).is_ok();
                ensure!(fits, Image, "its {count} blocks do not fit into the memory that is left: scale it down");
                blocks.resize(count, [0; 64]);
            }
        }
        for component in &scan.components {
            if self.quantizers[component.index].is_none() {
                let table = quantizers[frame.components[component.index].table];
                self.quantizers[component.index] = Some(table.or_error(Image, missing_quantizers)?);
            }
        }
        Ok(())
    }

    /// Converts all blocks to pixels.
    pub(crate) fn render(&self, frame: &Frame, model: ColourModel, rows: &mut Rows, rgb: &mut [u8]) {
        for row in 0..frame.mcus[1] {
            for (index, component) in frame.components.iter().enumerate() {
                let (across, down) = (component.padded[0], component.down);
                let quantizers = self.quantizers[index].unwrap_or([0; 64]);
                let blocks = self.blocks[index].chunks_exact(across.max(1)).enumerate().skip(row * down).take(down);
                for (y, blocks) in blocks {
                    for (x, block) in blocks.iter().enumerate() {
                        let last = if block[1..].iter().all(|&value| value == 0) { 0 } else { 63 };
                        let (out, stride) = rows.block(index, [x, y]);
                        idct::inverse(block, &quantizers, last, out, stride);
                    }
                }
            }
            rows.emit(frame, model, row, rgb);
        }
    }
}

/// Keeps the coefficients of each block.
pub(crate) struct ToCoefficients<'a> {
    tables: ScanTables<'a>,
    scan: &'a Scan,
    frame: &'a Frame,
    blocks: &'a mut [Vec<[i16; 64]>; MAX_COMPONENTS],
    predictions: [i32; MAX_COMPONENTS],
    end: EndOfBand,
}

impl<'a> ToCoefficients<'a> {
    /// # Errors
    /// When a Huffman table is missing.
    pub(crate) fn new(
        scan: &'a Scan,
        frame: &'a Frame,
        tables: &'a HuffmanTables,
        coefficients: &'a mut Coefficients,
    ) -> Result<ToCoefficients<'a>> {
        let blocks = &mut coefficients.blocks;
        let (predictions, end) = ([0; MAX_COMPONENTS], EndOfBand::default());
        Ok(ToCoefficients { tables: ScanTables::new(scan, tables)?, scan, frame, blocks, predictions, end })
    }
}

impl BlockCoder for ToCoefficients<'_> {
    fn reset(&mut self) {
        self.predictions = [0; MAX_COMPONENTS];
        self.end = EndOfBand::default();
    }

    #[inline(always)]
    fn block(&mut self, bits: &mut Bits, slot: usize, index: usize, place: [usize; 2]) -> Result<bool, BadCode> {
        let at = place[1] * self.frame.components[index].padded[0] + place[0];
        let block = self.blocks[index].get_mut(at).ok_or(BadCode)?;
        let Scan { band, high, low, .. } = *self.scan;
        let (dc, ac) = (self.tables.dc[slot], self.tables.ac[slot]);
        if !self.frame.is_progressive {
            let (Some(dc), Some(ac)) = (dc, ac) else { return Err(BadCode) };
            block.fill(0);
            return decode_block(bits, dc, ac, &mut self.predictions[slot], block).map(|(_, is_active)| is_active);
        }
        match (band[0], high) {
            (0, 0) => first_dc(bits, dc.ok_or(BadCode)?, low, &mut self.predictions[slot], block),
            (0, _) => {
                next_dc(bits, low, block);
                Ok(false)
            }
            (_, 0) => first_ac(bits, ac.ok_or(BadCode)?, band, low, &mut self.end, block),
            (_, _) => next_ac(bits, ac.ok_or(BadCode)?, band, low, &mut self.end, block),
        }
    }

    fn lose(&mut self, _index: usize, _place: [usize; 2]) {}

    fn end_row(&mut self, _row: usize) {}
}
