//! The networks that the build script put into the library.

use std::sync::Arc;

use faceptor_nn::bundle::Bundle;
use faceptor_nn::bundle::BundleError;

/// Includes a file that the build script wrote, aligned as a bundle must be: `include_bytes!` alone promises no alignment.
#[cfg(any(feature = "embedded", feature = "nano"))]
macro_rules! network {
    ($file:literal) => {{
        #[repr(C, align(64))]
        struct Aligned<T: ?Sized>(T);
        const FILE: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/", $file)));
        &FILE.0
    }};
}

/// The networks by name; the first is the default.
static NETWORKS: &[(&str, &[u8])] = &[
    #[cfg(feature = "embedded")]
    ("edge", network!("edge.bundle")),
    #[cfg(feature = "nano")]
    ("nano", network!("nano.bundle")),
];

/// Opens the default network of the library: edge, or nano in a library that holds it alone.
///
/// # Errors
/// When the library was built with neither the feature `embedded` nor `nano`.
pub fn bundle() -> Result<Arc<Bundle>, BundleError> {
    let (_, bytes) = NETWORKS.first().ok_or(BundleError::NoneEmbedded)?;
    Bundle::from_static(bytes)
}

/// Opens the network of that name in the library: `edge` (feature `embedded`) or `nano` (feature `nano`).
///
/// Returns `None` when the library holds no such network.
pub fn named(name: &str) -> Option<Result<Arc<Bundle>, BundleError>> {
    NETWORKS.iter().find(|(known, _)| *known == name).map(|(_, bytes)| Bundle::from_static(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_opens_by_its_name_and_the_first_is_the_default() {
        for (name, _) in NETWORKS {
            let bundle = named(name).unwrap().unwrap();
            assert!(!bundle.manifest().tasks.is_empty(), "{name}");
        }
        let default = bundle();
        match NETWORKS.first() {
            Some((name, _)) => assert_eq!(default.unwrap().sha256(), named(name).unwrap().unwrap().sha256()),
            None => assert!(matches!(default, Err(BundleError::NoneEmbedded))),
        }
        assert!(named("no such network").is_none());
    }
}
