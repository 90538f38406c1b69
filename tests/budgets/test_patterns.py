from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flops.budgets.errors import BudgetError
from pytest_flops.budgets.patterns import matching

RESNET_BK = [
    "embedding",
    "layer_0",
    "layer_0.layernorm",
    "layer_0.moe",
    "layer_0.moe.gate",
    "layer_0.bk_core",
    "layer_1",
    "layer_1.moe",
    "layer_10",
    "lm_head",
]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("lm_head", ["lm_head"]),
        ("layer_*", ["layer_0", "layer_1", "layer_10"]),
        ("layer_?", ["layer_0", "layer_1"]),
        ("layer_*.moe", ["layer_0.moe", "layer_1.moe"]),
        ("layer_[1-9]*", ["layer_1", "layer_10"]),
        ("layer_[!0]", ["layer_1"]),
        ("layer_[^0]", ["layer_1"]),
        ("*", ["embedding", "layer_0", "layer_1", "layer_10", "lm_head"]),
        ("**.gate", ["layer_0.moe.gate"]),
        ("**.moe", ["layer_0.moe", "layer_1.moe"]),
        ("**.lm_head", ["lm_head"]),
        ("layer_0.**", [path for path in RESNET_BK if path.split(".")[0] == "layer_0"]),
        ("**", RESNET_BK),
        ("layer_0.*.gate", ["layer_0.moe.gate"]),
        ("*.*.*.*", []),
        ("LM_HEAD", []),
    ],
)
def test_patterns_match_as_a_shell_matches_paths(pattern, matched):
    assert matching(pattern, RESNET_BK) == matched


def test_a_path_with_special_characters_matches_itself():
    assert matching("blocks[0].moe", ["blocks[0].moe", "blocks0.moe"]) == [
        "blocks[0].moe",
        "blocks0.moe",
    ]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "no component pattern"),
        (".", "empty segment"),
        ("layer_0..moe", "empty segment"),
        ("layer_0.", "empty segment"),
        ("layer_[0-9", "unclosed bracket"),
        ("layer_[", "unclosed bracket"),
        ("a[x.y]", "unclosed bracket"),
        ("[]", "unclosed bracket"),
        ("[!]", "unclosed bracket"),
    ],
)
def test_an_invalid_pattern_is_refused(pattern, words):
    with pytest.raises(BudgetError, match=words):
        matching(pattern, RESNET_BK)


def oracle(segments, path):
    """Try everything, by the definition."""
    if not segments:
        return not path
    if segments[0] == "**":
        return any(oracle(segments[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and oracle_segment(segments[0], path[0]) and oracle(segments[1:], path[1:])


def oracle_segment(pattern, text):
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(oracle_segment(pattern[1:], text[skip:]) for skip in range(len(text) + 1))
    if pattern.startswith("[ab]"):
        return text[:1] in {"a", "b"} and oracle_segment(pattern[4:], text[1:])
    if pattern.startswith("[!ab]"):
        return text[:1] not in {"", "a", "b"} and oracle_segment(pattern[5:], text[1:])
    return text[:1] != "" and pattern[0] in {"?", text[0]} and oracle_segment(pattern[1:], text[1:])


PIECES = st.sampled_from(["a", "b", "c", "*", "?", "[ab]", "[!ab]"])
SEGMENTS = st.one_of(st.just("**"), st.lists(PIECES, min_size=1, max_size=3).map("".join))
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=4)
PATHS = st.lists(st.text("abc", min_size=1, max_size=3), min_size=1, max_size=5)


@given(PATTERNS, PATHS)
def test_matching_agrees_with_trying_every_possibility(segments, path):
    expected = [".".join(path)] if oracle(segments, path) else []
    assert matching(".".join(segments), [".".join(path)]) == expected


def test_a_pattern_of_many_stars_is_decided_at_once():
    path = ".".join(["a" * 50] * 200)
    assert matching(".".join(["**", "*a*a*a*a*a*b"] * 20), [path]) == []


def test_a_bracket_may_hold_a_closing_bracket_when_it_comes_first():
    assert matching("a[]b]", ["a]", "ab", "ac"]) == ["a]", "ab"]
    assert matching("a[!]b]", ["a]", "ab", "ac"]) == ["ac"]
