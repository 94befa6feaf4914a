//! Converts a camera's Y, U, V to red, green and blue.

/// The YUV encoding of a frame: the standard's weights, and whether black is Y = 16 (limited range) or 0 (full range).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// The default of cameras and video files that do not declare their encoding.
    #[default]
    Bt601Limited,
    /// JPEG's YUV; cameras that report `JPEG` or `full range`.
    Bt601Full,
    Bt709Limited,
    Bt709Full,
}

impl Colour {
    /// Returns the encoding with the weights of BT.709 or BT.601, in full or limited range.
    pub fn of(is_709: bool, is_full: bool) -> Colour {
        match (is_709, is_full) {
            (false, false) => Colour::Bt601Limited,
            (false, true) => Colour::Bt601Full,
            (true, false) => Colour::Bt709Limited,
            (true, true) => Colour::Bt709Full,
        }
    }
}

/// Factors and offsets of one [`Colour`], as floats and in 65536ths.
#[derive(Debug)]
pub struct Matrix {
    black: f32,
    luma: f32,
    red_v: f32,
    green_u: f32,
    green_v: f32,
    blue_u: f32,
    fixed: [i32; 6],
}

const fn fixed(value: f64) -> i32 {
    (value * 65536.0 + if value < 0.0 { -0.5 } else { 0.5 }) as i32
}

impl Matrix {
    /// Derives the factors from the weights of red and blue in luma.
    const fn new(kr: f64, kb: f64, full: bool) -> Matrix {
        let kg = 1.0 - kr - kb;
        let (black, luma, chroma) = if full { (0.0, 1.0, 1.0) } else { (16.0, 255.0 / 219.0, 255.0 / 224.0) };
        let (red_v, blue_u) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        let (green_u, green_v) = (-blue_u * kb / kg, -red_v * kr / kg);
        Matrix {
            black: black as f32,
            luma: luma as f32,
            red_v: red_v as f32,
            green_u: green_u as f32,
            green_v: green_v as f32,
            blue_u: blue_u as f32,
            fixed: [black as i32, fixed(luma), fixed(red_v), fixed(green_u), fixed(green_v), fixed(blue_u)],
        }
    }

    /// Converts one pixel, 0..255 each.
    #[inline]
    pub fn rgb(&self, [y, u, v]: [u8; 3]) -> [u8; 3] {
        let [black, luma, red_v, green_u, green_v, blue_u] = self.fixed;
        let y = (i32::from(y) - black) * luma + (1 << 15);
        let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
        let byte = |sum: i32| (sum >> 16).clamp(0, 255) as u8;
        [byte(y + red_v * v), byte(y + green_u * u + green_v * v), byte(y + blue_u * u)]
    }

    /// Converts a mean of pixels: the conversion is linear, so many samples are converted once.
    #[inline]
    pub fn mean_rgb(&self, [y, u, v]: [f32; 3]) -> [f32; 3] {
        let y = (y - self.black) * self.luma;
        let (u, v) = (u - 128.0, v - 128.0);
        let sums = [y + self.red_v * v, y + self.green_u * u + self.green_v * v, y + self.blue_u * u];
        sums.map(|sum| sum.clamp(0.0, 255.0))
    }
}

static BT601_LIMITED: Matrix = Matrix::new(0.299, 0.114, false);
static BT601_FULL: Matrix = Matrix::new(0.299, 0.114, true);
static BT709_LIMITED: Matrix = Matrix::new(0.2126, 0.0722, false);
static BT709_FULL: Matrix = Matrix::new(0.2126, 0.0722, true);

impl Colour {
    pub fn matrix(self) -> &'static Matrix {
        match self {
            Colour::Bt601Limited => &BT601_LIMITED,
            Colour::Bt601Full => &BT601_FULL,
            Colour::Bt709Limited => &BT709_LIMITED,
            Colour::Bt709Full => &BT709_FULL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_of_the_standards_come_out() {
        let limited = Colour::Bt601Limited.matrix();
        // 75 % colour bars of BT.601 and the ends of the range, computed by hand.
        for (yuv, rgb) in [
            ([16, 128, 128], [0, 0, 0]),
            ([235, 128, 128], [255, 255, 255]),
            ([126, 128, 128], [128, 128, 128]),
            ([81, 90, 240], [254, 0, 0]),
            ([145, 54, 34], [0, 255, 1]),
            ([41, 240, 110], [0, 0, 255]),
            ([0, 128, 128], [0, 0, 0]),
            ([255, 128, 128], [255, 255, 255]),
        ] {
            let seen = limited.rgb(yuv);
            assert!((0..3).all(|c| seen[c].abs_diff(rgb[c]) <= 1), "{yuv:?}: {seen:?} instead of {rgb:?}");
        }
        assert_eq!(Colour::Bt601Full.matrix().rgb([76, 85, 255]), [254, 0, 0]);
        // Pure red of BT.709, limited: Y = 16 + 219 x 0.2126, U = 128 - 112 x 0.2126 / 0.9278, V = 240.
        let red = Colour::Bt709Limited.matrix().rgb([63, 102, 240]);
        assert!(red[0] >= 254 && red[1] <= 1 && red[2] <= 1, "{red:?}");
        assert_eq!(Colour::Bt709Full.matrix().rgb([200, 128, 128]), [200; 3]);
    }

    #[test]
    fn a_mean_is_converted_as_its_pixels_are() {
        for colour in [Colour::Bt601Limited, Colour::Bt601Full, Colour::Bt709Limited, Colour::Bt709Full] {
            for yuv in [[16, 128, 128], [90, 100, 150], [200, 140, 120], [255, 0, 255]] {
                let (one, mean) = (colour.matrix().rgb(yuv), colour.matrix().mean_rgb(yuv.map(f32::from)));
                assert!((0..3).all(|c| (f32::from(one[c]) - mean[c]).abs() <= 0.51), "{yuv:?}: {one:?} {mean:?}");
            }
        }
    }
}
