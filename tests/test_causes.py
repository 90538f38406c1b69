"""The example projects, broken one way each: the message names what was done, once."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_flops.reports.pages.markdown_page import plain

pytestmark = pytest.mark.long

EXAMPLES = Path(__file__).parents[1] / "examples"
CONVNET, TRANSFORMER = "gate_a_convnet", "gate_a_transformer"
MODEL = {CONVNET: "src/convnet.py", TRANSFORMER: "src/gpt.py"}
TEST = {CONVNET: "tests/test_convnet.py", TRANSFORMER: "tests/test_gpt.py"}
STEP = "test_a_training_step_is_within_its_budget"

Edit = tuple[str, str]
"""What is replaced, once, and by what."""


class Broken(NamedTuple):
    """One mistake in an example.

    Attributes:
        project: The example's folder.
        told: How the cause begins.
        model: The edit of its model.
        test: The edit of its training step.
        before: Edits of its training step that its record knows.
        red: The heads of the items that fail.
        metrics: Recorded besides FLOPs.
    """

    project: str
    told: str
    model: Edit | None = None
    test: Edit | None = None
    before: tuple[Edit, ...] = ()
    red: tuple[str, ...] = (STEP,)
    metrics: str = ""

    @property
    def arguments(self) -> list[str]:
        """Those of pytest: a step that is edited alone is run alone."""
        options = [f"--flops-metrics={self.metrics}"] if self.metrics else []
        return options if self.model else [*options, TEST[self.project]]


SECOND_STEP = ("    optimizer.step()\n", "    optimizer.step()\n    optimizer.step()\n")
EVALUATED = "    with torch.no_grad():\n        target = "
WITHOUT_NO_GRAD = (EVALUATED, "    if True:\n        target = ")
LIMITS = '@pytest.mark.flops_budget(\n    total="195 MFLOP", components={"stages.*.depthwise": {"forward": "1.5 MFLOP"}}\n)'  # noqa: E501
GPT_LIMITS = '@pytest.mark.flops_budget(total="620 MFLOP", components={"blocks.*.mlp": {"forward": "34 MFLOP"}})'  # noqa: E501
SNAPSHOT = "@pytest.mark.flops_budget"
OF_CONVNET = ("convnet: limits", "convnet: recorded", STEP)
OF_GPT = ("gpt: limits", "gpt: recorded", STEP)
FEED_FORWARD = "nn.Linear(width, {0} * width), nn.GELU(), nn.Linear({0} * width, width)"
LOGITS_WITH_ATTENTION = """x = self.blocks(self.embedding(tokens))
        logits: Tensor = self.head(self.norm(x + (x @ x.mT).softmax(-1) @ x))"""
LOGITS = "self.head(self.norm(self.blocks(self.embedding(tokens))))"
LOGGED = """    loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())
    loss.backward()
    loss.item()
