"""The model hub: is it reachable, what does a repository hold, bring its files into the hub's own cache."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.models.cache import Progress, digest, log, need_room, no_progress, room_errors, write_whole
from specs.language.errors import ModelError, NoNetwork, RunSpecError

__all__ = ["HubFiles", "cached_snapshot", "download", "hub_files", "model_files", "weight_files"]

PROBE_SECONDS = 4.0
"""How long the hub may take to answer before it counts as unreachable."""

_SMALL = frozenset(
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "tokenizer.model",
        "spiece.model",
        "chat_template.jinja",
        "chat_template.json",
    ]
)
# safetensors first: the other format is a pickle
_WEIGHTS = (
    (r"model\.safetensors|model-\d+-of-\d+\.safetensors", "model.safetensors.index.json"),
    (r"pytorch_model\.bin|pytorch_model-\d+-of-\d+\.bin", "pytorch_model.bin.index.json"),
)


@dataclass(frozen=True)
class HubFiles:
    """The files of a hub repository that make up a model, at one commit."""

    hub_id: str
    revision: str
    """As asked for: a branch, a tag or a commit."""
    commit: str
    sizes: Mapping[str, int]
    sha256: Mapping[str, str]
    """Of the large files; the hub states no sha256 for the others."""

    @property
    def total_bytes(self) -> int:
        """What a complete download takes."""
        return sum(self.sizes.values())


def choose_files(names: Sequence[str]) -> list[str]:
    """Choose the files to fetch from a repository's listing: small ones, and one format of weights."""
    chosen = [name for name in names if name in _SMALL]
    for pattern, index in _WEIGHTS:
        if weights := [name for name in names if re.fullmatch(pattern, name)]:
            return sorted(chosen + weights + [name for name in names if name == index])
    return []


def weight_files(folder: Path) -> list[Path]:
    """Give the weight files of a local folder, all of them; an empty list if any is missing."""
    import json

    for pattern, index in _WEIGHTS:
        if (folder / index).is_file():
            try:
                parts = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError):
                continue
            paths = [folder / part for part in sorted(parts)]
            if all(path.is_file() for path in paths):
                return paths
        else:
            single = [path for path in sorted(folder.glob("*")) if re.fullmatch(pattern, path.name)]
            if len(single) == 1:
                return single
    return []


def model_files(folder: Path) -> list[Path]:
    """Give every file of a local folder that the model is made from: small files, index and weights."""
    weights = weight_files(folder)
    indices = [folder / index for _, index in _WEIGHTS if weights and (folder / index).is_file()]
    return sorted({*(path for path in folder.iterdir() if path.name in _SMALL), *indices, *weights})


def is_offline() -> bool:
    """Tell whether the user has switched the hub off (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    said = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return said.upper() in {"1", "ON", "YES", "TRUE"} or bool(constants.HF_HUB_OFFLINE)


def cached_snapshot(hub_id: str, revision: str | None, *, weights: bool = True) -> Path | None:
    """Find a repository's files in the hub's cache, without network; None unless they are complete.

    ``weights=False`` asks only for the configuration and the tokenizer.
    """
    from huggingface_hub import constants

    repo = Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}"
    commit = revision or "main"
    with contextlib.suppress(OSError):
        commit = (repo / "refs" / commit).read_text(encoding="utf-8").strip()
    folder = repo / "snapshots" / commit
    if not (folder / "config.json").is_file() or not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")
    ):
        return None
    return folder if not weights or weight_files(folder) else None


def hub_files(hub_id: str, revision: str | None) -> HubFiles:
    """Ask the hub what a repository holds.

    Raises NoNetwork when nothing answers within seconds, and ModelError for a repository or revision that
    does not exist or needs a login.
    """
    if is_offline():
        raise NoNetwork(
            f"{hub_id} is not in the hub's cache, and HF_HUB_OFFLINE forbids asking the hub",
            remedy="unset HF_HUB_OFFLINE, or copy the model here and give its folder",
        )
    info = _within(PROBE_SECONDS, hub_id, revision)
    sizes: dict[str, int] = {}
    sha256: dict[str, str] = {}
    for entry in info.siblings or ():
        sizes[entry.rfilename] = int(entry.size or 0)
        if entry.lfs is not None:
            sha256[entry.rfilename] = str(entry.lfs["sha256"] if isinstance(entry.lfs, dict) else entry.lfs.sha256)
    chosen = choose_files(sorted(sizes))
    if not chosen:
        raise ModelError(
            f"the hub repository {hub_id} holds neither safetensors nor pytorch_model.bin",
            remedy="it may hold an adapter, or another format; choose a full checkpoint",
        )
    return HubFiles(
        hub_id,
        revision or "main",
        str(info.sha),
        {name: sizes[name] for name in chosen},
        {n: sha256[n] for n in chosen if n in sha256},
    )


def _within(seconds: float, hub_id: str, revision: str | None) -> Any:
    """Ask for a repository's listing, in a thread: a name lookup that hangs obeys no timeout."""
    from huggingface_hub import HfApi

    answer: list[Any] = []

    def ask() -> None:
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # advice on logins, at every request
        try:
            answer.append(HfApi().model_info(hub_id, revision=revision, timeout=seconds, files_metadata=True))
        except Exception as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 0.5)
    if not answer:
        raise NoNetwork(f"the hub did not answer within {seconds:.0f} seconds", remedy=_offline_remedy(hub_id))
    if isinstance(answer[0], Exception):
        raise _translated(answer[0], hub_id, revision) from answer[0]
    return answer[0]


