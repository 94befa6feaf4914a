//! Reads a bundle and checks all of it, so that the engine may rely on it.

use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::bundle::header::{Hashes, Section, check_beginning, read_header};
use crate::bundle::packing::{PackedSection, is_packed, packed_bytes};
use crate::bundle::{
    ALIGNMENT, BundleError, DATA, FIXED_BYTES, HASH_BYTES, MANIFEST, MAX_BYTES, MAX_ELEMENTS, PACKED, PLAN, TABLE,
    TensorEntry, TensorName, hexadecimal,
};
use crate::cpu::{Memory, Packing};
use crate::error::{Error, ErrorKind};
use crate::manifest::{Manifest, TaskKind};
use crate::plan::{Element, Plan, Port, check_plan};
use crate::tensor::Data;

/// A compiled network, immutable and checked.
pub struct Bundle {
    /// The file, 64 byte aligned.
    pub(crate) bytes: Memory,
    manifest: Manifest,
    pub(crate) manifest_text: String,
    pub(crate) table: Vec<TensorEntry>,
    /// The bytes of each tensor of the table, in `bytes`.
    ranges: Vec<Range<usize>>,
    pub(crate) packed: Option<PackedSection>,
    pub(crate) plans: Vec<Plan>,
    parts: Vec<PartInfo>,
    pub(crate) identity: [u8; HASH_BYTES],
    sha256: String,
}

/// The tensors and the cost of a part.
#[derive(Debug, Clone, PartialEq)]
pub struct PartInfo {
    /// Name in the manifest.
    pub name: String,
    /// Multiply-accumulates of one run, up to the task's output.
    pub macs: u64,
    /// Multiply-accumulates of one run on 8 bit integers.
    pub integer_macs: u64,
    /// Steps of one run.
    pub ops: usize,
    /// Bytes of the constants that the part uses, those shared with other parts included.
    pub parameter_bytes: usize,
    /// Tensors that the part reads.
    pub inputs: Vec<TensorInfo>,
    /// Tensors that the part hands on.
    pub outputs: Vec<TensorInfo>,
}

/// A tensor that parts exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Name in the bundle.
    pub name: String,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
}

/// A bundle that was read into memory; it is aligned from `start` on.
struct Buffer {
    buffer: Vec<u8>,
    start: usize,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

impl Bundle {
    /// Reads and checks a bundle file.
    pub fn open(path: &Path) -> Result<Arc<Bundle>, BundleError> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        if len > MAX_BYTES {
            return Err(BundleError::TooLarge(format!("{len} bytes, at most {MAX_BYTES}")));
        }
        // The beginning first: another kind of file is refused before it is read as a whole.
        let mut head = Vec::new();
        file.by_ref().take(FIXED_BYTES as u64).read_to_end(&mut head)?;
        check_beginning(&head, len)?;
        let (mut buffer, start) = aligned_buffer(len as usize);
        buffer.extend_from_slice(&head);
        file.take(len - head.len() as u64).read_to_end(&mut buffer)?;
        Bundle::check(Arc::new(Buffer { buffer, start }), Hashes::All)
    }

    /// Checks a bundle in shared memory, such as a mapped file. It is used in place if it lies at a multiple of 64 bytes,
    /// otherwise copied.
    pub fn from_memory(memory: Memory) -> Result<Arc<Bundle>, BundleError> {
        if (*memory).as_ref().as_ptr().align_offset(ALIGNMENT) == 0 {
            return Bundle::check(memory, Hashes::All);
        }
        Bundle::from_bytes((*memory).as_ref())
    }

