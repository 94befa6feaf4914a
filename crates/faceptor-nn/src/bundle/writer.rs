//! Writes a bundle.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use crate::bundle::packing::PackedSection;
use crate::bundle::{
    ALIGNMENT, BundleError, DATA, ENTRY_BYTES, FIXED_BYTES, HASH_BYTES, MAGIC, MANIFEST, MAX_BYTES, OLDEST, PACKED,
    PLAN, TABLE, TensorEntry, VERSION, aligned,
};
use crate::plan::{Element, Plan};

/// Collects tensors and plans of a bundle; the order of the calls is the order in the file.
pub struct Writer {
    manifest: String,
    table: Vec<TensorEntry>,
    known: HashMap<(Element, Vec<usize>, [u8; HASH_BYTES]), u32>,
    data: Vec<u8>,
    plans: Vec<Plan>,
}

impl Writer {
    /// Starts a bundle with the manifest's text.
    pub fn new(manifest: &str) -> Writer {
        Writer {
            manifest: manifest.to_string(),
            table: Vec::new(),
            known: HashMap::new(),
            data: Vec::new(),
            plans: Vec::new(),
        }
    }

    /// Stores a tensor's little-endian bytes, unless an equal tensor is there; returns its index in the tensor table.
    pub fn tensor(&mut self, element: Element, shape: &[usize], bytes: &[u8]) -> u32 {
        let sha256: [u8; HASH_BYTES] = Sha256::digest(bytes).into();
        let table = &mut self.table;
        let data = &mut self.data;
        *self.known.entry((element, shape.to_vec(), sha256)).or_insert_with(|| {
            // Equal bytes under another shape share their place too.
            let twin = table.iter().find(|t| t.sha256 == sha256 && t.element == element).map(|t| t.offset);
            let offset = twin.unwrap_or_else(|| append(data, bytes));
            table.push(TensorEntry { element, shape: shape.to_vec(), offset, sha256 });
            (table.len() - 1) as u32
        })
    }

    /// Stores a tensor of another bundle under the index that it has there, with the given bytes; returns their offset.
    pub(crate) fn keep(&mut self, entry: &TensorEntry, bytes: &[u8]) -> u64 {
        let offset = append(&mut self.data, bytes);
        self.keep_at(entry, offset);
        offset
    }

    /// Stores a tensor of another bundle whose bytes lie at an offset already.
    pub(crate) fn keep_at(&mut self, entry: &TensorEntry, offset: u64) {
        self.table.push(TensorEntry { offset, ..entry.clone() });
    }

    /// Adds the plan of a part; after those of all parts, those of the views.
    pub fn plan(&mut self, plan: Plan) {
        self.plans.push(plan);
    }

    /// Returns the file's bytes.
    ///
    /// # Errors
    /// If the bundle would be larger than one may be.
    pub fn finish(self) -> Result<Vec<u8>, BundleError> {
        self.write(None)
    }

    /// Returns the bytes of a file whose weights are in a family's order.
    pub(crate) fn finish_packed(self, packed: &PackedSection) -> Result<Vec<u8>, BundleError> {
        self.write(Some(packed))
    }

    fn write(self, packed: Option<&PackedSection>) -> Result<Vec<u8>, BundleError> {
        let encode = |what: &str, bytes: postcard::Result<Vec<u8>>| {
            bytes.map_err(|e| BundleError::Malformed(format!("{what} cannot be encoded: {e}")))
        };
        let mut sections = vec![
            (MANIFEST, 0, self.manifest.into_bytes()),
            (TABLE, 0, encode("tensor table", postcard::to_allocvec(&self.table))?),
        ];
        for (number, plan) in self.plans.iter().enumerate() {
            sections.push((PLAN, number as u32, encode(&plan.name, postcard::to_allocvec(plan))?));
        }
        sections.push((DATA, 0, self.data));
        if let Some(packed) = packed {
            sections.push((PACKED, 0, encode("packing", postcard::to_allocvec(packed))?));
        }
        let version = if packed.is_some() { VERSION } else { OLDEST };

        let mut offset = aligned(FIXED_BYTES + sections.len() * ENTRY_BYTES + HASH_BYTES);
        let mut entries = Vec::new();
        for (kind, number, bytes) in &sections {
            entries.extend(kind.to_le_bytes());
            entries.extend(number.to_le_bytes());
            entries.extend((offset as u64).to_le_bytes());
            entries.extend((bytes.len() as u64).to_le_bytes());
            entries.extend(Sha256::digest(bytes));
            offset = aligned(offset + bytes.len());
        }
        if offset as u64 > MAX_BYTES {
            return Err(BundleError::TooLarge(format!("{offset} bytes, at most {MAX_BYTES}")));
        }
        let mut file = Vec::with_capacity(offset);
        file.extend(MAGIC);
        file.extend(version.to_le_bytes());
        file.extend((sections.len() as u32).to_le_bytes());
        file.extend((offset as u64).to_le_bytes());
        file.extend(entries);
        let header = Sha256::digest(&file);
        file.extend(header);
        for (_, _, bytes) in &sections {
            file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
            file.extend(bytes);
        }
        file.resize(offset, 0);
        Ok(file)
    }
}

/// Appends a tensor's bytes at an aligned offset; returns it.
fn append(data: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    let offset = aligned(data.len());
    data.resize(offset, 0);
    data.extend_from_slice(bytes);
    offset as u64
}
