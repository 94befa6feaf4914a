//! Turns rows of blocks into rows of RGB pixels.
//!
//! Three rows of MCUs are held, because interpolation needs the sample rows above and below: a row of MCUs becomes pixels
//! when the next one is there.

use super::frame::{Component, Frame};
use super::upsample::Upsampling;

/// How the components stand for a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColourModel {
    Grey,
    Rgb,
    YCbCr,
    /// Cyan, magenta, yellow and black, stored inverted.
    Cmyk,
    /// CMYK whose C, M and Y are stored as luma and chroma.
    Ycck,
}

/// The samples of one component in three rows of MCUs.
#[derive(Clone, Debug, Default)]
struct Plane {
    /// A ring of rows.
    samples: Vec<u8>,
    /// Bytes of a row; rows of the ring, and of one row of MCUs.
    stride: usize,
    ring: usize,
    rows: usize,
    upsampling: Option<Upsampling>,
    /// One row in the picture's width, and room for sums.
    line: Vec<u8>,
    sums: Vec<u16>,
}

/// Sets the length of a vector whose content does not matter.
fn resize<T: Copy + Default>(room: &mut Vec<T>, length: usize) {
    room.resize(length, T::default());
}

impl Plane {
    fn prepare(&mut self, component: &Component, frame: &Frame) {
        self.stride = component.padded[0] * 8;
        self.rows = component.down * 8;
        self.ring = 3 * self.rows;
        resize(&mut self.samples, self.ring * self.stride);
        let factors = [frame.most[0] / component.across, frame.most[1] / component.down];
        self.upsampling = Some(Upsampling::new(factors[0], factors[1], component.width));
        resize(&mut self.line, self.stride * factors[0]);
        resize(&mut self.sums, self.stride);
    }

    /// Returns a row of samples. `row` counts from the first one of MCU row `mcu`, and may lie just above or below it.
    fn row(&self, component: &Component, mcu: usize, row: isize) -> &[u8] {
        let last = component.height.saturating_sub(1) as isize;
        let absolute = ((mcu * self.rows) as isize + row).clamp(0, last.max(0)) as usize;
        let at = absolute % self.ring * self.stride;
        &self.samples[at..at + component.width]
    }
}

/// Buffers of the conversion; used again for the next picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    planes: [Plane; 4],
}

impl Rows {
    /// Sets the buffers up for a picture.
    pub(crate) fn prepare(&mut self, frame: &Frame) {
        for (plane, component) in self.planes.iter_mut().zip(&frame.components) {
            plane.prepare(component, frame);
        }
    }

    /// Returns where the block at column `place[0]` and row `place[1]` of a component is written, and the bytes of a row.
    #[inline]
    pub(crate) fn block(&mut self, index: usize, place: [usize; 2]) -> (&mut [u8], usize) {
        let plane = &mut self.planes[index];
        let [x, y] = place;
        let at = y * 8 % plane.ring.max(1) * plane.stride + x * 8;
        (&mut plane.samples[at..], plane.stride)
    }

    /// Converts what can be converted when MCU row `mcu` has been decoded: the row before, and this one if it is the last.
    pub(crate) fn emit(&mut self, frame: &Frame, model: ColourModel, mcu: usize, rgb: &mut [u8]) {
        if mcu > 0 {
            self.emit_row(frame, model, mcu - 1, rgb);
        }
        if mcu + 1 == frame.mcus[1] {
            self.emit_row(frame, model, mcu, rgb);
        }
    }

    fn emit_row(&mut self, frame: &Frame, model: ColourModel, mcu: usize, rgb: &mut [u8]) {
        let height = frame.most[1] * 8;
        let first = mcu * height;
        let lines = rgb.chunks_exact_mut(frame.width * 3).skip(first).take(height);
        for (row, line) in lines.enumerate() {
            for (plane, component) in self.planes.iter_mut().zip(&frame.components) {
                let Some(way) = plane.upsampling else { continue };
                if way == Upsampling::None {
                    continue;
                }
                // `enlarge` writes to the line while it reads the samples.
                let (mut out, mut sums) = (std::mem::take(&mut plane.line), std::mem::take(&mut plane.sums));
                let [near, far] = way.rows(row as isize);
                let rows = [near, far].map(|row| plane.row(component, mcu, row));
                way.enlarge(rows[0], rows[1], far < near, &mut sums, &mut out);
                (plane.line, plane.sums) = (out, sums);
            }
            let source = |index: usize| {
                let (plane, component) = (&self.planes[index], &frame.components[index]);
                match plane.upsampling {
                    Some(Upsampling::None) => plane.row(component, mcu, row as isize),
                    _ => &plane.line[..frame.width],
                }
            };
            convert(model, source, line);
        }
    }
}

