"""The heads that train, and the linear head that each of them leaves in the bundle.

Serving, feature banks and merges know one head: a linear layer on pooled features, which are first brought to
length 1 where the bundle says so. Cosines, factors and branches exist only while a phase trains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recognition.backbones import Model
from recognition.heads import unit_length
from training.config.heads import (
    ArcFaceConfig,
    ASoftmaxConfig,
    HeadConfig,
    LwsConfig,
    NearestMeanConfig,
    NormalizedConfig,
    TauNormalizedConfig,
)
from training.row_slices import row_slices

NO_PHOTO_BIAS = -1e4
"""Logit of a class without a mean: its probability is 0 in float32, also after a scale, and stays finite."""


class CosineHead(nn.Module):
    """Logits = scale cos(w, f); where features keep their lengths, scale |f| cos(w, f).

    It starts from the directions of a linear head's weights. ValueError where one of them has length 0.
    """

    scale: Tensor

    def __init__(
        self,
        head: nn.Linear,
        *,
        scale: float = 1.0,
        learn_scale: bool = False,
        normalize_features: bool = True,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = head.in_features, head.out_features
        self.normalize_features = normalize_features
        weight = head.weight.detach()
        empty = (weight.norm(dim=1) == 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                "Expected weights with a direction for each class to start a head of cosines from, received "
                f"zeros for {len(empty)} of {len(weight)} classes, the first is class {empty[0]}. "
                "Set reset_head: true, or start from a head that was trained."
            )
        self.weight = nn.Parameter(unit_length(weight))
        start = torch.tensor(float(scale), device=weight.device)
        if learn_scale:
            self.scale = nn.Parameter(start)
        else:
            self.register_buffer("scale", start)

    def forward(self, features: Tensor, classes: Tensor | None = None) -> Tensor:
        """Return logits [B, K] of features [B, D], or [B, S] of the S `classes` only (int64 [S])."""
        if self.normalize_features:
            features = unit_length(features)
        weight = self.weight if classes is None else self.weight[classes]
        logits: Tensor = _Projection.apply(self.scale * features, weight)
        return logits

    def lengths(self, features: Tensor) -> Tensor:
        """Return what the logits of features [B, D] are divided by to be cosines, [B]."""
        if self.normalize_features:
            return self.scale.expand(len(features))
        lengths: Tensor = torch.linalg.vector_norm(features, dim=1)
        return self.scale * lengths.clamp(min=torch.finfo(features.dtype).tiny)

    def export(self) -> tuple[nn.Linear, bool]:
        """Return the linear head, and whether it wants features of length 1."""
        weight = self.scale.detach() * unit_length(self.weight.detach())
        return make_linear(weight), self.normalize_features


class LwsHead(nn.Module):
    """Learnable weight scaling: logits = s_k (w_k . f + b_k), of which only the factors s_k learn.

    Kang et al. 2020, section 4, scale the weights w_k and leave the bias out of what they write;
    their published code scales the whole logit, and so do we: s_k = 1 is then the initial head itself.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = head.in_features, head.out_features
        self.register_buffer("weight", head.weight.detach().clone())
        self.register_buffer("bias", head.bias.detach().clone())
        self.factors = nn.Parameter(torch.ones_like(self.bias))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, K] of features [B, D]."""
        return F.linear(features, self.weight, self.bias) * self.factors

    def export(self) -> tuple[nn.Linear, bool]:
        """Return the linear head; features keep their lengths."""
        factors = self.factors.detach()
        return make_linear(self.weight * factors[:, None], bias=self.bias * factors), False


class BranchHead(nn.Module):
    """BBN's two linear heads (Zhou et al. 2020), which start alike; outside training their mean answers.

    The authors mix with alpha = 1/2 at test time (section 4.4), which is the mean.
    """

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = head.in_features, head.out_features
        weight, bias = head.weight.detach(), head.bias.detach()
        self.conventional = make_linear(weight.clone(), bias=bias.clone())
        self.rebalancing = make_linear(weight.clone(), bias=bias.clone())

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean of both branches' logits, [B, K], of features [B, D]."""
        return F.linear(features, *self._mean())

    def mixed(self, anchors: Tensor, companions: Tensor, *, alpha: float) -> tuple[Tensor, Tensor]:
        """Return BBN's logits alpha W_c f_c + (1 - alpha) W_r f_r (equation 1), and W_c f_c, both [A, K].

        0 < alpha <= 1 weighs the features, where it costs [A, D]: the gradients of both products are then the
        mixture's own, in one buffer. The second result has values only; no gradient goes through it.
        """
        conventional, rebalancing = self.conventional, self.rebalancing
        own = F.linear(alpha * anchors, conventional.weight, alpha * conventional.bias)
        rest = 1 - alpha
        mixed = F.linear(rest * companions, rebalancing.weight, rest * rebalancing.bias).add_(own)
        return mixed, own.detach().div_(alpha)

    def export(self) -> tuple[nn.Linear, bool]:
        """Return the mean of both branches; features keep their lengths."""
        weight, bias = self._mean()
        return make_linear(weight.detach(), bias=bias.detach()), False

    def _mean(self) -> tuple[Tensor, Tensor]:
        conventional, rebalancing = self.conventional, self.rebalancing
        weight = (conventional.weight + rebalancing.weight) / 2
        return weight, (conventional.bias + rebalancing.bias) / 2


