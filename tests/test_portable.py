"""Portable arithmetic: the same bytes on every x86-64 processor with AVX2, and nothing said of the processor.

In the exhaustive tests `qemu-x86_64` (Debian's package `qemu-user`), which emulates AVX2, plays other processors.
"""

import platform
import shutil
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.shared.model import device as device_module
from stages.shared.model.device import advise, why_not_portable
from stages.shared.runtime.environment import PORTABLE, PORTABLE_ARRAYS, SET
from stages.shared.runtime.errors import BadInput
from stages.train.recipe import environment
from tests.project import Project, run_python
from tests.test_own_data import CASES, EXAMPLES, follow
from tests.test_purity import STAGES, outs

CPU = torch.device("cpu")
PINNED = PORTABLE | PORTABLE_ARRAYS


@pytest.mark.parametrize("stage", ["train", "predict"])
@pytest.mark.parametrize(("arithmetic", "capped"), [("portable", True), ("native", False), ("bf16", False)])
def test_only_another_arithmetic_lifts_what_is_pinned(
    stage: str, arithmetic: str, capped: bool, tmp_path: Path
) -> None:
    (tmp_path / "params.yaml").write_text(f"{stage}: {{arithmetic: {arithmetic}}}\n", encoding="utf-8")
    code = f"""
        import os, sys
        from stages.shared.runtime.arithmetic import choose_arithmetic
        choose_arithmetic("{stage}")
        assert "torch" not in sys.modules and "numpy" not in sys.modules  # they would have looked already
        print({set(PORTABLE)!r} <= set(os.environ), {set(PORTABLE_ARRAYS)!r} <= set(os.environ))
    """
    done = run_python("-c", textwrap.dedent(code), folder=tmp_path)
    assert (done.stdout, done.stderr) == (f"{capped} True\n", "")


@pytest.mark.parametrize("text", ["", "train: {", "train: [1]", "train: {arithmetic: [bf16]}", "[]", "\udcff"])
def test_a_file_that_says_nothing_lifts_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    code = """
        import os
        from stages.shared.runtime.arithmetic import choose_arithmetic
        choose_arithmetic("train")
        print(os.environ["MKL_CBWR"])
    """
    assert run_python("-c", textwrap.dedent(code), folder=tmp_path).stdout == "COMPATIBLE\n"


