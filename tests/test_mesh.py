"""Budgets of one rank: workloads with a mesh, the fixture `fake_ranks`, and real groups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from pytest_flops import cli

pytestmark = pytest.mark.long

pytest.importorskip("torch.distributed.fsdp")

MODEL = """\
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module


def build(seq_len=32, device="meta"):
    with torch.device(device):
        wide = nn.Linear(64, 256, bias=False)
        model = nn.Sequential(wide, nn.ReLU(), nn.Linear(256, 64, bias=False))
    return model, torch.ones(seq_len, 64)


def shard(model, mesh):
    return fully_shard(model, mesh=mesh["dp"])


def split(model, mesh):
    return parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})


def split_the_first_alone(model, mesh):
    plan = {"0": ColwiseParallel(output_layouts=Replicate())}
    return parallelize_module(model, mesh["tp"], plan)


def ddp(model, mesh):
    return nn.parallel.DistributedDataParallel(model)


def nothing(model, mesh):
    shard(model, mesh)


def other_group(model, mesh):
    return fully_shard(model, mesh=mesh["pp"])


def in_heads_of_96(model, mesh):
    model[1] = nn.Unflatten(1, (-1, 96))
    return split(model, mesh)


def parallel_already():
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    model, x = build(device="cpu")
    return fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),))), x