class ClassMeans(NamedTuple):
    """What `class_means` returns."""

    means: Tensor
    """Mean of each class's features of length 1, float32 [K, D]; zeros where it has no photo."""

    counts: Tensor
    """Photos of each class, int64 [K]."""


def make_head(config: HeadConfig, *, head: nn.Linear, branches: bool = False) -> nn.Module:
    """Turn a model's linear head, fresh or from initial weights, into the one that trains.

    branches: two of it, for BBN. Heads that are computed at the end of a phase train as the linear one.
    """
    if branches:
        return BranchHead(head)
    if isinstance(config, NormalizedConfig):
        return CosineHead(head, scale=config.scale, learn_scale=config.learn_scale)
    if isinstance(config, ArcFaceConfig):
        return CosineHead(head, scale=config.scale)
    if isinstance(config, ASoftmaxConfig):
        return CosineHead(head, normalize_features=False)
    if isinstance(config, LwsConfig):
        return LwsHead(head)
    return head


def export_head(head: nn.Module) -> tuple[nn.Linear, bool]:
    """Return the linear head that gives the training head's logits, and whether features must have length 1.

    False leaves the model's own `normalize_features` as it is.
    """
    if isinstance(head, CosineHead | LwsHead | BranchHead):
        return head.export()
    assert isinstance(head, nn.Linear)
    return head, False


def head_input(model: Model, features: Tensor) -> Tensor:
    """Return what `model.logits` gives its head: features [B, D] after dropout, of length 1 if it says so."""
    dropped: Tensor = model.drop(features.float())
    return unit_length(dropped) if model.normalize_features else dropped


def logits_of_classes(head: nn.Module, features: Tensor, *, classes: Tensor) -> Tensor:
    """Return logits [B, S] of the `classes` only, int64 [S], of what `head_input` gave, [B, D].

    Only these rows of the weights are multiplied. ValueError for a head that cannot leave classes out.
    """
    if isinstance(head, CosineHead):
        logits: Tensor = head(features, classes)
        return logits
    if isinstance(head, nn.Linear):
        return F.linear(features, head.weight[classes], head.bias[classes])
    raise ValueError(
        f"sampled_classes: expected a head of linear, normalized, arcface or a_softmax below 1, received "
        f"{type(head).__name__}. Set sampled_classes: 1."
    )


