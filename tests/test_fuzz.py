"""Broken input by the thousand: every file is read rightly or refused in words.

`make fuzz` runs 150,000 inputs; the suite runs a short version with another seed each day.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.errors import BudgetError, BudgetFileError
from pytest_flops.budgets.files.folding import unfolded
from pytest_flops.budgets.files.loader import load_budgets
from pytest_flops.budgets.files.lock import lock_text, read_lock
from pytest_flops.budgets.files.update import update_lock
from pytest_flops.budgets.judging.hold import hold
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.reports.entry import Entry
from pytest_flops.reports.errors import ReportError
from pytest_flops.reports.read import load_report
from pytest_flops.reports.report import build_report, to_json
from pytest_flops.resnet_bk.analytic.counter import FLOPsCounter
from pytest_flops.resnet_bk.config import BASELINE_CONFIG

INPUTS = int(os.environ.get("FUZZ_INPUTS", "600"))
SEED = int(os.environ.get("FUZZ_SEED", date.today().toordinal()))

BUDGETS = """\
# What a step may cost.
version: 1
budgets:
  base:
    workload: &step {model: resnet_bk, config: {n_layers: 4}, batch_size: 32, seq_len: 128}
    limits:
      forward: 16.3 GFLOP
      total: 49_000_000_000
      components: {lm_head: {forward: 15.8 GFLOP}, "layer_*": {backward: 280 MFLOP}}
    tolerance: 1.5%
    scaling:
      seq_len: {sizes: [128, 256, 512], max_exponent: 1.0}
  other:
    workload: *step
    limits: {total: 3 kFLOP}
