"""What the checks need of DVC and what DVC does not promise to keep; each was seen to work in DVC 3.67.1.

No other module of `checks` imports more of DVC than `dvc.repo.Repo` and `dvc.exceptions`.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.fs import GitFileSystem
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage.cache import _can_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.build import build
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError


@dataclass(frozen=True)
class Content:
    """What a file or a folder holds, as dvc.lock writes it."""

    md5: str
    files: dict[str, str] | None  # of a folder: each file's name in it, and its hash


def content_of(repo: Any, path: str, revision: str | None = None) -> Content:
    """Hashes a file or folder as DVC does: in the workspace, or in a revision of Git's by its path there.

    Why: `Output.get_hash` and `build` heed .dvcignore in the workspace alone, and forget it in Git's revisions.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    fs = GitFileSystem(scm=repo.scm, rev=revision) if revision else repo.fs
    _, _, made = build(repo.cache.local, path, fs, "md5", ignore=repo.dvcignore, dry_run=True)
    if not isinstance(made, Tree):
        return Content(str(made.hash_info.value), None)
    tree = Tree()
    for key, (meta, value) in made.iteritems():
        if not repo.dvcignore.is_ignored_file(str(Path(repo.scm.root_dir, path, *key))):
            tree.add(key, meta, value)
    tree.digest()
    return Content(str(tree.hash_info.value), _files(tree))


def cached_listing(repo: Any, md5: str) -> dict[str, str] | None:
    """Returns the files of a folder that DVC's cache knows, as `Content.files`; None if it does not.

    Why: DVC's own `DVCFileSystem` reads a revision's whole index first, with that revision's remotes.
    """
    try:
        return _files(Tree.load(repo.cache.local, HashInfo("md5", md5)))
    except (FileNotFoundError, ObjectFormatError):
        return None


def _files(tree: Any) -> dict[str, str]:
    return {"/".join(key): value.value for key, (_, value) in tree.iteritems()}


def cached_file(repo: Any, md5: str) -> Path:
    """Returns where DVC's cache has a file, or would have it. Why: the same as for `cached_listing`."""
    return Path(repo.cache.local.oid_to_path(md5))


def pull(repo: Any, hashes: Iterable[str]) -> None:
    """Fetches objects from the default remote. Why: `dvc fetch` takes no hashes, and old revisions know old remotes."""
    repo.cloud.pull([HashInfo("md5", md5) for md5 in hashes])


def find_commit(repo: Any, name: str) -> str | None:
    """Finds the commit of a branch, tag, commit or experiment. Why: Git does not know experiments by their names."""
    from dvc.exceptions import DvcException
    from dvc.scm import resolve_rev  # here, since it brings all of DVC's Git backends
    from scmrepo.exceptions import SCMError

    try:
        return str(resolve_rev(repo.scm, name))
    except (DvcException, SCMError):
        return None


def experiment_ref(baseline: str, name: str) -> str:
    """Names the Git reference of a commit's experiment. Why: `dvc exp list` takes 3 s and reads them all."""
    from dvc.repo.experiments.refs import ExpRefInfo  # here, for the same reason

    return str(ExpRefInfo(baseline, name))


# What `dvc repro` would do


def stages_in_order(repo: Any) -> list[tuple[Any, list[Any]]]:
    """Returns the stages in the order of `dvc repro`, each with those that it reads from.

    Why: `dvc repro --dry` prints them, but stops at the first one whose inputs are not there.
    """
    graph = get_active_graph(repo.index.graph)
    return [(stage, list(graph.successors(stage))) for stage in plan_repro(graph) if stage.cmd] if graph else []


def locked_command(stage: Any) -> Any:
    """Returns a stage's command in dvc.lock. Why: `dvc status` says that it changed, and not from what."""
    return stage.dvcfile.lockfile_contents["stages"][stage.name]["cmd"]


def cached_outs(stage: Any, inputs_changed: bool, restored: list[Any]) -> list[Any]:
    """Finds the outs that `dvc repro` would check out instead of running the stage; empty: it would run.

    Why: this is DVC's own `StageCache.restore`, whose dry mode looks for the inputs of the last run, not of the next.
    """
    entry = None
    if not inputs_changed and all(out.hash_info for out in stage.outs):
        entry = to_single_stage_lockfile(stage)
    elif inputs_changed:
        stage.save_deps(allow_missing=True)  # in memory: the key of the run to come
        for dep in stage.deps:
            dep.hash_info = coming_hash(dep, restored) or dep.hash_info
        with suppress(FileNotFoundError):
            entry = stage.repo.stage_cache._load(stage) if _can_hash(stage) else None
    run = entry and stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    return run.outs if run and run.outs_cached() else []


def holder(dep: Any, outs: Iterable[Any]) -> Any:
    """Returns the out that is a dep or has it in it; None if none does. Why: DVC's own is a method of its index."""
    return next((out for out in outs if dep.fs.isin_or_eq(dep.fs_path, out.fs_path)), None)


def coming_hash(dep: Any, restored: list[Any]) -> Any:
    """Returns the hash that a dep, a restored out or a file in one, will have; None if no restored out holds it.

    Why: DVC hashes what is in the workspace, and restores nothing to say what would be there.
    """
    out = holder(dep, restored)
    found = out and out.get_obj(filter_info=dep.fs_path)
    return found.hash_info if found else None
