//! Reads the faces of a result line, with the results that other systems get.

use serde::{Deserialize, Deserializer};

/// A frame.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct FrameFaces {
    pub faces: Vec<FaceState>,
}

/// A face.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct FaceState {
    #[serde(default)]
    pub id: u64,
    /// Years.
    #[serde(default, deserialize_with = "years")]
    pub age: Option<f64>,
    #[serde(default, deserialize_with = "label")]
    pub expression: Option<String>,
    /// Name from the gallery.
    #[serde(default, rename = "recognition", deserialize_with = "name")]
    pub name: Option<String>,
}

fn years<'de, D: Deserializer<'de>>(value: D) -> Result<Option<f64>, D::Error> {
    #[derive(Deserialize)]
    struct Age {
        years: Option<f64>,
    }
    Ok(Option::<Age>::deserialize(value)?.and_then(|age| age.years))
}

fn label<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Expression {
        label: Option<String>,
    }
    Ok(Option::<Expression>::deserialize(value)?.and_then(|expression| expression.label))
}

fn name<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Recognition {
        name: Option<String>,
    }
    Ok(Option::<Recognition>::deserialize(value)?.and_then(|recognition| recognition.name))
}

impl FrameFaces {
    /// Reads a line; `None` for a line that is not a result.
    pub(crate) fn read(line: &[u8]) -> Option<FrameFaces> {
        serde_json::from_slice(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_any_tasks_are_read() {
        let line = br#"{"frame":1,"faces":[{"id":3,"box":[1,2,3,4],"age":{"years":31.4,"std":5.2},
            "expression":{"label":"happiness","scores":{"neutral":0.1}},"recognition":{"name":null,"unknown":"far"}},
            {"id":4,"recognition":{"name":"Ada"}}]}"#;
        let faces = FrameFaces::read(line).expect("a line").faces;
        assert_eq!((faces[0].id, faces[0].age, faces[0].name.as_deref()), (3, Some(31.4), None));
        assert_eq!((faces[0].expression.as_deref(), faces[1].name.as_deref()), (Some("happiness"), Some("Ada")));
        assert_eq!(FrameFaces::read(b"{}"), None);
    }
}
