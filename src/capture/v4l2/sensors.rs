//! Recognizes camera sensors that give raw Bayer pixels, and knows which source makes pictures of them.
//!
//! A sensor on a CSI connector measures one colour a pixel. The board's image processor makes pictures of it, under the
//! control of libcamera, or of NVIDIA's driver on a Jetson; reading the node alone gives nothing that shows a face.

use v4l::FourCC;

/// Raw formats of sensors in linux/videodev2.h: Bayer mosaics of 8 to 16 bits, plain, packed and compressed, and the grey
/// formats of monochrome sensors. All of them need an image processor.
const RAW: [&[u8; 4]; 42] = [
    b"BA81", b"GBRG", b"GRBG", b"RGGB", b"BG10", b"GB10", b"BA10", b"RG10", b"pBAA", b"pGAA", b"pgAA", b"pRAA",
    b"aBA8", b"aGA8", b"agA8", b"aRA8", b"bBA8", b"bGA8", b"BD10", b"bRA8", b"BG12", b"GB12", b"BA12", b"RG12",
    b"pBCC", b"pGCC", b"pgCC", b"pRCC", b"BG14", b"GB14", b"GR14", b"RG14", b"pBEE", b"pGEE", b"pgEE", b"pREE",
    b"BYR2", b"GB16", b"GR16", b"RG16", b"Y10P", b"Y12P",
];
/// Beginnings of raw formats: those of the Raspberry Pi 5's compression.
const RAW_STARTS: [&[u8]; 2] = [b"PC1", b"PC2"];

/// Drivers of sensors on a Jetson, on a Raspberry Pi, and on other boards.
const TEGRA: [&str; 2] = ["tegra-video", "tegra-vi"];
const RASPBERRY_PI: [&str; 4] = ["unicam", "rp1-cfe", "rp1_cfe", "bcm2835-unicam"];

const TEGRA_LINE: &str = "faceptor run --source 'gst:nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 \
                          ! nvvidconv ! video/x-raw,width=640,height=360,format=I420'";
const RASPBERRY_PI_LINE: &str = "faceptor run --source libcamera";
const OTHER_LINE: &str = "faceptor run --source 'gst:libcamerasrc ! video/x-raw,width=640,height=480'";

/// Returns the command that reads a sensor, if a node with this driver and these formats is one.
pub(crate) fn command_for(driver: &str, formats: &[FourCC]) -> Option<&'static str> {
    let raw = formats.iter().filter(|format| is_raw(format)).count();
    // These drivers list every format of their receiver, whatever the sensor gives.
    match raw {
        0 => None,
        _ if TEGRA.contains(&driver) => Some(TEGRA_LINE),
        _ if RASPBERRY_PI.contains(&driver) => Some(RASPBERRY_PI_LINE),
        _ => (raw == formats.len()).then_some(OTHER_LINE),
    }
}

fn is_raw(format: &FourCC) -> bool {
    RAW.iter().any(|raw| **raw == format.repr) || RAW_STARTS.iter().any(|start| format.repr.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensors_are_known_by_driver_and_formats() {
        let command = |driver: &str, formats: &[&[u8; 4]]| {
            command_for(driver, &formats.iter().map(|name| FourCC::new(name)).collect::<Vec<_>>())
        };
        assert_eq!(command("tegra-video", &[b"RG10"]), Some(TEGRA_LINE));
        for driver in RASPBERRY_PI {
            assert_eq!(command(driver, &[b"pBAA", b"BG10"]), Some(RASPBERRY_PI_LINE));
        }
        // The receiver of a Raspberry Pi 5 lists what it could receive.
        assert_eq!(command("rp1-cfe", &[b"YUYV", b"RGB3", b"pRAA", b"PC1R"]), Some(RASPBERRY_PI_LINE));
        assert_eq!(command("sun6i-video", &[b"BA81"]), Some(OTHER_LINE));
        assert_eq!(command("ipu6", &[b"BA10", b"PC1g"]), Some(OTHER_LINE));
        // An HDMI bridge on the same connector, a sensor with an image processor of its own, a webcam.
        for (driver, formats) in
            [("unicam", vec![b"UYVY", b"RGB3"]), ("rkcif", vec![b"RG10", b"NV12"]), ("uvcvideo", vec![])]
        {
            assert_eq!(command(driver, &formats), None, "{driver}");
        }
    }
}
