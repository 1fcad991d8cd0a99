"""`python -m stages.report`."""

from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    with program_imports():
        from stages.report.inputs import ReportFiles
        from stages.report.report import ReportParams, report
        from stages.shared.runtime.run_stage import run_stage
    run_stage(ReportParams, ReportFiles(), report)
