"""The JSON Schema that ships with the package, as editors and others use it."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from pytest_flops.budgets.schema import SCHEMA_FILE

SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def violations(text):
    """With a validator that knows nothing of ours."""
    data = yaml.safe_load(text)
    return list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(data))


def test_it_is_a_valid_schema_of_draft_2020_12():
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_it_accepts_a_whole_budget():
    assert not violations(
        """
        version: 1
        x-anchors: {anything: goes}
        budgets:
          a:
            workload: {model: m, config: {d_model: 1}, batch_size: 1, seq_len: 1, optimizer: none}
            limits: {total: 49 GFLOP, forward: 5, components: {"layer_*": {forward: 140 MFLOP}}}
            tolerance: 0%
            scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: 1.0, components: {"a.*": 0}}}
        """
    )


@pytest.mark.parametrize(
    "text",
    [
        "{version: 2, budgets: {a: {limits: {total: 1}}}}",
        "{version: 1, budgets: {}}",
        "{version: 1, budgets: {a: {}}}",
        "{version: 1, budgets: {a: {limit: {total: 1}}}}",
        "{version: 1, budgets: {a: {limits: {total: 1.5}}}}",
        "{version: 1, budgets: {a: {recorded: {forward: 1}, tolerance: 0%}}}",
        "{version: 1, budgets: {a: {workload: {model: m, optimizer: lion}}}}",
        "{version: 1, budgets: {a: {scaling: {n: {sizes: [1, 2], max_exponent: 1}}}}}",
    ],
)
def test_editors_see_mistakes_in_structure(text):
    assert violations(text)


def nodes(schema):
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)


def test_every_key_that_people_write_has_a_description_to_hover_over():
    for schema in nodes(SCHEMA):
        for key, value in schema.get("properties", {}).items():
            described = value
            if "$ref" in value:
                described = SCHEMA["$defs"][value["$ref"].rpartition("/")[2]]
            assert described.get("description") or described.get("title"), key
