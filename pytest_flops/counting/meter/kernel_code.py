"""The code of a Triton kernel for one launch, as data.

The compiler's first intermediate representation (TTIR) has each operation with the shape of its
block, and loops as loops. It is made without a GPU, for the constants of the launch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from math import prod
from types import FunctionType
from typing import Any, TypeAlias

from torch import Tensor


def compiled(function: FunctionType, args: Sequence[Any]) -> tuple[str, list[Any]]:
    """The code for a launch, and the arguments that it takes: all but the constants."""
    jit, compiler = import_module("triton.runtime.jit"), import_module("triton.compiler.compiler")
    ir = import_module("triton._C.libtriton").ir
    kernel = jit.JITFunction(function)
    # Tensors by their types alone, as Triton's own `warmup` takes them.
    args = [jit.MockTensor(arg.dtype) if isinstance(arg, Tensor) else arg for arg in args]
    pairs = [*zip(kernel.params, args, strict=True)]
    constants = {(p.num,): arg for p, arg in pairs if p.is_constexpr or arg is None}
    signature = {
        p.name: "constexpr" if (p.num,) in constants else jit.mangle_type(arg) for p, arg in pairs
    }
    target = import_module("triton.backends.compiler").GPUTarget("cuda", 80, 32)
    backend, context = compiler.make_backend(target), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    options = backend.parse_options({"enable_fp_fusion": False})
    source = compiler.ASTSource(kernel, signature, constants)
    made_by = backend.get_codegen_implementation(options), backend.get_module_map()
    code = source.make_ir(target, options, *made_by, context)
    return code.str_nodebug(), [arg for p, arg in pairs if (p.num,) not in constants]


@dataclass
class Block:
    """Operations in their order, and the names that what the block is given gets."""

    parameters: list[str] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)


Region: TypeAlias = "dict[str, Block]"  # by label, in their order


@dataclass
class Operation:
    """One operation.

    Attributes:
        name: E.g. `arith.addf`.
        results: The names of what it computes, e.g. `%3`, or `%3#0` and `%3#1`.
        text: What else its line says: operands, attributes and types.
        regions: The operations inside it.
    """

    name: str
    results: list[str]
    text: str
    regions: list[Region] = field(default_factory=list)

    @property
    def operands(self) -> list[str]:
        """The names of what it is given."""
        return names_in(self.text)

    @property
    def types(self) -> list[tuple[list[int], str]]:
        """The sizes and the element of each type that it names; the last is the result's."""
        types = self.text.rpartition(" : ")[2]
        found = re.findall(r"(?:tensor<((?:\d+x)*))?(?:!tt\.ptr<)?([a-z]+\d\w*)\b", types)
        return [([int(size) for size in sizes.split("x")[:-1]], kind) for sizes, kind in found]

    @property
    def elements(self) -> int:
        """How many it computes."""
        return prod(self.types[-1][0])

    @property
    def bytes(self) -> int:
        """Of these elements; a boolean takes one."""
        return self.elements * max(self.bits // 8, 1)

    @property
    def bits(self) -> int:
        """Of one element."""
        return int(re.findall(r"\d+", self.types[-1][1])[0])


def names_in(text: str) -> list[str]:
    """The values that a text names."""
    return re.findall(r"%[\w#]+", text)


def parsed(code: str) -> dict[str, Operation]:
    """The functions by name, from what the compiler prints."""
    top = Operation("", [], "", [{"": Block()}])
    inside = [(top, top.regions[0][""])]
    for line in (line.partition(" //")[0].strip() for line in code.splitlines()):
        if line.startswith("^"):  # the next block of the same region
            operation, _ = inside.pop()
            label, block = re.findall(r"\w+", line)[0], Block(re.findall(r"(%\w+):", line))
            operation.regions[-1][label] = block
            inside.append((operation, block))
            continue
        if line.startswith("}"):
            operation, _ = inside.pop()
            operation.text += line
        elif found := re.match(r'(?:(%\w+)(?::(\d+))? = )?"?([\w.]+)"?(.*)', line):
            result, number, name, text = found.groups()
            results = [f"{result}#{i}" for i in range(int(number))] if number else [result]
            operation = Operation(name, results, text.strip())
            inside[-1][1].operations.append(operation)
        if line.endswith("{"):
            operation.regions.append({"": Block()})
            inside.append((operation, operation.regions[-1][""]))
    [module] = top.regions[0][""].operations
    functions = module.regions[0][""].operations
    return {re.findall(r'@"?([^("]+)', each.text)[0]: each for each in functions}
