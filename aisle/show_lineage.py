"""What `aisle lineage --photo` prints, and how a file becomes what is looked for."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from catalog.ingest.preparation import prepare_photo
from imaging.limits import PhotoError
from pipelines.params import PARAMS_FILE, load_params
from tracking.lineage.photos import PhotoReport, PhotoUse, SoughtPhoto

_NUM_NEAR = 5


def read_photo(root: Path, path: Path) -> tuple[SoughtPhoto, str]:
    """A photo as ingest would know it, and why ingest would reject it, if it would."""
    data = path.read_bytes()
    policy = load_params(root).data.storage if (root / PARAMS_FILE).exists() else None
    try:
        prepared = prepare_photo(path.name, data, policy=policy)
    except PhotoError as error:
        return SoughtPhoto(name=path.name, source_sha256=hashlib.sha256(data).digest()), str(error)
    photo = SoughtPhoto(
        name=path.name, source_sha256=prepared.source_sha256, perceptual_hash=prepared.perceptual_hash
    )
    return photo, ""


def refuse_what_is_no_photo(report: PhotoReport, *, path: Path, problem: str) -> None:
    """Raise ValueError for a file that ingest rejects, unless a version knows it nevertheless."""
    known = any(use.learnt or use.evaluated for use in report.uses)
    if problem and not known:
        raise ValueError(
            f"Expected a photo in {path}, received a file that ingest rejects ({problem}). No version knows "
            "these bytes; give the photo's own file."
        )


def describe_report(report: PhotoReport) -> Iterator[str]:
    """The answer in lines: who learnt from the photo, who evaluated on it, and what is not known."""
    learnt = [use for use in report.uses if use.learnt]
    only_evaluated = [use for use in report.uses if use.evaluated and not use.learnt]
    yield f"{report.photo.name}: SHA-256 {report.photo.source_sha256.hex()}"
    yield f"{len(learnt)} of {len(report.uses)} registered versions learnt from it."
    for use in learnt:
        evaluated = f"; also in its {' and '.join(use.evaluated)} split" if use.evaluated else ""
        yield f"  {_name(use)}: {_lists(use)}, as {', '.join(use.photo_ids)}{evaluated}"
    if only_evaluated:
        yield f"{len(only_evaluated)} did not learn from it, but looked at its error:"
    for use in only_evaluated:
        yield f"  {_name(use)}: {' and '.join(use.evaluated)}"
    yield from _describe_near(report)
    named = [use for use in report.uses if use.named_alike]
    if named:
        yield "A photo of this name, whose content is not known, was learnt from by:"
    for use in named:
        yield f"  {_name(use)}: {', '.join(use.named_alike)}"
    yield from _describe_unknown(report)


def _describe_near(report: PhotoReport) -> Iterator[str]:
    if report.near is None:
        yield ("A resized or re-encoded copy has other bytes: --near also looks for photos that look alike.")
        return
    alike = [use for use in report.uses if use.near]
    how = f"whose perceptual hashes differ in at most {report.near} bits"
    yield f"{len(alike)} learnt from photos that look alike, {how}:"
    for use in alike:
        shown = "; ".join(
            f"{each.photo_id} ({each.distance} bits, {_joined(each.lists)})" for each in use.near[:_NUM_NEAR]
        )
        more = f"; and {len(use.near) - _NUM_NEAR:,} more" if len(use.near) > _NUM_NEAR else ""
        yield f"  {_name(use)}: {shown}{more}"


def _describe_unknown(report: PhotoReport) -> Iterator[str]:
    by_sentence: dict[tuple[str, str], list[str]] = {}
    for use in report.uses:
        for sentence in use.unknown:
            by_sentence.setdefault((use.model, sentence), []).append(use.version)
    if by_sentence or report.unknown:
        yield "Not known:"
    for (model, sentence), versions in by_sentence.items():
        yield f"  {model} version {', '.join(versions)}: {sentence}"
    for sentence in report.unknown:
        yield f"  {sentence}"


def _name(use: PhotoUse) -> str:
    aliases = f" ({', '.join(use.aliases)})" if use.aliases else ""
    return f"{use.model} version {use.version}{aliases}"


def _lists(use: PhotoUse) -> str:
    parts = [] if use.lists == () and use.lists_of_others else [_joined(use.lists)]
    parts += [
        f"through {version}, which it started from ({_joined(lists)})"
        for version, lists in (use.lists_of_others or {}).items()
    ]
    return ", ".join(parts)


def _joined(lists: Sequence[str] | None) -> str:
    if lists is None:
        return "lists not known"
    return f"list{'s' * (len(lists) != 1)} {', '.join(lists)}"
