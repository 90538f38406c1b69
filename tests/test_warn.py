"""`warn`: a limit that holds and is close is told in every output, and the run stays green."""

from __future__ import annotations

from typing import Any

import pytest

# 100 of 105 FLOP are 95.2 %, 200 of 210 likewise, 330 of 400 are 82.5 %
LIMITS = 'forward="105 FLOP", backward=210, total="400 FLOP", warn="90%"'


@pytest.fixture
def close(project: Any) -> Any:
    project.counted(LIMITS)
    return project


def test_a_close_limit_is_yellow_in_the_terminal_and_the_run_is_green(close: Any) -> None:
    result = close.run("--color=yes")
    assert result.ret == 0
    yellow = "\x1b[33m"
    for line in (
        "test_step  close to its limit  95.2 % of forward  ",
        "  close to its limit: forward at 95.2 % of 105 FLOP, backward at 95.2 % of 210 FLOP",
        "Green: the one budget holds, close to its limit.",
    ):
        assert yellow + line in result.stdout.str()


def test_the_json_says_which_limits_are_close(close: Any) -> None:
    close.run()
    report = close.report()
    assert report["passed"]
    warned = {
        verdict["quantity"]: verdict["warned"] for verdict in report["entries"][0]["verdicts"]
    }
    assert warned == {"forward": True, "backward": True, "total": False}


def test_markdown_and_page_have_a_sign_and_words_beside_the_colour(close: Any) -> None:
    close.run()
    told = "close to its limit: forward at 95.2 % of 105 FLOP"
    markdown = (close.root / "reports/flops.md").read_text(encoding="utf-8")
    assert "| ⚠️ | `test_model.py::test_step` | 95.2 % of forward |" in markdown
    assert told in markdown
    page = (close.root / "reports/flops.html").read_text(encoding="utf-8")
    assert '<span class="close">! close to its limit</span>' in page
    assert '<span class="state close">! close to its limit</span>' in page
    assert told in page


def test_github_is_warned_and_a_quiet_run_tells(close: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    result = close.run("-q")
    result.stdout.fnmatch_lines(["Green: the one budget holds, close to its limit."])
    told = "the budget 'test_model.py::test_step' is close to its limit: forward at 95.2 %"
    assert "::warning title=FLOPs budget::" + told in result.stdout.str()


@pytest.mark.parametrize(
    ("limit", "is_close"),
    [
        (112, False),  # 100 of 112: 89.3 %
        (111, True),  # 90.1 %
        (100, True),  # all of it
    ],
)
def test_close_is_above_the_share_and_not_over(project: Any, limit: int, is_close: bool) -> None:
    project.counted(f'forward={limit}, warn="90%"')
    assert project.run().ret == 0
    assert project.report()["entries"][0]["verdicts"][0]["warned"] is is_close


def test_a_share_that_is_reached_exactly_is_not_close(project: Any) -> None:
    project.counted('forward=125, warn="80%"')  # 100 of 125
    project.run()
    assert not project.report()["entries"][0]["verdicts"][0]["warned"]


def test_what_is_over_is_red_and_not_close(project: Any) -> None:
    project.counted('forward=99, warn="90%"')
    project.fails(told=["*test_step  over its limit*"])
    assert not project.report()["entries"][0]["verdicts"][0]["warned"]


def test_in_a_file_each_pattern_is_told_by_its_fullest_component(project: Any) -> None:
    # Linear layers of 8 rows without a bias: 2 x 8 x 16 x 16 = 4,096 and 2 x 8 x 16 x 15 = 3,840.
    project.write(
        "nets.py",
        """
        import torch

        def net():
            one, two = (torch.nn.Linear(16, n, bias=False) for n in (16, 15))
            layers = torch.nn.ModuleDict({"a": one, "b": two})
            return torch.nn.Sequential(layers["a"], layers["b"]), torch.ones(8, 16)
        """,
    )
    project.budget(
        "net",
        "workload: {model: 'nets:net', training: false}",
        "limits: {components: {'*': {forward: 4200 FLOP}}}",
        "warn: 90%",
    )
    result = project.run("budgets")
    assert result.ret == 0
    # 4,096 of 4,200 are 97.5 %, 3,840 are 91.4 %
    result.stdout.fnmatch_lines(["  close to its limit: 0 forward at 97.5 % of 4.2 kFLOP"])


def test_a_close_budget_comes_before_the_others_and_is_never_left_out(project: Any) -> None:
    tests = [
        f"@pytest.mark.flops_budget(total={330 + i})\n"  # 330 of 330 is fuller, and not asked about
        f"def test_{i}(flops): flops.check(FLOPsCount(100, 200, 30))\n"
        for i in range(25)
    ]
    last = tests[0].replace("total=330", 'total=360, warn="90%"').replace("test_0", "test_last")
    head = "import pytest\nfrom pytest_flops import FLOPsCount\n"
    project.test(head + "".join([*tests, last]))
    result = project.run()
    result.stdout.fnmatch_lines(["budget *", "test_last *close to its limit*", "*test_0 *within*"])
    result.stdout.fnmatch_lines(["Green: all 26 budgets hold, 1 close to its limit."])


def test_a_marker_has_the_last_word_over_its_file(project: Any) -> None:
    project.budget("step", "limits: {total: 350}", "warn: 99%")  # 330 of 350 are 94.3 %
    project.counted('"step"')
    project.run()
    assert not project.report()["entries"][0]["verdicts"][0]["warned"]
    project.counted('"step", warn="90%"')
    project.run()
    assert project.report()["entries"][0]["verdicts"][0]["warned"]


def test_a_share_of_no_limit_is_refused(project: Any) -> None:
    project.counted('warn="90%"')
    project.refuses(
        told=["*test_step: the marker flops_budget is wrong: warn is a share of limits*"]
    )
    project.test("")
    project.budget("step", "workload: {model: m}", "warn: 90%")
    project.refuses("budgets", told=["*4:5: budgets.step: warn needs the key 'limits' beside it"])
