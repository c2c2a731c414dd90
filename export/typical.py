"""What values a normalisation was made for, so that golden observations are plausible without data."""

from __future__ import annotations

from typing import Any


def typical(entry: dict[str, Any], width: int, image: bool) -> dict[str, list[float]]:
    """`mean` and `std` of a key, by the manifest's entry of its normalisation.

    Args:
        width: values of a statistic.
    """
    if entry["mode"] == "mean_std":
        return {"mean": list(entry["mean"]), "std": list(entry["std"])}
    if entry["mode"] == "identity":
        return {"mean": [0.5 if image else 0.0] * width, "std": [0.25 if image else 1.0] * width}
    low, high = ("low", "high") if entry["mode"] == "quantile" else ("min", "max")
    pairs = list(zip(entry[low], entry[high], strict=True))
    return {
        "mean": [(least + most) / 2 for least, most in pairs],
        "std": [(most - least) / 4 for least, most in pairs],
    }
