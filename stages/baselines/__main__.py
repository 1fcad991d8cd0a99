"""`python -m stages.baselines`."""

from stages.shared.runtime.arithmetic import choose_arithmetic
from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    choose_arithmetic("predict")  # the frozen encoder is run as predict runs the fine-tuned model
    with program_imports():
        from stages.baselines.baselines import BaselinesFiles, BaselinesParams, baselines
        from stages.shared.runtime.run_stage import run_stage
    run_stage(BaselinesParams, BaselinesFiles(), baselines)
