"""Configuration classes of transformers as builders: a causal language model of each."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def is_configuration(found: object) -> bool:
    """Whether it is a configuration class of transformers, told without importing that."""
    classes = found.__mro__ if isinstance(found, type) else ()
    return any(each.__module__ == "transformers.configuration_utils" for each in classes)


def language_model(
    configuration: Any, batch_size: int = 1, seq_len: int = 128, **fields: Any
) -> Any:
    """The causal language model of a configuration, and a step's tokens; without weights.

    Args:
        configuration: The class, e.g. `transformers.LlamaConfig`.
        batch_size: Sequences per step.
        seq_len: Tokens per sequence.
        **fields: Those of the configuration, its defaults unless given.
    """
    import torch

    models = import_module("transformers").AutoModelForCausalLM
    with torch.device("meta"):
        model = models.from_config(configuration(**fields))
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
    return model, {"input_ids": tokens, "labels": tokens}
