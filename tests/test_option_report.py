"""`--flops-report`: where the report goes."""

from __future__ import annotations

from typing import Any

FILES = {"flops.json", "flops.html", "flops.md"}


def test_the_three_files_go_into_the_folder_which_is_made(
    project: Any, mode: tuple[str, ...]
) -> None:
    project.counted("total='1 kFLOP'")
    result = project.run("--flops-report", "out/of the/way", *mode)
    assert result.ret == 0
    folder = project.root / "out/of the/way"
    assert {file.name for file in folder.iterdir()} == FILES
    assert not (project.root / "reports").exists()
    result.stdout.fnmatch_lines(["report: out/of the/way/flops.json,*"])


def test_the_report_tells_what_components_cost_by_themselves_by_operator(project: Any) -> None:
    project.marked(
        "total='1 kFLOP'",
        """
        layers = [torch.nn.Linear(4, 4, bias=False) for _ in range(2)]
        torch.nn.Sequential(*layers, torch.nn.Softmax(-1))(torch.ones(2, 4))
        """,
    )
    assert project.run().ret == 0
    (entry,) = project.report()["entries"]
    # 2 * 2 * 4 * 4 of each product, 5 * 8 of the softmax
    assert entry["measurement"]["own_operations"] == [
        {"components": ["0", "1"], "operations": {"aten.mm": {"forward": 64}}},
        {"components": ["2"], "operations": {"aten._softmax": {"forward": 40}}},
    ]
    page = (project.root / "reports/flops.html").read_text()
    assert 'title="0..1.aten.mm x 2: 128 FLOP, 76.2 %"' in page


def test_an_empty_name_writes_nothing(project: Any, mode: tuple[str, ...]) -> None:
    project.counted("total='1 kFLOP'")
    assert project.run("--flops-report=", *mode).ret == 0
    assert not [path for path in project.root.rglob("*") if path.name in FILES]


def test_an_absolute_folder_is_taken_as_it_is(project: Any, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("artifacts")
    project.counted("total='1 kFLOP'")
    project.run(f"--flops-report={folder}")
    assert {file.name for file in folder.iterdir()} == FILES


def test_a_run_that_concerns_no_budget_writes_nothing(project: Any, mode: tuple[str, ...]) -> None:
    project.test("def test_it(): pass\n")
    project.run("--flops-report", "out", *mode)
    assert not (project.root / "out").exists()


def test_a_red_run_writes_its_report_too(project: Any) -> None:
    project.counted("total='1 FLOP'")
    assert project.run("--flops-report", "out").ret == 1
    assert project.report("out/flops.json")["passed"] is False


def test_a_folder_that_cannot_be_made_is_an_error_in_one_paragraph(project: Any) -> None:
    project.write("out", "a file")
    project.counted("total='1 kFLOP'")
    result = project.run("--flops-report", "out")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: cannot write *out/flops.json: *"])
    assert "Traceback" not in result.stdout.str()


def test_the_ini_twin(project: Any) -> None:
    project.ini("flops_report = out")
    project.counted("total='1 kFLOP'")
    project.run()
    assert (project.root / "out/flops.json").exists()
