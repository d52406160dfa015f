"""The gates `new_classes` and `removed_classes`: SKUs come and go every week, and neither happens unseen."""

from __future__ import annotations

import numpy as np

from recognition.bootstrap import Bools, Ints
from tracking.gates.config import GatesConfig
from tracking.gates.photos import Classes, first_names
from tracking.gates.report import GateAnswer, Number, Outcome


def judge_new_classes(
    classes: Classes, *, labels: Ints, wrong: Bools, version: str, other: str, gates: GatesConfig
) -> GateAnswer:
    """Judge the mean top-1 error of classes that the champion lacks; labels, wrong [N] of their photos.

    The mean, not each class: of two hundred new SKUs with three photos each, some miss any limit by chance.
    Those that do are named, and so are classes of too few photos, which are not judged.
    """
    gate = "new_classes"
    if not classes.added:
        sentence = f"{other} has every class of version {version}"
        return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence)
    num_photos = np.bincount(labels, minlength=len(classes.names))
    num_wrong = np.bincount(labels[wrong], minlength=len(classes.names))
    added = np.flatnonzero(classes.other_index < 0)
    judged = added[num_photos[added] >= gates.min_photos]
    errors = num_wrong[judged] / num_photos[judged]
    limit = gates.max_new_class_error
    few = tuple(classes.names[index] for index in added[num_photos[added] < gates.min_photos])
    bad = tuple(classes.names[index] for index in judged[errors > limit]) if limit is not None else ()
    details = []
    if few:
        details.append(
            f"{len(few):,} new classes have fewer than {gates.min_photos} evaluation photos "
            f"(gates.min_photos) and are not judged: {first_names(few)}"
        )
    if bad:
        details.append(f"{len(bad):,} new classes have an error above {limit:g}: {first_names(bad)}")
    numbers: dict[str, Number] = {"added": len(added), "judged": len(judged), "limit": limit}
    outcome: Outcome = "not applicable"
    if not len(judged):
        sentence = (
            f"none of the {len(added):,} classes that {other} lacks has {gates.min_photos} evaluation photos"
        )
    else:
        error = float(errors.mean())
        numbers["error"] = error
        sentence = (
            f"mean top-1 error of version {version} is {error:.4f} on the {len(judged):,} judged of "
            f"{len(added):,} classes that {other} lacks"
        )
        if limit is None:
            sentence += "; gates.max_new_class_error is null, so this is not judged"
        elif error <= limit:
            outcome = "pass"
            sentence += f", no more than the {limit:g} of gates.max_new_class_error"
        else:
            outcome = "fail"
            sentence += (
                f", more than the {limit:g} of gates.max_new_class_error: give them more training photos, or "
                "raise it"
            )
    return GateAnswer(
        gate=gate,
        outcome=outcome,
        sentence=sentence,
        details=tuple(details),
        numbers=numbers,
        names={"added": classes.added, "not judged": few, "above the limit": bad},
    )


def judge_removed_classes(classes: Classes, *, version: str, other: str, accept_removed: int) -> GateAnswer:
    """Judge classes that the champion has and the challenger lacks: a person accepts their number."""
    gate, count = "removed_classes", len(classes.removed)
    if not count:
        sentence = f"version {version} has every class of {other}"
        return GateAnswer(gate=gate, outcome="not applicable", sentence=sentence)
    accepted = accept_removed >= count
    sentence = f"version {version} lacks {count:,} classes of {other} ({first_names(classes.removed)})" + (
        f", no more than the {accept_removed:,} accepted by --accept-removed"
        if accepted
        else f", more than the {accept_removed:,} accepted: if they left the range, repeat the command with "
        f"--accept-removed {count}"
    )
    return GateAnswer(
        gate=gate,
        outcome="pass" if accepted else "fail",
        sentence=sentence,
        numbers={"removed": count, "accepted": accept_removed},
        names={"removed": classes.removed},
    )
