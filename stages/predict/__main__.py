"""`python -m stages.predict`."""

from stages.shared.runtime.arithmetic import choose_arithmetic
from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    choose_arithmetic("predict")
    with program_imports():
        from stages.predict.predict import LAUNCHER, PredictFiles, PredictParams, predict
        from stages.shared.runtime.run_stage import run_stage
    run_stage(PredictParams, PredictFiles(), predict, LAUNCHER)
