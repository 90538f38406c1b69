"""Lock files: the same bytes for the same records, and every mistake told in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flops.budgets.budget import Location, Recorded
from pytest_flops.budgets.errors import BudgetFileError
from pytest_flops.budgets.files.lock import lock_file_of, lock_text, read_lock
from pytest_flops.counting.count import FLOPsCount

RECORDS = {
    ("tests", "TestNet::test_step[a b]"): Recorded(
        FLOPsCount(30, 60, 9),
        {f"layer_{number}": FLOPsCount(10, 20, 3) for number in range(3)},
        operations={"aten.mm": FLOPsCount(30, 60), "aten.add_": FLOPsCount(0, 0, 9)},
    ),
    ("budgets", "net 10"): Recorded(FLOPsCount(1)),
    ("budgets", "net 9"): Recorded(FLOPsCount(2), {"é": FLOPsCount(2)}),
}
TEXT = """\
{
  "format": "pytest-flops lock file",
  "version": 1,
  "budgets": {
    "net 9": {
      "flops": {
        "count": {"forward": 2},
        "components": {
          "é": {"forward": 2}
        }
      }
    },
    "net 10": {
      "flops": {
        "count": {"forward": 1}
      }
    }
  },
  "tests": {
    "TestNet::test_step[a b]": {
      "flops": {
        "count": {"forward": 30, "backward": 60, "optimizer": 9},
        "components": {
          "layer_{0..2}": {"forward": 10, "backward": 20, "optimizer": 3}
        },
        "operations": {
          "aten.add_": {"optimizer": 9},
          "aten.mm": {"forward": 30, "backward": 60}
        }
      }
    }
  }
}
"""


@pytest.fixture
def read(tmp_path):
    """The records of a text, in a file that messages call `net.lock.json`."""

    def records(content):
        path = tmp_path / "net.lock.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_lock(path, "net.lock.json")

    return records


@pytest.fixture
def problems(read):
    def messages(content):
        with pytest.raises(BudgetFileError) as caught:
            read(content)
        return [str(problem) for problem in caught.value.problems]

    return messages


def test_it_stands_beside_the_file_it_belongs_to(tmp_path):
    assert lock_file_of(tmp_path / "net.yaml") == tmp_path / "net.lock.json"
    assert lock_file_of(tmp_path / "test_net.py") == tmp_path / "test_net.lock.json"


def test_a_line_for_each_component_and_operator_sorted_with_alike_ones_together():
    assert lock_text(RECORDS) == TEXT
    assert lock_text(dict(reversed(RECORDS.items()))) == TEXT


def test_what_was_written_is_read_back_with_its_lines(read):
    records = read(TEXT)
    assert records == RECORDS
    assert records["budgets", "net 9"].location == Location("net.lock.json", 5, 1)
    assert records["tests", "TestNet::test_step[a b]"].location == Location("net.lock.json", 20, 1)


def test_another_layout_says_the_same(read):
    assert read(json.dumps(json.loads(TEXT))) == RECORDS
    assert read(("\ufeff" + TEXT.replace("\n", "\r\n")).encode()) == RECORDS


def test_no_file_holds_no_record(tmp_path):
    assert read_lock(tmp_path / "gone.lock.json", "gone") == {}


COUNTS = st.builds(FLOPsCount, *[st.integers(0, 10**30)] * 3)
NAMES = st.text(st.characters(), max_size=8)
COSTS = st.dictionaries(NAMES, COUNTS, max_size=4)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["budgets", "tests"]), NAMES),
        st.builds(Recorded, COUNTS, COSTS, operations=COSTS),
        max_size=3,
    )
)
def test_any_records_come_back_and_are_written_the_same_again(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("lock") / "x.lock.json"
    path.write_bytes(lock_text(records).encode("utf-8", "backslashreplace"))
    back = read_lock(path, "x")
    assert back == records
    assert lock_text(back) == lock_text(records)


NO_OBJECT = 'no lock file of pytest-flops: its "format" is not "pytest-flops lock file"'


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("", "1:1", "not valid JSON"),
        (TEXT[:100], "6:15", "not valid JSON"),
        (TEXT.replace("},", "}", 1), "8:9", "not valid JSON: Expecting ',' delimiter"),
        (b"\xff" + TEXT.encode(), "1:1", "not UTF-8: the byte 0xff"),
        ("[]", "1:1", NO_OBJECT),
        ('{"packages": {}}', "1:1", NO_OBJECT),
        ("[" * 100_000, "1:1", "while decoding a JSON array"),
        (TEXT.replace(": 30", f": {'9' * 5000}", 1), "1:1", "Exceeds the limit"),
        (TEXT.replace('"version": 1', '"version": 2'), "1:1", "version 2*a newer one"),
        (TEXT.replace('"version": 1', '"version": "1"'), "1:1", "it has version '1'"),
        (TEXT.replace('"version": 1', '"version": true'), "1:1", "it has version True"),
        (TEXT.replace('"version": 1', '"version": 1.0'), "1:1", "it has version 1.0"),
        (TEXT.replace('  "tests"', '  "test"'), "1:1", "unknown key 'test'"),
        (TEXT.replace('"tests": {', '"tests": 1, "x": {'), "1:1", "the file: unknown key 'x'"),
        (TEXT.replace('"net 10"', '"net 9"'), "1:1", "the key 'net 9' is there twice"),
        (TEXT.replace('"count": {"forward": 1}', '"x": 1'), "13:1", "net 10: flops: unknown key"),
        (TEXT.replace('"flops": {', '"time": {', 1), "5:1", "net 9: a record: unknown key"),
        (TEXT.replace('"flops": {', '"bytes": {', 1), "5:1", "net 9: a record: the key 'flops' is"),
        (TEXT.replace(": 60, ", ": -60, "), "20:1", "backward is a whole number*not -60"),
        (TEXT.replace(": 60, ", ": 60.0, "), "20:1", "at least 0, not 60.0"),
        (TEXT.replace(": 60, ", ": NaN, "), "20:1", "at least 0, not nan"),
        (TEXT.replace(": 60, ", ': "60", '), "20:1", "at least 0, not '60'"),
        (TEXT.replace(": 60, ", ": true, "), "20:1", "at least 0, not True"),
        (TEXT.replace('{"forward": 1}', "1"), "13:1", "count: expected an object, found 1"),
        (TEXT.replace('{"optimizer": 9}', '{"optimiser": 9}'), "20:1", "unknown phase 'optimiser'"),
        (TEXT.replace("{0..2}", "{0..2"), "20:1", "'layer_{0..2' has a single brace"),
        (
            TEXT.replace('"layer_', '"layer_1": {"forward": 1}, "layer_'),
            "20:1",
            "components: 'layer_1' is there twice",
        ),
    ],
    ids=lambda value: value if len(value) < 60 else "",
)  # fmt: skip
def test_a_mistake_is_told_with_its_place_and_what_to_do(problems, content, place, words):
    (problem,) = problems(content)
    assert problem.startswith(f"net.lock.json:{place}")
    assert all(word in problem for word in words.split("*"))


def test_the_mistakes_of_several_records_are_told_at_once(problems):
    found = problems(TEXT.replace('{"forward": 2}', '{"forward": "2"}').replace(": 9}", ": -9}"))
    assert [problem.partition(": ")[0] for problem in found] == [
        "net.lock.json:5:1",
        "net.lock.json:20:1",
    ]


def test_a_merge_conflict_is_told_at_its_first_line(problems):
    ours, theirs = '        "count": {"forward": 1}\n', '        "count": {"forward": 3}\n'
    conflict = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> other\n"
    (problem,) = problems(TEXT.replace(ours, conflict))
    assert problem.startswith("net.lock.json:15:1: a merge conflict is left in this lock file: ")
    assert "take either side" in problem
    assert "run pytest --flops-update" in problem


@pytest.mark.posix("links without a right to them")
def test_a_folder_or_a_link_to_nothing_in_its_place(tmp_path):
    (tmp_path / "a.lock.json").mkdir()
    with pytest.raises(BudgetFileError, match="a:1:1: cannot be read: Is a directory"):
        read_lock(tmp_path / "a.lock.json", "a")
    (tmp_path / "b.lock.json").symlink_to("nowhere")
    with pytest.raises(BudgetFileError, match="b:1:1: cannot be read: it is a symbolic link to"):
        read_lock(tmp_path / "b.lock.json", "b")
