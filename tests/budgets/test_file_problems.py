"""Everything wrong in a budget file is told at once, at its place, in people's words."""

from __future__ import annotations

import json

import pytest

from pytest_flops.budgets.schema import SCHEMA_FILE

HEAD = "version: 1\nbudgets:\n"


def only(messages):
    assert len(messages) == 1, messages
    return messages[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "b.yaml:1:1: the file is empty"),
        ("# only a comment\n", "b.yaml:1:1: the file is empty"),
        ("- a\n- b\n", "b.yaml:1:1: the file is no mapping"),
        ("just text", "b.yaml:1:1: the file is no mapping"),
        ("version: 1\n", "b.yaml:1:1: the key 'budgets' is missing"),
        ("budgets: {a: {limits: {total: 1}}}", "b.yaml:1:1: the key 'version' is missing"),
        ("version: 1\nbudgets: {}", "b.yaml:2:10: budgets: expected a mapping of budget names"),
        ("version: 1\nbudgets:\n", "b.yaml:2:9: budgets: expected a mapping"),
        ("version: 1\nbudgets: [a]", "found a list of 1"),
        ("version: 2\nbudgets: {a: {limits: {total: 1}}}", "b.yaml:1:10: version: expected"),
        ("version: '1'\nbudgets: {a: {limits: {total: 1}}}", "found '1'"),
        ("version: true\nbudgets: {a: {limits: {total: 1}}}", "found the boolean true"),
    ],
)
def test_the_top_level(problems, content, message):
    assert message in only(problems(content))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "a: {limts: {total: 1}, workload: {model: m}}",
            "3:7: budgets.a.limts: unknown key 'limts'; did you mean 'limits'?",
        ),
        ("a: {limits: {forwards: 1}}", "did you mean 'forward'?"),
        ("a: {limits: {}}", "found an empty mapping"),
        ("a: {limits: }", "found nothing"),
        ("a: {limits: 5 GFLOP}", "found '5 GFLOP'"),
        ("a: {limits: {components: {}}}", "found an empty mapping"),
        ("a: {limits: {components: {lm_head: 5}}}", "found 5"),
        ("a: {limits: {components: {'a..b': {total: 1}}}}", "empty segment"),
        ("a: {limits: {components: {'a[': {total: 1}}}}", "3:29: "),
        ("a: {}", "3:6: budgets.a: it holds nothing to check"),
        ("a:", "budgets.a: expected a budget: a mapping with workload"),
        ("a: {workload: {config: {}}}", "it needs at least one of model, step"),
        ("a: {workload: {model: m, optimizer: adamW}}", "did you mean 'adamw'?"),
        ("a: {workload: {model: m, optimizer: null}}", "one of sgd, adam, adamw, none"),
        ("a: {workload: {model: m, rules: publshed}}", "did you mean 'published'?"),
        ("a: {workload: {model: m, batch_size: 0}}", "an integer of at least 1, found 0"),
        ("a: {workload: {model: m, batch_size: 1.5}}", "an integer of at least 1, found 1.5"),
        ("a: {workload: {model: m, batch_size: 32.0}}", "an integer of at least 1, found 32.0"),
        ("a: {workload: {model: m, batch_size: yes}}", "found the boolean true"),
        ("a: {workload: {model: ''}}", "found ''"),
        (
            "a: {workload: {model: resnet_bk, config: {d_modl: 4}, batch_size: 1, seq_len: 1}}",
            "did you mean 'd_model'?",
        ),
        (
            "a: {workload: {model: resnet_bk, config: {top_k: 0}, batch_size: 1, seq_len: 1}}",
            "3:52: budgets.a.workload.config.top_k: top_k must be an integer of at least 1, not 0",
        ),
        (
            "a: {workload: {model: resnet_bk, batch_size: 1}}",
            "3:7: budgets.a.workload: a resnet_bk workload needs a seq_len",
        ),
        ("a: {workload: {model: resnet_bk, seq_len: 129, batch_size: 1}}", "129 is longer than"),
        ("a: {tolerance: 5, limits: {total: 1}}", 'did you mean "5%"?'),
        ("a: {limits: {total: 1}, warn: yes}", "3:33: budgets.a.warn: true is a boolean"),
        ("a: {limits: {total: 1}, warn: 0.9}", "3:33: budgets.a.warn: 0.9 has no percent sign"),
        ("a: {limits: {total: 1}, warn: 200%}", "budgets.a.warn: '200%' is no part of a limit"),
        ("a: {workload: {batch_size: 1}}", "3:17: budgets.a.workload: it holds nothing to count"),
        ("a: {tolerance: 5%, warn: 90%}", "warn needs the key 'limits' beside it"),
        (
            "a: {limits: {total: 1}, recorded: {forward: 1, backward: 2, optimizer: 3}}",
            "3:27: budgets.a.recorded: the recorded counts moved to the lock file beside this one",
        ),
        ("a: {scaling: {seq_len: {sizes: [1, 2], max_exponent: 1}}}", "at least three sizes"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 2], max_exponent: 1}}}", "2 follows 2"),
        ("a: {scaling: {seq_len: {sizes: [4, 2, 8], max_exponent: 1}}}", "2 follows 4"),
        ("a: {scaling: {seq_len: {sizes: [0, 2, 8], max_exponent: 1}}}", "sizes[0]: expected an"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 4.0], max_exponent: 1}}}", "found 4.0"),
        ("a: {scaling: {seq_len: {sizes: 128, max_exponent: 1}}}", "found 128"),
        ("a: {scaling: {seq_len: {max_exponent: 1}}}", "the key 'sizes' is missing"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3]}}}", "at least one of max_exponent, components"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: -1}}}", "at least 0, found -1"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: .nan}}}", "nan is not finite"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: .inf}}}", "inf is not finite"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: -.inf}}}", "found -inf"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], max_exponent: 1%}}}", "found '1%'"),
        ("a: {scaling: {seq_len: {sizes: [1, 2, 3], components: {'': 1}}}}", "component pattern"),
        (
            (
                "a: {workload: {model: resnet_bk, batch_size: 1, seq_len: 1}, "
                "scaling: {seq_length: {sizes: [1, 2, 3], "
                "max_exponent: 1}}}"
            ),
            "did you mean 'seq_len'?",
        ),
        ("'': {limits: {total: 1}}", "not empty"),
        ("'a::b': {limits: {total: 1}}", "contains '::'"),
        ('"a\\nb": {limits: {total: 1}}', "line break or control character"),
        ('"a\\e[31m": {limits: {total: 1}}', "line break or control character"),
    ],
)
def test_a_single_mistake_is_one_problem_with_its_path(problems, entry, message):
    assert message in only(problems(HEAD + "  " + entry))


