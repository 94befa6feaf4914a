//! Names of tasks.

use std::borrow::Cow;
use std::fmt;

/// A task that the network may do for each face.
///
/// The constants are those of the embedded network. A bundle may define others: [`Task::named`] finds them by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Task(Cow<'static, str>);

#[allow(non_upper_case_globals, reason = "they read like the variants of an enum, and bundles add more of them")]
impl Task {
    /// Age in years with its standard deviation.
    pub const Age: Task = Task(Cow::Borrowed("age"));
    /// 40 attributes of the CelebA data set, a probability each.
    pub const Attributes: Task = Task(Cow::Borrowed("attributes"));
    /// Eight expressions, whose probabilities sum to one.
    pub const Expression: Task = Task(Cow::Borrowed("expression"));
    /// 68 points in iBUG order.
    pub const Landmarks: Task = Task(Cow::Borrowed("landmarks"));
    /// 19 classes of the CelebAMask-HQ data set, one for each pixel.
    pub const Parsing: Task = Task(Cow::Borrowed("parsing"));
    /// An embedding, for comparing faces.
    pub const Recognition: Task = Task(Cow::Borrowed("recognition"));
}

impl Task {
    /// Names a task as the bundle's manifest does.
    pub fn named(name: impl Into<String>) -> Task {
        Task(Cow::Owned(name.into()))
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Task {
    fn from(name: &str) -> Task {
        Task::named(name)
    }
}

impl From<String> for Task {
    fn from(name: String) -> Task {
        Task::named(name)
    }
}

impl fmt::Display for Task {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_and_names_are_the_same_tasks() {
        assert_eq!(Task::Age, Task::from("age"));
        assert_eq!(Task::named("mood").to_string(), "mood");
    }
}
