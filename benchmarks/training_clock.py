"""Runs a training program as it is, and ends it when it has trained on enough examples.

    python -m benchmarks.training_clock RESULT EXAMPLES PROFILED_STEPS MODULE [ARGUMENT ...]

The clock is a callback that every `Trainer` of the program gets. It starts after some steps, since the first ones also
pick kernels and fault in memory, and stops at EXAMPLES or where the epoch ends. RESULT is a JSON file with `examples`,
their `tokens` without padding, and `seconds`; with PROFILED_STEPS, that many steps follow for the profiler of torch,
and `milliseconds` are those of a step, and in it of each operator without those that it calls.
"""

import importlib
import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP = 5  # steps


def main(result: Path, examples: int, profiled_steps: int, module: str, arguments: list[str]) -> None:
    """Runs `module` until the clock ends it."""
    package, _, name = module.partition(".")
    importlib.import_module(package)  # a stage sets its environment before anybody imports torch
    if package == "stages":
        importlib.import_module("stages.shared.runtime.arithmetic").choose_arithmetic(name)
    import transformers.trainer
    from torch.profiler import profile
    from transformers import TrainerCallback

    tokens = 0  # since the clock started
    training_step = transformers.trainer.Trainer.training_step

    def counted(trainer: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        nonlocal tokens
        tokens += int(inputs["attention_mask"].sum())
        return training_step(trainer, model, inputs, *rest)

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == WARM_UP:
                nonlocal tokens
                tokens = 0
                self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            a_step = args.train_batch_size * args.gradient_accumulation_steps
            timed = state.global_step - WARM_UP
            an_epoch = round(state.max_steps / args.num_train_epochs) - WARM_UP - profiled_steps
            last = min(-(-examples // a_step), an_epoch)
            if timed == last:
                self.measured: dict[str, Any] = {
                    "examples": timed * a_step,
                    "tokens": tokens,
                    "seconds": time.perf_counter() - self.start,
                }
                if profiled_steps:
                    self.profile = profile()
                    self.profile.start()
                    self.profiled = time.perf_counter()
            if timed == last + profiled_steps:
                if profiled_steps:
                    took = time.perf_counter() - self.profiled
                    self.profile.stop()
                    self.measured["milliseconds"] = {"step": took * 1e3 / profiled_steps} | {
                        entry.key: entry.self_cpu_time_total / 1e3 / profiled_steps
                        for entry in self.profile.key_averages()
                        if entry.key.startswith(("aten::", "mkldnn::"))
                    }
                result.write_text(json.dumps(self.measured), encoding="utf-8")
                raise SystemExit(0)

    transformers.trainer.Trainer.training_step = counted
    transformers.trainer.DEFAULT_CALLBACKS.append(Clock)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5:])
