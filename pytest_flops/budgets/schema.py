"""The budget format's JSON Schema, and its violations in people's words."""

from __future__ import annotations

import json
import math
import re
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jsonschema import Draft202012Validator, FormatChecker, validators

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.patterns import parse_pattern
from pytest_flops.budgets.units import parse_amount, parse_flops, parse_percent, parse_share
from pytest_flops.counting.metric import (
    BUILT_IN,
    BYTE,
    CALL,
    ELEMENT,
    MACS,
    METRICS,
    ROOFLINE,
    TOTAL,
    countable,
)
from pytest_flops.counting.spelling import nearest, suggestion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flops.counting.metric import Metric

Keys = tuple[str | int, ...]

SCHEMA_FILE = Path(__file__).with_name("schema.json")
_OF_METRICS = "flops-metric-"

_REPORTED = (ROOFLINE.name, "intensity", "mfu")
_MOVED = (
    "the recorded counts moved to the lock file beside this one, NAME.lock.json for NAME.yaml: "
    "delete this key and run pytest --flops-update"
)


class Violation(NamedTuple):
    """What breaks the schema: where (keys and indices from the top), and why, in people's words.

    `at_key` says whether the last key itself is at fault rather than its value.
    """

    keys: Keys
    at_key: bool
    message: str


def violations(data: Any, definition: str | None = None) -> Iterator[Violation]:
    """Every violation of the schema, or of one of its `$defs`, in no particular order."""
    for error in _validator(definition, *countable().values()).iter_errors(data):
        yield from _translated(error)


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """What is wrong with a key or keyword that is not known here, and what would be right."""
    if name in _REPORTED:
        return (
            f"{name!r} is reported and never limited: measured times are far from the bound, and "
            "not by one factor. Limit flops, bytes or launches; "
            "`pytest-flops count --device` prints it"
        )
    if name == MACS.name:
        return (
            f"{name!r} is told and never limited: each MAC is 2 FLOP of a product, which the "
            "limits of FLOPs hold; `pytest-flops count --macs` prints them"
        )
    if name in METRICS and METRICS[name].of_compiler:
        return (
            f"{name!r} is of the whole workload, and neither of components nor of sizes: it is "
            "limited beside forward and total alone"
        )
    return f"unknown {kind} {name!r}{suggestion(name, known)}"


@cache
def _validator(definition: str | None, *metrics: Metric) -> Any:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    definitions = schema.pop("$defs")
    registered = [metric for metric in metrics if metric.name not in BUILT_IN]
    for place in ("limits", "quantities"):
        known = definitions[place]["properties"]
        known |= {metric.name: _limits_of(metric) for metric in registered}
    definitions["metric_exponents"]["properties"] |= {
        metric.name: definitions["exponent"] for metric in registered
    }
    schema = _inlined(definitions[definition] if definition else schema, definitions)
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    strict = validators.extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    formats = FormatChecker(formats=())
    checks = {_format_of(metric): partial(parse_amount, unit=metric.unit) for metric in registered}
    for name, check in (_CHECKS | checks).items():
        formats.checks(name, raises=BudgetError)(partial(_passes, check))
    return strict(schema, format_checker=formats)


def _limits_of(metric: Metric) -> dict[str, Any]:
    """The schema of a registered metric, as `schema.json` has that of each built-in one."""
    title = f"a {metric.unit.noun}"
    amount = {"title": title, "type": ["string", "integer"], "format": _format_of(metric)}
    by_phase = {
        "title": f"a mapping of {', '.join(metric.phases)} or total to {title}",
        "minProperties": 1,
        "additionalProperties": False,
        "properties": dict.fromkeys((*metric.phases, TOTAL), amount),
    }
    return {"if": {"type": "object"}, "then": by_phase, "else": amount}


def _format_of(metric: Metric) -> str:
    return f"{_OF_METRICS}{metric.name}"


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references; resolving them anew for every entry makes loading slow."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {key: _inlined(value, definitions) for key, value in schema.items()}


def _is_integer(_checker: Any, value: object) -> bool:
    """JSON Schema takes 32.0 for an integer."""
    return type(value) is int


def _passes(check: Callable[[Any], object], value: object) -> bool:
    check(value)
    return True