/// Converts a row of samples to RGB.
fn convert<'a>(model: ColourModel, source: impl Fn(usize) -> &'a [u8], line: &mut [u8]) {
    if model == ColourModel::YCbCr {
        return convert_luma_and_chroma(source(0), source(1), source(2), line);
    }
    let pixels = line.as_chunks_mut::<3>().0.iter_mut();
    match model {
        ColourModel::Grey => pixels.zip(source(0)).for_each(|(pixel, &grey)| *pixel = [grey; 3]),
        ColourModel::Rgb | ColourModel::YCbCr => {
            for (((pixel, &red), &green), &blue) in pixels.zip(source(0)).zip(source(1)).zip(source(2)) {
                *pixel = [red, green, blue];
            }
        }
        ColourModel::Cmyk => {
            let sources = source(0).iter().zip(source(1)).zip(source(2)).zip(source(3));
            for (pixel, (((&c, &m), &y), &k)) in pixels.zip(sources) {
                *pixel = [c, m, y].map(|ink| under_black(ink, k));
            }
        }
        ColourModel::Ycck => {
            let sources = source(0).iter().zip(source(1)).zip(source(2)).zip(source(3));
            for (pixel, (((&y, &cb), &cr), &k)) in pixels.zip(sources) {
                // Luma and chroma give the complement of the stored ink.
                *pixel = rgb_of(y, cb, cr).map(|light| under_black(255 - light, k));
            }
        }
    }
}

/// Converts a row of luma and chroma to RGB.
fn convert_luma_and_chroma(y: &[u8], cb: &[u8], cr: &[u8], line: &mut [u8]) {
    // Sixteen at a time: the arithmetic is done in vectors, and their values are then interleaved.
    let wide = line.as_chunks_mut::<48>().0.iter_mut();
    let sources = y.as_chunks::<16>().0.iter().zip(cb.as_chunks::<16>().0).zip(cr.as_chunks::<16>().0);
    for (out, ((y, cb), cr)) in wide.zip(sources) {
        let mut planes = [[0; 16]; 3];
        for i in 0..16 {
            let rgb = rgb_of(y[i], cb[i], cr[i]);
            (0..3).for_each(|c| planes[c][i] = rgb[c]);
        }
        for (i, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [planes[0][i], planes[1][i], planes[2][i]];
        }
    }
    let done = line.len() / 48 * 16;
    let rest = line.as_chunks_mut::<3>().0.iter_mut().skip(done);
    for (((pixel, &y), &cb), &cr) in rest.zip(&y[done..]).zip(&cb[done..]).zip(&cr[done..]) {
        *pixel = rgb_of(y, cb, cr);
    }
}

/// Converts JPEG's full-range YCbCr, with the fixed-point factors of libjpeg: 1.402, 0.34414, 0.71414 and 1.772, of which
/// whole numbers are taken out so that 16 bits hold the rest.
#[inline(always)]
fn rgb_of(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
    let times = |value: i16, factor: i16| i32::from(value) * i32::from(factor);
    let whole = |sum: i32| ((sum + (1 << 15)) >> 16) as i16;
    let red = y + cr + whole(times(cr, 26345));
    let green = y - cr + whole(times(cb, -22554) + times(cr, 18734));
    let blue = y + 2 * cb + whole(times(cb, -14942));
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Returns the light that an ink and black, both stored inverted, leave.
#[inline(always)]
fn under_black(ink: u8, black: u8) -> u8 {
    ((u32::from(ink) * u32::from(black) * 2 + 255) / 510) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_models_agree_on_plain_colours() {
        assert_eq!(
            [rgb_of(76, 85, 255), rgb_of(150, 44, 21), rgb_of(29, 255, 107)],
            [[254, 0, 0], [0, 255, 1], [0, 0, 254]]
        );
        assert_eq!([under_black(255, 255), under_black(255, 0), under_black(128, 128)], [255, 0, 64]);
        let stored = [[200u8], [100], [50], [255]];
        for (model, expected) in
            [(ColourModel::Grey, [200; 3]), (ColourModel::Rgb, [200, 100, 50]), (ColourModel::Cmyk, [200, 100, 50])]
        {
            let mut line = [0; 3];
            convert(model, |index| &stored[index], &mut line);
            assert_eq!(line, expected, "{model:?}");
        }
    }
}
