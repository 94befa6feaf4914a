//! Status codes, and the message of a thread's last failure.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use faceptor::stages::contain_panic;
use faceptor::{Error, ErrorKind};

/// `faceptor_status` of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    Ok = 0,
    Argument = 1,
    Handle = 2,
    Bundle = 3,
    Task = 4,
    Image = 5,
    Unsupported = 6,
    Network = 7,
    Defect = 8,
    Gallery = 9,
}

/// A reason why a call gave no result.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    text: String,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(status: Status, text: impl Into<String>) -> Failure {
        Failure { status, text: text.into() }
    }

    pub fn argument(text: impl Into<String>) -> Failure {
        Failure::new(Status::Argument, text)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let status = match error.kind() {
            ErrorKind::Bundle => Status::Bundle,
            ErrorKind::Task => Status::Task,
            ErrorKind::Image => Status::Image,
            ErrorKind::Unsupported => Status::Unsupported,
            _ => Status::Network,
        };
        Failure::new(status, error.to_string())
    }
}

impl From<anyhow::Error> for Failure {
    /// Takes what was wrong with a gallery or its key; a failure of the library keeps its status.
    fn from(error: anyhow::Error) -> Failure {
        let text = format!("{error:#}");
        match error.downcast_ref::<Error>() {
            Some(inner) => Failure { text, ..Failure::from(inner.clone()) },
            None => Failure::new(Status::Gallery, text),
        }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Runs a function of the header and returns its status; the message of a failure is kept for this thread.
pub fn guarded(work: impl FnOnce() -> Outcome<()>) -> u32 {
    let defect = || Err(Failure::new(Status::Defect, "a defect of faceptor stopped this call; please report it"));
    match contain_panic(work).unwrap_or_else(defect) {
        Ok(()) => Status::Ok as u32,
        Err(failure) => {
            remember(&failure.text);
            failure.status as u32
        }
    }
}

fn remember(text: &str) {
    let text = CString::new(text.replace('\0', "\\0")).unwrap_or_default();
    // While a thread ends there is no place for it any more.
    let _ = LAST.try_with(|last| last.replace(text));
}

/// Returns this thread's last message; it stays where it is until the next failure.
pub fn last_message() -> *const c_char {
    const EMPTY: &CStr = c"";
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(EMPTY.as_ptr())
}
