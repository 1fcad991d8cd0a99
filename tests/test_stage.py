"""What surrounds every stage: one at a time, gone with its parent, one line for bad input, a sealed environment."""

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from stages.shared.runtime.publish import publish
from tests.project import run_python

ROOT = Path(__file__).parents[1]


AROUND = """
from stages.shared.runtime.run_stage import alone, program
from stages.shared.runtime.snapshot import snapshot
with program('x'), alone('x', snapshot('x')):"""
IN_SHORT = "import stages.shared.runtime.run_stage as module; module.LOCK_SECONDS = {seconds}"
RAISES = f"from stages.shared.runtime.errors import BadInput\n{AROUND} raise {{}}"


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        ("BadInput('file: row 3: no text')", 1, "x: file: row 3: no text\n"),
        ("OSError(28, 'No space left on device')", 1, "x: the disk is full; free some space and run"),
        ("KeyboardInterrupt", 130, "x: interrupted; run `dvc repro` again\n"),
    ],
)
def test_bad_input_is_one_line_and_a_status(error: str, status: int, line: str, tmp_path: Path) -> None:
    done = run_python("-c", RAISES.format(error), folder=tmp_path)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(tmp_path: Path) -> None:
    done = run_python("-c", RAISES.format("ZeroDivisionError"), folder=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr


def test_a_stage_does_not_run_twice_at_once(tmp_path: Path) -> None:
    hold = f"{AROUND}\n    print('in', flush=True)\n    input()"
    first = subprocess.Popen(
        [sys.executable, "-c", hold],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout is not None and first.stdout.readline() == "in\n"
    second = f"{IN_SHORT.format(seconds=0.3)}{AROUND} print('in too')"
    done = run_python("-c", second, folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "x: this stage is already running in this folder; wait for it or end it\n"
    first.communicate("\n")
    assert run_python("-c", second, folder=tmp_path).stdout == "in too\n"


def test_a_stage_dies_with_the_program_that_started_it(tmp_path: Path) -> None:
    stage = f"import time\n{AROUND}\n    open('up', 'w')\n    time.sleep(60)"
    starter = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {stage!r}])"
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    _wait_for(lambda: (tmp_path / "up").exists())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    free = f"{IN_SHORT.format(seconds=10)}{AROUND} print('free')"
    assert run_python("-c", free, folder=tmp_path).stdout == "free\n"


def test_a_stage_whose_starter_died_while_it_was_importing_does_not_start(tmp_path: Path) -> None:
    late = f"import time, stages\ntime.sleep(1.5)\n{AROUND} open('ran', 'w')"
    starter = (
        f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {late!r}])\nimport time; time.sleep(0.7)"
    )
    subprocess.run([sys.executable, "-c", starter], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    time.sleep(2.5)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("tokenize: [1,", "tokenize: params.yaml: not valid YAML: "),
        ("download: {}", "tokenize: params.yaml: tokenize: expected a section with the keys max_length, "),
    ],
)
def test_a_params_file_that_cannot_be_read_is_one_line(text: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = subprocess.run(
        [sys.executable, "-m", "stages.tokenize"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith(line)


def test_a_full_disk_is_noticed_before_the_partial_output_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch and safetensors raise errors of their own; once the partial output is gone, there is space again."""
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0 if list(tmp_path.iterdir()) else 2**30))
    with pytest.raises(OSError, match="No space left"), publish(tmp_path / "out") as (out,):
        out.write_text("half")
        raise RuntimeError("PytorchStreamWriter failed")


def _wait_for(condition: "object", seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_shell_does_not_choose_the_threads(tmp_path: Path) -> None:
    code = "import stages, os; print([n for n in os.environ if n.startswith(('OMP_', 'MKL_'))])"
    done = run_python("-c", code, folder=tmp_path, OMP_NUM_THREADS="7", MKL_NUM_THREADS="7", OMP_SCHEDULE="dynamic")
    assert set(ast.literal_eval(done.stdout)) == {"MKL_CBWR", "MKL_DYNAMIC", "OMP_WAIT_POLICY"}


@pytest.mark.parametrize(
    ("stage", "absent"),
    [
        ("download", {"torch", "transformers", "scipy", "sklearn", "evaluate", "matplotlib"}),
        ("tokenize", {"torch", "scipy", "sklearn", "evaluate", "matplotlib"}),
        ("train", {"sklearn", "evaluate", "matplotlib"}),
        ("predict", {"sklearn", "evaluate", "matplotlib"}),
        ("calibrate", {"torch", "transformers", "sklearn", "evaluate", "datasets", "matplotlib"}),
        ("evaluate", {"torch", "transformers", "matplotlib"}),
        ("baselines", {"torch", "transformers", "evaluate", "matplotlib"}),
        ("report", {"torch", "transformers", "sklearn", "evaluate"}),
    ],
)
def test_a_stage_imports_no_library_that_it_does_not_use(stage: str, absent: set[str], tmp_path: Path) -> None:
    code = f"""
        import runpy, sys
        import stages.shared.runtime.run_stage as module
        module.run_stage = lambda *_: print(*sorted(set(sys.modules) & {absent | {"json"}!r}))
        runpy.run_module("stages.{stage}", run_name="__main__", alter_sys=True)
    """
    done = run_python("-c", textwrap.dedent(code), folder=tmp_path)
    assert done.stdout == "json\n", done.stderr  # json: the test would notice a module that is there


def test_scoring_does_not_import_torch(tmp_path: Path) -> None:
    code = """
        import sys
        import numpy as np
        from stages.shared.runtime.imports import program_imports
        with program_imports(hidden="transformers"):
            from stages.evaluate.evaluate import score
        from stages.shared.task.task import Task
        task = Task("t", "single_label_classification", ["a", "b"], ["accuracy", "f1"], "files", "0")
        score(task, np.zeros((2, 2), np.float32), np.zeros(2, np.int64))
        print(*sorted(set(sys.modules) & {"torch", "transformers", "evaluate", "sklearn"}))
    """
    done = run_python("-c", textwrap.dedent(code), folder=tmp_path)
    assert done.stdout == "evaluate sklearn\n", done.stderr


def test_no_search_for_garbage_interrupts_the_imports(tmp_path: Path) -> None:
    searches = "gc.get_stats()[2]['collections']"
    code = "import gc\nfrom stages.shared.runtime.imports import program_imports\nwith program_imports(): {}"
    program = code.format(f"import stages.evaluate.evaluate; print({searches}, gc.isenabled())")
    done = run_python("-c", program, folder=tmp_path)
    assert done.stdout == "0 True\n", done.stderr
    done = run_python("-c", f"import gc, numpy, datasets, sklearn.metrics; print({searches} > 0)", folder=tmp_path)
    assert done.stdout == "True\n", done.stderr  # the test would notice one


def test_a_stage_at_work_has_its_garbage_collected_as_any_program(tmp_path: Path) -> None:
    code = """
        import gc
        usual = gc.get_threshold()
        from stages.shared.runtime.imports import program_imports
        with program_imports():
            from stages.shared.runtime.run_stage import program
            imported = len(gc.get_objects())
        print(gc.get_threshold() == usual, gc.isenabled(), len(gc.get_objects()) < imported / 10)
    """
    assert run_python("-c", textwrap.dedent(code), folder=tmp_path).stdout == "True True True\n"


def test_outputs_appear_together_or_not_at_all(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "deep" / "two"
    one.write_text("old")
    with pytest.raises(ValueError), publish(one, two) as (first, second):
        first.write_text("new")
        second.mkdir()
        raise ValueError
    assert one.read_text() == "old" and not two.exists()
    with publish(one, two) as (first, second):
        first.write_text("new")
        second.mkdir()
    assert one.read_text() == "new" and two.is_dir()
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_killed_stage_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half").touch()
    with publish(tmp_path / "out") as (out,):
        out.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


PROJECT = {
    "params.yaml": "x: {rate: 1}\ny: {rate: 1}\nz: {files: input}\n",
    "dvc.yaml": "stages: {x: {cmd: ., params: [x], deps: [code.py, '${z.files}']}}\n",
    "code.py": "old",
    "input/rows.csv": "old",
    "other.txt": "old",
}


@pytest.mark.parametrize(
    ("file", "content", "noticed"),
    [
        ("code.py", "new", "x: code.py changed while the stage ran, so its output matches no version; run"),
        ("input/rows.csv", "new", "x: input/rows.csv changed while the stage ran"),
        ("input/more.csv", "new", "x: input/more.csv changed while the stage ran"),
        ("params.yaml", PROJECT["params.yaml"].replace("x: {rate: 1", "x: {rate: 2"), "x: params.yaml: x changed"),
        ("params.yaml", PROJECT["params.yaml"].replace("y: {rate: 1", "y: {rate: 2"), ""),
        ("other.txt", "new", ""),
        ("code.py", "old", ""),
    ],
)
def test_an_input_that_changes_while_its_stage_runs_is_noticed(
    file: str, content: str, noticed: str, tmp_path: Path
) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = run_python(
        "-c",
        f"from pathlib import Path\n{AROUND} Path({file!r}).write_text({content!r})",
        folder=tmp_path,
    )
    assert done.stderr.startswith(noticed) and bool(done.stderr) == bool(noticed)
    assert done.returncode == (1 if noticed else 0)


# A `dvc` that dies

WATCHED = """\
import stages
from stages.shared.runtime.imports import program_imports
with program_imports():
    open("imported", "w")
open("ran", "w")
"""
LATE = """\
#!/bin/sh
touch started
sleep 0.7
exec {python} -c '{code}'
"""


def make_late_stage(folder: Path) -> None:
    """A project whose stage takes a while to become Python, as on a busy machine."""
    (folder / "late").write_text(LATE.format(python=sys.executable, code=WATCHED))
    (folder / "late").chmod(0o755)
    (folder / "dvc.yaml").write_text("stages: {x: {cmd: exec ./late, deps: [late], outs: [ran]}}\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=folder, check=True)


def start_late_stage(folder: Path) -> "subprocess.Popen[bytes]":
    for name in ("started", "imported", "ran"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / ".dvc" / "cache", ignore_errors=True)
    dvc = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--quiet"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    )
    _wait_for(lambda: (folder / "started").exists() or dvc.poll() is not None)
    return dvc


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.exhaustive)])
def test_a_stage_whose_dvc_died_before_python_began_does_not_run(times: int, tmp_path: Path) -> None:
    make_late_stage(tmp_path)
    assert start_late_stage(tmp_path).wait(60) == 0 and (tmp_path / "ran").exists()  # undisturbed, it runs
    for _ in range(times):
        dvc = start_late_stage(tmp_path)
        dvc.kill()
        dvc.wait()
        time.sleep(1.5)
        assert not (tmp_path / "imported").exists() and not (tmp_path / "ran").exists()


def test_a_stage_that_was_started_by_hand_runs_whoever_is_its_parent_by_then(tmp_path: Path) -> None:
    """By nohup, from a shell that has ended, where a killed dvc has left its notes."""
    (tmp_path / "late").write_text(LATE.format(python=sys.executable, code=WATCHED))
    (tmp_path / "late").chmod(0o755)
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / ".dvc" / "tmp").mkdir(parents=True)
    left = {"write": {"/data/raw": {"pid": ended.pid, "cmd": "dvc repro"}}, "read": {}}
    (tmp_path / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(left))
    shell = "nohup ./late > /dev/null 2>&1 &"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC")}
    subprocess.run(["sh", "-c", shell], cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, check=True)
    _wait_for(lambda: (tmp_path / "ran").exists())


def test_a_stage_ends_with_its_parent_while_it_imports(tmp_path: Path) -> None:
    slow = WATCHED.replace('open("imported", "w")', 'open("imported", "w"); import time; time.sleep(2)')
    starter = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {slow!r}])"
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    _wait_for(lambda: (tmp_path / "imported").exists())
    parent.kill()
    parent.wait()
    time.sleep(2.5)
    assert not (tmp_path / "ran").exists()


FAILS = """
from stages.shared.runtime.dvc_hash import dvc_hash
from stages.shared.runtime.errors import BadInput
from stages.shared.runtime.last_results import keep_results
from stages.shared.runtime.run_stage import program, results_kept
from pathlib import Path
results = [Path("metrics/data.json"), Path("metrics/made_from/download.json")]
for one in results:
    one.write_text("good")
keep_results("download")
Path("dvc.lock").write_text("md5: " + dvc_hash(results[0]))
for one in results:
    one.unlink()  # as DVC does before it runs a stage
{}
with program("download"), results_kept("download"):
    raise {}
"""


@pytest.mark.parametrize("error", ["BadInput('no')", "ZeroDivisionError", "KeyboardInterrupt", "SystemExit(3)"])
def test_a_stage_that_fails_leaves_the_metrics_of_its_last_good_run(error: str, tmp_path: Path) -> None:
    assert fail("", error, tmp_path) == {"data.json": "good", "download.json": "good"}


@pytest.mark.parametrize(
    ("meanwhile", "left"),
    [
        ("Path('dvc.lock').write_text('md5: 0')", {}),  # the lock of another branch, or of another run
        ("results[0].write_text('new')", {"data.json": "new"}),  # the stage had published, and failed after that
    ],
)
def test_results_come_back_whole_and_beside_their_own_lock_or_not_at_all(
    meanwhile: str, left: dict[str, str], tmp_path: Path
) -> None:
    assert fail(meanwhile, "BadInput('no')", tmp_path) == left


def fail(meanwhile: str, error: str, folder: Path) -> dict[str, str]:
    """Lets a stage fail that had a good run, and returns what is in metrics/ then."""
    for name in ("dvc.yaml", "tests/params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "metrics" / "made_from").mkdir(parents=True)
    assert run_python("-c", FAILS.format(meanwhile, error), folder=folder).returncode
    return {file.name: file.read_text() for file in sorted((folder / "metrics").rglob("*.json"))}
