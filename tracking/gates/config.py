"""The table `gates:` of params.yaml: how much worse, slower or less certain a challenger may be.

No stage depends on it, so another limit re-runs nothing. The defaults let a small team's first versions pass
and refuse what nobody wants in a shop; docs/decisions/014-the-registry.md says why each is what it is.
"""

from __future__ import annotations

from pydantic import Field

from imaging.config import Config


class GatesConfig(Config):
    """What a challenger must keep to become champion. A limit of null is measured and not judged."""

    max_regression: float = Field(default=0.005, ge=0, le=1)
    """How much higher than the champion's the mean top-1 error may be, on the same photos of classes
    that both versions have."""

    require_significant: bool = False
    """true: the error must be lower by more than chance, so that its interval lies below 0."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the interval of the difference, and 1 - the share of false names among classes that became worse."""

    num_resamples: int = Field(default=10_000, ge=100)
    """Resamples of the interval; 10,000 take less than a second for 150,000 photos of 50,030 classes."""

    max_tail_regression: float | None = Field(default=0.02, ge=0, le=1)
    """max_regression of the tail, the third of the classes with fewest training photos. It has a third of the
    classes and fewer photos in each, so chance moves it more."""

    min_photos: int = Field(default=3, ge=1)
    """Evaluation photos of a class that the champion lacks from which its error is judged; a class of fewer
    is named and not judged, or no SKU could ever be introduced."""

    max_new_class_error: float | None = Field(default=0.5, ge=0, le=1)
    """The mean top-1 error of the judged new classes."""

    max_calibration_regression: float | None = Field(default=0.2, ge=0, le=1)
    """How much higher than the champion's the expected calibration error may be."""

    max_latency_ratio: float | None = Field(default=10.0, gt=0)
    """The median time for a photo, divided by the champion's, both measured in turn on this machine's CPU. An
    ensemble of three with two views takes six times as long as one model."""

    num_latency_photos: int = Field(default=20, ge=1)
    """Photos that each version answers for this, fewer where they would take longer than five seconds."""

    max_size_ratio: float | None = Field(default=10.0, gt=0)
    """The bundle's bytes, divided by the champion's."""

    require_allowed_licence: bool = True
    """Whether weights whose licence is not one of weights.allowed_licences refuse the challenger; false: they
    are named."""

    require_clean: bool = False
    """Whether a challenger made with changes that git does not know (but for params.yaml and dvc.lock) is
    refused; false: they are named. The inputs' hashes must be known either way."""

    acknowledged_warnings: tuple[str, ...] = (
        "classes missing in test",
        "classes missing in val",
        "classes missing in holdout",
        "classes with",
        "photos of train dealt",
        "photos in",
        "photos without a label",
        "refused:",
    )
    """Beginnings of warnings in the review of the data (`aisle data review`) that a person has looked at; any
    other one is open and refuses the challenger. These are what long-tailed data always have; classes
    without a training photo, without any photo, or of names that print alike remain. [""] acknowledges
    all."""

    require_approval: bool = False
    """Whether somebody other than the one who registered the version must have approved it
    (`aisle approve`)."""


DEFAULT_GATES = GatesConfig()
