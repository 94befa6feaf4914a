//! The Linux framebuffer as a display: its pixel layout, and writing a picture to it.
//!
//! The layout is what the kernel reports: any size and stride, 16, 24 or 32 bits with the colours at any position. The
//! screen is written by one `pwrite` a frame, which every framebuffer driver supports.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

use crate::platform::screen_info::{self, Field, Fixed, Variable};
use faceptor::stages::{Picture, Pixels};

/// Largest plausible side of a screen, px.
const MAX_SIDE: u32 = 16_384;

/// The layout of a screen in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Visible width, px.
    pub width: usize,
    pub height: usize,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a pixel: 2, 3 or 4.
    pub pixel_bytes: usize,
    /// Offset of the first visible pixel in bytes.
    pub start: usize,
    pub red: Field,
    pub green: Field,
    pub blue: Field,
    /// Bits that make a pixel opaque, where the screen has an alpha channel.
    pub opaque: u32,
}

/// Packed pixels, not planes.
const TYPE_PACKED_PIXELS: u32 = 0;
/// The pixel holds the colours; direct colour (4) adds a lookup table, which is linear by default.
const VISUAL_TRUE_COLOUR: u32 = 2;
const VISUAL_DIRECT_COLOUR: u32 = 4;

impl Geometry {
    /// Checks what the kernel reports.
    ///
    /// # Errors
    /// When the kind of screen is not supported, or its values contradict each other.
    pub fn of(variable: &Variable, fixed: &Fixed) -> Result<Geometry> {
        let Variable { xres, yres, bits_per_pixel: bits, .. } = *variable;
        ensure!((1..=MAX_SIDE).contains(&xres) && (1..=MAX_SIDE).contains(&yres), "a screen of {xres} x {yres} pixels");
        let visual = fixed.visual;
        ensure!(
            fixed.kind == TYPE_PACKED_PIXELS && [VISUAL_TRUE_COLOUR, VISUAL_DIRECT_COLOUR].contains(&visual),
            "pixels with a palette or in planes (type {}, visual {visual}) are not supported",
            fixed.kind
        );
        ensure!(matches!(bits, 16 | 24 | 32), "{bits} bits a pixel are not supported, only 16, 24 and 32");
        for (name, field) in [("red", variable.red), ("green", variable.green), ("blue", variable.blue)] {
            let Field { offset, length, msb_right } = field;
            let fits = (1..=8).contains(&length) && offset.checked_add(length).is_some_and(|end| end <= bits);
            ensure!(fits && msb_right == 0, "{name} of {length} bits from bit {offset} on is not supported");
        }
        let pixel_bytes = bits as usize / 8;
        let [width, height, stride] = [xres, yres, fixed.line_length].map(|value| value as usize);
        ensure!(stride >= width * pixel_bytes, "rows of {stride} bytes are too short for {width} pixels");
        let [x, y] = [variable.xoffset, variable.yoffset].map(|value| value as usize);
        let start = y.saturating_mul(stride).saturating_add(x.saturating_mul(pixel_bytes));
        let Variable { red, green, blue, transp, .. } = *variable;
        let alpha = transp.length.min(8).min(bits.saturating_sub(transp.offset));
        let opaque = if alpha == 0 { 0 } else { ((1 << alpha) - 1) << transp.offset };
        let geometry = Geometry { width, height, stride, pixel_bytes, start, red, green, blue, opaque };
        let (end, memory) = (start.saturating_add(geometry.bytes()), fixed.smem_len as usize);
        // Drivers that report no memory size still accept writes.
        ensure!(memory == 0 || end <= memory, "{end} bytes of pixels are more than its memory, {memory} bytes");
        Ok(geometry)
    }

    /// Returns the bytes from the first visible pixel to the last.
    pub fn bytes(&self) -> usize {
        self.stride * (self.height - 1) + self.width * self.pixel_bytes
    }

    fn encode(&self, rgb: [u8; 3]) -> [u8; 4] {
        let fields = [self.red, self.green, self.blue];
        let pixel = rgb.into_iter().zip(fields).fold(self.opaque, |pixel, (value, field)| {
            // The highest bits are kept, so that 255 is the brightest value of any field.
            pixel | (u32::from(value) >> (8 - field.length)) << field.offset
        });
        pixel.to_le_bytes()
    }

