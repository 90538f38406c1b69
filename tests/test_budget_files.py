"""Files of budgets as test files: what is collected, what is left alone, what is refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

GROWN = ("n_layers: 4", "n_layers: 5")


def test_each_budget_is_a_group_of_items(project: Any) -> None:
    project.budgets()
    project.records(baseline=project.baseline_count)
    result = project.run("budgets", "--collect-only", "-q")
    names = [line for line in result.outlines if "::" in line]
    assert names == [
        f"budgets/model.yaml::baseline::{item}" for item in ("limits", "recorded", "parity")
    ]


def test_a_scaling_limit_is_an_item_named_after_its_dimension(project: Any) -> None:
    scaling = "    scaling:\n      seq_len: {sizes: [32, 64, 128], max_exponent: 1.0}\n"
    project.budgets(project.baseline + scaling)
    project.run("budgets/model.yaml::baseline::scaling[seq_len]").assert_outcomes(passed=1)


def test_a_budget_that_holds_passes_without_any_python(project: Any) -> None:
    project.budgets()
    project.records(baseline=project.baseline_count)
    result = project.run("budgets", "-k", "not parity")
    result.assert_outcomes(passed=2, deselected=1)
    assert result.ret == 0


def test_a_dearer_model_fails_and_the_message_names_budget_phase_and_figures(
    project: Any,
) -> None:
    project.budgets(project.baseline.replace(*GROWN))
    project.fails(
        "budgets/model.yaml::baseline::limits",
        told=[
            "*budget 'baseline'*budgets/model.yaml:3:3*",
            # One more layer: 139,386,880 forward FLOPs, by the reference page, are 16.427 GFLOP.
            "write 16.5 GFLOP to allow it: forward, budgets/model.yaml:12:16",
        ],
    )
    project.run("-v", "budgets/model.yaml::baseline::limits").stdout.fnmatch_lines(
        ["*forward: 16.427 GFLOP, limit 16.3 GFLOP, over by 127.147 MFLOP*"]
    )
    red = [v for v in project.report()["entries"][0]["verdicts"] if not v["passed"]]
    assert 16_287_760_384 + 139_386_880 in [verdict["actual"] for verdict in red]


def test_a_recorded_count_has_no_noise_margin(project: Any) -> None:
    project.budgets()
    project.records(baseline=(16287760383, *project.baseline_count[1:]))
    project.fails(
        "budgets/model.yaml::baseline::recorded",
        "-v",
        told=["*--flops-update*", "*16,287,760,384*16,287,760,383*"],
    )


@pytest.mark.parametrize("part", [(), (".",), ("tests",)], ids=["all", "dot", "folder"])
def test_yaml_of_other_people_is_left_alone(
    project: Any, mode: tuple[str, ...], part: tuple[str, ...]
) -> None:
    finance = "budgets:\n  marketing:\n    limits: {monthly: 1000 EUR}\n"
    project.write("tests/data/finance.yaml", finance)
    project.write("tests/data/template.yaml", "budgets:\n  {{ .Values.broken }}: [\n")
    write_broken(project, "tests/data/latin.yml", "name: café\n".encode("latin-1"))
    write_broken(project, "tests/data/gone.yml", None)
    project.test("def test_nothing(): pass\n", path="tests/test_nothing.py")
    result = project.run(*part, *mode)
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert not (project.root / "reports").exists()


NET = """\
version: 1
budgets:
  net: {limits: {total: 1 FLOP}}  # coût
