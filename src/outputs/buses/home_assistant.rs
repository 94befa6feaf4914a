//! Describes the entities of a run for Home Assistant's MQTT discovery.

use serde_json::{Value, json};

/// The topic of Home Assistant's discovery.
const DISCOVERY: &str = "homeassistant";

/// An entity: its kind, its name in topics and for people, the field of the state, and further properties.
struct Entity {
    kind: &'static str,
    field: &'static str,
    title: &'static str,
    icon: &'static str,
}

const ENTITIES: [Entity; 5] = [
    Entity { kind: "binary_sensor", field: "presence", title: "Presence", icon: "mdi:account-check" },
    Entity { kind: "sensor", field: "count", title: "Faces", icon: "mdi:account-multiple" },
    Entity { kind: "sensor", field: "name", title: "Name", icon: "mdi:card-account-details" },
    Entity { kind: "sensor", field: "age", title: "Age", icon: "mdi:cake-variant" },
    Entity { kind: "sensor", field: "expression", title: "Expression", icon: "mdi:emoticon" },
];

/// Returns topic and payload of the entities' descriptions. `base` is the topic of the run.
///
/// Without expressions their entity has an empty description, which removes the one of an earlier run.
pub(super) fn discovery(
    base: &str,
    state_topic: &str,
    availability_topic: &str,
    has_expression: bool,
) -> Vec<(String, String)> {
    let node = node_id(base);
    let describe = |entity: &Entity| {
        let mut config = json!({
            "name": entity.title,
            "unique_id": format!("{node}_{}", entity.field),
            "state_topic": state_topic,
            "availability_topic": availability_topic,
            "value_template": format!("{{{{ value_json.{} }}}}", entity.field),
            "icon": entity.icon,
            "device": {
                "identifiers": [node],
                "name": format!("Faceptor {base}"),
                "model": "Faceptor Edge",
                "sw_version": env!("CARGO_PKG_VERSION"),
            },
        });
        if let Value::Object(fields) = &mut config {
            match entity.field {
                "presence" => fields.insert("device_class".to_owned(), json!("occupancy")),
                "count" => fields.insert("state_class".to_owned(), json!("measurement")),
                "age" => fields.insert("unit_of_measurement".to_owned(), json!("y")),
                _ => None,
            };
        }
        let is_absent = entity.field == "expression" && !has_expression;
        let payload = if is_absent { String::new() } else { config.to_string() };
        (format!("{DISCOVERY}/{}/{node}/{}/config", entity.kind, entity.field), payload)
    };
    ENTITIES.iter().map(describe).collect()
}

/// Returns the topic of a run as a name that Home Assistant accepts: letters, digits, `_` and `-`.
pub(super) fn node_id(base: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = base.chars().map(letter).collect();
    match name.starts_with("faceptor") {
        true => name,
        false => format!("faceptor_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entity_reads_its_field_of_the_state() {
        let messages = discovery("home/door", "home/door/state", "home/door/availability", true);
        assert_eq!(messages.len(), 5);
        for ((topic, payload), entity) in messages.iter().zip(&ENTITIES) {
            assert_eq!(*topic, format!("homeassistant/{}/faceptor_home_door/{}/config", entity.kind, entity.field));
            let config: Value = serde_json::from_str(payload).expect("JSON");
            assert_eq!(config["value_template"], format!("{{{{ value_json.{} }}}}", entity.field));
            assert_eq!(config["availability_topic"], "home/door/availability");
        }
        let ids: std::collections::HashSet<_> = messages.iter().map(|(topic, _)| topic).collect();
        assert_eq!(
            (ids.len(), node_id("faceptor"), node_id("ü/+")),
            (5, "faceptor".to_owned(), "faceptor____".to_owned())
        );
    }

    #[test]
    fn without_the_task_the_entity_of_expressions_is_removed() {
        let messages = discovery("door", "door/state", "door/availability", false);
        let removed: Vec<&str> =
            messages.iter().filter(|(_, payload)| payload.is_empty()).map(|(topic, _)| topic.as_str()).collect();
        assert_eq!(removed, ["homeassistant/sensor/faceptor_door/expression/config"]);
        assert_eq!(messages.len(), 5);
    }
}
