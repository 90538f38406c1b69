"""One rank of many: PyTorch's own distributed engine on a process group that sends nothing."""

from __future__ import annotations

import sys
import warnings
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import wraps
from math import prod
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn

from pytest_flops.counting.meter.workarounds.every_ranks_chunk import chunks_when_asked_for
from pytest_flops.counting.meter.workarounds.fake_groups import (
    forget_other_meshes,
    meshes_of_real_numbers,
    reducing_without_peers,
    sharding_anew_as_on_gpus,
)
from pytest_flops.counting.meter.workarounds.pipeline_stages import stages_of_known_shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed.device_mesh import DeviceMesh


@contextmanager
def fake_ranks(*, rank: int = 0, **dimensions: int) -> Iterator[DeviceMesh]:
    """While active, this process is one rank of as many as the mesh has; nothing is ever sent.

    Collectives return at once, and what they would have received is not written.

    Args:
        rank: Which one it is.
        **dimensions: The sizes of the mesh by name, the outermost first: `dp_shard=8, tp=8`.

    Yields:
        The mesh, of devices of type `cpu`.

    Raises:
        ValueError: A dimension is smaller than 1, there is none, or the rank is outside the mesh.
        RuntimeError: This process has a process group already, or its PyTorch has none at all.
    """
    ranks = _checked(rank, dimensions)
    with ExitStack() as undo:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.testing._internal.distributed.fake_pg import FakeStore

        # Each group puts its rank before all tracebacks of the process, and no group takes it away.
        undo.callback(setattr, sys, "excepthook", sys.excepthook)
        dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
        undo.callback(_end_group)
        forget_other_meshes(rank, *dimensions.items())
        undo.enter_context(meshes_of_real_numbers())
        undo.enter_context(reducing_without_peers())
        undo.enter_context(sharding_anew_as_on_gpus())
        undo.enter_context(chunks_when_asked_for())
        undo.enter_context(stages_of_known_shapes())
        sizes = tuple(dimensions.values())
        yield init_device_mesh("cpu", sizes, mesh_dim_names=tuple(dimensions))


def one_mesh_after_another() -> Iterator[Callable[..., DeviceMesh]]:
    """Yields a function like `fake_ranks` that ends the ranks before, and returns the mesh."""
    with ExitStack() as active:

        @wraps(fake_ranks)  # whose name the error of a wrong call has
        def make(**mesh: int) -> DeviceMesh:
            active.close()
            return active.enter_context(fake_ranks(**mesh))

        yield make


def refuse_parallel(model: nn.Module) -> None:
    """Refuse to make a model parallel that is so already.

    Raises:
        ValueError: One of its modules, or one of its parameters, is.
    """
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    kinds = (nn.parallel.DistributedDataParallel, FSDPModule, FullyShardedDataParallel, DTensor)
    for part in (*model.modules(), *model.parameters()):
        if isinstance(part, kinds):
            raise ValueError(
                f"the model is parallel already (it has a {type(part).__name__}): let the builder "
                "return it as it is on one process"
            )


def made_parallel(
    model: nn.Module, parallelize: Callable[[Any], object], mode: FakeTensorMode | None
) -> nn.Module:
    """What `parallelize` makes of the model; of fakes, which are of `mode`, of a copy.

    What fakes were put into is put back after the step, but not the classes that FSDP gives its
    modules.

    Raises:
        TypeError: That is no module.
    """
    if mode is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch asks for the addresses of fakes
            model = deepcopy(model, {id(mode): mode})  # which hold it, and stay fakes of this one
    made = parallelize(model)
    if not isinstance(made, nn.Module):
        found = "nothing: is its return missing?" if made is None else type(made).__name__
        raise TypeError(f"parallelize must return the parallel model, a Module, not {found}")
    return made


def _end_group() -> None:
    if dist.is_initialized():  # somebody else may have ended it
        dist.destroy_process_group()


def _checked(rank: int, dimensions: dict[str, int]) -> int:
    """How many ranks there are."""
    if not dist.is_available():
        raise RuntimeError("this PyTorch was built without torch.distributed")
    if dist.is_initialized():
        raise RuntimeError(
            "this process has a process group already, and a process has one: destroy it first "
            "(torch.distributed.destroy_process_group()), or count its own rank with FLOPsMeter"
        )
    if not dimensions:
        raise ValueError("a mesh has at least one named dimension, e.g. dp_shard=8")
    for name, size in dimensions.items():
        if type(size) is not int or size < 1:
            raise ValueError(f"{name} must be an integer of at least 1, not {size!r}")
    ranks = prod(dimensions.values())
    if type(rank) is not int or not 0 <= rank < ranks:
        raise ValueError(f"rank must be from 0 to {ranks - 1} in a mesh of {ranks}, not {rank!r}")
    return ranks