"""
NOT_BUDGETS: dict[str, tuple[str | bytes | None, str]] = {
    "latin-1": (NET.encode("latin-1"), "3:39: not UTF-8: the byte 0xfb; save the file as UTF-8"),
    "utf-16": (NET.encode("utf-16"), "1:1: not UTF-8: it is UTF-16*; save the file as UTF-8"),
    "empty": (b"", "1:1: the file is empty; expected *version and budgets"),
    "a-letter-short": (NET.replace("budgets", "budget"), "2:1: *'budget'; did you mean 'budgets'?"),
    "a-capital": (NET.replace("budgets", "Budgets"), "2:1: *'Budgets'; did you mean 'budgets'?"),
    "capitals": (NET.replace("budgets", "BUDGETS"), "2:1: *'BUDGETS'; did you mean 'budgets'?"),
    "misspelt": (NET.replace("budgets", "budgest"), "2:1: *'budgest'; did you mean 'budgets'?"),
    "indented": (
        indent(NET.replace("total", "totl"), "  "),
        "3:20: *'totl'; did you mean 'total'?",
    ),
    "long-form": (NET.replace("budgets:", "? budget\n:"), "2:3: *; did you mean 'budgets'?"),
    "without-version": (NET.replace("version: 1", ""), "1:1: the key 'version' is missing*"),
    "of-other-people": ("replicas: 3\n", "1:1: *unknown key 'replicas'*"),
    "dangling-link": (None, "1:1: cannot be read: it is a symbolic link to nowhere.yaml, *"),
}


def write_broken(project: Any, place: str, content: str | bytes | None) -> None:
    """Write a file, or a link to nothing."""
    file: Path = project.write(place, content if isinstance(content, str) else "")
    if content is None and os.name == "nt":
        pytest.skip("Windows has no links without a right to them")
    if content is None:
        file.unlink()
        file.symlink_to("nowhere.yaml")
    elif isinstance(content, bytes):
        file.write_bytes(content)


@pytest.mark.parametrize(("content", "told"), NOT_BUDGETS.values(), ids=NOT_BUDGETS)
@pytest.mark.parametrize("part", [(), ("budgets",)], ids=["all", "folder"])
def test_a_file_in_the_folder_of_budgets_that_holds_none_stops_the_run(
    project: Any, content: str | bytes | None, told: str, part: tuple[str, ...]
) -> None:
    project.counted("total=330")
    write_broken(project, "budgets/net.yaml", content)
    project.refuses(*part, told=[f"ERROR: budgets/net.yaml:{told}"])


@pytest.mark.parametrize("kind", ["latin-1", "dangling-link"])
@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("budgets/deep/er/net.YML", ("budgets/deep",)),
        ("budgets/net.yaml", ("tests",)),
        ("tests/budgets/net.Yaml", ()),
        ("tests/budgets/net.yaml", ("tests",)),
        ("tests/budgets/net.yaml", ("tests/budgets",)),
        ("tests/budgets/net.yml", ("tests/test_step.py::test_step",)),
        ("gates/net.YAML", ("--flops-budgets=gates", "tests")),
        ("tests/gates/net.yaml", ("--flops-budgets=gates", "tests")),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value) or "all",
)
def test_every_folder_that_a_test_looks_into_is_held_to_the_schema(
    project: Any, mode: tuple[str, ...], kind: str, place: str, part: tuple[str, ...]
) -> None:
    project.counted("total=330")
    (project.root / "tests").mkdir()
    (project.root / "test_model.py").rename(project.root / "tests/test_step.py")
    project.budgets(path="gates/sound.yml")
    content, told = NOT_BUDGETS[kind]
    write_broken(project, place, content)
    project.refuses(*part, *mode, told=[f"ERROR: {place}:{told}"])


@pytest.mark.posix("links without a right to them")
@pytest.mark.parametrize("place", ["budgets", "tests/budgets"])
def test_a_folder_of_budgets_that_is_a_link_to_nothing_stops_the_run(
    project: Any, mode: tuple[str, ...], place: str
) -> None:
    project.test("def test_nothing(): pass\n", path="tests/test_nothing.py")
    (project.root / place).symlink_to("submodule/budgets")
    told = f"ERROR: {place}:1:1: cannot be read: it is a symbolic link to submodule/budgets, *"
    project.refuses("tests", *mode, told=[told])


def test_a_file_met_by_chance_that_looks_like_ours_is_held_to_the_schema(project: Any) -> None:
    project.budgets(project.baseline.replace("limits:", "limts:"), path="elsewhere/model.yaml")
    project.refuses(told=["*elsewhere/model.yaml:11:5: *limts*limits*"])


def test_a_file_met_by_chance_that_looks_like_ours_and_is_not_utf_8_is_an_error(
    project: Any, mode: tuple[str, ...]
) -> None:
    content, told = NOT_BUDGETS["latin-1"]
    write_broken(project, "elsewhere/net.yaml", content)
    project.refuses(*mode, told=[f"ERROR: elsewhere/net.yaml:{told}"])


def test_a_file_met_by_chance_with_no_key_spelt_right_is_ours_all_the_same(project: Any) -> None:
    project.budget("step", "limts: {total: 1 GFLOP}", path="elsewhere/model.yaml")
    project.test("def test_nothing(): pass\n")
    project.refuses(told=["*elsewhere/model.yaml:4:5: *limts*limits*"])


def test_budgets_on_one_line_are_ours_too(project: Any) -> None:
    project.write("model.yaml", '{"version": 1, "budgets": {"a": {"limits": {"total": -1}}}}\n')
    project.test("def test_nothing(): pass\n")
    project.refuses(told=["*model.yaml:1:*"])


@pytest.mark.parametrize("name", ["gates/model.yaml", "gates/../gates/model.YML"])
def test_a_file_given_to_pytest_is_held_to_the_schema_whatever_it_holds(
    project: Any, mode: tuple[str, ...], name: str
) -> None:
    file = project.write(name, "budget:\n  a: {limits: {total: 1}}\n").name
    told = f"ERROR: gates/{file}:1:1: *budget*did you mean 'budgets'*"
    project.refuses(name, *mode, told=[told])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing is unreadable here")
@pytest.mark.parametrize("part", ["net.yaml", "deep", "."])
def test_a_file_or_folder_of_budgets_that_cannot_be_read_stops_the_run(
    project: Any, part: str
) -> None:
    project.budgets(path="budgets/net.yaml")
    project.budgets(path="budgets/deep/net.yaml")
    project.counted("total=330")
    closed = project.root / "budgets" / part
    mode = closed.stat().st_mode
    closed.chmod(0)
    try:
        where = f"budgets/{part}".removesuffix("/.")
        told = f"ERROR: {where}:1:1: cannot be read: Permission denied"
        project.refuses("test_model.py", told=[told])
    finally:
        closed.chmod(mode)


def test_a_named_folder_is_held_to_the_schema_whatever_it_holds(project: Any) -> None:
    project.write("gates/other.yaml", "replicas: 3\n")
    project.test("def test_nothing(): pass\n")
    project.refuses("--flops-budgets", "gates", told=["*gates/other.yaml:1:1: *"])


def test_all_mistakes_of_all_files_are_told_at_once_with_their_places(project: Any) -> None:
    project.budgets(
        project.baseline.replace("GFLOP", "GFLOPZ", 1).replace("optimizer: adamw", "optimiser: x"),
        path="budgets/one.yaml",
    )
    project.budgets("version: 1\nbudgets: {}\n", path="budgets/two.yaml")
    project.budgets(
        project.baseline.replace("baseline:", "third:").replace("140 MFLOP", "-1"),
        path="budgets/three.yaml",
    )
    result = project.run("budgets", "--flops-budgets", "budgets")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    places = re.findall(r"ERROR: (budgets/\w+\.yaml:\d+):\d+: ", result.stderr.str())
    assert places == [
        "budgets/one.yaml:9",
        "budgets/one.yaml:12",
        "budgets/three.yaml:16",
        "budgets/two.yaml:2",
    ]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"- just\n- a list\n",
        b"version: 1\nbudgets: {a: {limits: {total: .nan}}}\n",
        b"version: 1\nbudgets: {a: {limits: {total: true}}}\n",
        b"version: 1\nbudgets: {a: {limits: {total: -1 GFLOP}}}\n",
        b"version: 1\nbudgets: {a: {limits: {total: 1}}, a: {limits: {total: 2}}}\n",
        b"version: 1\nbudgets: {a: {limits: {total: " + b"9" * 5000 + b"}}}\n",
        b"a: &a [x,x,x,x,x,x,x,x,x]\n"
        + b"".join(
            b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9))
            for name in range(ord("b"), ord("j"))
        ),
        b"version: 1\nbudgets: [\n",
        b"version: 99\nbudgets: {a: {limits: {total: 1}}}\n",
    ],
    ids=[
        "empty",
        "not-utf-8",
        "a-list",
        "nan",
        "boolean",
        "negative",
        "duplicate-key",
        "absurdly-long",
        "alias-bomb",
        "cut-off",
        "newer-version",
    ],
)
def test_a_broken_named_file_is_a_usage_error_with_a_place_and_no_traceback(
    project: Any, content: bytes
) -> None:
    path = project.root / "broken.yaml"
    path.write_bytes(content)
    result = project.run("--flops-budgets", "broken.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    output = result.stdout.str() + result.stderr.str()
    assert re.search(r"^ERROR: broken\.yaml:\d+:\d+: \S", output, re.MULTILINE)
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output


def test_a_named_folder_without_yaml_is_a_usage_error(project: Any) -> None:
    (project.root / "gates").mkdir()
    project.refuses("--flops-budgets", "gates", told=["*no YAML file of budgets in gates*"])


def test_the_lines_of_a_builders_error_cannot_pose_as_commands_of_a_ci_log(project: Any) -> None:
    project.write("hostile.py", "def build(): raise OSError('x\\n::error::y\\x1b[31m')\n")
    project.budget("x", "workload: {model: 'hostile:build'}", "limits: {total: 1 FLOP}")
    told = project.run("budgets", "--flops-report=").stdout.str()
    assert "| ::error::y" in told
    assert "\x1b[31m" not in told
    assert not [line for line in told.splitlines() if line.strip().startswith("::error")]


def test_a_named_file_that_is_not_there_is_a_usage_error(project: Any) -> None:
    project.refuses(
        "--flops-budgets", "gone.yaml", told=["*no file or folder of budgets at gone.yaml*"]
    )


def test_a_builder_that_cannot_be_imported_is_told_with_the_budget(project: Any) -> None:
    project.budget("x", "workload: {model: 'nowhere:build'}", "limits: {total: 1 FLOP}")
    result = project.fails(
        "budgets",
        told=[
            "cannot import 'nowhere:build': No module named*",
            "in budget 'x' (budgets/model.yaml:3:3)",
        ],
    )
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("parse()", "*cannot import 'script:build': 2; the module exits on import*"),
        ("def build(): parse()", "*the builder 'script:build' raised SystemExit: 2 (*script.py:*"),
    ],
)
def test_a_script_that_exits_is_told_like_an_error(project: Any, code: str, told: str) -> None:
    """As one that reads pytest's command line for its own."""
    project.write("script.py", f"from sys import exit\ndef parse(): exit(2)\n{code}\n")
    project.budget("x", "workload: {model: 'script:build'}", "limits: {total: 1 FLOP}")
    result = project.fails("budgets", told=[told])
    assert "_pytest" not in result.stdout.str()


def test_an_error_of_a_builder_is_told_with_the_line_of_its_code(project: Any) -> None:
    project.write("broken.py", "def build():\n    raise OSError('no disk')\n")
    project.budget("x", "workload: {model: 'broken:build'}", "limits: {total: 1 FLOP}")
    project.fails("budgets", told=["*'broken:build' raised OSError: no disk (*broken.py:2)*"])


def test_a_builder_of_the_project_is_found_from_rootdir_and_metered(project: Any) -> None:
    project.write(
        "tiny.py",
        """
        import torch
        def build(width, batch_size):
            return torch.nn.Linear(width, 5, bias=False), torch.randn(batch_size, width)
        """,
    )
    project.budget(
        "tiny",
        "workload: {model: 'tiny:build', config: {width: 3}, batch_size: 7, optimizer: none}",
        f"limits: {{forward: {2 * 7 * 3 * 5 - 1}}}",
    )
    project.fails("budgets")
    # 2 FLOPs for each of 7 x 3 x 5 multiply-adds; the sum that stands for a loss is 35 more.
    assert project.report()["entries"][0]["measurement"]["count"]["forward"] == 210 + 35
