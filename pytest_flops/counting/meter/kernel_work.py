"""What a launch of a Triton kernel executes, by its code alone.

The code runs here without tensors. The integers that bound loops and choose branches are computed:
from the launch's arguments alone where these tell, else for each program of the grid.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from itertools import combinations, product
from math import prod
from types import FunctionType
from typing import Any

from pytest_flops.counting.meter.interpreter import Executed
from pytest_flops.counting.meter.kernel_code import (
    Block,
    Operation,
    Region,
    compiled,
    names_in,
    parsed,
)

_AXES = range(3)
_MOST_OPERATIONS = 1_000_000  # that are looked at, which takes about two seconds


def work_of(function: FunctionType, args: Sequence[Any], grid: Sequence[int]) -> Executed | None:
    """What all programs of a launch execute; `None` where the code alone does not tell.

    It does not where loops or branches depend on values in tensors, and where it holds assembly.
    Bytes are as if no mask hid any.

    Args:
        function: What the kernel was made of.
        args: Of the launch, all by position.
        grid: Its three sizes.
    """
    try:
        code, passed = compiled(function, args)
        functions = parsed(code)
        numbers = [int(arg) if isinstance(arg, int) else None for arg in passed]
        # By as few axes of the grid as tell what a program does: most often each does the same.
        for axes in (axes for number in range(4) for axes in combinations(range(3), number)):
            run = _Run(functions, grid)
            with suppress(_UnknownError):
                for run.place in product(*(range(grid[i]) if i in axes else [None] for i in _AXES)):
                    run.times = prod(grid[i] for i in _AXES if i not in axes)
                    run.call(function.__name__, numbers)
                run.work.alike = not axes
                return run.work
    except Exception:  # whatever fails here, the launch is uncounted, and the user is told so
        pass
    return None


class _UnknownError(Exception):
    """What runs next depends on something that is not known."""


@dataclass
class _Run:
    """A program of the grid runs, or several that do the same.

    Attributes:
        functions: By name.
        grid: Its sizes.
        times: How often what runs now runs in all.
        place: Of the program in the grid; `None` where it must not matter.
        work: What was executed.
        known: The integers that are known, by their names in the function that runs.
        looked_at: How many operations.
    """

    functions: Mapping[str, Operation]
    grid: Sequence[int]
    times: int = 1
    place: Sequence[int | None] = ()
    work: Executed = field(default_factory=Executed)
    known: dict[str, int] = field(default_factory=dict)
    looked_at: int = 0

    def call(self, name: str, numbers: Sequence[int | None]) -> list[int | None]:
        """Run a function; returns what it returns."""
        function = self.functions[name]
        given = zip(re.findall(r"(%\w+):", function.text), numbers, strict=True)
        outer = self.known
        self.known = {name: number for name, number in given if number is not None}
        try:
            return self._region(function.regions[0])
        finally:
            self.known = outer

    def _name(self, names: Sequence[str], numbers: Sequence[int | None]) -> None:
        for name, number in zip(names, numbers, strict=False):
            self.known.pop(name, None)
            if number is not None:
                self.known[name] = number

    def _values(self, names: Sequence[str]) -> list[int | None]:
        return [self.known.get(name) for name in names]

    def _needed(self, names: Sequence[str]) -> list[int]:
        try:
            return [self.known[name] for name in names]
        except KeyError:
            raise _UnknownError from None

    @contextmanager
    def _repeated(self, times: int) -> Iterator[None]:
        before, self.times = self.times, self.times * times
        try:
            yield
        finally:
            self.times = before

    def _region(self, region: Region) -> list[int | None]:
        """Run from the first block on; returns what the last one hands on."""
        block = next(each for each in region.values() if each.operations)
        while True:
            for each in block.operations:
                if each.name in _RETURNS:
                    return self._values(each.operands)
                if each.name.startswith("cf."):
                    block = self._next_block(region, each)
                    break
                self._run(each)
            else:
                return []

    def _next_block(self, region: Region, branch: Operation) -> Block:
        ways = re.findall(r"\^(\w+)(\([^:]*)?", branch.text)
        if branch.name == "cf.cond_br" and not self._needed(branch.operands[:1])[0]:
            ways = ways[1:]
        label, given = ways[0]
        self._name(region[label].parameters, self._values(names_in(given)))
        return region[label]

    def _run(self, each: Operation) -> None:
        self.looked_at += 1
        if self.looked_at > _MOST_OPERATIONS:
            raise TimeoutError
        match each.name:
            case "scf.for":
                results = self._for(each)
            case "scf.if":
                results = self._if(each)
            case "tt.call":
                results = self._call(each)
            case "tt.reduce" | "tt.scan":
                results = self._reduce(each)
            case "tt.elementwise_inline_asm" | "tt.dot_scaled":
                raise _UnknownError
            case _ if each.regions:
                raise _UnknownError
            case _:
                self._count(each)
                results = [self._integer(each)]
        self._name(each.results, results)

    def _count(self, each: Operation) -> None:
        if each.name in _LOADS:
            self.work.loaded += self.times * each.bytes
        if each.name in _STORES:
            self.work.stored += self.times * each.bytes
        if each.name == "tt.dot":
            self.work.flops += self.times * 2 * each.elements * each.types[0][0][-1]
        elif _ARITHMETIC.match(each.name) or each.text.startswith("fadd"):
            self.work.flops += self.times * each.elements * (2 if each.name == "math.fma" else 1)

    def _integer(self, each: Operation) -> int | None:
        word = re.split("[ ,]", each.text)[0]
        if each.name == "arith.constant":
            return _CONSTANTS[word] if word in _CONSTANTS else _int(word)
        if each.name == "tt.get_program_id":
            return self.place["xyz".index(word)]
        if each.name == "tt.get_num_programs":
            return self.grid["xyz".index(word)]
        what = f"{each.name} {word}" if each.name == "arith.cmpi" else each.name
        values = [value for value in self._values(each.operands) if value is not None]
        if what not in _INTEGERS or len(values) < len(each.operands):
            return None
        if min(values) < 0 and (what.endswith("ui") or " u" in what):  # another number, unsigned
            return None
        computed, half = int(_INTEGERS[what](*values)), 2 ** (each.bits - 1)
        return computed if computed in (0, 1) else (computed + half) % (2 * half) - half

    def _for(self, each: Operation) -> list[int | None]:
        """Once for all trips, if each does the same; else trip by trip."""
        [(counter, start)] = re.findall(r"(%\w+) = (%[\w#]+) to", each.text)
        pairs = [*re.findall(r"(%\w+) = (%[\w#]+)", each.text)][1:]
        stop, step = re.findall(r"(?:to|step) (%[\w#]+)", each.text)
        names, carried = [name for name, _ in pairs], self._values([value for _, value in pairs])
        trips = range(*self._needed([start, stop, step]))
        unknown: list[int | None] = [None] * len(names)
        before = copy(self.work)
        try:
            with self._repeated(len(trips)):
                self._name([counter, *names], [None, *unknown])
                self._region(each.regions[0])
        except _UnknownError:
            self.work = before
            for trip in trips:
                self._name([counter, *names], [trip, *carried])
                carried = self._region(each.regions[0])
            return carried
        return unknown

    def _if(self, each: Operation) -> list[int | None]:
        [condition] = self._needed(each.operands[:1])
        taken = each.regions[:1] if condition else each.regions[1:]
        return self._region(taken[0]) if taken else []

    def _call(self, each: Operation) -> list[int | None]:
        [callee] = re.findall(r'@"?([^("]+)', each.text)
        return self.call(callee, self._values(each.operands))

    def _reduce(self, each: Operation) -> list[int | None]:
        """For each element its function runs, which counts 1 at least, if it is a float."""
        sizes, kind = each.types[0]
        before = self.work.flops
        with self._repeated(prod(sizes)):
            self._region(each.regions[0])
            if self.work.flops == before and kind[0] in "fb":
                self.work.flops += self.times
        return []


_RETURNS = {"scf.yield", "tt.return", "tt.reduce.return", "tt.scan.return"}
_LOADS = {"tt.load", "tt.descriptor_load", "tt.descriptor_gather", "tt.atomic_rmw", "tt.atomic_cas"}
_STORES = {"tt.store", "tt.descriptor_store", "tt.atomic_rmw", "tt.atomic_cas"}
_ARITHMETIC = re.compile(
    r"math\.(?!.*i$)|arith\.(add|sub|mul|div|rem|neg|max\w*|min\w*)f$"
    r"|tt\.(precise_\w+|clampf|extern_elementwise)$"
)
"""As in `interpreter`: comparisons, choices, conversions and work on integers are 0."""


def _int(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _quotient(a: int, b: int) -> int:
    """Towards 0."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_CONSTANTS = {"true": 1, "false": 0}
_INTEGERS: Mapping[str, Callable[..., int]] = {
    "arith.addi": operator.add,
    "arith.subi": operator.sub,
    "arith.muli": operator.mul,
    "arith.divsi": _quotient,
    "arith.divui": operator.floordiv,
    "arith.remsi": lambda a, b: a - b * _quotient(a, b),
    "arith.remui": operator.mod,
    "arith.shli": operator.lshift,
    "arith.shrsi": operator.rshift,
    "arith.andi": operator.and_,
    "arith.ori": operator.or_,
    "arith.xori": operator.xor,
    "arith.select": lambda chosen, a, b: a if chosen else b,
    **dict.fromkeys(["arith.minsi", "arith.minui"], min),
    **dict.fromkeys(["arith.maxsi", "arith.maxui"], max),
    **{
        f"arith.{name}": operator.pos
        for name in ("extsi", "extui", "trunci", "bitcast", "index_cast")
    },
    **{
        f"arith.cmpi {signed}{name}": compare
        for name, compare in {
            "eq": operator.eq,
            "ne": operator.ne,
            "lt": operator.lt,
            "le": operator.le,
            "gt": operator.gt,
            "ge": operator.ge,
        }.items()
        for signed in ("", "s", "u")
    },
}