def _check_name(name: str) -> None:
    if not name.strip():
        raise BudgetError("a budget needs a name that is not empty")
    if "::" in name:
        raise BudgetError(f"the budget name {name!r} contains '::', which separates pytest's ids")
    if not name.isprintable():
        raise BudgetError(f"the budget name {name!r} contains a line break or control character")


def _check_sizes(sizes: Any) -> None:
    for smaller, larger in pairwise(sizes if isinstance(sizes, list) else ()):
        if type(smaller) is type(larger) is int and smaller >= larger:
            raise BudgetError(f"sizes must increase strictly, but {larger} follows {smaller}")


def _check_exponent(exponent: Any) -> None:
    if isinstance(exponent, float) and not exponent < math.inf:
        raise BudgetError(f"{exponent} is not finite; accepted is a finite number of at least 0")


_CHECKS: dict[str, Callable[[Any], object]] = {
    "flops-name": _check_name,
    "flops-pattern": parse_pattern,
    "flops-limit": parse_flops,
    "flops-bytes": partial(parse_amount, unit=BYTE),
    "flops-calls": partial(parse_amount, unit=CALL),
    "flops-elements": partial(parse_amount, unit=ELEMENT),
    "flops-percentage": parse_percent,
    "flops-share": parse_share,
    "flops-sizes": _check_sizes,
    "flops-exponent": _check_exponent,
}
_TELL_TYPES = (
    "flops-limit",
    "flops-bytes",
    "flops-calls",
    "flops-elements",
    "flops-percentage",
    "flops-share",
    _OF_METRICS,
)
"""How the formats begin whose check says what is wrong with a value of a wrong type too."""


def _translated(error: Any) -> Iterator[Violation]:
    """What a `jsonschema.ValidationError` says; its types leave too much open to be of help."""
    keys: Keys = tuple(error.absolute_path)
    if error.validator == "additionalProperties":
        for key in _unknown_keys(error):
            message = unknown("key", key, _offered(error))
            yield Violation((*keys, key), at_key=True, message=message)
    elif any(nearest(key, _offered(error)) in _missing(error) for key in _unknown_keys(error)):
        return  # it is there, misspelt, and told so
    elif error.validator == "not":
        yield Violation(keys, at_key=True, message=_MOVED)
    elif "propertyNames" in error.absolute_schema_path:
        yield Violation((*keys, str(error.instance)), at_key=True, message=_in_words(error))
    elif error.validator != "type" or not error.schema.get("format", "").startswith(_TELL_TYPES):
        yield Violation(keys, at_key=False, message=_in_words(error))


def _unknown_keys(error: Any) -> list[str]:
    """The keys of a mapping that its schema does not know, if it is one that knows its keys."""
    if "additionalProperties" not in error.schema or not isinstance(error.instance, dict):
        return []
    free = tuple(error.schema.get("patternProperties", {}))
    known = error.schema.get("properties", {})
    return [
        key
        for key in error.instance
        if key not in known and not any(re.search(pattern, key) for pattern in free)
    ]


def _offered(error: Any) -> list[str]:
    known = error.schema.get("properties", {})
    return [key for key, schema in known.items() if "deprecated" not in schema]


def _missing(error: Any) -> list[str]:
    """The keys that are not there, of which one would do."""
    if error.validator == "required":
        return [error.message.partition(" is a required")[0].strip("'")]
    options = error.validator_value if error.validator == "anyOf" else ()
    return [option["required"][0] for option in options]


def _in_words(error: Any) -> str:
    if error.cause is not None:
        return str(error.cause)
    expected = error.schema.get("title", "another value")
    if error.validator == "required":
        (missing,) = _missing(error)
        return f"the key {missing!r} is missing; expected {expected}"
    if error.validator == "dependentRequired":
        missing, given = re.findall("'([^']*)'", error.message)
        return f"{given} needs the key {missing!r} beside it"
    if error.validator == "anyOf":
        keys = _missing(error)
        what = "count" if "model" in keys else "check"
        return f"it holds nothing to {what}; it needs at least one of {', '.join(keys)}"
    if error.validator == "enum":
        accepted = ", ".join(error.validator_value)
        near = nearest(str(error.instance), error.validator_value)
        hint = f"; did you mean {near!r}?" if near else ""
        return f"expected one of {accepted}, found {_found(error.instance)}{hint}"
    return f"expected {expected}, found {_found(error.instance)}"


def _found(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, dict):
        return "an empty mapping" if not value else "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:40]}…"
