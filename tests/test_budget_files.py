"""Files of budgets as test files: what is collected, what is left alone, what is refused."""

from __future__ import annotations

import re
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
            "*forward: 16.427 GFLOP, limit 16.3 GFLOP, over by 127.147 MFLOP*",
            # One more layer: 139,386,880 forward FLOPs, by the reference page.
            f"*{16_287_760_384 + 139_386_880:,}*",
            "*16,300,000,000*16.3 GFLOP at budgets/model.yaml:12:16*",
            "*If the increase is meant*",
        ],
    )


def test_a_recorded_count_has_no_noise_margin(project: Any) -> None:
    project.budgets()
    project.records(baseline=(16287760383, *project.baseline_count[1:]))
    project.fails(
        "budgets/model.yaml::baseline::recorded",
        told=["*16,287,760,384*", "*16,287,760,383*", "*--flops-update*"],
    )


def test_yaml_of_other_people_is_left_alone(project: Any) -> None:
    project.write("deploy/values.yaml", "budgets: {marketing: 3}\n")
    project.write("deploy/template.yaml", "budgets:\n  {{ .Values.broken }}: [\n")
    project.write("budgets/finance.yaml", "version: 7\nbudgets:\n  travel: 900\n")
    project.test("def test_nothing(): pass\n")
    result = project.run()
    result.assert_outcomes(passed=1)
    assert not (project.root / "reports").exists()


def test_a_file_met_by_chance_that_looks_like_ours_is_held_to_the_schema(project: Any) -> None:
    project.budgets(project.baseline.replace("limits:", "limts:"), path="elsewhere/model.yaml")
    project.refuses(told=["*elsewhere/model.yaml:11:5: *limts*limits*"])


def test_a_file_met_by_chance_with_no_key_spelt_right_is_ours_all_the_same(project: Any) -> None:
    project.budget("step", "limts: {total: 1 GFLOP}")
    project.test("def test_nothing(): pass\n")
    project.refuses(told=["*budgets/model.yaml:4:5: *limts*limits*"])


def test_budgets_on_one_line_are_ours_too(project: Any) -> None:
    project.budgets('{"version": 1, "budgets": {"a": {"limits": {"total": -1}}}}\n')
    project.test("def test_nothing(): pass\n")
    project.refuses(told=["*budgets/model.yaml:1:*"])


def test_a_file_given_to_pytest_is_held_to_the_schema_whatever_it_holds(project: Any) -> None:
    project.write("gates/model.yaml", "budget:\n  a: {limits: {total: 1}}\n")
    project.refuses(
        "gates/model.yaml", told=["*gates/model.yaml:1:1: *budget*did you mean 'budgets'*"]
    )


def test_yaml_in_the_folder_of_budgets_that_is_left_alone_is_named(project: Any) -> None:
    project.budgets()
    project.write("budgets/finance.yaml", "budget:\n  travel: 900\n")
    result = project.run("budgets/model.yaml::baseline::limits")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["left alone, *: budgets/finance.yaml"])


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