"""
STAGES = "features = self.stages(self.stem(images))\n"
ATTENTION = (
    STAGES,
    STAGES
    + "        flat = features.flatten(2)\n"
    + "        features = ((flat @ flat.mT).softmax(-1) @ flat).view_as(features)\n",
)
PIXELS = (
    "        return mixed\n",
    "        flat = mixed.flatten(2)\n        return (flat @ (flat.mT @ flat)).view_as(mixed)\n",
)

# Three stages of 18,874,368 FLOP forward each with 3 * 3 weights have 5 * 5, and twice that more in
# backward: 3 * 3 * 18,874,368 * 16 / 9 = 301,989,888. SGD adds 2 to each of the 16 new weights of
# 16 * 32 + 32 * 64 + 64 * 128 pairs of channels: 344,064. Attention of 128 channels over 4 * 4
# pixels: two products of 8 * 128 * 128 * 16 * 2 forward, twice more backward: 25,165,824; over 128
# positions of width 64, in 4 sequences: 2 * 3 * 4 * 128 * 128 * 64 * 2 = 50,331,648. A layer of the
# GPT's feed-forward network is wider by 64: 2 * 512 * 64 * 64 products twice, three times over, and
# little more for biases, GELU and AdamW. The stem makes 8 * 16 * 32 * 32 numbers of 4 bytes.
BROKEN = {
    "convnet-wider": Broken(
        CONVNET,
        "stages.0..2.down x 3 grew by 302.334 MFLOP: aten.convolution_backward (+",
        ("kernel_size=3, stride=2, padding=1", "kernel_size=5, stride=2, padding=2"),
        red=OF_CONVNET,
    ),
    "convnet-attention": Broken(
        CONVNET, "aten.bmm (new, +25.166 MFLOP), aten._softmax (new, ", ATTENTION, red=OF_CONVNET
    ),
    "convnet-growth": Broken(
        CONVNET,
        "stages.0..2 x 3 grow as size^4, allowed 2",
        PIXELS,
        red=(*OF_CONVNET[:2], "convnet: scaling[size]", STEP),
    ),
    "convnet-second-step": Broken(CONVNET, "Optimizer.step ran 2 times", test=SECOND_STEP),
    "convnet-no-grad": Broken(
        CONVNET,
        "the backward ran 2 times",
        test=WITHOUT_NO_GRAD,
        before=(
            (
                "    scores = model(",
                f"{EVALUATED}model(torch.randn(8, 3, 32, 32))\n    scores = model(",
            ),
            ("torch.zeros(8, dtype=torch.int64)", "target.softmax(1)"),
            (LIMITS, SNAPSHOT),
        ),
    ),
    "convnet-evaluation": Broken(
        CONVNET,
        "the forward ran 2 times",
        test=(SECOND_STEP[0], SECOND_STEP[0] + "    model(torch.randn(8, 3, 32, 32)).argmax(1)\n"),
    ),
    "convnet-kept": Broken(
        CONVNET,
        "stem: 524.288 kB more alive at the peak, activations (+524.288 kB)",
        (STAGES, STAGES + "        self.kept = self.stem(images)\n"),
        red=("convnet: limits", "convnet: recorded", STEP),
        metrics="peak_memory",
    ),
    "gpt-wider": Broken(
        TRANSFORMER,
        "blocks.0..1.mlp x 2 grew by 50.825 MFLOP: aten.mm (+",
        (FEED_FORWARD.format(4), FEED_FORWARD.format(5)),
        red=OF_GPT,
    ),
    "gpt-attention": Broken(
        TRANSFORMER,
        "aten.bmm (new, +50.332 MFLOP) outside modules: ",
        (
            f"logits: Tensor = {LOGITS}",
            LOGITS_WITH_ATTENTION,
        ),
        red=OF_GPT,
    ),
    "gpt-growth": Broken(
        TRANSFORMER,
        "blocks.0..1 x 2 grow as seq_len^3, allowed 2",
        (
            "x + self.mlp(self.mlp_norm(x))\n",
            "x + self.mlp(self.mlp_norm(x)) + (x @ x.mT) @ (x @ x.mT) @ x\n",
        ),
        red=(*OF_GPT[:2], "gpt: scaling[seq_len]", STEP),
    ),
    "gpt-second-step": Broken(TRANSFORMER, "Optimizer.step ran 2 times", test=SECOND_STEP),
    "gpt-no-grad": Broken(
        TRANSFORMER,
        "the backward ran 2 times",
        test=WITHOUT_NO_GRAD,
        before=(
            ("    logits = gpt(tokens)\n", f"{EVALUATED}gpt(tokens)\n    logits = gpt(tokens)\n"),
            ("tokens.flatten()", "target.flatten(0, 1).softmax(1)"),
            (GPT_LIMITS, SNAPSHOT),
        ),
    ),
    "gpt-item": Broken(
        TRANSFORMER,
        "syncs at tests/test_gpt.py:25 (1 call)",
        test=(
            "    nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()\n",
            LOGGED,
        ),
        metrics="syncs",
    ),
}


def edit(project: Any, path: str, *edits: Edit | None) -> None:
    text = (project.root / path).read_text("utf-8")
    for old, new in filter(None, edits):
        assert text.count(old) == 1
        text = text.replace(old, new)
    project.write(path, text)


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_the_message_names_what_was_done_in_twelve_lines(broken: Broken, project: Any) -> None:
    shutil.copytree(EXAMPLES / broken.project, project.root, dirs_exist_ok=True)
    model, test = MODEL[broken.project], TEST[broken.project]
    edit(project, test, *broken.before)
    assert project.run("--flops-update", *broken.arguments).ret == 0
    edit(project, model, broken.model)
    edit(project, test, broken.test)
    result = project.run(*broken.arguments)
    messages = told(result.stdout.str())
    assert tuple(messages) == broken.red
    for lines in messages.values():
        assert len(lines) <= 12
        assert max(map(len, lines)) <= 80
    red = [entry for entry in project.report()["entries"] if not entry["passed"]]
    causes = {v["cause"] for entry in red for v in entry["verdicts"] if not v["passed"]}
    cause = max((cause for cause in causes if cause.startswith(broken.told)), key=len)
    assert any(" ".join(lines).startswith(cause.split("; ")[0]) for lines in unwrapped(messages))
    for page, shown in (("flops.html", cause), ("flops.md", plain(cause))):
        text = (project.root / "reports" / page).read_text("utf-8")
        assert shown in html.unescape(text)


def told(output: str) -> dict[str, list[str]]:
    """The message of each item that failed, by the head of its section."""
    failures = output.partition("= FAILURES =")[2].partition("= FLOPs budgets =")[0]
    _, *found = re.split(r"^_+ (.*) _+$", failures, flags=re.MULTILINE)
    texts = (re.sub(r"\n\ntests/.*|\n=*$", "", text).strip("\n") for text in found[1::2])
    return {head: text.splitlines() for head, text in zip(found[::2], texts, strict=True)}


def unwrapped(messages: dict[str, list[str]]) -> list[list[str]]:
    return [[line.strip() for line in lines] for lines in messages.values()]
