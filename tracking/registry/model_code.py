"""The registered model as MLflow runs it anywhere: photos in, classes out, by the code stored beside it.

MLflow executes this file as it is ("models from code"), so nothing is pickled; `imaging`, `recognition` and
`contracts` come from the copy that was logged with the version.
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd  # type: ignore[import-untyped]
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

PHOTO_COLUMN = "photo"
DEFAULT_TOP_K = 5


class ProductRecognizer(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """An ensemble's bundle behind MLflow's `predict`."""

    def load_context(self, context: Any) -> None:
        """Load the bundle that was logged as the artifact "bundle"."""
        from recognition.recognizer import Recognizer

        self._recognizer = Recognizer(Path(context.artifacts["bundle"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Answer one row per photo: the best class, and the `top_k` best as columns of lists.

        The column "photo" holds the file's bytes, or base64 text of them.
        """
        top_k = int((params or {}).get("top_k", DEFAULT_TOP_K))
        try:
            photos = [_to_bytes(value) for value in model_input[PHOTO_COLUMN]]
            answers = self._recognizer.predict(photos, top_k=top_k)
        except ValueError as error:  # PhotoError is one
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return pd.DataFrame([_row(answer.predictions) for answer in answers])


def _row(predictions: Any) -> dict[str, Any]:
    best = predictions[0]
    return {
        "class_index": best.class_index,
        "class_name": best.name,
        "probability": best.probability,
        "top_k_class_index": [prediction.class_index for prediction in predictions],
        "top_k_class_name": [prediction.name for prediction in predictions],
        "top_k_probability": [prediction.probability for prediction in predictions],
    }


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(
                f"expected the bytes of a photo or base64 text of them in column {PHOTO_COLUMN!r}, received "
                f"text that is not base64 ({error})"
            ) from error
    return bytes(value)


mlflow.models.set_model(ProductRecognizer())