    /// Copies and checks a bundle in memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Arc<Bundle>, BundleError> {
        check_beginning(&bytes[..bytes.len().min(FIXED_BYTES)], bytes.len() as u64)?;
        let (mut buffer, start) = aligned_buffer(bytes.len());
        buffer.extend_from_slice(bytes);
        Bundle::check(Arc::new(Buffer { buffer, start }), Hashes::All)
    }

    /// Checks a bundle that is a part of the program. It is used in place if it lies at a multiple of 64 bytes, otherwise
    /// copied. The hashes of its sections are not computed, because the program's own bytes need no check.
    ///
    /// # Errors
    /// If the bytes are no bundle of this version.
    pub fn from_static(bytes: &'static [u8]) -> Result<Arc<Bundle>, BundleError> {
        if bytes.as_ptr().align_offset(ALIGNMENT) == 0 {
            return Bundle::check(Arc::new(bytes), Hashes::HeaderOnly);
        }
        Bundle::from_bytes(bytes)
    }

    /// Returns the same network without its tasks of a kind: none of them can be chosen any more.
    ///
    /// # Errors
    /// As when the bundle was opened.
    pub fn without(&self, kind: TaskKind) -> Result<Arc<Bundle>, BundleError> {
        // The hashes were checked when it was opened.
        let mut bundle = Bundle::read(self.bytes.clone(), Hashes::HeaderOnly)?;
        bundle.manifest.take_out(kind);
        Ok(Arc::new(bundle))
    }

    /// Returns the manifest inside; with the feature `no-expression`, without the tasks that the feature takes out.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the manifest's text, as it was written.
    pub fn manifest_text(&self) -> &str {
        &self.manifest_text
    }

    /// Returns the tensors and the cost of each part, in the manifest's order.
    pub fn parts(&self) -> impl Iterator<Item = &PartInfo> {
        self.parts.iter()
    }

    /// Returns the identity of the network: SHA-256, in hexadecimal, of the header of the plain bundle, which holds the hash
    /// of every section. A packed bundle has the identity of the one it was made of.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the size of the file, bytes.
    pub fn len_bytes(&self) -> usize {
        (*self.bytes).as_ref().len()
    }

    /// Returns the parts' plans, in the manifest's order, and after them those of the views.
    pub(crate) fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// Returns the elements of a constant.
    pub(crate) fn constant(&self, index: u32) -> Result<Data<'_>, Error> {
        let missing = || Error::new(ErrorKind::Network, format!("the bundle has no tensor {index}"));
        let entry = self.table.get(index as usize).ok_or_else(missing)?;
        let bytes = self.stored(index).ok_or_else(missing)?;
        Ok(match entry.element {
            // Tensors are aligned, and so is the memory, unless it changes its place from call to call.
            Element::F32 => Data::F32(bytemuck::try_cast_slice(bytes).map_err(|_| missing())?),
            Element::U8 => Data::U8(bytes),
            Element::I8 => Data::I8(bytemuck::cast_slice(bytes)),
        })
    }

    /// Returns the bytes of a tensor in the file.
    pub(crate) fn stored(&self, index: u32) -> Option<&[u8]> {
        (*self.bytes).as_ref().get(self.range(index)?)
    }

    /// Returns where the bytes of a tensor lie in the file.
    pub(crate) fn range(&self, index: u32) -> Option<Range<usize>> {
        self.ranges.get(index as usize).cloned()
    }

    fn check(bytes: Memory, hashes: Hashes) -> Result<Arc<Bundle>, BundleError> {
        Bundle::read(bytes, hashes).map(Arc::new)
    }

    /// Reads and checks a bundle: the only way from bytes to a network.
    fn read(bytes: Memory, hashes: Hashes) -> Result<Bundle, BundleError> {
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
        let mut manifest = Manifest::parse(&manifest_text)?;
        if cfg!(feature = "no-expression") {
            manifest.take_out(TaskKind::Expression);
        }
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
        let mut ranges = Vec::with_capacity(table.len());
        for (i, entry) in table.iter().enumerate() {
            let range = entry.range(data.len, packing);
            let Range { start, end } = range.map_err(|e| BundleError::Malformed(format!("tensor {i} {e}")))?;
            ranges.push(data.offset + start..data.offset + end);
        }
        let mut plans = Vec::new();
        for (i, section) in sections.iter().filter(|s| s.kind == PLAN).enumerate() {
            if section.number as usize != i {
                return Err(BundleError::Malformed("its plans are out of order".into()));
            }
            let plan: Plan = decode(body(section), "plan")?;
            check_plan(&plan, |index| table.get(index as usize).map(|t| (t.element, &t.shape[..])))
                .map_err(|e| BundleError::Malformed(format!("plan {}: {e}", plan.name)))?;
            plans.push(plan);
        }
        check_parts(&manifest, &plans)?;
        let count = manifest.parts.len().min(plans.len());
        let mut parts: Vec<PartInfo> = plans[..count].iter().map(|p| part_info(p, &table)).collect();
        for (info, part) in parts.iter_mut().zip(&manifest.parts) {
            // One run ends with one of the views.
            let views = plans[count..]
                .iter()
                .filter(|view| part.outputs.iter().any(|o| o == TensorName::parse(&view.name).tensor));
            let largest =
                views.fold(None, |most: Option<&Plan>, view| most.filter(|m| m.macs >= view.macs).or(Some(view)));
            if let Some(view) = largest.filter(|view| view.macs > 0) {
                info.macs = info.macs.saturating_add(view.macs);
                info.ops += view.steps.len();
            }
        }
        let identity = packed.as_ref().map_or(digest, |packed| packed.origin);
        let sha256 = hexadecimal(&identity);
        Ok(Bundle { manifest, manifest_text, table, ranges, packed, plans, parts, identity, sha256, bytes })
    }
}

/// Returns an empty buffer with room for `len` bytes, and the place from which on they will be aligned.
fn aligned_buffer(len: usize) -> (Vec<u8>, usize) {
    let mut buffer: Vec<u8> = Vec::with_capacity(len + ALIGNMENT);
    let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    buffer.resize(start, 0);
    (buffer, start)
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, BundleError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(BundleError::Malformed(format!("something follows the {what}"))),
        Err(error) => Err(BundleError::Malformed(format!("the {what} cannot be read: {error}"))),
    }
}