"""
TOKENS = [
    "-1", "0", "1e400", ".nan", ".inf", "true", "~", "9" * 400, "010", "1:30", "''", "[]", "{}",
    "&a", "*a", "!!python/object:os.system", "<<:", "? ", "|", ">", "\t", "\x00", "\ud7ff",
    "\ufeff", "- ", ": ", "#", "%", "---\n", "...\n", "\r\n", "GFLOPZ", "gflop", "2001-01-01",
]  # fmt: skip


def mutated(text: str, chance: random.Random) -> bytes:
    """The text with one to five things cut out, doubled, moved, swapped or put in."""
    for _ in range(chance.randint(1, 5)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice([1, 1, 2, 5, 20]))
        piece = chance.choice(
            ["", text[start:end] * 2, chance.choice(TOKENS), chr(chance.randrange(256))]
        )
        text = text[:start] + piece + text[end:]
        if chance.random() < 0.3:
            words = sorted(set(re.findall(r"[\w.%]+", text)))
            if words:
                text = text.replace(chance.choice(words), chance.choice(words + TOKENS), 1)
    content = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        cut = chance.randrange(len(content) + 1)
        content = content[:cut] + bytes([chance.randrange(256)]) + content[cut:]
    return content


Damage = Callable[[str, random.Random], bytes]


def each_input(
    folder: Path, text: str, hold: Callable[[Path], None], damage: Damage = mutated
) -> None:
    chance = random.Random(SEED)
    path = folder / "input"
    for number in range(INPUTS):
        content = damage(text, chance)
        path.write_bytes(content)
        try:
            hold(path)
        except BaseException:
            print(f"seed {SEED}, input {number}: {content!r}")
            raise


def test_a_broken_budget_file_is_read_rightly_or_refused_in_words(tmp_path: Path) -> None:
    measurement = FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128).measurement()
    refused = 0

    def read(path: Path) -> None:
        nonlocal refused
        try:
            budgets = load_budgets(path)
        except BudgetFileError as error:
            refused += 1
            assert all(re.match(r".+:\d+:\d+: \S", str(problem)) for problem in error.problems)
            assert error.problems
            return
        record = yaml.load(path.read_text(encoding="utf-8-sig"), yaml.BaseLoader)
        for name, budget in budgets.items():
            written = record["budgets"][name].get("limits", {})
            for limit in budget.limits:
                bounds = written["components"][limit.pattern] if limit.pattern else written
                assert limit.allowed == flops(bounds[limit.quantity])
            for verdict in hold(budget, measurement, kinds=("limit",)):
                if verdict.kind == "limit":
                    assert verdict.passed == (verdict.actual <= verdict.allowed)

    each_input(tmp_path, BUDGETS, read)
    assert 0 < refused < INPUTS


def flops(text: str) -> Decimal:
    """The number that a limit says, by a reading of its own."""
    number, unit = re.fullmatch(r"([\d_.]+)\s*(?:([kMGTP]?)FLOPs?)?", text.strip()).groups()
    return Decimal(number.replace("_", "")) * Decimal(1000) ** " kMGTP".index(unit or " ")


def test_a_broken_report_is_read_rightly_or_refused_in_words(tmp_path: Path) -> None:
    refused = 0

    def read(path: Path) -> None:
        nonlocal refused
        try:
            report = load_report(path)
        except ReportError as error:
            refused += 1
            assert "\n" not in str(error)
            return
        verdicts: list[Any] = [
            verdict
            for entry in json.loads(path.read_text(encoding="utf-8-sig"))["entries"]
            for verdict in entry["verdicts"]
        ]
        assert not report.passed or all(verdict["passed"] is True for verdict in verdicts)
        assert not report.passed or verdicts

    each_input(tmp_path, a_report(), read)
    assert 0 < refused < INPUTS


def a_report() -> str:
    from pytest_flops.budgets.inline import inline_budget

    measurement = FLOPsCounter.from_config(BASELINE_CONFIG, 32, 128).measurement()
    budget = inline_budget("a", {"forward": "16 GFLOP", "total": "50 GFLOP"})
    verdicts = hold(budget, measurement, kinds=("limit",))
    few = {path: cost for path, cost in measurement.components.items() if path in ("lm_head",)}
    small = type(measurement)(measurement.count, few, "analytic", "published")
    return to_json(build_report([Entry("s", "a", ("t",), verdicts, small)]))


VALUES = [
    "0", "-1", "1.0", "1e400", "1" * 400, "1" * 5000, "NaN", "-Infinity", "true", "null", "[]",
    "{}", '""', '"1"', r'"\ud800"', "[" * 400 + "]" * 400, "[" * 10**5, '{"a":' * 400, "{} {}",
    '{"forward": 1, "forward": 1}', '{"forward": 1}', "[" + "0, " * 2000 + "0]",
]  # fmt: skip
KEYS = [
    '"format"', '"version"', '"budgets"', '"tests"', '"flops"', '"count"', '"components"',
    '"forward"', '"total"', '"layer_{0..1}"', '"layer_{1..0}"', '"{0..99999999}"', '"{{"', '"{"',
    '""', r'"\ud800"',
]  # fmt: skip
FRESH = ("tests", "test_fresh"), Recorded(FLOPsCount(1))


def broken_lock(text: str, chance: random.Random) -> bytes:
    """The text with a key or value replaced, cut short, with a bit flipped, or as `mutated`."""
    content = text.encode()
    deed = chance.random()
    if deed < 0.3:
        return mutated(text, chance)
    if deed < 0.4:
        return content[: chance.randrange(len(content))]
    if deed < 0.6:
        at = chance.randrange(len(content))
        return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    kind, others = chance.choice([(r'"[^"]+"(?=:)', KEYS), (r'(?<=: )("[^"]+"|[0-9]+|\{)', VALUES)])
    at = chance.choice([*re.finditer(kind, text)])
    return (text[: at.start()] + chance.choice(others) + text[at.end() :]).encode()


def test_a_broken_lock_file_is_read_rightly_or_refused_in_words_and_kept(tmp_path: Path) -> None:
    refused = 0

    def read(path: Path) -> None:
        nonlocal refused
        content = path.read_bytes()
        try:
            records = read_lock(path, "net.lock.json")
        except BudgetFileError as error:
            refused += 1
            told = [str(problem) for problem in error.problems]
            assert told
            assert all(re.match(r"net\.lock\.json:[1-9]\d*:[1-9]\d*: \S", line) for line in told)
            assert max(map(len, told)) < 1000
            "".join(told).encode()
            with pytest.raises(BudgetError, match="was not updated"):
                update_lock(path, "net.lock.json", lambda old: {**old, FRESH[0]: FRESH[1]})
            assert path.read_bytes() == content
            assert [*path.parent.iterdir()] == [path]
            return
        written = json.loads(content.decode("utf-8-sig"), parse_float=refuse, parse_constant=refuse)
        assert written["version"] is not True
        assert {name for _, name in records} == {
            name for part in ("budgets", "tests") for name in written.get(part, {})
        }
        for (part, name), record in records.items():
            flops = written[part][name]["flops"]
            assert record.count == FLOPsCount(**flops["count"])
            assert record.components == {
                path: FLOPsCount(**count)
                for folded, count in flops.get("components", {}).items()
                for path in unfolded(folded)
            }
        if len(content) % 10 == 0 or rb"\ud800" in content:  # not each: it waits for the disk
            update_lock(path, "net.lock.json", lambda old: {**old, FRESH[0]: FRESH[1]})
            assert read_lock(path, "net.lock.json").keys() == records.keys() | {FRESH[0]}

    each_input(tmp_path, a_lock(), read, broken_lock)
    assert 0 < refused < INPUTS


def refuse(text: str) -> None:
    raise AssertionError(f"{text} was accepted")


def a_lock() -> str:
    layers = {f"layer_{n}": FLOPsCount(300, 600, 10) for n in range(3)}
    whole = Recorded(FLOPsCount(900, 1800, 30), layers, {"aten.mm": FLOPsCount(900, 1800)})
    return lock_text({("budgets", "net"): whole, ("tests", "test_step[1-a]"): whole})
