"""Count models of many libraries on fake tensors and for real, and hold the counts to each other.

    python models/sweep.py [--only WORD ...] [--write docs/models.md]

Each model is built small, with random weights, in a process of its own. The command fails if one
crashes or hangs, differs, was changed by `count_flops`, or if too many are refused.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import sys
import time
import traceback
import warnings
from collections import Counter
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch._dynamo
import torchvision_operators  # noqa: F401 - before a library imports torchvision
from judge import Case, Finding, judge

FAMILIES = (
    "hugging_face", "diffusion", "graphs", "adapters", "image_models",
)
LIBRARIES = "torch transformers timm diffusers torch_geometric peft accelerate lightning".split()
SECONDS = 120
MEMORY = 8 << 30  # bytes: a model that is not small fails, and takes nothing else with it
MAY_BE_REFUSED = 0.05


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="names that hold one")
    parser.add_argument("--write", metavar="FILE", help="also write the table as Markdown")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cases = [case for family in FAMILIES for case in import_module(family).CASES]
    chosen = [
        case for case in cases if any(word in f"{case.library}: {case.name}" for word in given.only)
    ]
    findings = []
    for case in chosen:
        start = time.monotonic()
        finding = in_its_own_process(case)
        findings.append((case, finding))
        print(
            f"{finding.verdict:<8} {case.library:<16} {case.name:<48} "
            f"{time.monotonic() - start:5.1f} s  {finding.message}",
            flush=True,
        )
    verdicts = Counter(finding.verdict for _, finding in findings)
    print(dict(verdicts))
    return 1 if verdicts["fails"] else 0


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