LEVELS = {  # of the format, each with a file that has keys of it at {}
    "": "{}",
    "budget": "version: 1\nbudgets: {{a: {{{}}}}}",
    "training_step": "version: 1\nbudgets: {{a: {{workload: {{{}}}}}}}",
    "whole_step": "version: 1\nbudgets: {{a: {{workload: {{step: 'm:f', {}}}}}}}",
    "compilation": "version: 1\nbudgets: {{a: {{workload: {{model: 'm:f', compile: {{{}}}}}}}}}",
    "limits": "version: 1\nbudgets: {{a: {{limits: {{{}}}}}}}",
    "quantities": "version: 1\nbudgets: {{a: {{limits: {{components: {{x: {{{}}}}}}}}}}}",
    "waits_by_phase": "version: 1\nbudgets: {{a: {{limits: {{syncs: {{{}}}}}}}}}",
    "metric_exponents": (
        "version: 1\nbudgets: {{a: {{scaling: {{n: {{sizes: [1, 2, 3], metrics: {{{}}}}}}}}}}}"
    ),
}
SUFFICIENT = {
    "": (),  # of version and budgets, neither
    "budget": ("workload", "limits", "scaling", "tolerance"),
    "training_step": ("model", "step"),
}
SCHEMA = json.loads(SCHEMA_FILE.read_text("utf-8"))


