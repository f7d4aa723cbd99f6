"""What `cubekit evaluate` tells: an evaluation summed up as JSON and as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.files import replacing
from cubekit.segmentation import metrics
from cubekit.segmentation.evaluation import BASELINES, Evaluation, Row
from cubekit.segmentation.splits import Sample


def report(evaluation: Evaluation, *, resamples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """Sum an evaluation up, as `cubekit evaluate --json` writes it.

    Parameters
    ----------
    evaluation
        From `evaluate`.
    resamples, seed
        Of the intervals: 95 %, clusters are lake-dates, and lakes where lakes are left out.

    Returns
    -------
    dict
        ``iou`` (``pooled``, ``mean``), ``precision``, ``recall``, ``f1``, ``accuracy`` (pooled), ``confusion``,
        ``by_lake``, ``baselines`` (each with the same keys, and ``basis``: what it fell back to, and how often),
        ``intervals``, ``gain`` (pooled IoU of the model less that of each baseline, in a paired bootstrap), ``area``,
        ``boundary``, ``calibration``, ``whole_chip`` (the scores over all pixels, as the paper counts them), ``split``.
        Plain types; what is not defined is None.
    """
    where = list(range(len(evaluation.samples)))
    kind = evaluation.folds[0].kind if evaluation.folds else None
    # Asked of new lakes, dates of one lake are not new lakes.
    clusters = [(one.lake,) if kind == "lake" else (one.lake, one.time.date()) for one in evaluation.samples]
    model = evaluation.rows.get("model")
    counts = {name: np.array([row.counts for row in rows]).reshape(-1, 4) for name, rows in evaluation.rows.items()}

    def interval(values: npt.NDArray[Any], statistic: Callable[[npt.NDArray[Any]], float]) -> list[float]:
        made = metrics.bootstrap(values, statistic, clusters, resamples=resamples, seed=seed)
        return [made.low, made.high]

    made: dict[str, Any] = _summary(model, where)
    made["by_lake"] = _by_lake(model, evaluation.samples)
    made["baselines"] = {
        name: {
            **_summary(evaluation.rows[name], where),
            "by_lake": _by_lake(evaluation.rows[name], evaluation.samples),
            "basis": dict(sorted(evaluation.bases[name].items())),
            "interval": interval(counts[name], _pooled_iou),
        }
        for name in BASELINES
    }
    if model is not None:
        one = counts["model"]
        made["intervals"] = {
            "iou": {"pooled": interval(one, _pooled_iou), "mean": interval(one, _mean_iou)},
            **{name: interval(one, _pooled(name)) for name in metrics.SCORES[1:]},
        }
        made["gain"] = {
            name: {
                "iou": _pooled_iou(one) - _pooled_iou(counts[name]),
                "interval": interval(np.stack([one, counts[name]], axis=1), _iou_gain),
            }
            for name in BASELINES
        }
        calibration = metrics.calibration_of(evaluation.reliability)
        made["calibration"] = {
            "error": calibration.error,
            "table": {name: values.tolist() for name, values in calibration._asdict().items() if name != "error"},
        }
    made["split"] = {
        "kind": kind,
        "names": [fold.name for fold in evaluation.folds],
        "train": [len(fold.train) for fold in evaluation.folds],
        "validation": [len(fold.validation) for fold in evaluation.folds],
        "test": [len(fold.test) for fold in evaluation.folds],
        "leaks": dict(sorted(evaluation.leaks.items())),
    }
    made["clusters"] = {"of": "lakes" if kind == "lake" else "lake-dates", "number": len(set(clusters))}
    made["cubekit_version"] = version("cubekit")
    plain: dict[str, Any] = _plain(made)
    return plain


def table(made: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of a table for people: method, lake (or ``all``), images, scores, interval of the pooled IoU.

    Parameters
    ----------
    made
        From `report`.
    """
    methods: dict[str, Any] = {} if made["confusion"] is None else {"model": made}
    rows = []
    for name, one in {**methods, **made["baselines"]}.items():
        low_high = made["intervals"]["iou"]["pooled"] if name == "model" else one["interval"]
        for lake, entry in {"all": one, **one["by_lake"]}.items():
            scores = {key: entry[key] for key in metrics.SCORES[1:]}
            rows.append(
                {
                    "method": name,
                    "lake": lake,
                    "images": entry["images"],
                    "iou": entry["iou"]["pooled"],
                    "interval": low_high if lake == "all" else None,
                    "mean_iou": entry["iou"]["mean"],
                    **scores,
                    "area_bias_percent": entry["area"]["bias_percent"],
                    "boundary_mean_m": entry["boundary"]["mean_m"],
                }
            )
    return rows


