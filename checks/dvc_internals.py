"""The parts of DVC that the checks need and that DVC does not promise to keep, seen to work in DVC 3.67.1.

No other module of `checks` imports more of DVC than `dvc.repo.Repo` and `dvc.exceptions`.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.fs import GitFileSystem
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from dvc.stage.cache import _can_hash, _get_cache_hash, _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import parse_yaml
from dvc_data.hashfile.build import build
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectFormatError
from voluptuous import Invalid

from checks.cli import Unanswerable


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


class DamagedObject(Unanswerable):
    """A file of DVC's cache is not what its name, a hash, says; nothing may be concluded from it."""


def cached_object(repo: Any, md5: str, what: str) -> Path | None:
    """Returns where DVC's cache has a file, or the listing of a folder; None if it does not.

    Why: DVC compares hashes when it writes an object, and believes the name of one that nobody may write to afterwards.

    Args:
        what: the out that it belongs to, for the message.

    Raises:
        DamagedObject: it has other bytes.
    """
    file = Path(repo.cache.local.oid_to_path(md5))
    try:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedObject(f"{what}: its object {file} in DVC's cache cannot be read: {error.strerror}") from None
    if found != md5.removesuffix(".dir"):
        raise DamagedObject(
            f"{what}: its object {file} in DVC's cache is damaged: its MD5 is {found}; "
            "delete it, then `dvc pull` or `dvc repro` brings it back"
        )
    return file


def cached_listing(repo: Any, md5: str, what: str) -> dict[str, str] | None:
    """Returns the files of a folder that DVC's cache knows, as `Content.files`; None if it does not.

    Why: DVC's own `DVCFileSystem` reads a revision's whole index first, with that revision's remotes.

    Raises:
        DamagedObject: the cached listing has other bytes than its name says, or names files elsewhere.
    """
    object_file = cached_object(repo, md5, what)
    if object_file is None:
        return None
    try:
        files = _files(Tree.load(repo.cache.local, HashInfo("md5", md5)))
    except (FileNotFoundError, ObjectFormatError):
        return None
    for name in files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DamagedObject(f"{what}: its listing {object_file} in DVC's cache names {name!r}, outside the folder")
    return files


def cached_files(repo: Any, md5: str, what: str) -> dict[str, Path] | None:
    """Returns where DVC's cache has the files of an out, by their names in its folder; of a file, by ".".

    Returns:
        None if the cache lacks one of them.

    Raises:
        DamagedObject: one of them, or the folder's listing, has other bytes than its name says.
    """
    listing = cached_listing(repo, md5, what) if md5.endswith(".dir") else {".": md5}
    if listing is None:
        return None
    files = {
        name: cached_object(repo, value, what if name == "." else f"{what}/{name}") for name, value in listing.items()
    }
    return {name: file for name, file in files.items() if file} if all(files.values()) else None


def lock_schema_error(content: Any) -> str | None:
    """Says what is wrong with a dvc.lock that was read; None: nothing. Why: DVC's message is "validation failed"."""
    try:
        COMPILED_LOCKFILE_SCHEMA(content)
    except Invalid as error:
        return str(error)
    return None


def _files(tree: Any) -> dict[str, str]:
    return {"/".join(key): value.value for key, (_, value) in tree.iteritems()}


def pull(repo: Any, md5: str, what: str) -> None:
    """Fetches the objects of an out from the default remote.

    Why: `dvc fetch` takes no hashes, old revisions know old remotes, and DVC believes what a remote sends.

    Raises:
        DamagedObject: an object came with other bytes than its name says; it is not kept.
    """
    _pull_objects(repo, {md5: what})
    if md5.endswith(".dir"):
        listing = cached_listing(repo, md5, what) or {}
        _pull_objects(repo, {value: f"{what}/{name}" for name, value in listing.items()})


