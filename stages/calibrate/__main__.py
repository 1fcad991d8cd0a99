"""`python -m stages.calibrate`."""

from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    with program_imports():
        from stages.calibrate.calibrate import CalibrateFiles, CalibrateParams, calibrate
        from stages.shared.runtime.run_stage import run_stage
    run_stage(CalibrateParams, CalibrateFiles(), calibrate)
