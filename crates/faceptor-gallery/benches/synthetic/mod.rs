//! Fills a gallery with people made of pseudorandom numbers: the benchmark and `exact_answers` measure and compare with it.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use faceptor_gallery::{
    Details, Gallery, GalleryError, KeySource, Network, PassphraseCost, Platform, StoredTemplate, Template,
};

pub const DIMENSION: usize = 128;

pub const PLATFORM: Platform = Platform {
    random: |bytes| File::open("/dev/urandom")?.read_exact(bytes),
    create: |path| File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path),
};

/// Generates numbers of -1 to 1 by a linear congruence.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn number(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Returns numbers around a centre, as the photos of a person lie around the person's mean.
    pub fn near(&mut self, centre: &[f32], spread: f32) -> Vec<f32> {
        centre.iter().map(|number| number + spread * self.number()).collect()
    }
}

/// Creates an empty gallery.
pub fn gallery(path: &Path, key: &KeySource) -> Result<Gallery, GalleryError> {
    let network = Network { name: "synthetic".into(), recognition: [9; 32], dimension: DIMENSION };
    Gallery::create(path, key, &network, PassphraseCost::default(), PLATFORM, 0)
}

/// Enrols `person {number}` with these templates.
pub fn enrol(gallery: &mut Gallery, number: usize, templates: Vec<Template>) -> Result<(), GalleryError> {
    let details = Details {
        name: format!("person {number}"),
        enrolled_at: 0,
        enrolled_by: String::new(),
        purpose: String::new(),
        expires_at: None,
    };
    let stored = |template| StoredTemplate { template, added_at: 0, eyes_px: 60.0, forced: Vec::new(), crop: None };
    gallery.enrol(details, templates.into_iter().map(stored).collect(), 0)?;
    Ok(())
}
