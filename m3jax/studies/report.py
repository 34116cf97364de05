"""Verdicts for machines and for people."""

import json
import math
import os
import pathlib
from collections.abc import Sequence

from m3jax.studies import study as study_lib


def write_verdicts(
    path: str | os.PathLike[str], verdicts: Sequence[study_lib.Verdict]
) -> None:
    """Writes verdicts.json: claim, the paper's figure, ours with its interval, holds.

    Args:
      path: the file; replaced.
      verdicts: of a study.
    """
    rows = [
        {
            "claim": v.claim,
            "paper": v.paper,
            "asked": v.asked,
            "mean": v.measured.mean,
            "low": v.measured.low,
            "high": v.measured.high,
            "unit": v.unit,
            "verdict": v.verdict,
            "holds": v.verdict == "holds",
            "note": v.note,
        }
        for v in verdicts
    ]
    rows = [{k: _finite(value) for k, value in row.items()} for row in rows]
    text = json.dumps(rows, indent=2, allow_nan=False)
    pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


def verdict_table(verdicts: Sequence[study_lib.Verdict]) -> str:
    """The verdicts as a Markdown table."""
    lines = ["| Claim | Paper | Asked | Measured | Verdict |", "|---|---|---|---|---|"]
    for v in verdicts:
        scale, unit = (100.0, " points") if v.unit == "1" else (1.0, f" {v.unit}")
        mean, low, high, asked = (scale * x for x in (*v.measured, v.asked))
        measured = f"{mean:.1f}{unit} [{low:.1f}, {high:.1f}]"
        note = f" ({v.note})" if v.note else ""
        lines.append(
            f"| {v.claim}{note} | {v.paper or '-'} | {asked:.3g}{unit} | {measured} |"
            f" {v.verdict} |"
        )
    return "\n".join(lines)


def _finite(value):
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_odd else value
