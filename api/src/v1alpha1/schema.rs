//! Schemas of types that are written as one value, which no derive can bound.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::duration::{DURATION_LENGTH_MAX, DurationText};
use super::gpu_budget::{LABELS_MAX, NamespaceLabels};
use super::metrics::{
    HEADER_VALUE_LENGTH_MAX, HEADERS_MAX, SELECTOR_VALUE_LENGTH_MAX, SELECTORS_MAX, Selectors,
    SourceHeaders,
};
use super::quantity::{self, QuantityText};
use super::reserved::Reserved;

impl JsonSchema for DurationText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": DURATION_LENGTH_MAX })
    }
}

impl JsonSchema for QuantityText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "maxLength": quantity::LENGTH_MAX,
            "pattern": quantity::REGEX,
            "minimum": 0,
        })
    }
}

impl JsonSchema for Selectors {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Selectors".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": SELECTORS_MAX,
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": SELECTOR_VALUE_LENGTH_MAX,
            },
        })
    }
}

impl JsonSchema for SourceHeaders {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SourceHeaders".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "maxProperties": HEADERS_MAX,
            "additionalProperties": {
                "type": "string",
                "maxLength": HEADER_VALUE_LENGTH_MAX,
                "pattern": "^[ -~]*$",
            },
        })
    }
}

impl JsonSchema for Reserved {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Reserved".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": true,
            "maxProperties": 32,
        })
    }
}

impl JsonSchema for NamespaceLabels {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NamespaceLabels".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "maxProperties": LABELS_MAX,
            "additionalProperties": { "type": "string", "maxLength": 63 },
        })
    }
}
