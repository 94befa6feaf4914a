//! Puts the compiled networks where the library (crates/faceptor) embeds them: its build script.
//!
//! The feature `embedded` embeds models/edge, `nano` embeds models/nano. With the feature `compiler` the networks are
//! compiled here, by the code of `faceptor compile`; without it, ready bundles are copied, and this script needs no crate.
//!
//! | variable | meaning |
//! |---|---|
//! | `FACEPTOR_EXPORT` | an export folder in place of the default network's (models/edge, or models/nano where it is alone) |
//! | `FACEPTOR_BUNDLE` | a ready bundle in place of the default network's folder |
//! | `FACEPTOR_NANO_BUNDLE` | a ready bundle of models/nano, where edge is the default |
//! | `FACEPTOR_PACK` | the family of CPUs whose kernels use the weights without a copy, or `none`; needs the compiler |

use std::path::{Path, PathBuf};

/// The feature that embeds a network, its export folder and the file that the library includes.
const NETWORKS: [(&str, &str, &str); 2] = [
    ("CARGO_FEATURE_EMBEDDED", "../../models/edge", "edge.bundle"),
    ("CARGO_FEATURE_NANO", "../../models/nano", "nano.bundle"),
];

fn main() {
    println!("cargo::rerun-if-changed=../../build.rs");
    for name in ["FACEPTOR_EXPORT", "FACEPTOR_BUNDLE", "FACEPTOR_NANO_BUNDLE", "FACEPTOR_PACK"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let chosen = NETWORKS.iter().filter(|(feature, ..)| std::env::var_os(feature).is_some());
    for (i, (_, folder, file)) in chosen.enumerate() {
        if let Err(error) = embed(i == 0, Path::new(folder), file) {
            println!("cargo::error={error}");
            std::process::exit(1);
        }
    }
}

/// Writes a network's bundle into OUT_DIR.
fn embed(is_default: bool, folder: &Path, file: &str) -> Result<(), String> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let name = if is_default { "FACEPTOR_BUNDLE" } else { "FACEPTOR_NANO_BUNDLE" };
    let bytes = if let Some(path) = variable(name) {
        println!("cargo::rerun-if-changed={}", path.display());
        let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {name} {}: {error}", path.display()))?;
        packed(bytes).map_err(|error| format!("{name} {}: {error}", path.display()))?
    } else {
        let export = variable("FACEPTOR_EXPORT").filter(|_| is_default);
        compiled(export.as_deref().unwrap_or(folder), name)?
    };
    let out = variable("OUT_DIR").ok_or("OUT_DIR is not set")?.join(file);
    std::fs::write(&out, bytes).map_err(|error| format!("cannot write {}: {error}", out.display()))
}

#[cfg(feature = "compiler")]
fn compiled(folder: &Path, _: &str) -> Result<Vec<u8>, String> {
    // The card, the training's weights and pictures beside them change nothing.
    for file in faceptor_compiler::source_files(folder) {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    packed(faceptor_compiler::compile_folder(folder).map_err(|error| format!("{error:#}"))?)
}

/// Packs the weights for the CPUs of `FACEPTOR_PACK`, or for those that most devices with this network have.
#[cfg(feature = "compiler")]
fn packed(bundle: Vec<u8>) -> Result<Vec<u8>, String> {
    let usual = match std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => "avx512vnni",
        Ok("aarch64") => "sdot",
        _ => "none",
    };
    let wanted = std::env::var("FACEPTOR_PACK").unwrap_or_default();
    let family = if wanted.is_empty() { usual } else { &wanted };
    faceptor_compiler::pack(&bundle, family).map_err(|error| format!("FACEPTOR_PACK={family}: {error:#}"))
}

#[cfg(not(feature = "compiler"))]
fn compiled(folder: &Path, name: &str) -> Result<Vec<u8>, String> {
    let folder = folder.display();
    Err(format!("without the feature `compiler`, set {name} to a ready bundle (there is no way to compile {folder})"))
}

/// Takes a bundle as it is; only its first bytes are checked, the rest when the program opens it.
#[cfg(not(feature = "compiler"))]
fn packed(bundle: Vec<u8>) -> Result<Vec<u8>, String> {
    if std::env::var_os("FACEPTOR_PACK").is_some_and(|family| !family.is_empty()) {
        return Err("FACEPTOR_PACK needs the feature `compiler`: pack with `faceptor compile --kernel FAMILY`".into());
    }
    if !bundle.starts_with(b"FACEPTOR") {
        return Err("not a bundle: `faceptor compile` makes one".into());
    }
    Ok(bundle)
}
