"""What PyTorch's distributed engine does otherwise on its fake process group or on fake tensors.

1. `DeviceMesh` keeps the numbers of its ranks in a tensor and reads them. FSDP makes a mesh of two
   others inside the step, and people take submeshes there, or make meshes; under a fake mode they
   would be fakes. PyTorch: `DeviceMesh` switches no mode off.
2. `DistributedDataParallel` reads reduced gradients out of the future of its all-reduce, and that
   of the fake group holds none (`expected the hook result to be either a Tensor or a TensorList`).
   A communication hook that returns the bucket sends the same.
3. `DTensor` goes from one sharded dimension to another by an all-to-all, but on a mesh of CPUs,
   since gloo has none, by an all-gather, of as many times the payload as there are ranks. The fake
   group has one, and stands for GPUs.
4. `DTensor` keeps how each operator is sharded, with the mesh. For an equal mesh of later it goes
   on with the first one, whose groups have ended, or are called as others are by then.
Seen in: 2.11 to 2.14.
May go when: `test_a_mesh_of_two_dimensions_on_fakes`, `test_a_mesh_of_ones_own_on_fakes`,
`test_ddp_reduces_its_gradients`, `test_shards_of_another_dimension_come_all_to_all` and
`test_an_equal_part_of_another_mesh_has_groups_of_its_own` pass without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, wraps
from typing import Any

import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import _disable_current_modes

from pytest_flops.counting.replacing import replaced

_MAKE_MESHES = ("__init__", "__getitem__", "_flatten", "_unflatten", "_concatenate")


@contextmanager
def meshes_of_real_numbers() -> Iterator[None]:
    """While active, no dispatch mode sees how a mesh is made."""
    from torch.distributed.device_mesh import DeviceMesh

    before = {name: vars(DeviceMesh)[name] for name in _MAKE_MESHES if name in vars(DeviceMesh)}
    for name, method in before.items():
        static = isinstance(method, staticmethod)
        ours = _without_modes(method.__func__ if static else method)
        setattr(DeviceMesh, name, staticmethod(ours) if static else ours)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(DeviceMesh, name, method)


def _without_modes(run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def ours(*args: Any, **kwargs: Any) -> Any:
        with _disable_current_modes():
            ranks = kwargs.get("_rank_map")
            if isinstance(ranks, FakeTensor):  # of `init_device_mesh`: all ranks, in order
                kwargs["_rank_map"] = torch.arange(ranks.numel(), dtype=ranks.dtype)
            return run(*args, **kwargs)

    return ours


def reducing_without_peers() -> AbstractContextManager[None]:
    """While active, `DistributedDataParallel` without a communication hook gets one."""
    from torch.nn.parallel import DistributedDataParallel

    return replaced(DistributedDataParallel, "_pre_forward", _with_hook)


def _with_hook(before: Callable[..., Any], model: Any, *inputs: Any, **kwargs: Any) -> Any:
    if not model._comm_hooks:  # noqa: SLF001 - there is no public way to ask
        group = model.process_group
        model.register_comm_hook(None, lambda _, bucket: _reduced(bucket, group))
    return before(model, *inputs, **kwargs)


def _reduced(bucket: Any, group: Any) -> Any:
    """The future, with its result, of what an all-reduce without peers makes of the bucket."""
    dist.all_reduce(bucket.buffer(), group=group)
    done: Any = torch.futures.Future()
    done.set_result(bucket.buffer())
    return done


def sharding_anew_as_on_gpus() -> AbstractContextManager[None]:
    """While active, `DTensor` shards another dimension by an all-to-all, on a mesh of CPUs too."""
    from torch.distributed.tensor import placement_types

    return replaced(placement_types, "shard_dim_alltoall", _all_to_all)


def _all_to_all(_: Any, tensor: Any, gathered: int, sharded: int, mesh: Any, of_mesh: int) -> Any:
    group = mesh.get_group(of_mesh).group_name
    return torch.ops._dtensor.shard_dim_alltoall(tensor, gathered, sharded, group)  # noqa: SLF001


@lru_cache(maxsize=1)
def forget_other_meshes(*mesh: object) -> None:  # noqa: ARG001 - the key of the cache
    """Let `DTensor` forget what it knows, unless the last mesh was the same one.

    Groups of the same mesh are called the same; and to learn all again takes Llama's optimizer 2 s.
    """
    from torch.distributed.tensor.debug import _clear_sharding_prop_cache

    _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]