four = 4
"""
LAYER = 4 * 64 * 256  # bytes
OUTPUT = 4 * 32 * 64


@pytest.fixture
def mine(project: Any) -> Any:
    """The project, with the model above."""
    project.write("my.py", MODEL)
    project.ini("pythonpath = .")
    return project


def workload(**keys: object) -> str:
    return f"workload: {json.dumps({'model': 'my:build', **keys})}"


# --- limits ---


@pytest.mark.parametrize("where", ["shard", "split", "ddp"])
def test_one_rank_is_held_to_limits_by_the_byte(mine: Any, where: str) -> None:
    keys: dict[str, object] = {"mesh": {"tp" if where == "split" else "dp": 8}}
    if where == "ddp":
        keys |= {"values": "real", "config": {"device": "cpu"}}
    # Both layers are gathered as one group once, as the root is, and their gradients scattered.
    payload = {"shard": 2 * 2 * LAYER, "split": OUTPUT, "ddp": 2 * LAYER}[where]
    step = workload(**keys, parallelize=f"my:{where}")
    mine.budget("rank", step, f"limits: {{communication: {payload}}}")
    assert mine.run().ret == 0
    mine.budget("rank", step, f"limits: {{communication: {payload - 1}}}")
    mine.fails(told=["*communication total*over by 1 B*"])


def test_a_plan_that_forgets_a_layer_is_red(mine: Any) -> None:
    mesh = {"tp": 8}
    limits = f"limits: {{communication: {OUTPUT}, collectives: 1}}"
    mine.budget("rank", workload(mesh=mesh, parallelize="my:split"), limits)
    assert mine.run("--flops-update").ret == 0
    forgets = workload(mesh=mesh, parallelize="my:split_the_first_alone")
    mine.budget("rank", forgets, limits)
    # The hidden layer is gathered, four times as wide as the output.
    told = "all_gather float32 x 1 (new, +32.768 kB) *communication total: 32.768 kB, "
    mine.explains("-k", "limits", told=[told])


def test_a_layer_that_is_not_sharded_by_itself_is_named(mine: Any) -> None:
    """The root gathers it with its own, sends less in all, and keeps it to the end."""
    mine.write(
        "deep.py",
        """
        import torch
        from torch import nn
        from torch.distributed.fsdp import fully_shard


        def build():
            with torch.device("meta"):
                layers = [nn.Linear(256, 256, bias=False) for _ in range(4)]
                model = nn.Sequential(*layers, nn.Linear(256, 8192, bias=False))
            return model, torch.ones(512, 256)


        def shard(model, mesh, forgets=None):
            for number, layer in enumerate(model):
                if number != forgets:
                    fully_shard(layer, mesh=mesh)
            return fully_shard(model, mesh=mesh)


        def forgets(model, mesh):
            return shard(model, mesh, 2)
        """,
    )
    step: dict[str, Any] = {"model": "deep:build", "mesh": {"dp": 8}}
    limits = "limits: {peak_memory: 1 GB, communication: %s}"
    layer, last = 4 * 256 * 256, 4 * 256 * 8192
    payload = 3 * (4 * layer + last)
    mine.budget("rank", workload(**step, parallelize="deep:shard"), limits % payload)
    assert mine.run("--flops-update").ret == 0
    step["parallelize"] = "deep:forgets"
    mine.budget("rank", workload(**step), limits % (payload - layer))
    told = "2 and (outside modules): 262.144 kB more alive at the peak, parameters (+262.144 kB)"
    mine.explains("-k", "recorded", told=[told, "peak_memory total: *, over by 262.144 kB"])
    mine.run("-k", "limits").assert_outcomes(passed=1, deselected=1)


def test_the_report_says_which_rank_of_which_mesh(mine: Any) -> None:
    mine.budget("rank", workload(mesh={"dp": 2, "tp": 4}, rank=5, parallelize="my:split"))
    mine.run("--flops-update").stdout.fnmatch_lines(["rank (rank 5 of 8) *"])
    (entry,) = mine.report()["entries"]
    told = {key: entry["workload"][key] for key in ("mesh", "parallelize", "rank")}
    assert told == {"mesh": {"dp": 2, "tp": 4}, "parallelize": "my:split", "rank": 5}


def test_a_registered_model_that_counts_by_itself_is_metered_on_a_mesh(project: Any) -> None:
    project.write("my.py", "def alone(model, mesh):\n    return model\n")
    project.ini("pythonpath = .")
    mesh = "mesh: {dp: 8}\n      parallelize: my:alone"
    limits = project.baseline.replace("rules: published", mesh).replace("16.3 GFLOP", "1 TFLOP")
    project.budgets(limits.replace("total: 49 GFLOP", "collectives: 0"))
    project.run("--flops-update", "-k", "recorded")
    (entry,) = project.report()["entries"]
    assert entry["measurement"]["source"] == "meter"
    assert entry["measurement"]["rules"] == "executed"


# --- over the ranks ---


def formulas(mine: Any) -> dict[str, str]:
    (sweep,) = [sweep for entry in mine.report()["entries"] for sweep in entry["scaling"]]
    whole = [growth for growth in sweep["growth"] if growth["component"] is None]
    return {growth["quantity"]: growth["polynomial"] for growth in whole}


def test_shares_fall_and_payloads_stay_as_exact_functions_of_the_ranks(mine: Any) -> None:
    step = workload(mesh={"dp": 8}, parallelize="my:shard")
    limits = "max_exponent: 0, metrics: {communication: 0, collectives: 0, peak_memory: 0}"
    mine.budget("rank", step, f"scaling: {{dp: {{sizes: [2, 8, 64], {limits}}}}}")
    assert mine.run().ret == 0
    found = formulas(mine)
    # AdamW costs 14 for each of 2 * 64 * 256 elements, and 1 for the step counter of each layer.
    assert found["optimizer"] == f"2 + {14 * 2 * 64 * 256:,} / dp"
    assert found["communication total"] == f"{4 * LAYER:,}"
    assert found["collectives total"] == "2"


def test_what_is_padded_is_held_by_the_sizes_that_are_asked_for(mine: Any) -> None:
    """Of 64 rows and 256, 512 ranks hold 1 each; so gathers bring 512 of both."""
    step = workload(mesh={"dp": 8}, parallelize="my:shard")
    sweep = "scaling: {dp: {sizes: [8, 64, 512], metrics: {communication: %s}}}"
    mine.budget("rank", step, sweep % "1.0")
    assert mine.run().ret == 0
    mine.budget("rank", step, sweep % "0")
    padded = 2 * 4 * 512 * (64 + 256)
    mine.fails(told=["communication total grows as dp^0.774, allowed 0*", f"*512: {padded:,}*"])


def test_a_payload_that_is_no_function_of_the_ranks_is_no_mistake(mine: Any) -> None:
    keys = {"values": "real", "config": {"device": "cpu"}, "parallelize": "my:ddp"}
    limits = "scaling: {dp: {sizes: [2, 4, 8], metrics: {communication: 0}}}"
    mine.budget("rank", workload(mesh={"dp": 2}, **keys), limits)
    assert mine.run().ret == 0


def test_what_every_rank_is_sent_by_all_others_grows_with_them(mine: Any) -> None:
    mine.write(
        "mine.py",
        """
        import torch.distributed as dist


        def tells_all(model, mesh):
            def tell(module, inputs, output):
                mine = output.sum().reshape(1)
                dist.all_gather([mine.clone() for _ in range(mesh.size())], mine)

            model.register_forward_hook(tell)
            return model
        """,
    )
    step = workload(mesh={"dp": 2}, parallelize="mine:tells_all")
    sweep = "scaling: {dp: {sizes: [2, 4, 8], metrics: {communication: %s}}}"
    mine.budget("rank", step, sweep % "1.0")
    assert mine.run().ret == 0
    assert formulas(mine)["communication forward"] == "4 * dp"
    mine.budget("rank", step, sweep % "0.9")
    mine.fails(told=["communication total grows as dp^1, allowed 0.9*", "*4 * dp*"])


def test_a_sweep_leaves_the_rank_in_the_mesh(mine: Any) -> None:
    step = workload(mesh={"dp": 8}, rank=7, parallelize="my:shard")
    mine.budget("rank", step, "scaling: {dp: {sizes: [4, 8, 16], max_exponent: 0}}")
    mine.fails(told=["*dp = 4 is rejected: rank must be from 0 to 3 in a mesh of 4, not 7*"])


def test_explain_prints_what_the_ranks_share(
    mine: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mine.budget("rank", workload(mesh={"tp": 2}, seq_len=32, parallelize="my:split"))
    monkeypatch.chdir(mine.root)
    monkeypatch.syspath_prepend(mine.root)
    assert cli.main(["explain", f"{file}", "--over", "seq_len,tp"]) == 0
    told = capsys.readouterr().out.splitlines()
    # Each token costs two products of 2 * 64 * 256 and 256 activations, of which a rank has its
    # share; its 64 outputs are reduced over the ranks, and then added up.
    share = 2 * 2 * 64 * 256 + 256
    assert f"forward = {2 * 64} * seq_len + {share:,} * seq_len / tp" in told


# --- mistakes ---

BAD = [
    ("^workload: {model: 'my:build', mesh: {dp: 8}}", "mesh needs the key 'parallelize' beside it"),
    ("^workload: {model: 'my:build', parallelize: 'my:shard'}", "parallelize needs the key 'mesh'"),
    ("^workload: {model: 'my:build', rank: 0}", "rank needs the key 'mesh' beside it"),
    *(
        (f"workload: {{model: 'my:build', parallelize: 'my:shard', {keys}}}", told)
        for keys, told in (
            ("mesh: {dp: 2, tp: 4}, rank: ^8", "the mesh has the ranks 0 to 7, not 8"),
            ("mesh: {dp: 2}, rank: ^-1", "expected an integer of at least 0, found -1"),
            ("mesh: {dp: ^0}", "mesh.dp: expected an integer of at least 1, found 0"),
            ("mesh: {dp: ^-8}", "mesh.dp: expected an integer of at least 1, found -8"),
            ("mesh: {dp: ^2.5}", "mesh.dp: expected an integer of at least 1, found 2.5"),
            ("mesh: ^[8, 8]", "mesh: expected a mapping of the mesh's dimensions to numbers of"),
            ("mesh: ^8", "mesh: expected a mapping of the mesh's dimensions to numbers of"),
            ("mesh: ^{}", "mesh: expected a mapping of the mesh's dimensions to numbers of"),
            ("mesh: {^'': 8}", "expected the name of a dimension, other than rank, found ''"),
            ("mesh: {^rank: 8}", "expected the name of a dimension, other than rank, found 'rank'"),
        )
    ),
    *(
        (f"workload: {{model: 'my:build', mesh: {{dp: 8}}, parallelize: ^{value}}}", told)
        for value, told in (
            ("shard", "expected \"package.module:function\", found 'shard'"),
            ("3", 'expected "package.module:function", found 3'),
        )
    ),
]


@pytest.mark.parametrize(("written", "told"), BAD)
def test_a_mistake_in_a_file_is_told_with_line_and_column(
    mine: Any, written: str, told: str
) -> None:
    line = written.replace("^", "")
    mine.budget("rank", line)
    column = 5 + written.index("^") + (len("workload: ") if written.startswith("^") else 0)
    literal = told.replace("[", "[[]")
    mine.refuses("budgets", told=[f"ERROR: budgets/model.yaml:4:{column}: *{literal}*"])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"parallelize": "my:gone"}, "cannot import 'my:gone': module 'my' has no attribute"),
        ({"parallelize": "gone:shard"}, "cannot import 'gone:shard': No module named 'gone'; is"),
        ({"parallelize": "my:four"}, "'my:four' is a int, not a callable"),
        ({"parallelize": "my:nothing"}, "must return the parallel model*is its return missing*"),
        ({"parallelize": "my:other_group"}, "Invalid mesh_dim_name*/my.py:*)"),
        ({"parallelize": "my:split", "mesh": {"tp": 3}}, "raised *"),
        (
            {"parallelize": "my:in_heads_of_96", "mesh": {"tp": 8}},
            "raised RuntimeError: *[[]-1, 96]*dim 1 (32)",
        ),
        ({"parallelize": "my:ddp"}, 'values="real" in count_flops or the workload'),
        ({"model": "my:parallel_already"}, "the model is parallel already (it has a FSDP*"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_shows_when_it_runs_is_told_in_words(
    mine: Any, keys: dict[str, object], told: str
) -> None:
    step = workload(**({"mesh": {"dp": 8}, "parallelize": "my:shard"} | keys))
    mine.budget("rank", step, "limits: {total: 1 GFLOP}")
    result = mine.fails(told=[f"*{told}*"])
    assert "Traceback" not in result.stdout.str()


# --- groups that tests make ---

OWN_GROUP = """
import pytest, torch
import torch.distributed as dist


