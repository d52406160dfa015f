"""The parts of a model by name: what params.yaml may freeze, and what may learn faster or slower.

A part is a dotted beginning of a parameter's name: backbone, backbone.layer1, head, and objective for the
heads that an objective trains and leaves behind. What a backbone's own parts are called is timm's choice, so
a name that fits nothing is answered with those that this backbone has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from torch import nn

NUM_NEAR = 3


def named_parts(model: nn.Module, objective: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter under the name that params.yaml knows it by; the order is always the same."""
    yield from model.named_parameters()
    for name, parameter in objective.named_parameters():
        yield f"objective.{name}", parameter


def belongs_to(name: str, part: str) -> bool:
    """Say whether a parameter or module is (in) a part: `backbone.layer10` is not in `backbone.layer1`."""
    return name == part or name.startswith(f"{part}.")


def check_part(part: str, *, key: str, names: Sequence[str]) -> None:
    """Raise ValueError with near matches and the parts there are, unless one of the names is in the part."""
    if any(belongs_to(name, part) for name in names):
        return
    depths = range(1, 4)
    every = dict.fromkeys(".".join(name.split(".")[:depth]) for name in names for depth in depths)
    near = " or ".join(map(repr, difflib.get_close_matches(part, every, n=NUM_NEAR)))
    tops = [name for name in every if name.count(".") == 0]
    tops += [name for name in every if name.count(".") == 1 and name.startswith("backbone.")]
    hint = f"Did you mean {near}? " if near else ""
    raise ValueError(
        f"{key}: expected a part of this model, received {part!r}. {hint}"
        f"There are {', '.join(tops)}, and what is inside them."
    )


def freeze_parts(model: nn.Module, objective: nn.Module, *, freeze: Sequence[str]) -> None:
    """Let the parts named in `freeze` learn no more; ValueError where a name fits no part.

    Call it before the model is wrapped for several devices, and `set_training_mode` before each step.
    """
    parameters = dict(named_parts(model, objective))
    for part in freeze:
        check_part(part, key="freeze", names=list(parameters))
        for name, parameter in parameters.items():
            if belongs_to(name, part):
                parameter.requires_grad_(False)


def set_training_mode(model: nn.Module, objective: nn.Module, *, freeze: Sequence[str]) -> None:
    """Put everything into training mode but frozen parts: their dropout and batch norm statistics rest."""
    for prefix, root in (("", model), ("objective", objective)):
        root.train()
        for name, module in root.named_modules(prefix=prefix):
            if any(belongs_to(name, part) for part in freeze):
                module.eval()
