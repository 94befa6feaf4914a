//! Decodes a photo of any format.
#![no_main]

use faceptor::Photo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(photo) = Photo::decode(bytes) {
        assert_eq!(photo.rgb().len(), 3 * photo.width() * photo.height());
    }
});