    /// Writes a picture into the middle of the bytes of a screen; the bytes around it stay. The right and lower part of a
    /// picture larger than the screen is cut off.
    pub fn place(&self, picture: &Picture, screen: &mut [u8]) {
        let (width, height) = (picture.width().min(self.width), picture.height().min(self.height));
        let (left, top) = ((self.width - width) / 2, (self.height - height) / 2);
        let source = picture.bytes().chunks_exact(picture.width().max(1) * 3).take(height);
        for (y, row) in source.enumerate() {
            let from = (top + y) * self.stride + left * self.pixel_bytes;
            let Some(target) = screen.get_mut(from..from + width * self.pixel_bytes) else { return };
            self.encode_row(row, target);
        }
    }

    /// Encodes a row. The usual layout has its own loop, which the compiler vectorizes.
    fn encode_row(&self, row: &[u8], target: &mut [u8]) {
        let at = |offset| Field { offset, length: 8, msb_right: 0 };
        let colours = row.as_chunks::<3>().0.iter();
        match (self.pixel_bytes, self.red, self.green, self.blue) {
            (4, red, green, blue) if [red, green, blue] == [at(16), at(8), at(0)] => {
                let alpha = (self.opaque >> 24) as u8;
                for (pixel, rgb) in target.as_chunks_mut::<4>().0.iter_mut().zip(colours) {
                    pixel.copy_from_slice(&[rgb[2], rgb[1], rgb[0], alpha]);
                }
            }
            (bytes, ..) => {
                for (pixel, rgb) in target.chunks_exact_mut(bytes).zip(colours) {
                    pixel.copy_from_slice(&self.encode([rgb[0], rgb[1], rgb[2]])[..bytes]);
                }
            }
        }
    }
}

/// A framebuffer to draw on.
pub struct Framebuffer {
    path: PathBuf,
    file: File,
    geometry: Geometry,
    /// A copy of the screen's bytes.
    screen: Vec<u8>,
    /// Size of the picture that is shown.
    shown: [usize; 2],
}

impl Framebuffer {
    /// Opens a device such as `/dev/fb0`.
    ///
    /// # Errors
    /// When it cannot be opened, is not a framebuffer, or its layout is not supported.
    pub fn open(path: &Path) -> Result<Framebuffer> {
        let name = path.display();
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.with_context(|| format!("cannot open the display {name} (are you in the group video?)"))?;
        let (variable, fixed) =
            screen_info::read(&file).map_err(|error| anyhow!("the display {name} is not a framebuffer: {error}"))?;
        let geometry = Geometry::of(&variable, &fixed).with_context(|| format!("the display {name}"))?;
        Framebuffer::on(path, file, geometry)
    }

