"""`python -m stages.train`."""

from stages.shared.runtime.arithmetic import choose_arithmetic
from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    choose_arithmetic("train")
    with program_imports():
        from stages.shared.runtime.run_stage import run_stage
        from stages.train.train import LAUNCHER, TrainFiles, TrainParams, train
    run_stage(TrainParams, TrainFiles(), train, LAUNCHER)