@pytest.mark.parametrize(
    ("level", "key"),
    [
        (level, key)
        for level in LEVELS
        for key in (SCHEMA["$defs"][level] if level else SCHEMA)["properties"]
        if (level, key) not in {("budget", "recorded"), ("whole_step", "step")}
    ],
)
@pytest.mark.parametrize("misspell", [lambda key: key + key[-1], lambda key: key[:-2] + key[-1]])
def test_every_misspelt_key_is_told_with_the_right_one(problems, level, key, misspell):
    told = problems(LEVELS[level].format(f"{misspell(key)}: 1"))
    # Where another key has to be there, it is told to be missing as well.
    assert len(told) == (1 if key in SUFFICIENT.get(level, (key,)) else 2)
    assert f"unknown key {misspell(key)!r}; did you mean {key!r}?" in "".join(told)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("-5", "-5 is negative"),
        ("-5 GFLOP", "'-5 GFLOP' is negative"),
        (".nan", "nan is not finite"),
        (".inf", "inf is not finite"),
        ("yes", "true is a boolean (YAML reads yes, no, on and off as booleans too)"),
        ("off", "false is a boolean"),
        ("9" * 5000, "a number of 5,000 digits is absurdly long"),
        ("9" * 80, "a number of more than 60 digits is no budget"),
        ("1e9", "did you mean 1000000000?"),
        ("1.5e+9", "did you mean 1500000000?"),
        ("010", "octal number 8"),
        ("089", "'089' has a leading zero"),
        ("12:30:00", "base 60"),
        ("12:30.5", "base 60"),
        ("2024-01-31", "as a date"),
        ("16.3 gflop", 'did you mean "16.3 GFLOP"?'),
        ("16.3", 'did you mean "16.3 GFLOP"?'),
        ("", "None is no number of FLOPs"),
        ("[1]", "is no number of FLOPs"),
        ("!flops 3", "the tag !flops is not supported"),
        ("!!python/object:os.system 3", "is not supported"),
        ("!!int abc", "abc is no integer"),
        ("!!float abc", "abc is no number"),
        ("!!bool perhaps", "perhaps is no boolean"),
    ],
)
def test_a_wrong_limit_is_told_at_its_line_and_column(problems, value, message):
    told = only(problems(f"{HEAD}  a:\n    limits:\n      total: {value}\n"))
    column = 14 if value else 13
    assert told.startswith(f"b.yaml:5:{column}: budgets.a.limits.total: ")
    assert message in told


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("1", "a number"),
        ("1.0", "a number"),
        ("yes", "a boolean"),
        ("~", "null"),
        ("2024-01-31", "a date"),
    ],
)
def test_a_key_that_is_no_text_should_be_quoted(problems, key, kind):
    told = only(
        problems(f"{HEAD}  a: {{limits: {{total: 1, components: {{{key}: {{total: 1}}}}}}}}")
    )
    assert f'the key {key} is {kind} in YAML; quote it: "{key}"' in told


def test_a_list_as_a_key_is_refused(problems):
    assert "a key must be text" in only(problems(HEAD + "  a: {limits: {total: 1, ? [x] : 1}}"))


def test_a_repeated_key_is_told_with_the_line_of_the_first(problems):
    told = only(problems(HEAD + "  a: {limits: {total: 1}}\n  a: {limits: {total: 2}}\n"))
    assert told == "b.yaml:4:3: budgets: the key 'a' is there twice, first on line 3"


def test_all_problems_of_a_file_come_at_once_in_the_order_of_the_file(problems):
    told = problems(
        """\
        version: 3
        budgets:
          a::b:
            limits: {forward: -1, totl: 1, backward: 010}
          c:
            workload: {model: resnet_bk, config: {n_layer: 4}, optimizer: adamm}
            scaling: {seq_len: {sizes: [3, 2, 1]}}
          c:
            limits: {total: 1 KFLOP}
        """
    )
    places = [message.split(": ")[0] for message in told]
    assert places == [
        "b.yaml:1:10",
        "b.yaml:3:3",
        "b.yaml:4:23",
        "b.yaml:4:27",
        "b.yaml:4:46",
        "b.yaml:6:5",  # no batch_size
        "b.yaml:6:5",  # no seq_len
        "b.yaml:6:43",
        "b.yaml:6:67",
        "b.yaml:7:24",
        "b.yaml:7:32",
        "b.yaml:8:3",
    ]


def test_a_mistake_in_a_shared_anchor_is_told_once(problems):
    told = problems(HEAD + "  a: {workload: &w {model: m, batch_size: 0}}\n  b: {workload: *w}\n")
    assert only(told).startswith("b.yaml:3:43: budgets.a.workload.batch_size")


def test_a_merge_of_something_else_is_refused(problems):
    told = problems(HEAD + "  a: {workload: {model: m, <<: 5}}\n")
    assert "<< merges a mapping" in only(told)


def test_control_characters_of_a_file_do_not_reach_the_terminal(problems):
    told = problems(HEAD + '  "a\\e[31m": {"\\e]0;x\\a": 1, limits: {total: !!int "\\e[2J"}}\n')
    assert len(told) == 3
    assert all(message.isprintable() for message in told)
