//! Checks as JUnit XML, which a lab's CI shows as tests.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::lab::verify::VerifyCheck;

/// The checks as XML, a suite for each group, in the order in which the groups first appear.
pub fn to_xml(name: &str, checks: &[VerifyCheck]) -> Result<String> {
    let mut report = Report::new(name);
    let mut groups: Vec<&str> = Vec::new();
    for check in checks {
        if !groups.contains(&check.group) {
            groups.push(check.group);
        }
    }
    for group in groups {
        let mut suite = TestSuite::new(group);
        for check in checks.iter().filter(|check| check.group == group) {
            let mut status = TestCaseStatus::success();
            if !check.passed {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(check.message.as_str());
            }
            let mut case = TestCase::new(check.name.as_str(), status);
            case.set_classname(format!("{name}.{group}")).set_system_out(check.message.as_str());
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string().context("the checks cannot be written as JUnit XML")
}

/// Writes the checks to a file.
pub fn write(path: &Path, name: &str, checks: &[VerifyCheck]) -> Result<()> {
    fs::write(path, to_xml(name, checks)?).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_count_their_failures_and_texts_are_escaped() -> Result<()> {
        let check = |group, name: &str, passed| VerifyCheck {
            group,
            name: name.to_owned(),
            passed,
            message: "a < b & \"c\"".to_owned(),
        };
        let xml = to_xml(
            "verify",
            &[check("tasks", "age", true), check("latency", "x", true), check("tasks", "<b>", false)],
        )?;
        let read = Report::deserialize_from_str(&xml)?;
        assert_eq!((read.tests, read.failures, read.test_suites.len()), (3, 1, 2));
        let tasks = &read.test_suites[0];
        assert_eq!((tasks.name.as_str(), tasks.tests, tasks.failures), ("tasks", 2, 1));
        assert_eq!(tasks.test_cases[1].name.as_str(), "<b>");
        assert!(xml.contains("a &lt; b &amp; "), "{xml}");
        Ok(())
    }
}
