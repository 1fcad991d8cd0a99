"""benchmarks/RESULTS.md shows what was measured, and the code that measures still understands it."""

import ast
import json

import pytest

from benchmarks.page import PAGE, PLACE, ROOT, filled

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_tables_are_the_measured_ones() -> None:
    assert filled(TEXT) == TEXT


def test_a_table_that_was_edited_is_noticed() -> None:
    edited = TEXT.replace(" | ", " | 9", 1)
    assert edited != TEXT and filled(edited) == TEXT


@pytest.mark.parametrize(
    "name",
    [
        "train_throughput",
        "bert_base",
        "predict_throughput",
        "startup",
        "noop",
        "scale",
        "mrpc",
        "compare_scale",
        "near_duplicates",
        "onnx_export",
        "score",
        "imbalance",
    ],
)
def test_every_question_has_its_table(name: str) -> None:
    assert name in {found[1] for found in PLACE.finditer(TEXT)}


@pytest.mark.parametrize("name", ["train_throughput", "bert_base", "predict_throughput", "mrpc"])
def test_what_is_called_mrpc_was_measured_on_mrpc(name: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    assert result.get("corpus", "mrpc") == "mrpc"


@pytest.mark.parametrize("name", ["course", "run_glue", "training_clock", "prediction_clock"])
def test_a_peer_runs_unsealed(name: str) -> None:
    """Importing a stage, or a benchmark that imports one, would slow the peer down: MKL has other kernels there."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    first = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in first]
    assert imported and not [module for module in imported if module.startswith(("stages", "benchmarks", "checks"))]