impl TensorEntry {
    /// Returns the bytes of its elements.
    fn bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.element.bytes()
    }

    /// Returns the bytes in the file; none if there are more than can be counted.
    fn stored_bytes(&self, packing: Option<Packing>) -> Option<usize> {
        match packing.filter(|_| is_packed(self.element, &self.shape)) {
            Some(packing) => packed_bytes(packing, &self.shape).and_then(|[weights, sums]| weights.checked_add(sums)),
            None => Some(self.bytes()),
        }
    }

    /// Checks that the tensor lies in the data section; returns where.
    fn range(&self, data_len: usize, packing: Option<Packing>) -> Result<Range<usize>, String> {
        let elements = self.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d));
        match elements {
            Some(n) if n <= MAX_ELEMENTS => {}
            _ => return Err(format!("has too many elements: {:?}", self.shape)),
        }
        let start = usize::try_from(self.offset).ok().filter(|start| start.is_multiple_of(ALIGNMENT));
        let end = start.zip(self.stored_bytes(packing)).and_then(|(start, bytes)| start.checked_add(bytes));
        match (start, end.filter(|end| *end <= data_len)) {
            (Some(start), Some(end)) => Ok(start..end),
            _ => Err("lies outside the data section, or is not aligned".into()),
        }
    }
}

/// Checks that the manifest and the plans have the same parts in the same order, and that only views follow.
fn check_parts(manifest: &Manifest, plans: &[Plan]) -> Result<(), BundleError> {
    let names =
        |ports: &[Port]| ports.iter().map(|p| TensorName::parse(&p.name).tensor.to_string()).collect::<Vec<_>>();
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
            let tensor = TensorName::parse(&view.name).tensor;
            let maker = manifest.parts.iter().zip(plans).find(|(part, _)| part.outputs.iter().any(|o| o == tensor));
            let is_named =
                |port: &Port| port.name == view.name && plans.iter().all(|p| !has_output(p, &view.name) || p == view);
            // A view reads encodings of its tensor, and inputs of the part that makes the tensor.
            let reads = |port: &Port| {
                TensorName::parse(&port.name).tensor == tensor
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Op, Step, Unary, Value};

    /// A bundle of one part with the tasks `age` and `mood`, which infers expressions.
    fn bytes() -> Vec<u8> {
        let mut text = String::from(
            "format = 1\nname = 'n'\nversion = '0'\n[input]\ntensor = 'image'\nsize = 8\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n\
             [frame]\ntemplate = [[0, 0], [1, 0], [0.5, 0.5], [0, 1], [1, 1]]\n\
             [[part]]\nname = 'p'\nfile = 'x'\nsha256 = ''\ninputs = ['image']\noutputs = ['y']\n",
        );
        for (name, kind) in [("mood", "expression"), ("age", "age")] {
            text += &format!("[[task]]\nname = '{name}'\nkind = '{kind}'\npart = 'p'\noutput = 'y'\n");
        }
        let value = || Value { shape: vec![1, 3, 8, 8], element: Element::F32, constant: None };
        let port = |name: &str, value| Port { name: name.into(), value };
        let mut writer = crate::bundle::Writer::new(&text);
        writer.plan(Plan {
            name: "p".into(),
            values: vec![value(), value()],
            steps: vec![Step { name: "s".into(), op: Op::Unary(Unary::Relu), inputs: vec![0], outputs: vec![1] }],
            inputs: vec![port("image", 0)],
            outputs: vec![port("y", 1)],
            macs: 0,
        });
        writer.finish().expect("a small bundle")
    }

    fn tasks(bundle: &Bundle) -> Vec<&str> {
        bundle.manifest().tasks.iter().map(|task| task.name.as_str()).collect()
    }

    #[test]
    fn no_way_of_reading_leaves_what_the_feature_takes_out() {
        let expected: &[&str] = if cfg!(feature = "no-expression") { &["age"] } else { &["mood", "age"] };
        let bytes: &'static [u8] = bytes().leak();
        let folder = faceptor_test_support::Folder::new();
        let path = folder.path().join("p.bundle");
        std::fs::write(&path, bytes).expect("writable");
        let read = [
            Bundle::from_bytes(bytes),
            Bundle::from_static(bytes),
            Bundle::from_memory(Arc::new(bytes)),
            Bundle::open(&path),
        ];
        for bundle in read {
            let bundle = bundle.expect("a bundle");
            assert_eq!(tasks(&bundle), expected);
            assert_eq!(bundle.manifest().taken_out.is_empty(), expected.len() == 2);
        }
    }

    #[test]
    fn a_network_without_a_kind_of_tasks_is_the_same_otherwise() {
        let whole = Bundle::from_bytes(&bytes()).expect("a bundle");
        let without = whole.without(TaskKind::Expression).expect("the same bytes");
        assert_eq!((tasks(&without), &without.manifest().taken_out[..]), (vec!["age"], &["mood".to_owned()][..]));
        assert_eq!(without.sha256(), whole.sha256());
        let again = without.without(TaskKind::Age).expect("the same bytes");
        assert!(tasks(&again).iter().all(|task| *task != "age"));
    }
}
