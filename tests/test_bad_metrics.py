"""Limits of other metrics that say nothing sensible: refused when they are read, at their place."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

# What is limited, as YAML, with a ^ before what is at fault; and what is said.
OF_ANOTHER_UNIT = [
    ("bytes: ^3 GFLOP", "'3 GFLOP' is a number of FLOPs, not a number of bytes"),
    ("bytes: {forward: ^60 calls}", "'60 calls' is a number of calls, not a number of bytes"),
    ("peak_memory: ^3 GFLOP", "'3 GFLOP' is a number of FLOPs, not a number of bytes"),
    ("launches: ^3 MB", "'3 MB' is a number of bytes, not a number of calls"),
    ("syncs: ^1 KiB", "'1 KiB' is a number of bytes, not a number of calls"),
    ("full_precision: ^12 GiB", "'12 GiB' is a number of bytes, not a number of FLOPs"),
    ("parameters: ^3 GB", "'3 GB' is a number of bytes, not a number of elements"),
    ("trainable_parameters: ^1 FLOP", "'1 FLOP' is a number of FLOPs, not a number of elements"),
    ("forward: ^3 GiB", "'3 GiB' is a number of bytes, not a number of FLOPs"),
]
NO_NUMBER = [
    ("syncs: ^-1", "-1 is negative. Accepted is an integer of at least 0"),
    ("syncs: ^-1 calls", "'-1 calls' is negative"),
    ("bytes: {forward: ^-3 MB}", "'-3 MB' is negative"),
    ("parameters: ^-2", "-2 is negative"),
    ("launches: ^3.5", "3.5 is no whole number of calls. Accepted is an integer of at least 0"),
    ("launches: {forward: ^3.5}", "3.5 is no whole number of calls"),
    ("launches: ^3.5 calls", "'3.5 calls' is no whole number of calls"),
    ("launches: ^3 k", "'3 k' has the unknown unit 'k'. Accepted is an integer of at least 0"),
    ("bytes: ^1.5 B", "'1.5 B' is no whole number of bytes"),
    ("bytes: ^1.5", '1.5 is a decimal number without a unit; did you mean "1.5 GB"?'),
    ("peak_memory: ^12 gib", "'12 gib' has the unknown unit 'gib'; did you mean \"12 GiB\"?"),
    ("parameters: ^1.5", '1.5 is a decimal number without a unit; did you mean "1.5 M"?'),
    ("syncs: ^true", "true is a boolean"),
    ("bytes: ^false", "false is a boolean"),
    ("full_precision: {forward: ^false}", "false is a boolean"),
    ("parameters: ^true", "true is a boolean"),
    ("syncs: ^null", "None is no number of calls"),
    ("bytes: ^[1]", "[1] is no number of bytes"),
    ("launches: ^''", "'' holds no number"),
]
OTHER_PHASES = [
    ("syncs: {^optimizer: 0}", "unknown key 'optimizer'; accepted here: forward, backward, total"),
    ("bytes: {^forwrd: 3}", "unknown key 'forwrd'; did you mean 'forward'?"),
    ("launches: {^components: 3}", "unknown key 'components'; accepted here: forward, "),
    ("parameters: ^{forward: 3}", "{'forward': 3} is no number of elements: this has no phases"),
    ("trainable_parameters: ^{total: 3}", "{'total': 3} is no number of elements: this has no ph"),
    ("parameters: ^{}", "{} is no number of elements: this has no phases"),
    ("bytes: ^{}", "expected a mapping of forward, backward, optimizer or total to a number of b"),
    ("peak_memory: ^{}", "expected a mapping of forward, backward, optimizer or total to a numbe"),
    ("launches: ^{}", "expected a mapping of forward, backward, optimizer or total to a number o"),
    ("syncs: ^{}", "expected a mapping of forward, backward or total to a number of calls, found"),
    ("full_precision: ^{}", "expected a mapping of forward, backward, optimizer or total to a nu"),
]
UNKNOWN = [
    ("^peak_memmory: 3 GB", "'peak_memmory'; did you mean 'peak_memory'?"),
    ("^byte: 3", "'byte'; did you mean 'bytes'?"),
    ("^Syncs: 0", "'Syncs'; did you mean 'syncs'?"),
    ("^flops: 3", "'flops'; accepted here: forward, backward, optimizer, total, bytes, "),
]
CASES = OF_ANOTHER_UNIT + NO_NUMBER + OTHER_PHASES + UNKNOWN


def literally(text: str) -> str:
    return text.replace("[", "[[]").replace("?", "[?]")


@pytest.mark.parametrize(("written", "said"), CASES)
@pytest.mark.parametrize("where", ["limits: {%s}", 'limits: {components: {"*": {%s}}}'])
def test_in_a_file_it_is_told_with_line_and_column(
    project: Any, where: str, written: str, said: str
) -> None:
    line = where % written
    project.budget("net", line.replace("^", ""))
    column = 5 + line.index("^")  # behind four spaces, from 1
    project.refuses("budgets", told=[f"ERROR: budgets/model.yaml:4:{column}: *{literally(said)}*"])


@pytest.mark.parametrize(("written", "said"), CASES)
def test_in_a_marker_it_is_told_with_the_tests_line(project: Any, written: str, said: str) -> None:
    limits = yaml.safe_load("{" + written.replace("^", "") + "}")
    project.counted(f"**{limits!r}")
    told = "ERROR: test_model.py:5: test_step: the marker flops_budget is wrong: *"
    project.refuses(told=[told + literally(said) + "*"])
