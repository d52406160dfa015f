"""How an experiment looks in MLflow's UI: as model training, pipelines in rows, their errors in sight.

MLflow 3.17 opens every experiment in its view for language models, whatever the experiment says of itself:
the choice is the browser's, or the address's. Views that people save are tags of the experiment, so that one
can be there from the start.
"""

from __future__ import annotations

import json

VIEW = "errors"
VIEW_QUERY = f"workflowType=machine_learning&viewStateShareKey={VIEW}"
"""What an address of an experiment's runs ends with, to open them as model training in the view Errors."""
_SPLITS = ("test", "val")
_SHOWN = ("mean", "tail")
_METRICS = [f"metrics.`{split}/{size}_top1_error`" for split in _SPLITS for size in _SHOWN]
_WIDTHS = {
    "1": 73,
    "attributes.`Run Name`": 280,
    **dict.fromkeys(_METRICS, 160),
    "attributes.`Models`": 220,
    "runDateAndNestInfo": 150,
    "attributes.`Dataset`": 300,
}
"""Of columns, in their order, in pixels, by the names that the UI's table gives them."""
_STATE = {
    "searchFilter": "",
    "orderByKey": "attributes.start_time",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [*_METRICS, "attributes.`Models`", "attributes.`Dataset`"],
    "columnOrder": list(_WIDTHS),
    "columnWidths": _WIDTHS,
    "runsHiddenMode": "FIRST_20_RUNS",
    "useGroupedValuesInCharts": True,
    "hideEmptyCharts": True,
}

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    f"mlflow.sharedViewState.{VIEW}": json.dumps(
        {"name": "Errors", "createdAt": 1, "updatedAt": 1, "state": json.dumps(_STATE)}
    ),
}
"""Set on experiments that lack them; who has changed one keeps it."""
