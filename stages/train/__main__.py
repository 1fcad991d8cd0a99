"""`python -m stages.train`."""

from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    with program_imports():
        from stages.shared.runtime.run_stage import run_stage
        from stages.train.train import LAUNCHER, TrainFiles, TrainParams, train
    run_stage(TrainParams, TrainFiles(), train, LAUNCHER)
