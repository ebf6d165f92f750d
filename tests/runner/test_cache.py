"""The stage cache: what is kept comes back bit for bit or not at all."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import atomic
from runner import cache as stage_cache
from runner.cache import LABEL, LIMIT, MAGIC, SLACK, Entry, Kept, StageCache, key, limit_asked
from specs.language.errors import CommandError, RunError

KEY = key({"model": "tiny"})
ARRAYS = {
    "score": np.arange(6, dtype=np.float32).reshape(2, 3),
    "trump/ids": np.array([3, 1], dtype=np.int64),
}
META = {"passes": 3, "note": "트럼프", "none": None}


@pytest.fixture
def cache(tmp_path: Path) -> StageCache:
    return StageCache(tmp_path / "stages")


def same(kept: Kept | None) -> bool:
    assert kept is not None
    return kept.meta == META and all(
        np.array_equal(kept.arrays[name], array) and kept.arrays[name].dtype == array.dtype
        for name, array in ARRAYS.items()
    )


def test_what_is_put_comes_back(cache: StageCache) -> None:
    assert cache.get(KEY) is None
    assert cache.put(KEY, ARRAYS, META)
    assert same(cache.get(KEY)) and cache.notes == []


def test_special_numbers_come_back(cache: StageCache) -> None:
    values = np.array([np.nan, -np.inf, -0.0, 5e-324])
    cache.put(KEY, {"values": values}, {})
    kept = cache.get(KEY)
    assert kept is not None and kept.arrays["values"].tobytes() == values.tobytes()


def test_the_key_is_of_the_contents_and_not_of_their_order() -> None:
    parts = {"ids": [[1, 2], [3]], "edits": {"scale": -1.0, "site": "mlp.neurons"}}
    assert key(parts) == key({"edits": {"site": "mlp.neurons", "scale": -1}, "ids": ((1, 2), (3,))})
    assert key(parts) != key({**parts, "ids": [[1], [2, 3]]})
    assert key(parts) != key({**parts, "edits": {"scale": -1.5, "site": "mlp.neurons"}})
    assert key({"a": "1"}) != key({"a": 1}) != key({"a": True})
    assert key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists), st.text())
def test_every_document_has_a_key_that_another_name_changes(value: object, name: str) -> None:
    assert key({name: value}) == key({name: value}) != key({name + "x": value})


@pytest.mark.parametrize("value", [object(), np.float32(1), {1: 2}, {"a"}, b"x"])
def test_what_json_does_not_have_is_no_key(value: object) -> None:
    with pytest.raises(TypeError):
        key({"a": value})


def test_a_number_that_is_not_finite_is_no_key() -> None:
    with pytest.raises(ValueError):
        key({"a": float("nan")})


@pytest.mark.parametrize("where", [0, 20, 83, 90, 150, -1, None])
def test_a_damaged_entry_is_a_miss_that_is_said_and_removed(cache: StageCache, where: int | None) -> None:
    cache.put(KEY, ARRAYS, META)
    path = cache.path(KEY)
    data = bytearray(path.read_bytes())
    if where is None:
        del data[-20:]
    else:
        data[where] ^= 1
    path.write_bytes(data)
    assert cache.get(KEY) is None
    assert len(cache.notes) == 1 and "damaged and is computed again" in cache.notes[0]
    assert not path.exists()
    assert cache.put(KEY, ARRAYS, META) and same(cache.get(KEY))


def test_an_empty_file_is_a_miss(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    cache.path(KEY).write_bytes(b"")
    assert cache.get(KEY) is None and cache.notes


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit=40_000)
    keys = [key({"n": n}) for n in range(4)]
    for age, name in enumerate(keys[:3]):
        cache.put(name, {"a": np.zeros(1500)}, {})
        os.utime(cache.path(name), (1000 + age, 1000 + age))
    assert cache.get(keys[0]) is not None  # now the latest used
    cache.put(keys[3], {"a": np.zeros(1500)}, {})
    assert [cache.path(name).exists() for name in keys] == [True, False, True, True]
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.stage")) <= 40_000


def test_a_stage_larger_than_the_cache_is_not_kept_and_said(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit=100)
    assert not cache.put(KEY, {"a": np.zeros(1000)}, {})
    assert "was not kept" in cache.notes[0] and cache.get(KEY) is None


def test_a_full_disk_costs_the_entry_and_not_the_run(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    assert not cache.put(KEY, ARRAYS, META)
    assert "not kept in the cache: the disk that holds" in cache.notes[0]
    assert list(cache.path(KEY).parent.iterdir()) == []


def test_scratch_files_of_killed_processes_are_removed(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    old, new = (cache.path(KEY).with_name(f".{n}.tmp") for n in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"x")
    os.utime(old, (1000, 1000))
    StageCache(cache.root).put(KEY, ARRAYS, META)
    assert not old.exists() and new.exists()


def test_a_scratch_file_is_left_while_its_process_may_live(cache: StageCache) -> None:
    """Two hours untouched: that of a process seen here is left, that of one that is not is abandoned."""
    cache.put(KEY, ARRAYS, META)
    folder = cache.path(KEY).parent
    ended = multiprocessing.get_context("spawn").Process(target=time.time)
    ended.start()
    ended.join()
    mine, gone, fresh = (folder / f".x.{pid}-{n}.tmp" for n, pid in enumerate((os.getpid(), ended.pid, ended.pid)))
    for path in (mine, gone, fresh):
        path.write_bytes(b"x")
    for path in (mine, gone):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert [e.path for e in cache.abandoned()] == [gone]
    os.utime(mine, (1000, 1000))  # a number may have been given to another process since
    assert {e.path for e in cache.abandoned()} == {gone, mine}


def test_many_writers_and_readers_of_one_key_see_whole_entries(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)

    def work(_: int) -> list[str]:
        mine = StageCache(cache.root)
        assert all(mine.put(KEY, ARRAYS, META) and same(mine.get(KEY)) for _ in range(10))
        return mine.notes

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [[]] * 4


def test_arrays_of_python_objects_are_refused(cache: StageCache) -> None:
    with pytest.raises(ValueError):
        cache.put(KEY, {"a": np.array([object()])}, {})
    assert list(cache.path(KEY).parent.iterdir()) == []


def test_a_stage_that_is_there_is_known_without_reading_it(cache: StageCache) -> None:
    assert not cache.has(KEY)
    cache.put(KEY, ARRAYS, META)
    os.utime(cache.path(KEY), (1000, 1000))
    assert cache.has(KEY)
    assert cache.path(KEY).stat().st_mtime == 1000  # which is no use of it


def test_some_arrays_are_read_alone_and_checked_with_the_rest(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    kept = cache.get(KEY, only=["trump/ids", "no such array"])
    assert kept is not None and list(kept.arrays) == ["trump/ids"] and kept.meta == META


# -- labels and formats -------------------------------------------------------------------------------------------


def listed(cache: StageCache) -> list[dict[str, str] | None]:
    return [entry.about for entry in cache.entries()]


def test_what_an_entry_is_can_be_read_without_the_entry_and_is_no_part_of_the_key(cache: StageCache) -> None:
    about = {"model": "tiny", "kind": "question", "of": "The wife of {{ entity }}\nis 트럼프"}
    cache.put(KEY, ARRAYS, META, about=about)
    assert listed(cache) == [{**about, "of": "The wife of {{ entity }} is 트럼프"}]
    assert same(cache.get(KEY)) and cache.notes == []
    with cache.path(KEY).open("rb+") as file:
        file.truncate(1000)
    assert listed(cache) == [{**about, "of": "The wife of {{ entity }} is 트럼프"}]
    cache.put(KEY, ARRAYS, META)
    assert listed(cache) == [{}]


@given(st.dictionaries(st.sampled_from(["model", "kind", "of"]), st.text(max_size=3000)))
def test_any_label_is_one_short_line_that_a_terminal_can_show(
    tmp_path_factory: pytest.TempPathFactory, about: dict[str, str]
) -> None:
    cache = StageCache(tmp_path_factory.mktemp("cache"))
    cache.put(KEY, {}, {}, about=about)
    (found,) = listed(cache)
    assert found is not None and found.keys() == about.keys()
    assert all(text.isprintable() and len(text) <= 200 for text in found.values())
    assert len(cache.path(KEY).read_bytes().split(b"\n")[2]) <= LABEL
    kept = cache.get(KEY)
    assert kept is not None and cache.notes == []


def test_a_label_is_no_place_for_data(cache: StageCache) -> None:
    with pytest.raises(ValueError, match="a few short texts"):
        cache.put(KEY, ARRAYS, META, about={str(n): "x" * 100 for n in range(200)})


def test_a_damaged_label_is_listed_as_unknown_and_its_entry_as_damaged(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META, about={"model": "tiny"})
    data = cache.path(KEY).read_bytes()
    cache.path(KEY).write_bytes(data.replace(b'"model"', b'"mo"el"'))
    assert listed(cache) == [None]
    assert cache.get(KEY) is None and "damaged" in cache.notes[0]


@pytest.mark.parametrize("magic", [b"run-spec stage 1\n", b"run-spec stage 3\n", b"run-spec stage 12\n"])
def test_an_entry_of_another_format_is_missed_without_a_word_and_removed(cache: StageCache, magic: bytes) -> None:
    cache.put(KEY, ARRAYS, META)
    path = cache.path(KEY)
    path.write_bytes(magic + path.read_bytes()[len(MAGIC) :])
    assert listed(cache) == [None] and not cache.has(KEY) and path.exists()
    assert cache.get(KEY) is None and cache.notes == []
    assert not path.exists()
    assert cache.put(KEY, ARRAYS, META) and same(cache.get(KEY))


# -- removing -----------------------------------------------------------------------------------------------------


def test_what_others_removed_or_used_meanwhile_is_no_error(cache: StageCache) -> None:
    keys = [key({"n": n}) for n in range(3)]
    for name in keys:
        cache.put(name, ARRAYS, META)
    entries = {entry.path: entry for entry in cache.entries()}
    gone, used, idle = (entries[cache.path(name)] for name in keys)
    gone.path.unlink()
    os.utime(used.path, (1, 1))
    done = cache.remove([gone, used, idle], unless_used=True)
    assert (done.entries, done.bytes, done.in_use, done.refused) == (1, idle.bytes, 1, [])
    done = cache.remove([gone, used, idle])
    assert (done.entries, done.in_use, done.refused) == (1, 0, [])
    assert cache.entries() == []


def test_what_may_not_be_removed_is_told(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    folder = cache.path(KEY).parent
    done = cache.remove([Entry(folder, 10, 0, None)])
    assert (done.entries, done.bytes, len(done.refused)) == (0, 0, 1) and folder.exists()


def test_a_cache_that_cannot_be_listed_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot read") as told:
        StageCache(tmp_path / "file").entries()
    assert "RUN_SPEC_CACHE" in told.value.remedy
    assert StageCache(tmp_path / "nothing").entries() == []


# -- the limit ----------------------------------------------------------------------------------------------------


def scans_of(cache: StageCache, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    seen: list[Path] = []
    trim = cache._trim
    monkeypatch.setattr(cache, "_trim", lambda newest: (seen.append(newest), trim(newest)))
    return seen


def sizes(root: Path) -> list[int]:
    return [path.stat().st_size for path in root.rglob("*.stage")]


def test_the_cache_is_looked_through_seldom_and_never_exceeds_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = StageCache(tmp_path, limit=1_280_000)  # looked through after each 20 kB
    seen = scans_of(cache, monkeypatch)
    most = 0
    for n in range(200):
        cache.put(key({"n": n}), {"a": np.zeros(1000)}, {})
        if n % 20 == 19:
            most = max(most, sum(sizes(tmp_path)))
    written = sizes(tmp_path)[0] * 200
    assert len(seen) <= 1 + written / (1_280_000 / SLACK)
    assert 0.9 * 1_280_000 < most <= 1_280_000
    assert cache.has(key({"n": 199})) and not cache.has(key({"n": 0}))


def just_after_looking(monkeypatch: pytest.MonkeyPatch, meddle: Callable[[], object]) -> None:
    """Let another process do something between looking through the cache and removing."""
    look = stage_cache._files

    def look_and_wait(root: Path, suffix: str) -> Iterator[tuple[str, os.stat_result]]:
        yield from list(look(root, suffix))
        if suffix == ".stage":
            meddle()

    monkeypatch.setattr(stage_cache, "_files", look_and_wait)


def old_entries(root: Path, count: int) -> list[str]:
    cache = StageCache(root)
    keys = [key({"n": n}) for n in range(count)]
    for age, name in enumerate(keys):
        cache.put(name, {"a": np.zeros(1500)}, {})
        os.utime(cache.path(name), (1000 + age, 1000 + age))
    return keys


def test_room_that_another_process_has_made_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = old_entries(tmp_path, 4)
    cache = StageCache(tmp_path, limit=52_000)  # four fit
    just_after_looking(monkeypatch, cache.path(keys[0]).unlink)
    cache.put(key({"n": 4}), {"a": np.zeros(1500)}, {})
    assert [cache.has(name) for name in [*keys, key({"n": 4})]] == [False, True, True, True, True]


def test_what_is_used_while_room_is_made_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = old_entries(tmp_path, 3)
    cache = StageCache(tmp_path, limit=40_000)  # three fit
    just_after_looking(monkeypatch, lambda: os.utime(cache.path(keys[0])))
    cache.put(key({"n": 3}), {"a": np.zeros(1500)}, {})
    assert [cache.has(name) for name in [*keys, key({"n": 3})]] == [True, False, True, True]


MANY_LIMIT = 400_000
PROCESSES = 3


def write_many(root: str, who: int, gate: object) -> None:
    """Write and read some hundred entries, more than fit; exit code 1 if anything but whole entries is seen."""
    gate.wait()  # type: ignore[attr-defined]
    cache = StageCache(Path(root), limit=MANY_LIMIT)
    for n in range(150):
        shared = key({"n": n % 40})
        cache.put(shared, {"a": np.full(200, n % 40)}, {"n": n % 40}, about={"model": f"m{who}", "kind": "test"})
        cache.put(key({"who": who, "n": n}), {"a": np.full(300, n)}, {"n": n})
        for name in (shared, key({"who": (who + 1) % PROCESSES, "n": n})):
            kept = cache.get(name)
            assert kept is None or (kept.arrays["a"] == kept.meta["n"]).all()
        if n % 50 == 25:
            cache.remove(cache.entries()[:5])
    assert cache.notes == [], cache.notes


def test_processes_that_write_and_clear_at_once_keep_to_the_limit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(PROCESSES)
    workers = [context.Process(target=write_many, args=(str(tmp_path), n, gate)) for n in range(PROCESSES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES
    found = sizes(tmp_path)
    assert 0.5 * MANY_LIMIT < sum(found) <= MANY_LIMIT + (PROCESSES - 1) * MANY_LIMIT / SLACK
    assert not list(tmp_path.rglob("*.tmp"))


def test_an_entry_whose_file_is_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache = StageCache(tmp_path, limit=8_100)  # the array fits, the archive around it does not
    assert not cache.put(KEY, {"a": np.zeros(1000)}, {})
    assert "not kept" in cache.notes[0] and sizes(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", LIMIT),
        ("  ", LIMIT),
        ("0", 0),
        ("4096", 4096),
        ("10GB", 10**10),
        ("10 gb", 10**10),
        ("1.5G", 15 * 10**8),
        ("512MiB", 512 << 20),
        ("1Ti", 1 << 40),
        ("3kB", 3000),
        ("12B", 12),
    ],
)
def test_the_limit_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", text)
    assert limit_asked() == StageCache().limit == size


@pytest.mark.parametrize("text", ["ten", "-1GB", "10 PB", "1,5GB", "1e9", "GB", "10GB free", "inf", "10iB"])
def test_a_limit_that_is_no_size_is_refused_with_the_variable_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE_LIMIT", text)
    with pytest.raises(CommandError) as told:
        StageCache()
    assert told.value.exit_code == 2
    assert f"RUN_SPEC_CACHE_LIMIT is '{text}'" in told.value.cause and "512MiB" in told.value.remedy


def test_with_a_limit_of_zero_nothing_is_kept_and_nothing_is_said(cache: StageCache) -> None:
    cache.put(KEY, ARRAYS, META)
    none = StageCache(cache.root, limit=0)
    assert not none.put(key({"n": 1}), ARRAYS, META)
    assert none.notes == [] and same(none.get(KEY))


def test_the_place_is_that_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN_SPEC_CACHE", str(tmp_path / "here"))
    assert StageCache().root == tmp_path / "here" / "stages"
