//! Reading a bundle: everything is checked here, so that the engine may rely on it.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::bundle::packing::{PackedSection, is_packed, packed_bytes};
use crate::bundle::{
    ALIGNMENT, BundleError, DATA, ENTRY_BYTES, FIXED_BYTES, HASH_BYTES, MAGIC, MANIFEST, MAX_BYTES, MAX_ELEMENTS,
    MAX_SECTIONS, OLDEST, PACKED, PLAN, TABLE, TensorEntry, VERSION, aligned, hexadecimal, tensor_of,
};
use crate::cpu::{Memory, Packing};
use crate::manifest::Manifest;
use crate::ops::Data;
use crate::plan::{Element, Plan, Port};

/// A compiled network, immutable and checked.
pub struct Bundle {
    /// The file, 64 byte aligned.
    pub(crate) bytes: Memory,
    manifest: Manifest,
    pub(crate) manifest_text: String,
    pub(crate) table: Vec<TensorEntry>,
    /// Where the data section begins in `bytes`.
    pub(crate) data: usize,
    pub(crate) packed: Option<PackedSection>,
    pub(crate) plans: Vec<Plan>,
    parts: Vec<PartInfo>,
    pub(crate) identity: [u8; HASH_BYTES],
    sha256: String,
}

/// What a part is and what it costs.
#[derive(Debug, Clone, PartialEq)]
pub struct PartInfo {
    pub name: String,
    /// Multiply-accumulates of one run, up to the answer.
    pub macs: u64,
    /// Those of them that are done on 8 bit integers.
    pub integer_macs: u64,
    /// Steps of one run.
    pub ops: usize,
    /// Constants that the part uses, those shared with other parts included.
    pub parameter_bytes: usize,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
}

/// A tensor that parts exchange, float32.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    pub name: String,
    pub shape: Vec<usize>,
}

/// A bundle that was read into memory; `start` is where it is aligned.
struct Buffer {
    buffer: Vec<u8>,
    start: usize,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// Which hashes are compared with what they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hashes {
    All,
    /// For the network inside the program, which was checked as a whole when it was built in: hashing millions of bytes
    /// takes tens of milliseconds of every start on a CPU without instructions for it.
    HeaderOnly,
}

struct Section {
    kind: u32,
    number: u32,
    offset: usize,
    len: usize,
}