    /// Uses any file with a given geometry.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn on(path: &Path, file: File, geometry: Geometry) -> Result<Framebuffer> {
        let screen = vec![0; geometry.bytes()];
        let mut display = Framebuffer { path: path.to_owned(), file, geometry, screen, shown: [0; 2] };
        display.write().with_context(|| format!("cannot draw on the display {}", path.display()))?;
        Ok(display)
    }

    /// Returns the layout of the screen.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Returns the path of the device.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Shows a picture in the middle of a black screen.
    ///
    /// # Errors
    /// When the device cannot be written.
    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        let size = [picture.width(), picture.height()];
        if std::mem::replace(&mut self.shown, size) != size {
            self.screen.fill(0);
        }
        self.geometry.place(picture, &mut self.screen);
        self.write()
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.screen, self.geometry.start as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn field(offset: u32, length: u32) -> Field {
        Field { offset, length, msb_right: 0 }
    }

    /// Returns a screen as virtio-gpu reports it.
    fn bgrx(width: u32, height: u32, stride: u32) -> (Variable, Fixed) {
        let (red, green, blue) = (field(16, 8), field(8, 8), field(0, 8));
        let variable =
            Variable { xres: width, yres: height, bits_per_pixel: 32, red, green, blue, ..Variable::default() };
        (variable, Fixed { line_length: stride, smem_len: stride * height, visual: 2, ..Fixed::default() })
    }

    #[test]
    fn picture_is_centred_on_any_screen() -> Result<()> {
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("fb");
        let picture = Picture::from_rgb(2, 1, vec![255, 128, 8, 0, 0, 255]).context("two pixels")?;
        let rgbx = [field(0, 8), field(8, 8), field(16, 8)];
        let rgb565 = [field(11, 5), field(5, 6), field(0, 5)];
        let bgr = [field(16, 8), field(8, 8), field(0, 8)];
        let cases: [([Field; 3], u32, &[u8]); 4] = [
            (bgr, 32, &[8, 128, 255, 0, 255, 0, 0, 0]),
            (rgbx, 32, &[255, 128, 8, 0, 0, 0, 255, 0]),
            (bgr, 24, &[8, 128, 255, 255, 0, 0]),
            // 31, 32, 1 and 0, 0, 31.
            (rgb565, 16, &[0x01, 0xfc, 0x1f, 0x00]),
        ];
        for ([red, green, blue], bits, expected) in cases {
            let (mut variable, mut fixed) = bgrx(6, 3, 40);
            (variable.red, variable.green, variable.blue) = (red, green, blue);
            // The second of two screens in one memory is visible.
            (variable.bits_per_pixel, variable.yoffset, variable.xoffset) = (bits, 3, 1);
            fixed.smem_len = 300;
            let geometry = Geometry::of(&variable, &fixed)?;
            fs::write(&path, vec![9; 300])?;
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let mut display = Framebuffer::on(&path, file, geometry)?;
            display.show(&picture)?;
            let bytes = bits as usize / 8;
            let mut screen = vec![9; 300];
            let start = 3 * 40 + bytes;
            screen[start..start + 80 + 6 * bytes].fill(0);
            screen[start + 40 + 2 * bytes..][..2 * bytes].copy_from_slice(expected);
            assert_eq!(fs::read(&path)?, screen, "{bits} bits");
            // A smaller picture leaves nothing of the larger one; one that is too large is cut off.
            display.show(&Picture::filled(1, 1, [0; 3]))?;
            assert!(fs::read(&path)?[start..start + 80 + 6 * bytes].iter().all(|&byte| byte == 0));
            display.show(&Picture::filled(50, 50, [255; 3]))?;
            assert_eq!(fs::read(&path)?[start - 1], 9);
        }
        Ok(())
    }

    #[test]
    fn alpha_is_opaque() -> Result<()> {
        let (mut variable, fixed) = bgrx(1, 1, 4);
        variable.transp = field(24, 8);
        let geometry = Geometry::of(&variable, &fixed)?;
        let mut screen = [0; 4];
        geometry.place(&Picture::filled(1, 1, [1, 2, 3]), &mut screen);
        assert_eq!((screen, geometry.encode([1, 2, 3])), ([3, 2, 1, 255], [3, 2, 1, 255]));
        Ok(())
    }

    #[test]
    fn unsupported_screens_are_refused() {
        let refused = |change: &dyn Fn(&mut Variable, &mut Fixed)| {
            let (mut variable, mut fixed) = bgrx(1280, 800, 5120);
            change(&mut variable, &mut fixed);
            Geometry::of(&variable, &fixed).is_err()
        };
        assert!(!refused(&|_, _| {}));
        assert!(!refused(&|_, fixed| fixed.smem_len = 0));
        assert!(!refused(&|variable, _| variable.transp = field(40, 8)));
        assert!(refused(&|_, fixed| fixed.visual = 3));
        assert!(refused(&|_, fixed| fixed.kind = 1));
        assert!(refused(&|_, fixed| fixed.line_length = 5119));
        assert!(refused(&|_, fixed| fixed.smem_len -= 1));
        assert!(refused(&|variable, _| variable.yoffset = u32::MAX));
        assert!(refused(&|variable, _| variable.bits_per_pixel = 8));
        assert!(refused(&|variable, _| variable.xres = 0));
        assert!(refused(&|variable, _| variable.red = field(30, 8)));
        assert!(refused(&|variable, _| variable.blue = field(u32::MAX, 8)));
        assert!(refused(&|variable, _| variable.green = field(0, 10)));
    }

    #[test]
    fn other_devices_are_refused_by_name() {
        let error = |path: &str| Framebuffer::open(Path::new(path)).err().map(|e| format!("{e:#}")).unwrap_or_default();
        assert!(
            error("/dev/null").starts_with("the display /dev/null is not a framebuffer: "),
            "{}",
            error("/dev/null")
        );
        assert!(error("/dev/nofb").starts_with("cannot open the display /dev/nofb"), "{}", error("/dev/nofb"));
    }
}
