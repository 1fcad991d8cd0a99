"""`python -m stages.evaluate`."""

from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    with program_imports():
        from stages.evaluate.evaluate import EvaluateFiles, EvaluateParams, evaluate
        from stages.shared.runtime.run_stage import run_stage
    run_stage(EvaluateParams, EvaluateFiles(), evaluate)
