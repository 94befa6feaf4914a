//! Compiles the exported network into a bundle, which the library embeds (feature `embedded`).
//!
//! The compiler is the library's own, so that `faceptor compile` gives the same bytes. The feature `nano` takes the smaller
//! network, models/nano, in place of models/edge. Environment: `FACEPTOR_EXPORT`, any other export folder;
//! `FACEPTOR_BUNDLE`, a ready bundle, for builds that shall do without tract; `FACEPTOR_PACK`, the family of CPUs whose
//! kernels use the weights without a copy, or `none`.

use std::path::{Path, PathBuf};

use faceptor_nn::{Bundle, Packing};

fn main() {
    println!("cargo::rerun-if-changed=../../build.rs");
    println!("cargo::rerun-if-env-changed=FACEPTOR_EXPORT");
    println!("cargo::rerun-if-env-changed=FACEPTOR_BUNDLE");
    println!("cargo::rerun-if-env-changed=FACEPTOR_PACK");
    if std::env::var_os("CARGO_FEATURE_EMBEDDED").is_none() {
        return;
    }
    if let Err(error) = make_bundle() {
        println!("cargo::error={error:#}");
        std::process::exit(1);
    }
}

fn make_bundle() -> anyhow::Result<()> {
    use anyhow::Context;
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let bytes = if let Some(path) = variable("FACEPTOR_BUNDLE") {
        println!("cargo::rerun-if-changed={}", path.display());
        std::fs::read(&path).with_context(|| format!("cannot read FACEPTOR_BUNDLE {}", path.display()))?
    } else {
        let folder = variable("FACEPTOR_EXPORT").unwrap_or_else(|| {
            let nano = std::env::var_os("CARGO_FEATURE_NANO").is_some();
            PathBuf::from(if nano { "../../models/nano" } else { "../../models/edge" })
        });
        println!("cargo::rerun-if-changed={}", folder.display());
        compile(&folder)?
    };
    let bundle = Bundle::from_bytes(&bytes).context("the bundle")?;
    let bytes = bundle.repacked(packing()?).context("packing the bundle")?;
    Bundle::from_bytes(&bytes).context("the packed bundle")?;
    let out = variable("OUT_DIR").context("OUT_DIR is not set")?.join("network.bundle");
    std::fs::write(&out, bytes).with_context(|| format!("cannot write {}", out.display()))?;
    println!("cargo::rustc-cfg=faceptor_bundle");
    Ok(())
}

/// The order of the embedded weights: that of `FACEPTOR_PACK`, or of the family that devices with this network have most.
fn packing() -> anyhow::Result<Option<Packing>> {
    let usual = match std::env::var("CARGO_CFG_TARGET_ARCH").as_deref() {
        Ok("x86_64") => "avx512vnni",
        Ok("aarch64") => "sdot",
        _ => "none",
    };
    let wanted = std::env::var("FACEPTOR_PACK").unwrap_or_default();
    let family = if wanted.is_empty() { usual } else { &wanted };
    match Packing::named(family) {
        None if family != "none" => anyhow::bail!("FACEPTOR_PACK={family}: no such family of CPUs"),
        packing => Ok(packing),
    }
}

#[cfg(feature = "compiler")]
fn compile(folder: &Path) -> anyhow::Result<Vec<u8>> {
    faceptor_compiler::compile_folder(folder)
}

#[cfg(not(feature = "compiler"))]
fn compile(folder: &Path) -> anyhow::Result<Vec<u8>> {
    anyhow::bail!(
        "without the feature `compiler`, set FACEPTOR_BUNDLE to a ready bundle (there is no way to compile {})",
        folder.display()
    )
}
