"""Count models of many libraries on fake tensors and for real, and hold the counts to each other.

    python models/sweep.py [--only WORD ...] [--write docs/models.md]

Each model is built small, with random weights, in a process of its own. The command fails if one
crashes or hangs, differs, was changed by `count_flops`, or if too many are refused.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import resource
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch._dynamo
import torchvision_operators  # noqa: F401 - before a library imports torchvision
from judge import Case, Finding, judge

FAMILIES = ("hugging_face", "training", "image_models", "diffusion", "graphs", "adapters")
LIBRARIES = (
    *("torch", "transformers", "timm", "diffusers", "torch_geometric"),
    *("peft", "accelerate", "lightning"),
)
AT_ONCE = 2
SECONDS = 120
MEMORY = 8 << 30  # bytes: a model that is not small fails, and takes nothing else with it
MAY_BE_REFUSED = 0.05
KNOWN = {
    "PatchTSTForPrediction": "a fake has other strides: another operator of the same cost",
}
"""Models whose counts differ on fakes and for real, and why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="names with one")
    parser.add_argument("--write", metavar="FILE", help="also write the table as Markdown")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cases = [
        case
        for family in FAMILIES
        for case in import_module(family).CASES
        if any(word in f"{case.library}: {case.name}" for word in given.only)
    ]
    rows = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for case, found in zip(cases, threads.map(in_its_own_process, cases), strict=True):
            rows.append((case, finding := allowed(case, found)))
            print(f"{finding.verdict:<8} {case.library:<16} {case.name:<44} {finding.message}")
            sys.stdout.flush()
    verdicts = Counter(finding.verdict for _, finding in rows)
    print("\n" + summary(verdicts))
    if given.write:
        Path(given.write).write_text(as_markdown(rows), encoding="utf-8")
    refused_too_often = verdicts["refused"] > MAY_BE_REFUSED * len(rows) and given.only == [""]
    return 1 if verdicts["fails"] or refused_too_often else 0


def allowed(case: Case, finding: Finding) -> Finding:
    """The finding, unless it is a known one."""
    why = KNOWN.get(case.name)
    if why is None:
        return finding
    if finding.verdict == "fails" and finding.message.startswith("fake is not real"):
        return replace(finding, verdict="known", message=why)
    return replace(finding, verdict="fails", message=finding.message or "differs no more")


def summary(verdicts: Mapping[str, int]) -> str:
    agree, known, refused = (verdicts[verdict] for verdict in ("agrees", "known", "refused"))
    return (
        f"{agree} of {sum(verdicts.values())} agree, {known} differ for a known reason, "
        f"{refused} refused, {verdicts['fails']} failed"
    )


def as_markdown(rows: list[tuple[Case, Finding]]) -> str:
    agreeing = Counter(case.library for case, finding in rows if finding.verdict == "agrees")
    versions = {library: version(library.replace("_", "-")) for library in LIBRARIES}
    others = [(case, finding) for case, finding in rows if finding.verdict != "agrees"]
    lines = [
        "# Models that are counted",
        "",
        "`make models` builds small models of many libraries with random weights, and counts a",
        "step of each on fake tensors and for real. It fails if the two counts differ, if the",
        "products differ from those that it adds up by itself, if an operator is not counted, or",
        "if `count_flops` leaves a trace in the model or in the states of random numbers.",
        "",
        summary(Counter(finding.verdict for _, finding in rows)) + ".",
        "",
        "| library | version | models that agree |",
        "|---|---|---|",
        *(f"| {name} | {versions[name]} | {agreeing[name]} |" for name in LIBRARIES),
        "",
        "## What does not agree",
        "",
        "A model is refused if its code asks for values, which a fake tensor does not have; a",
        "marked test and `FLOPsMeter` count it, as they counted all of these.",
        "",
        "| library | model | |",
        "|---|---|---|",
        *(
            f"| {case.library} | {case.name} | {finding.verdict}: {in_short(finding.message)} |"
            for case, finding in others
        ),
        "",
        "Language models are given a mask without padding, as a tokenizer makes it, with which",
        "transformers leaves attention unmasked; encoders are given one with padding. A model that",
        "keeps in an `lru_cache` what it computes, as DINOv3 the positions of patches, costs less",
        "from its second step on; counted is the first.",
        "",
        "## All models",
        "",
        "FLOPs of a step; `-` where the model is refused, or where only what runs is counted.",
        "",
        "| library | model | products | on fakes | for real |",
        "|---|---|---|---|---|",
        *(
            f"| {case.library} | {case.name} | {finding.products:,} "
            f"| {f'{finding.fake:,}' if finding.fake else '-'} | {finding.real:,} |"
            for case, finding in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def in_short(message: str) -> str:
    """What a refusal is about and its line, without the path to this environment."""
    place = re.search(r"site-packages/([^\s)]+)", message)
    return message.partition(", and count_flops")[0] + (f" (`{place[1]}`)" if place else "")


def in_its_own_process(case: Case) -> Finding:
    """The finding, or how the process ended without one."""
    ours, theirs = get_context("fork").Pipe(duplex=False)
    process = get_context("fork").Process(target=_judge_into, args=(case, theirs))
    process.start()
    theirs.close()
    try:
        if ours.poll(SECONDS):
            return ours.recv()
        return Finding("fails", f"no end after {SECONDS} s")
    except EOFError:
        process.join()
        return Finding("fails", f"the process ended with {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _judge_into(case: Case, connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    if "LOUD" not in os.environ:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    logging.disable()
    try:
        connection.send(judge(case))
    except Exception as error:
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}:{frame.lineno}"
        message = " ".join(str(error).split())[:300]
        connection.send(Finding("fails", f"{type(error).__name__}: {message} ({place})"))


if __name__ == "__main__":
    sys.exit(main())
