"""The part `data` of params.yaml: a class for each layout, so that an option of another one is refused."""

from typing import Annotated, Literal

from pydantic import Field

from catalog.duplicates import DuplicatesConfig
from catalog.review import ReviewConfig
from catalog.sources import SourceOptions
from catalog.sources.annotations import AnnotationsConfig
from catalog.sources.list_file import ListFileConfig
from catalog.sources.synthetic import SyntheticConfig
from catalog.sources.table import TableConfig
from catalog.splits import SplitConfig
from contracts.values import Split
from imaging.config import Config
from imaging.storage import StoragePolicy
from pipelines.names import Name


class _Data(Config):
    config: str | None = None
    """The file of conf/data/ that this was composed from; null where it is that of the name."""

    name: Name
    """Name of the data in paths, in MLflow's experiment and in the model's name (`pipelines.names`)."""

    root: str | None
    """Folder of the source, or its URL such as s3://bucket/photos; null for synthetic images."""

    watch: str
    """File, folder or URL by which the stage `source` sees a change; conf/nothing.yaml: only another root."""

    storage: StoragePolicy = StoragePolicy()
    """When a photo is kept as it is and how it is re-encoded otherwise."""

    duplicates: DuplicatesConfig = DuplicatesConfig()
    """Which photos count as copies of each other."""

    split: SplitConfig = SplitConfig()
    """How photos are dealt to train, val and test."""

    review: ReviewConfig = ReviewConfig()
    """When the review of the data stops the stage `split`, and what it names."""

    evaluation_split: Split | None
    """The labelled split on which errors are reported, null for none; `evaluation.split` reads it."""

    validation_split: Split | None
    """The split that training watches, null for none; `evaluation.validation_split` reads it."""


class FixedData(_Data):
    """Photos in a layout whose form is known."""

    layout: Literal["image_folder", "grocery_store", "aliproducts"]
    """Source layout."""

    options: SourceOptions = SourceOptions()
    """Nothing: these layouts leave nothing to choose."""


class SyntheticData(_Data):
    """Synthetic images, drawn as they are read."""

    layout: Literal["synthetic"]
    """Source layout."""

    options: SyntheticConfig = SyntheticConfig()
    """How many products are drawn, and how hard their photos are."""


class TableData(_Data):
    """Photos that a table names, a row a photo."""

    layout: Literal["table"]
    """Source layout."""

    options: TableConfig
    """Which table, and which of its columns."""


class ListFileData(_Data):
    """Photos that text files name, a line a photo."""

    layout: Literal["list_file"]
    """Source layout."""

    options: ListFileConfig
    """Which files."""


class AnnotationsData(_Data):
    """Photos that JSON files name by class numbers."""

    layout: Literal["annotations"]
    """Source layout."""

    options: AnnotationsConfig
    """Which files."""


AnyData = FixedData | SyntheticData | TableData | ListFileData | AnnotationsData
DataParams = Annotated[AnyData, Field(discriminator="layout")]
"""Where the photos come from and how they are split."""
