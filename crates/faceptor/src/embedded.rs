//! The network that the build script compiled into the library.

use std::sync::Arc;

use faceptor_nn::bundle::BundleError;
use faceptor_nn::bundle::reader::Bundle;

/// Opens the network that was compiled into the library.
///
/// # Errors
/// When the library was built without the feature `embedded`.
#[cfg(faceptor_bundle)]
pub fn bundle() -> Result<Arc<Bundle>, BundleError> {
    /// `include_bytes!` alone promises no alignment.
    #[repr(C, align(64))]
    struct Aligned<T: ?Sized>(T);
    static EMBEDDED: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/network.bundle")));
    Bundle::from_static(&EMBEDDED.0)
}

/// Opens the network that was compiled into the library: none was.
///
/// # Errors
/// Always, because the library was built without the feature `embedded`.
#[cfg(not(faceptor_bundle))]
pub fn bundle() -> Result<Arc<Bundle>, BundleError> {
    Err(BundleError::NoneEmbedded)
}
