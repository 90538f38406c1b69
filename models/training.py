"""Trainers, accumulation, checkpointing and generation, each around a small Llama."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import accelerate
import lightning
import torch
import transformers
from hugging_face import TEXT, TOKENS, small
from judge import Case, Step
from torch import Tensor, nn
from torch.utils.data import DataLoader

STEPS = 2
BATCHES = [TEXT] * STEPS
ROWS = [{name: tensor[0] for name, tensor in TEXT.items()}] * (2 * STEPS)


def llama() -> nn.Module:
    return transformers.LlamaForCausalLM(small(transformers.LlamaConfig, {}))


def hugging_face(model: Any, **options: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=2,
            num_train_epochs=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            **options,
        )
        transformers.Trainer(model, arguments, train_dataset=ROWS).train()


def accelerated(model: Any, **options: Any) -> None:
    accelerator = accelerate.Accelerator(cpu=True, **options)
    model, optimizer, batches = accelerator.prepare(
        model, torch.optim.AdamW(model.parameters()), DataLoader(ROWS, batch_size=2)
    )
    for batch in batches:
        with accelerator.accumulate(model):
            accelerator.backward(model(**batch).loss)
            optimizer.step()
            optimizer.zero_grad()


class Lit(lightning.LightningModule):
    """The model as Lightning wants it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        return self.model(**batch).loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())


def lit(model: Any, **options: Any) -> None:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(Lit(model), DataLoader(ROWS, batch_size=2))


def scaled(model: Any) -> None:
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu")
    for batch in BATCHES:
        scaler.scale(model(**batch).loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def accumulated(model: Any) -> None:
    optimizer = torch.optim.AdamW(model.parameters())
    for batch in BATCHES:
        (model(**batch).loss / STEPS).backward()
    optimizer.step()


def trained(trainer: Callable[..., None], **options: Any) -> Step:
    """Two forwards and backwards, whoever drives them."""
    model = llama()
    run = partial(trainer, model, **options)
    return Step(model, named=TEXT, run=run, times=STEPS)


def checkpointed(*, reentrant: bool) -> Step:
    model: Any = llama()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    return Step(model, named=TEXT)


def generated(name: str = "LlamaForCausalLM", **options: Any) -> Step:
    """Which token comes next is a question of values: only what runs is counted."""
    kind = getattr(transformers, name)
    changes = {"decoder_start_token_id": 0} if name.startswith("T5") else {}
    model = kind(small(kind.config_class, changes)).eval()
    run = partial(
        model.generate, TOKENS, max_new_tokens=4, min_new_tokens=4, do_sample=False, **options
    )
    return Step(model, run=run, times=0)


TRAINERS: list[tuple[str, str, Callable[[], Step]]] = [
    ("transformers", "Trainer", partial(trained, hugging_face, max_grad_norm=0)),
    ("transformers", "Trainer, clipped", partial(trained, hugging_face)),
    (
        "transformers",
        "Trainer, accumulating",
        partial(trained, hugging_face, gradient_accumulation_steps=2),
    ),
    ("accelerate", "Accelerator", partial(trained, accelerated)),
    (
        "accelerate",
        "Accelerator, accumulating",
        partial(trained, accelerated, gradient_accumulation_steps=2),
    ),
    ("lightning", "Trainer", partial(trained, lit)),
    ("lightning", "Trainer, accumulating", partial(trained, lit, accumulate_grad_batches=2)),
    ("torch", "GradScaler", partial(trained, scaled)),
    ("torch", "gradient accumulation", partial(trained, accumulated)),
    ("torch", "checkpointing, reentrant", partial(checkpointed, reentrant=True)),
    ("torch", "checkpointing, not reentrant", partial(checkpointed, reentrant=False)),
    ("transformers", "generate, no cache", partial(generated, use_cache=False)),
    ("transformers", "generate, dynamic cache", partial(generated, use_cache=True)),
    (
        "transformers",
        "generate, static cache",
        partial(generated, use_cache=True, cache_implementation="static"),
    ),
    (
        "transformers",
        "generate, static sliding cache",
        partial(generated, "Gemma2ForCausalLM", use_cache=True, cache_implementation="static"),
    ),
    (
        "transformers",
        "generate, cache of an encoder and a decoder",
        partial(generated, "T5ForConditionalGeneration", use_cache=True),
    ),
    (
        "transformers",
        "generate, state of a state space",
        partial(generated, "MambaForCausalLM", use_cache=True),
    ),
    ("transformers", "generate, beams", partial(generated, use_cache=True, num_beams=3)),
]
CASES = [Case(*trainer) for trainer in TRAINERS]
