//! A file system in memory that stops after any step, and forgets what was not flushed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::update::disk::Disk;

/// Names in folders: the folder's number and the name, with the number of what has the name.
type Names = BTreeMap<(usize, String), usize>;

#[derive(Clone, Debug)]
enum Node {
    Folder,
    File(Vec<u8>),
    Link(String),
}

#[derive(Clone, Debug, Default)]
struct State {
    nodes: Vec<Node>,
    names: Names,
    /// The names that outlive a power failure.
    durable: Names,
    /// Steps that may still be made.
    left: Option<u64>,
    made: u64,
    is_full: bool,
}

/// The file system; its clones are the same one. Node 0 is the root.
#[derive(Clone, Debug)]
pub(super) struct MemoryDisk(Rc<RefCell<State>>);

impl MemoryDisk {
    pub(super) fn new() -> MemoryDisk {
        MemoryDisk(Rc::new(RefCell::new(State { nodes: vec![Node::Folder], ..State::default() })))
    }

    /// Returns a copy that fails from the step after `steps` on, as if the program were killed.
    pub(super) fn killed_after(&self, steps: u64) -> MemoryDisk {
        let copy = State { left: Some(steps), made: 0, ..self.0.borrow().clone() };
        MemoryDisk(Rc::new(RefCell::new(copy)))
    }

    /// Returns a copy that works again.
    pub(super) fn revived(&self) -> MemoryDisk {
        let copy = State { left: None, made: 0, ..self.0.borrow().clone() };
        MemoryDisk(Rc::new(RefCell::new(copy)))
    }

    /// Returns what a power failure leaves: names that were not flushed are gone, and removed ones are back.
    pub(super) fn after_power_failure(&self) -> MemoryDisk {
        let state = self.0.borrow().clone();
        MemoryDisk(Rc::new(RefCell::new(State { names: state.durable.clone(), left: None, made: 0, ..state })))
    }

    /// Lets every step fail that needs space.
    pub(super) fn fill(&self) {
        self.0.borrow_mut().is_full = true;
    }

    pub(super) fn steps_made(&self) -> u64 {
        self.0.borrow().made
    }

    /// Returns the bytes of a file, through links.
    pub(super) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        match self.0.borrow().nodes.get(self.find(path)?) {
            Some(Node::File(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let state = self.0.borrow();
        let mut at = 0;
        for part in path {
            at = *state.names.get(&(at, part.to_str()?.to_owned()))?;
        }
        Some(at)
    }

    /// Returns the folder and the name of a path.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let folder = self.find(path.parent().unwrap_or(Path::new(""))).ok_or(ErrorKind::NotFound)?;
        Ok((folder, path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned()))
    }

    fn step(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        match &mut state.left {
            Some(0) => return Err(io::Error::other("killed")),
            Some(left) => *left -= 1,
            None => {}
        }
        state.made += 1;
        Ok(())
    }

    fn is_last_step(&self) -> bool {
        self.0.borrow().left == Some(0)
    }

    fn add(&self, path: &Path, node: Node) -> io::Result<()> {
        if self.0.borrow().is_full {
            return Err(ErrorKind::StorageFull.into());
        }
        let place = self.place(path)?;
        let mut state = self.0.borrow_mut();
        if state.names.contains_key(&place) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        state.nodes.push(node);
        let number = state.nodes.len() - 1;
        state.names.insert(place, number);
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let Some(folder) = self.find(folder) else { return Ok(Vec::new()) };
        Ok(self.0.borrow().names.keys().filter(|(of, _)| *of == folder).map(|(_, name)| name.clone()).collect())
    }

    fn target(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        let Some(number) = self.find(link) else { return Ok(None) };
        match &self.0.borrow().nodes[number] {
            Node::Link(target) => Ok(Some(target.into())),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    fn make_folder(&mut self, folder: &Path) -> io::Result<()> {
        self.step()?;
        self.add(folder, Node::Folder)
    }

    fn write(&mut self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.is_last_step() {
            // A kill within the write.
            self.add(file, Node::File(bytes[..bytes.len() / 2].to_vec()))?;
        }
        self.step()?;
        self.add(file, Node::File(bytes.to_vec()))
    }

    fn link(&mut self, target: &str, link: &Path) -> io::Result<()> {
        self.step()?;
        self.add(link, Node::Link(target.to_owned()))
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let (from, to) = (self.place(from)?, self.place(to)?);
        let mut state = self.0.borrow_mut();
        let number = state.names.remove(&from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to, number);
        Ok(())
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        // The files of a folder go one by one.
        if let Some(number) = self.find(path)
            && matches!(self.0.borrow().nodes[number], Node::Folder)
        {
            for name in self.names(path)? {
                let mut disk = self.clone();
                disk.remove(&path.join(name))?;
            }
        }
        self.step()?;
        let place = self.place(path)?;
        self.0.borrow_mut().names.remove(&place);
        Ok(())
    }

    fn flush(&mut self, folder: &Path) -> io::Result<()> {
        self.step()?;
        let folder = self.find(folder).ok_or(ErrorKind::NotFound)?;
        let mut state = self.0.borrow_mut();
        state.durable.retain(|(of, _), _| *of != folder);
        let here: Vec<_> =
            state.names.iter().filter(|((of, _), _)| *of == folder).map(|(a, b)| (a.clone(), *b)).collect();
        state.durable.extend(here);
        Ok(())
    }
}
