"""Files that are no YAML, or are made to hurt: one clear message each, never a traceback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.errors import BudgetFileError
from pytest_flops.budgets.files.file_format import budgets_of

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LAUGHS, "b.yaml:1:1: aliases expand this document by more than 100,000 nodes"),
        ("a: &a [*a]\n", "b.yaml:1:4: this anchor's alias stands inside itself"),
        ("&a {b: *a}\n", "b.yaml:1:1: this anchor's alias stands inside itself"),
        ("a: &a {<<: *a}\n", "b.yaml:1:4: this anchor's alias stands inside itself"),
        ("a: " + "[" * 100_000, "b.yaml:1:63: nested deeper than 60 levels"),
        ("- " * 100_000, "nested deeper than 60 levels"),
        ("{a: " * 3000, "nested deeper than 60 levels"),
        ("a: 1\n---\nb: 1\n", "b.yaml:2:1: a second document begins here"),
        ("a: *nowhere\n", "b.yaml:1:4: the alias 'nowhere' has no anchor above it"),
        ("a: &x 1\nb: &x 2\n", "duplicate anchor"),
        ("version: 1\nbudgets:\n\ta: 1\n", "b.yaml:3:1: not valid YAML: a tab stands here"),
        ("a: 1\t# one\n", "b.yaml:1:5: not valid YAML: a tab stands here"),
        ("{layer_?: 1}", "b.yaml:1:8: not valid YAML"),
        ("a: [1, 2\n", "not valid YAML"),
        ("a: 'open\n", "not valid YAML"),
        ("a: b: c\n", "b.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: @b\n", "b.yaml:1:4: not valid YAML"),
        ("a: 1\n b: 2\n", "b.yaml:2:3: not valid YAML"),
        ("%YAML 9\n---\na: 1\n", "not valid YAML"),
        ("a: ok\nb: \x07\n", "b.yaml:2:4: the control character U+0007 is not allowed"),
        ('a: "\\UFFFFFFFF"', "b.yaml:1:7: not valid YAML: this escape stands for no character"),
        ("a: \x00", "b.yaml:1:4: the control character U+0000"),
        (b"a: ok\nb: \xff\xfe\n", "b.yaml:2:4: not UTF-8: the byte 0xff"),
        ("version: 1".encode("utf-16"), "b.yaml:1:1: not UTF-8: it is UTF-16"),
        ("a: é".encode("latin-1"), "b.yaml:1:4: not UTF-8: the byte 0xe9"),
        ("\ufeff", "b.yaml:1:1: the file is empty"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_one_message_at_one_place(problems, content, message):
    told = problems(content)
    assert len(told) == 1
    assert message in told[0]
    assert len(told[0]) < 400


def test_a_large_file_of_honest_aliases_is_no_bomb(load):
    shared = "x-w: &w {model: m, config: {a: 1, b: 2, c: 3}}\n"
    entries = "".join(f"  b{i}: {{workload: *w}}\n" for i in range(2000))
    assert len(load(f"version: 1\n{shared}budgets:\n{entries}")) == 2000


def test_a_bomb_of_merge_keys_is_refused(problems):
    base = "x-0: &x0 {" + ", ".join(f"k{i}: 1" for i in range(50)) + "}\n"
    lines = "".join(
        f"x-{i}: &x{i} {{<<: [{', '.join([f'*x{i - 1}'] * 9)}]}}\n" for i in range(1, 9)
    )
    assert "aliases expand" in problems("version: 1\n" + base + lines)[0]


WORDS = st.sampled_from(
    [
        "a",
        "é😀",
        "b?",
        "1",
        "1e9",
        "010",
        "yes",
        "~",
        "'q: #'",
        '"\\u00e9 x"',
        "2020-01-01",
        "a#b",
        "x y",
    ]
)
FLOWS = st.recursive(
    WORDS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"k{i}: {item}" for i, item in enumerate(items)) + "}"
        )
    ),
    max_leaves=6,
)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "    ", "\t", "- "]),
        st.sampled_from(["k: ", "'k': ", "l: &l ", "m: *l #", "# ", "", "<<: ", "| ", "? "]),
        FLOWS,
        st.sampled_from(["", " # comment", "  ", "\t", "\t# comment"]),
    ).map("".join),
    max_size=6,
)


@given(st.text(max_size=60) | LINES.map("\n".join))
def test_any_text_is_read_or_refused_with_problems(text):
    try:
        result = budgets_of(text, "b.yaml")
    except BudgetFileError as error:
        result = error.problems
    assert result