impl Bundle {
    /// Reads and checks a bundle file.
    pub fn open(path: &Path) -> Result<Arc<Bundle>, BundleError> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        if len > MAX_BYTES {
            return Err(BundleError::TooLarge(format!("{len} bytes, at most {MAX_BYTES}")));
        }
        // The beginning first: something else by mistake is refused before it is read as a whole.
        let mut head = Vec::new();
        file.by_ref().take(FIXED_BYTES as u64).read_to_end(&mut head)?;
        check_beginning(&head, len)?;
        let (mut buffer, start) = aligned_buffer(len as usize);
        buffer.extend_from_slice(&head);
        file.take(len - head.len() as u64).read_to_end(&mut buffer)?;
        Bundle::check(Arc::new(Buffer { buffer, start }), Hashes::All)
    }

    /// Checks a bundle in memory that lives on, such as a file that is mapped or a part of the program. It is used in
    /// place if it lies at a multiple of 64 bytes.
    pub fn from_memory(memory: Memory) -> Result<Arc<Bundle>, BundleError> {
        if (*memory).as_ref().as_ptr().align_offset(ALIGNMENT) == 0 {
            return Bundle::check(memory, Hashes::All);
        }
        Bundle::from_bytes((*memory).as_ref())
    }

    /// Checks a bundle in memory; it is copied.
    pub fn from_bytes(bytes: &[u8]) -> Result<Arc<Bundle>, BundleError> {
        check_beginning(&bytes[..bytes.len().min(FIXED_BYTES)], bytes.len() as u64)?;
        let (mut buffer, start) = aligned_buffer(bytes.len());
        buffer.extend_from_slice(bytes);
        Bundle::check(Arc::new(Buffer { buffer, start }), Hashes::All)
    }

    /// Checks a bundle that is a part of the program, in place if it lies at a multiple of 64 bytes. The hashes of its
    /// sections are not computed, because the program's own bytes need no check.
    ///
    /// # Errors
    /// When the bytes are no bundle of this version.
    pub fn from_static(bytes: &'static [u8]) -> Result<Arc<Bundle>, BundleError> {
        if bytes.as_ptr().align_offset(ALIGNMENT) == 0 {
            return Bundle::check(Arc::new(bytes), Hashes::HeaderOnly);
        }
        Bundle::from_bytes(bytes)
    }

    /// The manifest inside.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest's text, as it was written.
    pub fn manifest_text(&self) -> &str {
        &self.manifest_text
    }

    /// What each part is and costs, in the manifest's order.
    pub fn parts(&self) -> impl Iterator<Item = &PartInfo> {
        self.parts.iter()
    }

    /// Identifies the network: SHA-256, in hexadecimal, of the header of the plain bundle, which holds the hash of every
    /// section. A packed bundle has that of the one it was made of.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Size of the file, bytes.
    pub fn len_bytes(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// The parts' plans, in the manifest's order; behind them the views.
    pub(crate) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// A constant's elements.
    pub(crate) fn constant(&self, index: u32) -> Data<'_> {
        let entry = &self.table[index as usize];
        let bytes = self.stored(entry);
        match entry.element {
            // Cannot fail: `check` has seen that every float tensor is aligned.
            Element::F32 => Data::F32(bytemuck::try_cast_slice(bytes).unwrap_or(&[])),
            Element::U8 => Data::U8(bytes),
            Element::I8 => Data::I8(bytemuck::cast_slice(bytes)),
        }
    }

    /// A tensor's bytes in the file.
    pub(crate) fn stored(&self, entry: &TensorEntry) -> &[u8] {
        let start = self.data + entry.offset as usize;
        // Cannot fail: `check` has seen that it lies in the data.
        let len = entry.stored_bytes(self.packing()).unwrap_or(0);
        &(*self.bytes).as_ref()[start..start + len]
    }

    fn check(bytes: Memory, hashes: Hashes) -> Result<Arc<Bundle>, BundleError> {
        let file = (*bytes).as_ref();
        let (sections, digest) = read_header(file, hashes)?;
        let body = |s: &Section| &file[s.offset..s.offset + s.len];
        let only = |kind: u32, what: &str| {
            let mut found = sections.iter().filter(|s| s.kind == kind);
            match (found.next(), found.next()) {
                (Some(section), None) => Ok(section),
                _ => Err(BundleError::Malformed(format!("it must have exactly one {what}"))),
            }
        };
        let manifest_text = std::str::from_utf8(body(only(MANIFEST, "manifest")?))
            .map_err(|_| BundleError::Malformed("the manifest is not UTF-8".into()))?
            .to_string();
        let manifest = Manifest::parse(&manifest_text)?;
        let table: Vec<TensorEntry> = decode(body(only(TABLE, "tensor table")?), "tensor table")?;
        let data = only(DATA, "data section")?;
        let packed = match sections.iter().any(|s| s.kind == PACKED) {
            true => Some(decode::<PackedSection>(body(only(PACKED, "packing")?), "packing")?),
            false => None,
        };
        let packing = packed.as_ref().map(|packed| packed.packing);
        if packing.is_some_and(|packing| !packing.is_known()) {
            return Err(BundleError::Malformed("it is packed for a family that this program does not know".into()));
        }
        for (i, entry) in table.iter().enumerate() {
            entry.check(data.len, packing).map_err(|e| BundleError::Malformed(format!("tensor {i} {e}")))?;
        }
        let mut plans = Vec::new();
        for (i, section) in sections.iter().filter(|s| s.kind == PLAN).enumerate() {
            if section.number as usize != i {
                return Err(BundleError::Malformed("its plans are out of order".into()));
            }
            let plan: Plan = decode(body(section), "plan")?;
            crate::plan_check::check_plan(&plan, |index| table.get(index as usize).map(|t| (t.element, &t.shape[..])))
                .map_err(|e| BundleError::Malformed(format!("plan {}: {e}", plan.name)))?;
            plans.push(plan);
        }
        check_parts(&manifest, &plans)?;
        let count = manifest.parts.len().min(plans.len());
        let mut parts: Vec<PartInfo> = plans[..count].iter().map(|p| part_info(p, &table)).collect();
        for (info, part) in parts.iter_mut().zip(&manifest.parts) {
            // One run ends with one of the views.
            let views = plans[count..].iter().filter(|view| part.outputs.iter().any(|o| o == tensor_of(&view.name)));
            let largest =
                views.fold(None, |most: Option<&Plan>, view| most.filter(|m| m.macs >= view.macs).or(Some(view)));
            if let Some(view) = largest.filter(|view| view.macs > 0) {
                info.macs = info.macs.saturating_add(view.macs);
                info.ops += view.steps.len();
            }
        }
        let data = data.offset;
        let identity = packed.as_ref().map_or(digest, |packed| packed.origin);
        let sha256 = hexadecimal(&identity);
        Ok(Arc::new(Bundle { manifest, manifest_text, table, data, packed, plans, parts, identity, sha256, bytes }))
    }
}

