"""What the default model costs in ONNX and in int8: size, speed beside PyTorch, flipped predictions.

    python -m benchmarks.onnx_export

Runs `python -m ship.export --onnx --int8` in a scratch clone of HEAD, after `dvc repro` there, and keeps its price.json
as benchmarks/results/onnx_export.json.
"""

import json
import sys
from typing import Any

from benchmarks.clone import ROOT, call, fresh_clone, repro
from benchmarks.machine import describe

RESULT = ROOT / "benchmarks" / "results" / "onnx_export.json"


def main() -> None:
    """Measures, prints the table and writes the result file."""
    clone = fresh_clone("onnx_export")
    repro(clone, {})
    call([sys.executable, "-m", "ship.export", "--onnx", "--int8"], clone)
    price = json.loads((clone / "exports" / "onnx" / "price.json").read_text(encoding="utf-8"))
    result = {**describe(), "price": price}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(table(result))


def table(result: dict[str, Any]) -> str:
    """Formats the figures; benchmarks/RESULTS.md shows them."""
    price = result["price"]
    pytorch = price["examples_per_second"]
    lines = [
        "| the default model | MB | examples/s, to PyTorch | largest difference of a logit | flipped | accuracy |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    models = [("PyTorch, " + price["arithmetic"], price["bytes"], pytorch, None)]
    models += [
        (f"`{form['file']}`", form["bytes"], form["examples_per_second"], form["splits"][0]) for form in price["forms"]
    ]
    for name, size, speed, split in models:
        cells = [name, f"{size / 1e6:.1f}", f"{speed:.0f}, {speed / pytorch:.2f}"]
        if split is None:
            cells += ["", "", f"{accuracy(price['forms'][0]['splits'][0])['model']:.4f}"]
        else:
            one = accuracy(split)
            flipped = f"{round(split['flipped'] * split['examples'])} of {split['examples']}"
            interval = f"{one['exported']:.4f} ({one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}])"
            cells += [f"{split['largest_logit_difference']:.1e}", flipped, interval]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def accuracy(split: dict[str, Any]) -> dict[str, Any]:
    """Returns what became of the accuracy on a split."""
    return next(one for one in split["metrics"] if one["metric"] == "accuracy")


if __name__ == "__main__":
    main()
