"""`recorded` is rewritten in place and nothing else is, byte for byte."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flops.budgets.budget import Recorded
from pytest_flops.budgets.files.loader import load_budgets
from pytest_flops.budgets.files.update import recorded_from, update_recorded
from pytest_flops.counting.count import FLOPsCount
from pytest_flops.counting.measurement import Measurement


def record(forward, backward, optimizer, **components):
    return Recorded(
        FLOPsCount(forward, backward, optimizer),
        {path.replace("__", "."): FLOPsCount(*cost) for path, cost in components.items()},
    )


@pytest.fixture
def updated(tmp_path):
    """The text of a file after an update; both texts are dedented."""

    def update(text, changes):
        path = tmp_path / "b.yaml"
        path.write_bytes(dedent(text).encode())
        assert update_recorded(path, changes)
        loaded = load_budgets(path)
        for name, wanted in changes.items():
            found = loaded[name].recorded
            assert (found.count, found.components) == (wanted.count, wanted.components)
        return path.read_bytes().decode()

    return update


BLOCK = """\
    # who: the model team
    version: 1
    budgets:
      "small": # the small one
        workload: &w {model: m, config: {text: "# no comment: 7"}}
        limits:
          total: 7 FLOP   # 7, as agreed
        recorded:         # machine-written
          forward:   1    # one
          backward: 2
          # the optimizer is new
          optimizer: 3    # three
        tolerance: 0%
      other: {workload: *w}
