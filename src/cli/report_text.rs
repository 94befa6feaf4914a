//! Formats a JSON report as text.

use serde_json::{Map, Value};

/// The columns of a table of latencies.
const COLUMNS: [&str; 6] = ["n", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"];

/// Formats a report as `key: value` lines. Nested objects are indented below their name; latencies become a table.
pub fn text(report: &Value) -> String {
    let mut text = String::new();
    match report {
        Value::Object(object) => lines(object, 0, &mut text),
        other => text = format!("{}\n", scalar(other)),
    }
    text
}

fn lines(object: &Map<String, Value>, indent: usize, text: &mut String) {
    let latencies = |value: &Value| value.get("p50_us").is_some();
    if !object.is_empty() && object.values().all(latencies) {
        return table(object, indent, text);
    }
    for (key, value) in object {
        let name = key.replace('_', " ");
        match value {
            Value::Object(inner) if latencies(value) => {
                let alone = Map::from_iter([(key.clone(), Value::Object(inner.clone()))]);
                table(&alone, indent, text);
            }
            Value::Object(inner) if inner.is_empty() => {}
            Value::Object(inner) => {
                *text += &format!("{:indent$}{name}:\n", "");
                lines(inner, indent + 2, text);
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                *text += &format!("{:indent$}{name}:\n", "");
                for object in list.iter().filter_map(Value::as_object) {
                    let fields: Vec<String> = object
                        .iter()
                        .map(|(key, value)| format!("{} {}", key.replace('_', " "), scalar(value)))
                        .collect();
                    *text += &format!("{:indent$}  {}\n", "", fields.join(", "));
                }
            }
            value => *text += &format!("{:indent$}{name}: {}\n", "", scalar(value)),
        }
    }
}

fn table(rows: &Map<String, Value>, indent: usize, text: &mut String) {
    *text += &format!("{:indent$}{:<24}", "", "ms");
    COLUMNS.iter().for_each(|column| *text += &format!("{:>10}", column.trim_end_matches("_us")));
    for (name, row) in rows {
        *text += &format!("\n{:indent$}{:<24}", "", name.replace('_', " "));
        for column in COLUMNS {
            let cell = match (column, row[column].as_u64()) {
                ("n", Some(count)) => count.to_string(),
                (_, Some(us)) => format!("{:.3}", us as f64 / 1000.0),
                _ => String::new(),
            };
            *text += &format!("{cell:>10}");
        }
    }
    text.push('\n');
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(list) if list.is_empty() => "none".to_owned(),
        Value::Array(list) => list.iter().map(scalar).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_lines() {
        let report = json!({"tasks": ["age", "parsing"], "budget_ms": 33.3, "lost": false, "level": null, "none": [],
            "heat": {"level": 1}, "zones": [{"zone": "cpu", "celsius": 50.5}]});
        let text = text(&report);
        for line in [
            "tasks: age, parsing\n",
            "budget ms: 33.3\n",
            "lost: no\n",
            "level: -\n",
            "none: none\n",
            "heat:\n  level: 1\n",
            "zones:\n  celsius 50.5, zone cpu\n",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }

    #[test]
    fn latencies_are_a_table() {
        let row = |us: u64| json!({"n": 10, "p50_us": us, "p99_us": 2 * us, "max_us": 3000});
        let text = text(&json!({"stages": {"encode": row(1500), "decode age": row(20)}, "frame": row(7)}));
        let line =
            |begin: &str| text.lines().find(|line| line.trim_start().starts_with(begin)).expect("a row").to_owned();
        assert_eq!(line("encode").split_whitespace().collect::<Vec<_>>(), ["encode", "10", "1.500", "3.000", "3.000"]);
        assert!(line("decode age").ends_with("3.000") && line("frame").contains("0.007"));
        assert!(line("ms").ends_with("p50       p90       p99      p999       max"), "{text}");
    }
}
