"""`python -m stages.download`."""

from stages.shared.runtime.environment import go_online
from stages.shared.runtime.imports import program_imports

if __name__ == "__main__":
    go_online()
    with program_imports():
        from stages.download.download import DownloadFiles, DownloadParams, download
        from stages.shared.runtime.run_stage import run_stage
    run_stage(DownloadParams, DownloadFiles(), download)