@pytest.mark.parametrize(
    "name", sorted({"GLIBC_TUNABLES", "NPY_ENABLE_CPU_FEATURES", *PINNED} - {"OPENBLAS_NUM_THREADS"})
)
def test_a_variable_that_picks_kernels_is_refused(name: str, tmp_path: Path) -> None:
    done = run_python("-c", "import stages", folder=tmp_path, **{name: "else"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"environment: {name}=else would change the results without a trace in dvc.lock; unset it\n"


def test_a_program_that_a_stage_starts_is_not_refused_for_what_the_stage_has_set(tmp_path: Path) -> None:
    assert run_python("-c", "import stages", folder=tmp_path, **(SET | PINNED)).returncode == 0


# What each library says of its kernels, in a program that leaves out some of the variables.
SAYS = """
    import os, stages
    for name in {without}:
        del os.environ[name]
    import numpy, pyarrow, threadpoolctl, torch
    [blas] = [pool for pool in threadpoolctl.threadpool_info() if "numpy" in pool["filepath"]]
    print("kernels of NumPy beyond AVX2:", numpy._core._multiarray_umath.__cpu_features__["X86_V4"])
    print("kernels of OpenBLAS:", blas["architecture"])
    print("threads of OpenBLAS:", blas["num_threads"])
    print("kernels of Arrow:", pyarrow.runtime_info().simd_level)
    print("kernels of ATen:", torch.backends.cpu.get_cpu_capability(), flush=True)
    square = torch.ones(64, 64)
    with torch.backends.mkl.verbose(1):
        square @ square
    with torch.backends.mkldnn.verbose(1):
        torch.ops.mkldnn._linear_pointwise(square, square, None, "none", [], "")
"""
SAID = {
    "ARROW_USER_SIMD_LEVEL": "kernels of Arrow: avx2\n",
    "ATEN_CPU_CAPABILITY": "kernels of ATen: AVX2\n",
    "MKL_CBWR": " CNR:COMPATIBLE ",
    "MKL_DYNAMIC": " Dyn:0 ",
    "NPY_DISABLE_CPU_FEATURES": "kernels of NumPy beyond AVX2: False\n",
    "ONEDNN_MAX_CPU_ISA": "isa:Intel AVX2\n",
    "OPENBLAS_CORETYPE": "kernels of OpenBLAS: Haswell\n",
    "OPENBLAS_NUM_THREADS": "threads of OpenBLAS: 1\n",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What the libraries say with all variables, and without any."""
    folder = tmp_path_factory.mktemp("said")
    without: tuple[list[str], list[str]] = ([], list(SAID))
    sealed, bare = (
        run_python("-c", textwrap.dedent(SAYS).format(without=names), folder=folder).stdout for names in without
    )
    return sealed, bare


def test_every_pinned_variable_is_one_that_a_library_speaks_of() -> None:
    assert SAID.keys() == PINNED.keys() | {"MKL_DYNAMIC"}


@pytest.mark.slow
@pytest.mark.parametrize("variable", SAID)
def test_a_library_obeys_its_variable_and_would_not_do_so_anyway(variable: str, said: tuple[str, str]) -> None:
    sealed, bare = said
    assert SAID[variable] in sealed
    if SAID[variable] in bare:
        pytest.skip(f"this processor shows nothing of {variable}: without it the library says the same")


def test_what_is_said_of_a_portable_training_says_nothing_of_the_processor() -> None:
    facts = environment(CPU, "portable", 2)
    assert facts.keys() == {"python", "packages", "machine", "system", "threads", "device"} or why_not_portable(CPU)
    assert {"cpu_features", "cpu_capability"} <= environment(CPU, "native", 2).keys()


def test_a_processor_that_is_too_old_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_features", lambda: ["avx"])
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(
        BadInput, match=r"^params.yaml: train.arithmetic: portable needs .* AVX2 and FMA.* avx2 and fma"
    ):
        advise("train", "portable", CPU)
    advise("train", "native", CPU)


def test_where_the_bytes_are_not_portable_a_line_says_so(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    advise("train", "portable", CPU)
    assert "portable: this is no x86-64 processor but aarch64, so other kinds of machine" in capsys.readouterr().err
    assert "cpu_features" in environment(CPU, "portable", 2)


EMULATOR = shutil.which("qemu-x86_64")
PROCESSORS = ("Haswell", "Skylake-Client", "EPYC-Rome", "EPYC-Rome,l3-cache=off")  # the last: other caches


# NumPy sorts with instructions of AVX2 that QEMU 7.2 crashes at. Whatever sorts, the order is the same.
PLAYED = """
import os, runpy, stages
os.environ["NPY_DISABLE_CPU_FEATURES"] += " X86_V3"
runpy.run_module("stages.{}", run_name="__main__", alter_sys=True)
"""


def play(project: Project, processor: str, *stages: str) -> None:
    """Runs stages as another processor would."""
    assert EMULATOR is not None
    for stage in stages:
        project.run(EMULATOR, "-cpu", processor, sys.executable, "-c", PLAYED.format(stage))


emulated = pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is not installed: apt-get install qemu-user")


@pytest.fixture(params=list(zip(EXAMPLES, CASES, strict=True)), ids=list(CASES))
def own_data(request: pytest.FixtureRequest, project: Project, tiny_checkpoint: Path) -> Project:
    """Classes, several labels a row, or a number: one epoch of the tiny checkpoint on the README's own data."""
    example, case = request.param
    follow(example, case, project, tiny_checkpoint)
    project.repro()
    return project


@pytest.mark.exhaustive
@emulated
@pytest.mark.parametrize("processor", PROCESSORS)
def test_another_processor_gives_the_same_bytes(processor: str, tiny: Project) -> None:
    before = {stage: outs(tiny, stage) for stage in STAGES}
    play(tiny, processor, *STAGES)
    assert {stage: outs(tiny, stage) for stage in STAGES} == before


@pytest.mark.exhaustive
@emulated
def test_another_processor_gives_the_same_bytes_for_every_kind_of_problem(own_data: Project) -> None:
    before = {stage: outs(own_data, stage) for stage in STAGES}
    play(own_data, "Haswell", *STAGES)
    assert {stage: outs(own_data, stage) for stage in STAGES} == before


@pytest.mark.exhaustive
@emulated
def test_native_arithmetic_shows_the_processor(tiny: Project) -> None:
    """So the tests above can fail."""
    tiny.set(train__arithmetic="native")
    tiny.run("python", "-m", "stages.train")
    before = outs(tiny, "train")["models/finetuned/model.safetensors"]
    play(tiny, "Haswell", "train")
    assert outs(tiny, "train")["models/finetuned/model.safetensors"] != before
