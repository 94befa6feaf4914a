//! Writes checks as JUnit XML, which a CI system shows as tests.

use std::fmt::Write as _;

use crate::lab::verify::VerifyCheck;

/// Returns the checks as XML: a suite for each group, in the order in which the groups first appear.
pub fn to_xml(name: &str, checks: &[VerifyCheck]) -> String {
    let mut groups: Vec<&str> = Vec::new();
    for check in checks {
        if !groups.contains(&check.group) {
            groups.push(check.group);
        }
    }
    let name = Escaped(name);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(xml, "<testsuites name=\"{name}\" {}>", counts(checks.iter()));
    for group in groups {
        let members = || checks.iter().filter(|check| check.group == group);
        let group = Escaped(group);
        let _ = writeln!(xml, "    <testsuite name=\"{group}\" {}>", counts(members()));
        for check in members() {
            let (case, message) = (Escaped(&check.name), Escaped(&check.message));
            let _ = writeln!(xml, "        <testcase name=\"{case}\" classname=\"{name}.{group}\">");
            if !check.passed {
                let _ = writeln!(xml, "            <failure message=\"{message}\"/>");
            }
            let _ = writeln!(xml, "            <system-out>{message}</system-out>\n        </testcase>");
        }
        xml.push_str("    </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Returns the attributes that count the results of a suite.
fn counts<'a>(checks: impl Iterator<Item = &'a VerifyCheck>) -> String {
    let (tests, failures) =
        checks.fold((0, 0), |(tests, failures), check| (tests + 1, failures + usize::from(!check.passed)));
    format!("tests=\"{tests}\" skipped=\"0\" errors=\"0\" failures=\"{failures}\"")
}

/// A text that is displayed as XML, in an attribute or between tags; characters that XML 1.0 does not allow are left out.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                // An attribute would make spaces of them.
                '\t' | '\n' | '\r' => write!(f, "&#{};", u32::from(character))?,
                '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => f.write_char(character)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;

    use super::*;

    fn check(group: &'static str, name: &str, passed: bool, message: &str) -> VerifyCheck {
        VerifyCheck { group, name: name.to_owned(), passed, message: message.to_owned() }
    }

    #[test]
    fn counts_failures_by_suite_and_escapes_texts() -> Result<()> {
        let text = "a < b & \"c\"";
        let xml = to_xml(
            "verify",
            &[check("tasks", "age", true, text), check("latency", "x", true, text), check("tasks", "<b>", false, text)],
        );
        let document = roxmltree::Document::parse(&xml)?;
        let root = document.root_element();
        assert_eq!((root.attribute("name"), root.attribute("tests")), (Some("verify"), Some("3")));
        assert_eq!(root.attribute("failures"), Some("1"));
        let suites: Vec<_> = root.children().filter(roxmltree::Node::is_element).collect();
        assert_eq!(suites.len(), 2);
        assert_eq!((suites[0].attribute("name"), suites[0].attribute("tests")), (Some("tasks"), Some("2")));
        assert_eq!((suites[0].attribute("failures"), suites[1].attribute("failures")), (Some("1"), Some("0")));
        let cases: Vec<_> = suites[0].children().filter(roxmltree::Node::is_element).collect();
        assert_eq!((cases[1].attribute("name"), cases[1].attribute("classname")), (Some("<b>"), Some("verify.tasks")));
        let failures = |case: &roxmltree::Node| case.descendants().filter(|n| n.has_tag_name("failure")).count();
        assert_eq!((failures(&cases[0]), failures(&cases[1])), (0, 1));
        let output = cases[0].descendants().find(|node| node.has_tag_name("system-out"));
        assert_eq!(output.and_then(|node| node.text()), Some(text));
        Ok(())
    }

    #[test]
    fn control_characters_do_not_make_the_xml_unreadable() -> Result<()> {
        let xml = to_xml("v", &[check("g", "two\nlines", false, "\u{1b}[31mred\u{0}\u{ffff} it's 'é'\t🙂")]);
        let document = roxmltree::Document::parse(&xml)?;
        let found = |tag| document.descendants().find(|node| node.has_tag_name(tag));
        let message = found("failure").and_then(|node| node.attribute("message"));
        assert_eq!(message, Some("[31mred it's 'é'\t🙂"));
        assert_eq!(found("testcase").and_then(|node| node.attribute("name")), Some("two\nlines"));
        Ok(())
    }
}
