//! The network: manifest, bundle, compiler, executor and kernels.
