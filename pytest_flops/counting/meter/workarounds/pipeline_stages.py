"""A pipeline's stage asks the stages beside it for shapes, even where it knows its own.

PyTorch: before the first step, stages vote on whether all know their shapes; on the fake group
nothing is received, and what a stage reads instead says that one does not. So each waits for a
pickled object that never comes, and unpickles what was in memory. From 2.14 on a stage of a fake
group takes the shapes that it was given, or says that it needs them.
Seen in: 2.12 and 2.13; in 2.11 without the vote, where a stage was given no shapes.
May go when: `test_a_schedule_sends_each_microbatch_to_the_stages_beside_its_own` and
`test_a_stage_that_does_not_know_its_shapes_says_what_it_needs` pass without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn

import torch.distributed as dist

from pytest_flops.counting.replacing import replaced


@contextmanager
def stages_of_known_shapes() -> Iterator[None]:
    """While active, a stage takes the shapes that it was given; one that has none says so.

    Importing pipelines takes half a second, so only those that are imported by now learn of it.
    """
    schedules = sys.modules.get("torch.distributed.pipelining.schedules")
    schedule = getattr(schedules, "_PipelineSchedule", None)
    votes = hasattr(schedule, "_warmup_p2p")
    with (
        replaced(dist, "recv_object_list", _refused),
        replaced(schedule, "_warmup_p2p", _unasked) if votes else nullcontext(),
    ):
        yield


def _unasked(
    before: Callable[..., Any], schedule: Any, stages: Sequence[Any], backward: bool, *how: Any
) -> None:
    from torch.distributed.pipelining import PipelineStage
    from torch.distributed.pipelining._utils import InferenceMode

    if not all(isinstance(stage, PipelineStage) for stage in stages):  # traced, they know them
        before(schedule, stages, backward, *how)
        return
    for stage in stages:
        unknown = InferenceMode.needs_dynamic(stage._user_meta, backward)  # noqa: SLF001
        mode = InferenceMode.DYNAMIC if unknown else InferenceMode.STATIC
        stage._inference_mode = mode  # noqa: SLF001


def _refused(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(
        "no object comes from another rank, since none runs. A PipelineStage waits for one if it "
        "does not know its shapes: give it the input_args and output_args of a microbatch"
    )