def write_json(made: Mapping[str, Any], path: Path) -> None:
    """Write what `report` gave: all of it, or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(made, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _summary(rows: Sequence[Row] | None, where: Sequence[int]) -> dict[str, Any]:
    """Scores of one method over some images; None for each when there is no such method."""
    if rows is None:
        nothing = dict.fromkeys(metrics.SCORES[1:])
        return {"iou": {"pooled": None, "mean": None}, **nothing, "confusion": None, "images": 0}
    chosen = [rows[index] for index in where]
    counts = _confusion(np.array([row.counts for row in chosen]))
    scores, whole = metrics.scores(counts), metrics.scores(_confusion(np.array([row.whole_chip for row in chosen])))
    area = metrics.area_errors_of(*(np.array([row[place] for row in chosen]) for place in (2, 3)))
    shores = np.array([(row.boundary_mean, row.boundary_p95) for row in chosen])
    shores = shores[np.isfinite(shores[:, 0])]
    mean, percentile95 = shores.mean(axis=0) if len(shores) else (np.nan, np.nan)
    return {
        "iou": {"pooled": scores.pooled["iou"], "mean": scores.mean["iou"]},
        **{name: scores.pooled[name] for name in metrics.SCORES[1:]},
        "confusion": {name: int(cell.sum()) for name, cell in counts._asdict().items()},
        "images": len(chosen),
        "images_with_iou": scores.defined["iou"],
        "area": area._asdict(),
        "boundary": {"mean_m": mean, "p95_m": percentile95, "images": len(shores)},
        "whole_chip": {
            "iou": {"pooled": whole.pooled["iou"], "mean": whole.mean["iou"]},
            **{name: whole.pooled[name] for name in metrics.SCORES[1:]},
            "confusion": {
                name: int(sum(row.whole_chip[place] for row in chosen))
                for place, name in enumerate(metrics.Confusion._fields)
            },
        },
    }


def _by_lake(rows: Sequence[Row] | None, samples: Sequence[Sample]) -> dict[str, Any]:
    if rows is None:
        return {}
    lakes = sorted({sample.lake for sample in samples})
    return {
        lake: _summary(rows, [index for index, sample in enumerate(samples) if sample.lake == lake]) for lake in lakes
    }


def _confusion(values: npt.NDArray[Any]) -> metrics.Confusion:
    return metrics.Confusion(*values.reshape(-1, 4).T)


def _pooled(name: str) -> Callable[[npt.NDArray[Any]], float]:
    return lambda values: metrics.scores(_confusion(values.sum(axis=0))).pooled[name]


def _pooled_iou(values: npt.NDArray[Any]) -> float:
    _, fp, fn, tp = values.sum(axis=0)
    return float(tp / (tp + fp + fn)) if tp + fp + fn else math.nan


def _mean_iou(values: npt.NDArray[Any]) -> float:
    return metrics.scores(_confusion(values)).mean["iou"]


def _iou_gain(values: npt.NDArray[Any]) -> float:
    return _pooled_iou(values[:, 0]) - _pooled_iou(values[:, 1])


def _plain(value: Any) -> Any:
    """Python's own types, None for NaN: what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
