//! Attribute values: defaults, kept metadata, and the operators whose
//! repetition shows.

use serde_json::{Map, Value, json};

/// An attribute in full. In `keyValues` the value stands alone; Orion 4.7
/// then takes its type from the JSON type.
pub fn normalized(given: &Value, key_values: bool) -> Value {
    let default_type = |value: &Value| match value {
        Value::String(_) => "Text",
        Value::Number(_) => "Number",
        Value::Bool(_) => "Boolean",
        Value::Null => "None",
        Value::Array(_) | Value::Object(_) => "StructuredValue",
    };
    if key_values {
        return json!({"type": default_type(given), "value": given, "metadata": {}});
    }
    let value = given.get("value").cloned().unwrap_or(Value::Null);
    let kind = given.get("type").cloned().unwrap_or_else(|| json!(default_type(&value)));
    let metadata = given.get("metadata").cloned().unwrap_or_else(|| json!({}));
    json!({"type": kind, "value": value, "metadata": metadata})
}

/// The attribute after an update: operators are applied to the old value, and
/// metadata that the update does not name stays, as in Orion 4.7.
pub fn updated(old: Option<&Value>, new: &Value) -> Result<Value, String> {
    let mut after = new.clone();
    let old_value = old.and_then(|o| o.get("value"));
    if let Some((operator, operand)) = operator(&new["value"]) {
        after["value"] = apply(operator, old_value, operand)?;
        if let Some(kind) = old.and_then(|o| o.get("type")) {
            after["type"] = kind.clone();
        }
    }
    if let Some(Value::Object(kept)) = old.and_then(|o| o.get("metadata")) {
        let mut metadata = kept.clone();
        if let Some(Value::Object(told)) = new.get("metadata") {
            metadata.extend(told.clone());
        }
        after["metadata"] = Value::Object(metadata);
    }
    Ok(after)
}

fn operator(value: &Value) -> Option<(&str, &Value)> {
    let object = value.as_object().filter(|o| o.len() == 1)?;
    object.iter().next().map(|(k, v)| (k.as_str(), v)).filter(|(k, _)| k.starts_with('$'))
}

fn apply(operator: &str, old: Option<&Value>, operand: &Value) -> Result<Value, String> {
    let old_number = || old.and_then(Value::as_f64);
    let operand_number = || operand.as_f64().ok_or(format!("{operator} needs a number"));
    let list = || match old {
        Some(Value::Array(list)) => Ok(list.clone()),
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err(format!("{operator} needs an array")),
    };
    Ok(match operator {
        "$inc" => number(old_number().unwrap_or(0.0) + operand_number()?),
        "$mul" => number(old_number().unwrap_or(0.0) * operand_number()?),
        "$min" => {
            number(old_number().map_or(operand_number()?, |o| o.min(operand.as_f64().unwrap_or(o))))
        }
        "$max" => {
            number(old_number().map_or(operand_number()?, |o| o.max(operand.as_f64().unwrap_or(o))))
        }
        "$push" => {
            let mut list = list()?;
            list.push(operand.clone());
            Value::Array(list)
        }
        "$addToSet" => {
            let mut list = list()?;
            if !list.contains(operand) {
                list.push(operand.clone());
            }
            Value::Array(list)
        }
        "$pull" => Value::Array(list()?.into_iter().filter(|v| v != operand).collect()),
        "$set" => {
            let mut object = old.and_then(Value::as_object).cloned().unwrap_or_default();
            object.extend(operand.as_object().cloned().unwrap_or_default());
            Value::Object(object)
        }
        "$unset" => {
            let mut object: Map<_, _> = old.and_then(Value::as_object).cloned().unwrap_or_default();
            object.retain(|name, _| operand.get(name).is_none());
            Value::Object(object)
        }
        _ => return Err(format!("unknown operator {operator}")),
    })
}

/// Orion's numbers are doubles; whole ones are written without a fraction.
fn number(value: f64) -> Value {
    let text = if value.fract() == 0.0 && value.abs() < 1e15 {
        format!("{value:.0}")
    } else {
        value.to_string()
    };
    serde_json::from_str(&text).unwrap_or(Value::Null)
}