@pytest.fixture(autouse=True, scope="session")
def group():
    dist.init_process_group(
        "gloo", rank=RANK, world_size=WORLD, store=dist.FileStore("PATH", WORLD)
    )
    yield
    dist.destroy_process_group()
"""
REDUCING = """\
import pytest, torch
import torch.distributed as dist


@pytest.mark.flops_budget(communication=4000, collectives=1)
def test_step():
    x = torch.ones(1000, requires_grad=True)
    loss = (2 * x).sum()
    loss.backward()
    dist.all_reduce(x.grad)
    assert x.grad[0] == 2 * dist.get_world_size()
"""


def own_group(project: Any, rank: int = 0, world: int = 1) -> str:
    path = (project.root / "store").as_posix()
    text = OWN_GROUP.replace("RANK", str(rank)).replace("WORLD", str(world))
    return text.replace("PATH", path)


def test_a_real_group_of_one_process_is_counted(project: Any) -> None:
    project.write("conftest.py", own_group(project))
    project.test(REDUCING)
    assert project.run().ret == 0
    project.test(REDUCING.replace("4000", "3999"))
    project.fails(told=["*communication total: 4 kB, limit 3.999 kB*"])


def test_each_rank_of_a_real_group_of_two_counts_its_own(project: Any) -> None:
    runs = []
    for rank, limit in ((0, 4000), (1, 3999)):
        folder = f"rank{rank}"
        project.write(f"{folder}/conftest.py", own_group(project, rank, world=2))
        project.write(f"{folder}/test_step.py", REDUCING.replace("4000", str(limit)))
        command = [sys.executable, "-m", "pytest", "-q", folder]
        report = f"--flops-report={folder}/reports"
        runs.append(
            subprocess.Popen(
                [*command, report], cwd=project.root, env=os.environ, stdout=subprocess.PIPE
            )
        )
    told = [run.communicate(timeout=120)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 1], told
    assert "communication total: 4 kB, limit 3.999 kB" in told[1]


def test_a_mesh_is_refused_beside_a_group_of_the_users_own(mine: Any) -> None:
    mine.write("conftest.py", own_group(mine).replace("autouse=True, ", ""))
    mine.test("import torch.distributed as dist\n\ndef test_a(group): assert dist.is_initialized()")
    step = workload(mesh={"dp": 8}, parallelize="my:shard")
    mine.budget("rank", step, "limits: {total: 1 GFLOP}")
    told = ["this process has a process group already*destroy it first*"]
    mine.fails("test_model.py", "budgets", passed=1, told=told)
    mine.run("budgets", "test_model.py").assert_outcomes(passed=2)


# --- the fixture ---


def test_a_marked_test_counts_one_rank_of_many(mine: Any) -> None:
    mine.marked(
        f"communication={4 * LAYER}",
        """
        model, x = my.build(device="cpu")
        my.shard(model, fake_ranks(dp=1024))(x).sum().backward()
        """,
        "fake_ranks",
        "import my, pytest",
    )
    # 256 and 64 rows are padded to 1,024, gathered and scattered.
    padded = 2 * 4 * 1024 * (64 + 256)
    mine.fails(told=["*communication total: 2.621 MB, limit *"])
    measurement = mine.report()["entries"][0]["measurement"]
    assert sum(measurement["metrics"]["communication"]["whole"].values()) == padded


def test_no_mesh_of_the_fixture_outlives_its_test(mine: Any) -> None:
    mine.test(
        """
        import torch.distributed as dist


        def test_first(fake_ranks):
            fake_ranks(dp=8)
            assert dist.get_world_size() == 8
            raise ZeroDivisionError


        def test_second():
            assert not dist.is_initialized()
        """
    )
    mine.run().assert_outcomes(passed=1, failed=1)
