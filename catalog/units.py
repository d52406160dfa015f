"""Which photos are never divided between splits: those of one group, and exact copies of each other.

A unit is known by a number that new photos do not change: the hash of its group, or of its bytes where it has
no group. So chance that is drawn by unit moves no old photo when photos are added, not even when a copy of an
old photo arrives under another id.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from catalog.chance import Hashes, hash_ids


def unit_keys(photos: pl.DataFrame, *, copies_together: bool) -> Hashes:
    """The number of each photo's unit `[N]` (photos.parquet: photo_id, group, sha256).

    Groups that hold copies of each other are one unit with the smallest number of them, and copies outside of
    any group join it: only a new photo that ties two units together moves old photos, those of one of them.
    """
    keys = hash_ids(photos["sha256" if copies_together else "photo_id"])
    grouped = photos["group"].is_not_null().to_numpy()
    groups = hash_ids(photos["group"].filter(grouped))
    if copies_together:
        return _join_copies(keys, grouped=grouped, groups=groups)
    keys[grouped] = groups
    return keys


def _join_copies(contents: Hashes, *, grouped: npt.NDArray[np.bool_], groups: Hashes) -> Hashes:
    """The smallest group that copies tie each photo `[N]` to; its content where that is none.

    Components of the graph whose edges are groups and the contents in them that occur more than once.
    """
    units = contents.copy()
    units[grouped] = groups
    ordered = np.sort(contents)
    repeated = pl.Series(contents).is_in(
        pl.Series(np.unique(ordered[1:][ordered[1:] == ordered[:-1]])).implode()
    )
    tied = repeated.to_numpy()
    ties = tied[grouped]
    if not ties.any():
        return units
    group_keys, group_of = np.unique(groups, return_inverse=True)
    content_keys, content_of = np.unique(contents[tied], return_inverse=True)
    num_groups = len(group_keys)
    edges = (group_of[ties], num_groups + content_of[grouped[tied]])
    nodes = num_groups + len(content_keys)
    graph = coo_array((np.ones(len(edges[0]), dtype=np.bool_), edges), shape=(nodes, nodes))
    _, component = connected_components(graph, directed=False)
    smallest = np.full(nodes, np.iinfo(np.uint64).max)
    np.minimum.at(smallest, component[:num_groups], group_keys)
    units[grouped] = smallest[component[group_of]]
    joined = smallest[component[num_groups + content_of]]
    has_group = np.isin(component[num_groups + content_of], component[:num_groups])
    units[tied] = np.where(has_group, joined, contents[tied])
    return units
