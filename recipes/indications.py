"""Print how well scores without a reference agree with the gain in PSNR: the table of docs/metrics.md.

python recipes/indications.py --data ../shared/data
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from score import ROOT, sets_of

import mimo_core
from mimo_core.metrics.no_reference import piqe, sharpness
from mimo_core.metrics.psnr_ssim import psnr
from mimo_core.triage.predictor import predictor

_CAP = 45.0


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the place of each value in their order."""
    return np.argsort(np.argsort(values)).astype(float)


def main() -> None:
    """Print a line for each set: rank correlations of changes with gains, and how often both have one sign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    columns: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    names = ("sharpness", "PIQE, falling", "predicted gain")
    with mimo_core.ImageRestorer(device="cpu") as restorer:
        for group, (_, make) in sets_of(options.data).items():
            for pair in make():
                restored = restorer.restore(pair.blurred)
                before, after = (min(psnr(one, pair.sharp), _CAP) for one in (pair.blurred, restored))
                outlook = predictor().outlook(pair.blurred)
                changes = (
                    sharpness(restored) - sharpness(pair.blurred),
                    (piqe(pair.blurred) or 0.0) - (piqe(restored) or 0.0),
                    outlook.gain if outlook is not None else 0.0,
                )
                columns[group].append((after - before, *changes))
    columns["all"] = [row for rows in list(columns.values()) for row in rows]
    print("set, images, mean gain;", "; ".join(f"{name}: mean change, rank correlation, same sign" for name in names))
    for group, rows in columns.items():
        gain, *changes = np.array(rows).T
        told = []
        for change in changes:
            agreed = np.mean(np.sign(change) == np.sign(gain))
            correlation = np.corrcoef(ranks(change), ranks(gain))[0, 1]
            told.append(f"{change.mean():+.2f}, {correlation:+.2f}, {agreed:.0%}")
        print(f"{group}, {len(rows)}, {gain.mean():+.2f};", "; ".join(told), flush=True)


if __name__ == "__main__":
    main()