"""


def test_digits_are_replaced_and_everything_around_them_stays(updated):
    text = updated(BLOCK, {"small": record(100, 2, 33)})
    expected = BLOCK.replace("forward:   1 ", "forward:   100 ")
    expected = expected.replace("optimizer: 3 ", "optimizer: 33 ")
    assert text == dedent(expected)


def test_components_are_added_below_the_phases_in_the_files_own_indentation(updated):
    text = updated(BLOCK, {"small": record(1, 2, 3, layer_0=(1, 2, 3), layer_0__moe=(0, 1, 2))})
    expected = BLOCK.replace(
        "optimizer: 3    # three\n",
        "optimizer: 3    # three\n"
        "          components:\n"
        "            layer_0: {forward: 1, backward: 2, optimizer: 3}\n"
        '            "layer_0.moe": {forward: 0, backward: 1, optimizer: 2}\n',
    )
    assert text == dedent(expected)


def test_a_budget_without_a_record_gets_one_at_its_end(updated):
    text = updated(
        """\
        version: 1
        budgets:
            first:
                limits:
                    total: 7 FLOP  # last line of the first

            # about the second
            second: {limits: {total: 8 FLOP}}
        """,
        {"first": record(1, 2, 3, a=(1, 2, 3)), "second": record(4, 5, 6, b=(4, 5, 6))},
    )
    assert text == dedent(
        """\
        version: 1
        budgets:
            first:
                limits:
                    total: 7 FLOP  # last line of the first
                recorded:
                    forward: 1
                    backward: 2
                    optimizer: 3
                    components:
                        a: {forward: 1, backward: 2, optimizer: 3}

            # about the second
            second: {limits: {total: 8 FLOP}, recorded: {forward: 4, backward: 5, optimizer: 6, \
components: {b: {forward: 4, backward: 5, optimizer: 6}}}}
        """
    )


@pytest.mark.parametrize(
    "last",
    [
        "workload: *w",
        "workload: *w # trailing",
        "workload:\n      *w",
        "workload: {model: m, config: {t: 'a # b'}}",
        "workload:\n      model: m\n      config:\n        text: |\n          kept\n\n",
        "workload:\n      model: m\n      config:\n        text: |+\n          kept\n\n\n",
        "workload:\n      model: m\n      config:\n        list:\n        - 1\n        - *w",
        "workload:\n      model: m\n      config:",
        "workload: {\n  model: m,\n  }",
        "workload:\n      model: several\n        words",
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "ending", ["", "\n", "\n  next: {limits: {total: 1}}\n", "\n# end", "\n..."]
)
def test_a_record_is_added_behind_whatever_ends_the_budget(updated, last, ending):
    text = f"version: 1\nx-w: &w {{model: m}}\nbudgets:\n  a:\n    {last}{ending}"
    if last.endswith("config:"):
        text = text.replace("config:", "config: {}")
    new = updated(text, {"a": record(1, 2, 3)})
    added = "    recorded:\n      forward: 1\n      backward: 2\n      optimizer: 3"
    assert added in new
    assert new.replace(added, "").split() == text.split()


def test_components_come_and_go_line_by_line(updated):
    text = updated(
        """\
        version: 1
        budgets:
          a:
            recorded:
              forward: 1
              backward: 2
              optimizer: 3
              components:  # by hand
                # the first
                gone: {forward: 1, backward: 1, optimizer: 1}  # leaves with its line
                # the second
                stays: {forward: 1, backward: 1, optimizer: 1}  # stays
                nested:
                  forward: 1  # x
                  backward: 1
                  optimizer: 1
                last: {forward: 1, backward: 1, optimizer: 1}
            # behind it
            tolerance: 1%
        """,
        {"a": record(1, 2, 3, new=(4, 4, 4), stays=(5, 5, 5), nested=(6, 1, 1), x__y=(7, 7, 7))},
    )
    assert text == dedent(
        """\
        version: 1
        budgets:
          a:
            recorded:
              forward: 1
              backward: 2
              optimizer: 3
              components:  # by hand
                # the first
                new: {forward: 4, backward: 4, optimizer: 4}
                # the second
                stays: {forward: 5, backward: 5, optimizer: 5}  # stays
                nested:
                  forward: 6  # x
                  backward: 1
                  optimizer: 1
                "x.y": {forward: 7, backward: 7, optimizer: 7}
            # behind it
            tolerance: 1%
        """
    )


ONE = "{forward: 1, backward: 1, optimizer: 1}"
COST = (1, 1, 1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (f"{{a: {ONE}, b: {ONE}}}", {"a": COST}, f"{{a: {ONE}}}"),
        (f"{{a: {ONE}, b: {ONE}}}", {"b": COST}, f"{{b: {ONE}}}"),
        (f"{{a: {ONE}, b: {ONE}}}", {"c": COST}, f"{{c: {ONE}}}"),
        (f"{{ a: {ONE}, b: {ONE}, }}", {"b": COST, "c": COST}, f"{{ b: {ONE}, c: {ONE}, }}"),
        (f"{{b: {ONE}}}", {"a": COST, "b": COST}, f"{{a: {ONE}, b: {ONE}}}"),
        (
            f"{{a: {ONE}, c: {ONE}}}",
            {"a": COST, "b": COST, "c": COST},
            f"{{a: {ONE}, b: {ONE}, c: {ONE}}}",
        ),
        ("{}", {"a": COST}, f"{{a: {ONE}}}"),
    ],
)
def test_components_in_braces_come_and_go_in_braces(updated, before, after, expected):
    def text(components):
        return (
            "version: 1\nbudgets:\n  a: {recorded: {forward: 1, components: "
            f"{components}, backward: 2, optimizer: 3}}}}  # end\n"
        )

    assert updated(text(before), {"a": record(1, 2, 3, **after)}) == text(expected)


def test_the_last_component_leaves_with_its_key(updated):
    text = (
        "version: 1\nbudgets:\n  a:\n    recorded:\n      forward: 1\n      components:\n"
        f"        x: {ONE}\n      backward: 2\n      optimizer: 3\n"
    )
    assert updated(text, {"a": record(1, 2, 3)}) == text.replace(
        f"      components:\n        x: {ONE}\n", ""
    )


def test_numbers_written_with_underscores_stay_when_they_are_right(updated):
    text = "version: 1\nbudgets:\n  a:\n    recorded: {forward: 1_0, backward: 2_0, optimizer: 3}\n"
    assert updated(text, {"a": record(10, 21, 3)}) == text.replace("2_0", "21")


@pytest.mark.parametrize("path", ["yes", "null", "1", "a: b", "#x", "é😀", 'quo"te', "back\\slash"])
def test_component_names_are_quoted_where_yaml_needs_it(updated, path):
    text = "version: 1\nbudgets: {a: {recorded: {forward: 1, backward: 2, optimizer: 3}}}\n"
    updated(text, {"a": Recorded(FLOPsCount(1, 2, 3), {path: FLOPsCount(4, 5, 6)})})


def test_dos_line_ends_and_a_byte_order_mark_are_kept(tmp_path):
    path = tmp_path / "b.yaml"
    before = "\ufeff" + dedent(BLOCK).replace("\n", "\r\n")
    path.write_bytes(before.encode())
    update_recorded(path, {"small": record(1, 2, 3, a=(1, 2, 3))})
    text = path.read_bytes().decode()
    assert text.startswith("\ufeff")
    assert text.count("\n") == text.count("\r\n") == before.count("\n") + 2


def test_a_record_inherited_by_a_merge_is_overridden_not_changed(updated):
    text = (
        "version: 1\nbudgets:\n  a: &a\n    recorded: {forward: 1, backward: 2, optimizer: 3}\n"
        "  b:\n    <<: *a\n"
    )
    assert updated(text, {"b": record(4, 5, 6)}) == text + (
        "    recorded:\n      forward: 4\n      backward: 5\n      optimizer: 6\n"
    )


def test_explicit_keys_are_understood(updated):
    text = "version: 1\nbudgets:\n  ? a\n  : limits: {total: 1}\n  ? b\n  : limits: {total: 1}\n"
    added = "    recorded:\n      forward: 1\n      backward: 2\n      optimizer: 3\n"
    assert updated(text, {"a": record(1, 2, 3)}) == text.replace("1}\n  ? b", f"1}}\n{added}  ? b")


def test_an_unchanged_record_writes_nothing(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(dedent(BLOCK))
    before = path.stat()
    assert not update_recorded(path, {"small": record(1, 2, 3)})
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_the_target_of_a_symbolic_link_is_rewritten_and_the_link_stays(tmp_path):
    target, link = tmp_path / "real.yaml", tmp_path / "b.yaml"
    target.write_text(dedent(BLOCK))
    link.symlink_to(target)
    assert update_recorded(link, {"small": record(9, 2, 3)})
    assert link.is_symlink()
    assert "forward:   9 " in target.read_text()


def test_the_files_mode_is_kept(tmp_path):
    path = tmp_path / "b.yaml"
    path.write_text(dedent(BLOCK))
    path.chmod(0o640)
    update_recorded(path, {"small": record(9, 2, 3)})
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_measurement_is_recorded_down_to_two_segments_of_what_costs_something():
    costs = {"a": (3, 2, 1), "a.b": (2, 1, 0), "a.b.c": (1, 1, 0), "idle": (0, 0, 0)}
    components = {path: FLOPsCount(*cost) for path, cost in costs.items()}
    recorded = recorded_from(Measurement(FLOPsCount(3, 2, 1), components, "meter", "executed"))
    assert recorded.count == FLOPsCount(3, 2, 1)
    assert list(recorded.components) == ["a", "a.b"]


def test_the_numbers_of_a_list_of_modules_do_not_count_as_segments():
    paths = ["transformer", "transformer.h", "transformer.h.7", "transformer.h.7.attn"]
    components = dict.fromkeys(paths, FLOPsCount(1))
    recorded = recorded_from(Measurement(FLOPsCount(1), components, "meter", "executed"))
    assert list(recorded.components) == paths[:3]


# A generated file is a list of pieces; every integer is the place of a recorded number.

COMMENTS = st.sampled_from(["", " # 12345", "  # forward: 1", " # {é😀}, '\""])
BETWEEN = st.sampled_from(["", "\n", "\n# 99 lone comment\n", "\n\n   # recorded: 3\n"])
OTHER_KEYS = st.lists(
    st.sampled_from(
        [
            "limits: {total: 5 GFLOP}",
            'limits:\n      forward: 1_000 MFLOP\n      components: {"layer_*": {total: 3}}',
            "workload: &anchor{n} {model: m, batch_size: 1, config: {a: '# 1', b: [1, 2]}}",
            'workload: {model: m, config: {<<: *shared, q: "x: {1}"}}',
            "tolerance: 1.5%",
            "tolerance: '0%'",
            (
                "scaling:\n      n:\n        sizes:\n        - 1\n        - 2\n        - 3\n"
                "        max_exponent: 2.0"
            ),
        ]
    ),
    unique_by=lambda line: line.split(":")[0],
    min_size=1,
    max_size=3,
)


@st.composite
def blocks(draw, indent):
    pieces = []
    for phase in draw(st.permutations(["forward", "backward", "optimizer"])):
        pieces += [f"\n{indent}{phase}: ", 0, draw(COMMENTS), draw(BETWEEN)]
    return pieces


@st.composite
def braces(draw):
    pieces = []
    for phase in draw(st.permutations(["forward", "backward", "optimizer"])):
        pieces += [draw(st.sampled_from([", ", " , ", ",\n          "])), f"{phase}: ", 0]
    return [
        " {",
        pieces[0].replace(",", ""),
        *pieces[1:],
        draw(st.sampled_from(["}", " }", ", }"])),
    ]


@st.composite
def records(draw):
    if not draw(st.booleans()):
        return ["\n    recorded:", *draw(braces()), draw(COMMENTS)]
    pieces = ["\n    recorded:", draw(COMMENTS), *draw(blocks("      "))]
    if draw(st.booleans()):
        pieces += ["\n      components:", draw(COMMENTS)]
        for path in ("layer_0", '"layer_0.moe"', "'lm head'"):
            nested = draw(st.booleans())
            pieces += [f"\n        {path}:", *draw(blocks(" " * 10) if nested else braces())]
    return pieces


@st.composite
def files(draw):
    """Texts to keep, and lists of pieces for records, by turns."""
    kept = "x-shared: &shared {a: 1, forward: 2}" + draw(COMMENTS) + "\nversion: 1\nbudgets:"
    parts = []
    for n in range(draw(st.integers(1, 3))):
        kept += draw(st.sampled_from([f"\n  b{n}:", f"\n  'b{n}' :", f'\n  "b{n}":']))
        keys = [f"\n    {key.replace('{n}', str(n))}" for key in draw(OTHER_KEYS)]
        place = draw(st.integers(0, len(keys)))
        kept += "".join(key + draw(COMMENTS) + draw(BETWEEN) for key in keys[:place])
        parts += [kept, draw(records())]
        kept = draw(BETWEEN)
        kept += "".join(key + draw(COMMENTS) + draw(BETWEEN) for key in keys[place:])
    kept += draw(st.sampled_from(["", "\n", "\n\n# the end"]))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return [with_line_ends(part, newline) for part in [*parts, kept]]


def with_line_ends(part, newline):
    if isinstance(part, list):
        return [with_line_ends(piece, newline) for piece in part]
    return part.replace("\n", newline) if isinstance(part, str) else part


def holes(parts):
    return sum(part.count(0) for part in parts if isinstance(part, list))


def with_numbers(parts, numbers):
    numbers = iter(numbers)
    pieces = [piece for part in parts for piece in ([part] if isinstance(part, str) else part)]
    return "".join(piece if isinstance(piece, str) else str(next(numbers)) for piece in pieces)


any_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@any_file
@given(files(), st.data())
def test_of_any_file_only_the_recorded_digits_change(tmp_path, parts, data):
    numbers = st.lists(st.integers(0, 10**15), min_size=holes(parts), max_size=holes(parts))
    before, after = (with_numbers(parts, data.draw(numbers)) for _ in range(2))
    path, wanted = Path(tmp_path, "b.yaml"), Path(tmp_path, "wanted.yaml")
    path.write_bytes(before.encode())
    wanted.write_bytes(after.encode())
    changes = {name: budget.recorded for name, budget in load_budgets(wanted).items()}
    assert update_recorded(path, changes) is (before != after)
    assert path.read_bytes().decode() == after


PATHS = st.sampled_from(["layer_0", "layer_0.moe", "lm head", "é", "new.one"])


@any_file
@given(files(), st.dictionaries(PATHS, st.tuples(*[st.integers(0, 10**12)] * 3)))
def test_of_any_file_components_come_and_go_and_all_else_stays(tmp_path, parts, components):
    path = Path(tmp_path, "b.yaml")
    path.write_bytes(with_numbers(parts, range(holes(parts))).encode())
    costs = {name: FLOPsCount(*cost) for name, cost in components.items()}
    update_recorded(path, dict.fromkeys(load_budgets(path), Recorded(FLOPsCount(7, 8, 9), costs)))
    for budget in load_budgets(path).values():
        assert (budget.recorded.count, budget.recorded.components) == (FLOPsCount(7, 8, 9), costs)
    text, position = path.read_bytes().decode(), 0
    for kept in parts[::2]:
        position = text.index(kept, position) + len(kept)
    assert text.startswith(parts[0])
    assert text.endswith(parts[-1])