/// An empty buffer whose elements from `start` on will be aligned, with room for `len` of them.
fn aligned_buffer(len: usize) -> (Vec<u8>, usize) {
    let mut buffer: Vec<u8> = Vec::with_capacity(len + ALIGNMENT);
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    buffer.resize(start, 0);
    (buffer, start)
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | *b as u32)
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | *b as u64)
}

/// Checks magic, version, number of sections and length against the length that there is.
fn check_beginning(head: &[u8], len: u64) -> Result<(), BundleError> {
    if head.is_empty() || !head.starts_with(&MAGIC[..head.len().min(MAGIC.len())]) {
        return Err(BundleError::NotABundle);
    }
    if head.len() < FIXED_BYTES {
        return Err(BundleError::Truncated { expected: FIXED_BYTES as u64, found: len });
    }
    match read_u32(head, 8) {
        OLDEST..=VERSION => {}
        found if found < OLDEST => return Err(BundleError::Older { found }),
        found => return Err(BundleError::Newer { found }),
    }
    let sections = read_u32(head, 12);
    if sections > MAX_SECTIONS {
        return Err(BundleError::TooLarge(format!("{sections} sections, at most {MAX_SECTIONS}")));
    }
    let expected = read_u64(head, 16);
    if expected > MAX_BYTES {
        return Err(BundleError::TooLarge(format!("{expected} bytes, at most {MAX_BYTES}")));
    }
    if len < expected {
        return Err(BundleError::Truncated { expected, found: len });
    }
    if len > expected {
        return Err(BundleError::Trailing { expected, found: len });
    }
    Ok(())
}

/// Checks the header and the sections' hashes.
fn read_header(file: &[u8], hashes: Hashes) -> Result<(Vec<Section>, [u8; HASH_BYTES]), BundleError> {
    check_beginning(&file[..file.len().min(FIXED_BYTES)], file.len() as u64)?;
    let count = read_u32(file, 12) as usize;
    let end = FIXED_BYTES + count * ENTRY_BYTES;
    let Some(stored) = file.get(end..end + HASH_BYTES) else {
        return Err(BundleError::Truncated { expected: (end + HASH_BYTES) as u64, found: file.len() as u64 });
    };
    let digest = Sha256::digest(&file[..end]);
    if digest[..] != *stored {
        return Err(BundleError::Damaged("header".into()));
    }
    let mut sections = Vec::with_capacity(count);
    let mut used = end + HASH_BYTES;
    for i in 0..count {
        let at = FIXED_BYTES + i * ENTRY_BYTES;
        let (kind, number) = (read_u32(file, at), read_u32(file, at + 4));
        let (offset, len) = (read_u64(file, at + 8), read_u64(file, at + 16));
        let malformed = || BundleError::Malformed(format!("section {i} does not lie behind the one before it"));
        let offset = usize::try_from(offset).map_err(|_| malformed())?;
        let len = usize::try_from(len).map_err(|_| malformed())?;
        if offset != aligned(used) || offset.checked_add(len).is_none_or(|end| end > file.len()) {
            return Err(malformed());
        }
        check_padding(&file[used..offset])?;
        let name = match kind {
            MANIFEST => "manifest".to_string(),
            TABLE => "tensor table".to_string(),
            PLAN => format!("plan {number}"),
            DATA => "tensor data".to_string(),
            PACKED => "packing".to_string(),
            other => return Err(BundleError::Malformed(format!("section {i} has the unknown kind {other}"))),
        };
        let stored = &file[at + 24..at + 24 + HASH_BYTES];
        if hashes == Hashes::All && Sha256::digest(&file[offset..offset + len])[..] != *stored {
            return Err(BundleError::Damaged(name));
        }
        used = offset + len;
        sections.push(Section { kind, number, offset, len });
    }
    check_padding(&file[used..])?;
    Ok((sections, digest.into()))
}

