"""A measurement as a table: a tree of components with shares, alike ones once."""

from __future__ import annotations

import torch

from pytest_flops import FLOPsCount, count_flops
from pytest_flops.counting.measurement import Measurement


def measured(**components: int) -> Measurement:
    """Forward FLOPs of components, two underscores for a dot; the whole is 1,000."""
    costs = {path.replace("__", "."): FLOPsCount(flops) for path, flops in components.items()}
    return Measurement(FLOPsCount(1000), costs, "meter", "executed")


def test_components_are_a_tree_with_shares() -> None:
    found = measured(encoder=750, encoder__norm=250, encoder__attention=500, head=250)
    assert str(found).splitlines() == [
        "component      forward  backward  optimizer  total    share",
        "total            1,000         0          0  1,000  100.0 %",
        "  encoder          750         0          0    750   75.0 %",
        "    norm           250         0          0    250   25.0 %",
        "    attention      500         0          0    500   50.0 %",
        "  head             250         0          0    250   25.0 %",
    ]


def test_what_a_component_costs_beyond_its_parts_has_a_line() -> None:
    lines = str(measured(block=900, block__qkv=300, block__mlp=400)).splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["block", "900"],
        ["qkv", "300"],
        ["mlp", "400"],
        ["(itself)", "200"],
        ["(itself)", "100"],  # of the model, 1000 in all
    ]
    over_a_quarter = measured(block=900, block__qkv=300, block__mlp=400).table(over=25)
    assert "(itself)" not in over_a_quarter
    # Of a block whose parts are not shown nothing is left over.
    assert "(itself)" not in measured(block=1000, block__qkv=300).table(1)


def test_siblings_that_are_alike_inside_have_one_line() -> None:
    found = measured(
        **{f"h__{n}": 200 for n in range(4)},
        **{f"h__{n}__mlp": 200 for n in range(4)},
        h__4=150,
        h__4__mlp=150,
    )
    names = [line.strip().split("  ")[0] for line in str(found).splitlines()[2:]]
    assert names == ["h.0 .. h.3 (each of 4)", "mlp", "h.4", "mlp", "(itself)"]


def test_what_costs_little_or_lies_deep_is_left_out() -> None:
    found = measured(a=960, a__b=960, a__b__c=960, d=40)
    assert " d " not in found.table(over=5)
    assert " c " in found.table(over=5)
    assert " c " not in found.table(2)
    assert " d " in found.table(2)


def test_a_notebook_shows_the_same_table() -> None:
    found = measured(**{"<b>": 1000})
    assert found._repr_html_().startswith("<pre>component")
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()


def test_parameters_stand_beside_the_flops() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2, bias=False))
    found = count_flops(model, torch.ones(1, 4), optimizer="none", metrics=["parameters"])
    lines = [line.split() for line in str(found).splitlines()]
    assert lines[0][:2] == ["component", "parameters"]
    # 4 x 3 + 3 and 3 x 2.
    assert [line[:2] for line in lines[1:4]] == [["total", "21"], ["0", "15"], ["1", "6"]]
