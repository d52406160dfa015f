"""Runs as plain values, read fast: comparing a thousand of them must not wait for MLflow to be imported.

Importing MLflow takes longer than reading a store with 1,000 runs, so a database is asked in SQL, of the five
tables of runs that MLflow has had since its first version with a database. A server is asked through MLflow's
client, and so is a database whose tables are others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracking.project_store import DATABASE
from tracking.store import Store

_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run of MLflow: `metrics` are the latest values, `started_at` is in ms."""

    run_id: str
    name: str
    status: str
    started_at: int
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


def read_runs(store: Store, *, experiment: str, kinds: Sequence[str]) -> list[RunRecord]:
    """The runs of an experiment whose tag aisle.kind is one of `kinds`, the newest first; deleted ones not.

    Raises TrackingError when the store cannot be reached.
    """
    with store.explain_failure(doing=f"read the runs of {experiment}"):
        if store.artifacts is not None:
            from sqlalchemy.exc import SQLAlchemyError

            try:
                return _read_database(store, experiment=experiment, kinds=kinds)
            except SQLAlchemyError:
                pass  # tables of another version, or a store that cannot be read: the client says which
        return _read_with_client(store, experiment=experiment, kinds=kinds)


def _read_database(store: Store, *, experiment: str, kinds: Sequence[str]) -> list[RunRecord]:
    import sqlalchemy as sql

    if store.is_own and not (store.root / DATABASE).is_file():
        return []  # connecting would make an empty file
    wanted = (
        "FROM runs JOIN experiments ON experiments.experiment_id = runs.experiment_id "
        "JOIN tags AS kind ON kind.run_uuid = runs.run_uuid AND kind.key = 'aisle.kind' "
        "WHERE experiments.name = :experiment AND experiments.lifecycle_stage = 'active' "
        "AND runs.lifecycle_stage = 'active' AND kind.value IN :kinds"
    )
    given = {"experiment": experiment, "kinds": list(kinds)}

    def select(text: str) -> Any:
        return sql.text(text).bindparams(sql.bindparam("kinds", expanding=True))

    engine = sql.create_engine(store.uri)
    try:
        with engine.connect() as connection:
            runs = connection.execute(
                select(
                    f"SELECT runs.run_uuid, runs.name, runs.status, runs.start_time {wanted} "
                    "ORDER BY runs.start_time DESC, runs.run_uuid"
                ),
                given,
            ).all()
            values = {
                table: _by_run(
                    connection.execute(
                        select(
                            f"SELECT run_uuid, {table}.key, value{flag} FROM {table} "
                            f"WHERE run_uuid IN (SELECT runs.run_uuid {wanted})"
                        ),
                        given,
                    )
                )
                for table, flag in (("tags", ""), ("params", ""), ("latest_metrics", ", is_nan"))
            }
    finally:
        engine.dispose()
    return [
        RunRecord(
            run_id=run_id,
            name=name or "",
            status=status,
            started_at=started_at or 0,
            tags=values["tags"].get(run_id, {}),
            params=values["params"].get(run_id, {}),
            metrics=values["latest_metrics"].get(run_id, {}),
        )
        for run_id, name, status, started_at in runs
    ]


def _by_run(rows: Iterable[Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run_id, key, value, *is_nan in rows:
        found.setdefault(run_id, {})[key] = float("nan") if any(is_nan) else value
    return found


def _read_with_client(store: Store, *, experiment: str, kinds: Sequence[str]) -> list[RunRecord]:
    client = store.client
    found = client.get_experiment_by_name(experiment)
    if found is None or found.lifecycle_stage != "active":
        return []
    records = [record for kind in kinds for record in _pages(client, found.experiment_id, kind=kind)]
    return sorted(records, key=lambda record: (-record.started_at, record.run_id))


def _pages(client: Any, experiment: str, *, kind: str) -> list[RunRecord]:
    """The runs of one kind: MLflow's search has IN for some attributes only."""
    records, token = list[RunRecord](), None
    while True:
        page = client.search_runs(
            [experiment],
            filter_string=f"tags.`aisle.kind` = '{kind}'",
            order_by=["attributes.start_time DESC"],
            max_results=_PAGE,
            page_token=token,
        )
        records += [
            RunRecord(
                run_id=run.info.run_id,
                name=run.info.run_name or "",
                status=run.info.status,
                started_at=run.info.start_time or 0,
                tags=run.data.tags,
                params=run.data.params,
                metrics=run.data.metrics,
            )
            for run in page
        ]
        token = page.token
        if not token:
            return records
