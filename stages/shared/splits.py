"""Arrow datasets on disk whose bytes depend on their rows alone."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from datasets import Dataset, load_from_disk


def save_splits(splits: Mapping[str, Dataset], folder: Path) -> None:
    """Saves `splits` as the `DatasetDict` folder that `datasets.load_from_disk` reads.

    `save_to_disk` itself puts a fingerprint into state.json that depends on paths and times; here it is the hash of the
    Arrow file beside it. There is one file a split: by default their number depends on how the rows lie in memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}), encoding="utf-8")
    for name, split in splits.items():
        split.save_to_disk(folder / name, num_shards=1)
        state_file = folder / name / "state.json"
        state = json.loads(state_file.read_text(encoding="utf-8"))
        digest = hashlib.sha256()
        for shard in state["_data_files"]:
            with (folder / name / shard["filename"]).open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        state["_fingerprint"] = digest.hexdigest()[:16]
        state["_split"] = name
        state_file.write_text(json.dumps(state, indent=2, sort_keys=True), encoding="utf-8")


def load_splits(folder: Path) -> dict[str, Dataset]:
    """Opens every split of a saved `DatasetDict`, memory-mapped, in the order in which it was saved."""
    names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    return {name: load_from_disk(folder / name) for name in names}