def _pull_objects(repo: Any, names: dict[str, str]) -> None:
    missing = [md5 for md5 in names if not Path(repo.cache.local.oid_to_path(md5)).exists()]
    if not missing:
        return
    try:
        repo.cloud.pull([HashInfo("md5", md5) for md5 in missing])
        for md5 in missing:
            cached_object(repo, md5, names[md5])
    except DamagedObject:
        raise _came_damaged(repo, md5, names[md5]) from None
    except ObjectFormatError:  # of a listing, which comes alone, that is no JSON any more
        raise _came_damaged(repo, missing[0], names[missing[0]]) from None


def missing_in_remote(repo: Any, outs: Mapping[str, str]) -> list[str]:
    """Returns the paths of outs, by their MD5, that the default remote does not have whole.

    Why: `dvc status --cloud` believes that whoever has a folder's listing has its files.
    """
    remote = repo.cloud.get_remote_odb(None, "ci")
    names: dict[str, list[str]] = {}
    for path, md5 in outs.items():
        names.setdefault(md5, []).append(path)
        listing = cached_listing(repo, md5, path) if md5.endswith(".dir") else None
        for name, value in (listing or {}).items():
            names.setdefault(value, []).append(f"{path}/{name}")
    there = {md5 for md5 in names if remote.fs.exists(remote.oid_to_path(md5))}
    return sorted(path for md5, paths in names.items() if md5 not in there for path in paths)


def _came_damaged(repo: Any, md5: str, what: str) -> DamagedObject:
    Path(repo.cache.local.oid_to_path(md5)).unlink(missing_ok=True)
    return DamagedObject(
        f"{what}: its object {md5} arrived damaged from the remote and was discarded; delete it there, then `dvc "
        "push` from where the data are whole, or `dvc repro`"
    )


def find_commit(repo: Any, name: str) -> str | None:
    """Finds the commit of a branch, tag, commit or experiment. Why: Git does not know experiments by their names."""
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


def experiment_name(ref: str) -> str | None:
    """Returns the name of an experiment by its Git reference; None of another. Why: DVC keeps its queues among them."""
    found = re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/([^/]+)", ref)
    return found[1] if found else None


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

    Raises:
        DamagedObject: what DVC would bring back has other bytes than when it was written.
    """
    entry = None
    if not inputs_changed and all(out.hash_info for out in stage.outs):
        entry = to_single_stage_lockfile(stage)
    elif inputs_changed:
        stage.save_deps(allow_missing=True)  # in memory: the key of the run to come
        for dep in stage.deps:
            dep.hash_info = coming_hash(dep, restored) or dep.hash_info
        with suppress(FileNotFoundError):
            entry = _run_cache_entry(stage) if _can_hash(stage) else None
    run = entry and stage.repo.stage_cache._create_stage(entry, wdir=stage.wdir)
    if not run or any(cached_files(stage.repo, out.hash_info.value, str(out)) is None for out in run.outs):
        return []
    return list(run.outs)


def _run_cache_entry(stage: Any) -> Any:
    """Returns the newest record of the run cache for a stage's inputs; None if there is none.

    Why: DVC deletes a record that it cannot read, and believes one whose name, a hash, does not fit.
    """
    cache = stage.repo.stage_cache
    for file in Path(cache._get_cache_dir(_get_stage_hash(stage))).glob("*"):
        try:
            whole = _get_cache_hash(parse_yaml(file.read_text(encoding="utf-8"), str(file))) == file.name
        except (DvcException, UnicodeDecodeError, AttributeError, TypeError):
            whole = False
        if not whole:
            raise DamagedObject(f"{stage.addressing}: its record {file} in DVC's run cache is damaged; delete it")
    return cache._load(stage)


def check_listings(stage: Any) -> None:
    """Looks at the cached listings of the folders that a stage reads and writes. Why: `dvc status` believes them.

    Raises:
        DamagedObject: one has other bytes than its name says.
    """
    for entry in (*(dep for dep in stage.deps if dep not in stage.params), *stage.outs):
        if entry.hash_info and entry.hash_info.isdir:
            cached_listing(stage.repo, entry.hash_info.value, str(entry))


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
