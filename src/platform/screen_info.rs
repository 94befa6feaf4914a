//! The ioctls of a framebuffer that describe its screen, and their structures.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const FBIOGET_VSCREENINFO: libc::c_ulong = 0x4600;
const FBIOGET_FSCREENINFO: libc::c_ulong = 0x4602;

/// The position of a colour in a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Field {
    /// Position of the lowest bit.
    pub offset: u32,
    /// Number of bits.
    pub length: u32,
    /// Not zero: the most significant bit is on the right. No current driver has that.
    pub msb_right: u32,
}

/// `struct fb_var_screeninfo` of <linux/fb.h>.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Variable {
    pub xres: u32,
    pub yres: u32,
    pub xres_virtual: u32,
    pub yres_virtual: u32,
    pub xoffset: u32,
    pub yoffset: u32,
    pub bits_per_pixel: u32,
    pub grayscale: u32,
    pub red: Field,
    pub green: Field,
    pub blue: Field,
    pub transp: Field,
    pub nonstd: u32,
    pub activate: u32,
    /// Millimetres, timings, rotation, colour space: not used here.
    pub rest: [u32; 18],
}

/// `struct fb_fix_screeninfo` of <linux/fb.h>.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Fixed {
    pub id: [u8; 16],
    pub smem_start: libc::c_ulong,
    pub smem_len: u32,
    pub kind: u32,
    pub type_aux: u32,
    pub visual: u32,
    pub xpanstep: u16,
    pub ypanstep: u16,
    pub ywrapstep: u16,
    pub line_length: u32,
    pub mmio_start: libc::c_ulong,
    pub mmio_len: u32,
    pub accel: u32,
    pub capabilities: u16,
    pub reserved: [u16; 2],
}

/// Reads the description of the screen of an open framebuffer.
///
/// # Errors
/// Returns the kernel's error: `ENOTTY` when the file is not a framebuffer.
pub(crate) fn read(framebuffer: &File) -> io::Result<(Variable, Fixed)> {
    let (mut variable, mut fixed) = (Variable::default(), Fixed::default());
    // SAFETY: the structures have the layout of <linux/fb.h>, and the kernel writes no more than their size.
    let answers = unsafe {
        [
            libc::ioctl(framebuffer.as_raw_fd(), FBIOGET_VSCREENINFO as _, &mut variable),
            libc::ioctl(framebuffer.as_raw_fd(), FBIOGET_FSCREENINFO as _, &mut fixed),
        ]
    };
    match answers.iter().any(|&answer| answer < 0) {
        true => Err(io::Error::last_os_error()),
        false => Ok((variable, fixed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_size_of_the_kernel() {
        assert_eq!(size_of::<Variable>(), 160);
        let long = size_of::<libc::c_ulong>();
        assert_eq!(size_of::<Fixed>(), if long == 8 { 80 } else { 68 });
    }
}
