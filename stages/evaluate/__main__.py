"""`python -m stages.evaluate`."""

from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    with program_imports(hidden="transformers"):  # which the scorer would import, and torch with it
        from stages.evaluate.evaluate import EvaluateFiles, evaluate
        from stages.shared.runtime.run_stage import run_stage
        from stages.shared.statistics.params import EvaluateParams
    run_stage(EvaluateParams, EvaluateFiles(), evaluate)