def finish_head(
    config: HeadConfig,
    *,
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Give the model the linear head of its bundle, and `normalize_features` beside it.

    batches: normalised photos of the phase's list as in serving, and their labels; only nearest_mean reads
    them. reduce: sums a tensor over the processes, where each reads a share of the list.
    """
    head, normalizes = export_head(model.head)
    if isinstance(config, TauNormalizedConfig):
        head = tau_normalized(head, tau=config.tau)
    elif isinstance(config, NearestMeanConfig):
        computed = class_means(model, batches, num_classes=head.out_features, reduce=reduce)
        head, normalizes = nearest_mean(config, computed), True
    model.head = head
    model.normalize_features = normalizes or model.normalize_features


def tau_normalized(head: nn.Linear, *, tau: float) -> nn.Linear:
    """Return the head w / |w|^tau without bias (Kang et al. 2020, section 4); weights of zeros stay."""
    weight = head.weight.detach()
    lengths = weight.norm(dim=1, keepdim=True)
    return make_linear(weight / torch.where(lengths > 0, lengths, 1).pow(tau))


def nearest_mean(config: NearestMeanConfig, computed: ClassMeans) -> nn.Linear:
    """Return the classifier by the nearest class mean as a linear head on features of length 1.

    Kang et al. 2020, section 4. cosine: scale cos(m, f). euclidean: -scale |f - m|^2 without the -scale |f|^2
    that all classes share, which is scale (2 m . f - |m|^2). A class without photos is never predicted.
    """
    means = computed.means
    if config.metric == "cosine":
        weight, bias = config.scale * unit_length(means), torch.zeros_like(means[:, 0])
    else:
        weight, bias = 2 * config.scale * means, -config.scale * means.square().sum(dim=1)
    return make_linear(weight, bias=bias.masked_fill(computed.counts == 0, NO_PHOTO_BIAS))


@torch.no_grad()
def class_means(
    model: Model,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    num_classes: int,
    reduce: Callable[[Tensor], Tensor] | None = None,
) -> ClassMeans:
    """Return each class's mean of features of length 1, read batch by batch and summed in float64.

    batches: normalised photos [B, 3, S, S] and labels int64 [B], both on the model's device. Leaves the model
    in evaluation mode. ValueError where no photo came.
    """
    model.eval()
    device = next(model.parameters()).device
    counts = torch.zeros(num_classes, dtype=torch.int64, device=device)
    sums = torch.zeros(num_classes, model.head.in_features, dtype=torch.float64, device=device)
    for photos, labels in batches:
        sums.index_add_(0, labels, unit_length(model.features(photos)).double())
        counts += torch.bincount(labels, minlength=num_classes)
    if reduce is not None:
        sums, counts = reduce(sums), reduce(counts)
    if not counts.any():
        raise ValueError("Expected at least one photo to compute the class means from, received none.")
    return ClassMeans(sums.div_(counts.clamp(min=1)[:, None]).float(), counts)


def make_linear(weight: Tensor, *, bias: Tensor | None = None) -> nn.Linear:
    """Return a linear layer of these weights [K, D] and bias [K], zeros where none is given."""
    num_classes, num_features = weight.shape
    linear = nn.Linear(num_features, num_classes, device="meta")
    linear.weight = nn.Parameter(weight)
    linear.bias = nn.Parameter(weight.new_zeros(num_classes) if bias is None else bias)
    return linear


class _Projection(torch.autograd.Function):
    """f . w / |w| for features [B, D] and weights [K, D], without the weights' directions in memory.

    F.normalize and F.linear fill several buffers as large as the weights, which at 50,030 classes are larger
    than the logits, and take three times as long for it. Here lengths divide the logits, and the gradient is
    changed in place: with G = (g / |w|)^T f, dL/dw = G - w (w . G) / |w|^2.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor) -> Tensor:
        lengths: Tensor = torch.linalg.vector_norm(weight, dim=1)
        ctx.save_for_backward(features, weight, lengths)
        return (features @ weight.t()).div_(lengths)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        features, weight, lengths = ctx.saved_tensors
        wants_features, wants_weight = ctx.needs_input_grad  # a frozen backbone, or a frozen head, wants none
        of_features = of_weight = None
        scaled = gradient / lengths
        if wants_features:
            of_features = scaled @ weight
        if wants_weight:
            of_weight = scaled.t() @ features
            for rows in row_slices(weight):
                row, of_row = weight[rows], of_weight[rows]
                along = (row * of_row).sum(dim=1).div_(lengths[rows].square())
                of_row.addcmul_(row, along[:, None], value=-1)
        return of_features, of_weight