fn check_padding(bytes: &[u8]) -> Result<(), BundleError> {
    if bytes.len() < ALIGNMENT && bytes.iter().all(|b| *b == 0) {
        return Ok(());
    }
    Err(BundleError::Damaged("padding".into()))
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, BundleError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(BundleError::Malformed(format!("something follows the {what}"))),
        Err(error) => Err(BundleError::Malformed(format!("the {what} cannot be read: {error}"))),
    }
}

impl TensorEntry {
    /// Of its elements.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }

    /// In the file; none if there are more than can be counted.
    fn stored_bytes(&self, packing: Option<Packing>) -> Option<usize> {
        match packing.filter(|_| is_packed(self.element, &self.shape)) {
            Some(packing) => packed_bytes(packing, &self.shape).and_then(|[weights, sums]| weights.checked_add(sums)),
            None => Some(self.bytes()),
        }
    }

    fn check(&self, data_len: usize, packing: Option<Packing>) -> Result<(), String> {
        let elements = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match elements {
            Some(n) if n <= MAX_ELEMENTS => {}
            _ => return Err(format!("has too many elements: {:?}", self.shape)),
        }
        let end = self.stored_bytes(packing).and_then(|bytes| self.offset.checked_add(bytes as u64));
        if end.is_none_or(|end| end > data_len as u64) || !self.offset.is_multiple_of(ALIGNMENT as u64) {
            return Err("lies outside the data section, or is not aligned".into());
        }
        Ok(())
    }
}

/// The manifest and the plans must speak of the same parts, in the same order; views follow.
fn check_parts(manifest: &Manifest, plans: &[Plan]) -> Result<(), BundleError> {
    let names = |ports: &[Port]| ports.iter().map(|p| tensor_of(&p.name).to_string()).collect::<Vec<_>>();
    let views = plans.get(manifest.parts.len()..).unwrap_or_default();
    let fits = manifest.parts.len() <= plans.len()
        && manifest.parts.iter().zip(plans).all(|(part, plan)| {
            let (inputs, outputs) = (names(&plan.inputs), names(&plan.outputs));
            part.name == plan.name
                && outputs.iter().all(|o| part.outputs.contains(o))
                && part.outputs.iter().all(|o| outputs.contains(o))
                && inputs.len() == part.inputs.len()
                && inputs.iter().all(|i| part.inputs.contains(i))
        })
        && views.iter().all(|view| {
            let tensor = tensor_of(&view.name);
            let maker = manifest.parts.iter().zip(plans).find(|(part, _)| part.outputs.iter().any(|o| o == tensor));
            let is_named =
                |port: &Port| port.name == view.name && plans.iter().all(|p| !has_output(p, &view.name) || p == view);
            // It reads forms of the tensor, and of what the part that makes it reads.
            let reads = |port: &Port| {
                tensor_of(&port.name) == tensor
                    || maker.is_some_and(|(_, plan)| plan.inputs.iter().any(|input| input.name == port.name))
            };
            maker.is_some()
                && matches!(&view.outputs[..], [port] if is_named(port))
                && !view.inputs.is_empty()
                && view.inputs.iter().all(reads)
        })
        && manifest.parts.iter().flat_map(|part| &part.outputs).all(|o| plans.iter().any(|plan| has_output(plan, o)));
    if fits { Ok(()) } else { Err(BundleError::Malformed("its plans do not fit its manifest".into())) }
}

fn has_output(plan: &Plan, tensor: &str) -> bool {
    plan.outputs.iter().any(|port| port.name == tensor)
}

fn part_info(plan: &Plan, table: &[TensorEntry]) -> PartInfo {
    let describe = |ports: &[Port]| {
        let info = |p: &Port| TensorInfo { name: p.name.clone(), shape: plan.values[p.value as usize].shape.clone() };
        ports.iter().map(info).collect()
    };
    PartInfo {
        name: plan.name.clone(),
        macs: plan.macs,
        integer_macs: plan.steps.iter().filter(|s| s.op.is_integer()).map(|s| plan.step_macs(s)).sum(),
        ops: plan.steps.len(),
        parameter_bytes: plan.values.iter().filter_map(|v| v.constant).map(|c| table[c as usize].bytes()).sum(),
        inputs: describe(&plan.inputs),
        outputs: describe(&plan.outputs),
    }
}