def _offline_remedy(hub_id: str) -> str:
    return (
        f"check the connection; or fetch {hub_id} on another machine and give its folder; or choose a model "
        "that package registries carry (`run-spec models` lists them)"
    )


def _translated(error: Exception, hub_id: str, revision: str | None) -> RunSpecError:
    """Say what the hub's answer means."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"the hub gives {hub_id} only to accounts that have accepted its licence",
            remedy=f"accept it at https://huggingface.co/{hub_id}, then set HF_TOKEN or run `hf auth login`",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"the hub repository {hub_id} has no revision '{revision}'",
            remedy="give a branch, a tag or a full commit",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {hub_id}, or does not show it without a login",
            remedy="check the spelling; for a private model set HF_TOKEN or run `hf auth login`",
        )
    if isinstance(error, errors.HFValidationError):
        return ModelError(f"'{hub_id}' is not a possible hub id ({error})", remedy="hub ids look like org/name")
    # everything else is a failure to get an answer; the HTTP library's own words are the best there are
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return NoNetwork(f"no answer from the hub for {hub_id}: {text}", remedy=_offline_remedy(hub_id))


def download(files: HubFiles, progress: Progress = no_progress, *, weights: bool = True) -> Path:
    """Bring a repository's files into the hub's cache, check them, and give their folder.

    Files that are there already stay. The large ones are compared with the sha256 the hub states; one that
    differs is removed and fetched again, with a message. Raises NoNetwork when the connection breaks,
    DiskFull, and ModelError when a file comes corrupt.
    """
    from huggingface_hub import constants

    wanted = {name: size for name, size in files.sizes.items() if weights or name in _SMALL}
    repo = Path(constants.HF_HUB_CACHE) / f"models--{files.hub_id.replace('/', '--')}"
    folder = repo / "snapshots" / files.commit
    total = sum(wanted.values())
    for _ in range(3):  # what is there may be corrupt, and what replaces it once more
        here = sum(size for name, size in wanted.items() if (folder / name).is_file())
        if here < total:
            need_room(total - here, f"the download of {files.hub_id}", constants.HF_HUB_CACHE)
        with _watched(repo / "blobs", here, total, progress), room_errors(repo):
            _snapshot(files, sorted(wanted))
        found = digest([folder / name for name in wanted if name in files.sha256], progress)
        if not (wrong := [name for name, sha256 in found.items() if sha256 != files.sha256[name]]):
            if files.revision != files.commit:  # so that the branch is found again without network
                ref = repo / "refs" / files.revision
                ref.parent.mkdir(parents=True, exist_ok=True)
                write_whole(ref, files.commit)
            return folder
        log.warning("%s of %s is corrupt; fetching it again", ", ".join(wrong), files.hub_id)
        for name in wrong:
            (folder / name).resolve().unlink(missing_ok=True)
            (folder / name).unlink(missing_ok=True)
    raise ModelError(
        f"{', '.join(wrong)} of {files.hub_id} arrives corrupt (not the sha256 that the hub states)",
        remedy="something between here and the hub changes files; try another network",
    )


def _snapshot(files: HubFiles, names: Sequence[str]) -> None:
    """Run the hub library's download without its bars."""
    from huggingface_hub import snapshot_download, utils

    bars_were_off = utils.are_progress_bars_disabled()  # type: ignore[attr-defined]
    utils.disable_progress_bars()  # type: ignore[attr-defined]
    try:
        snapshot_download(files.hub_id, revision=files.commit, allow_patterns=list(names))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
            raise  # the disk, not the network
        raise _translated(error, files.hub_id, files.commit) from error
    except Exception as error:
        raise _translated(error, files.hub_id, files.commit) from error
    finally:
        if not bars_were_off:
            utils.enable_progress_bars()  # type: ignore[attr-defined]


@contextlib.contextmanager
def _watched(blobs: Path, here: int, total: int, progress: Progress) -> Iterator[None]:
    """Report a download's growth by looking at the hub's cache, whatever way its files travel."""
    done = threading.Event()

    def size() -> int:
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in blobs.iterdir())
        return 0

    before = size()

    def watch() -> None:
        while not done.wait(0.5):
            progress("download", min(total, here + max(0, size() - before)), total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress("download", total, total)
