"""Configuration classes of transformers as builders: a causal language model of each."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pytest_flops.counting.spelling import suggestion


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

    Raises:
        ValueError: It has no field of a name.
    """
    import torch

    models = import_module("transformers").AutoModelForCausalLM
    default, filled = configuration(), configuration(**fields)
    for name in fields:  # what it does not know, it keeps, and uses for nothing
        if name in vars(filled) and not hasattr(default, name):
            hint = suggestion(name, [each for each in vars(default) if each[0] != "_"], "it has")
            raise ValueError(f"{configuration.__name__} has no field {name!r}{hint}")
    with torch.device("meta"):
        model = models.from_config(filled)
        tokens = torch.zeros(batch_size, seq_len, dtype=torch.int64)
    return model, {"input_ids": tokens, "labels": tokens}
