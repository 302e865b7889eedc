"""How often near copies are found, and honest people are not: frequencies on cohorts of known truth."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classify_study import Study, fill_store, make_study
from command_line import Command
from simulated_scans import copy_with_noise, simulate_scans

from classify.cohort.near_copies import count_once, find_near_copies, name_pairs
from classify.cohort.vouched import Vouched, read_vouched
from classify.errors import CohortError, LeakError

NOISES = (1e-7, 1e-5, 1e-3, 1e-2, 5e-2)


@pytest.mark.parametrize(("people", "scans", "latent"), [(1000, 4, 40), (1000, 1, 8), (45, 1, 40)])
def test_honest_people_raise_no_alarm(people: int, scans: int, latent: int) -> None:
    vectors, participant = simulate_scans(np.random.default_rng(people), people, scans=scans, latent=latent)
    assert find_near_copies(vectors, participant) == []


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("scans", [1, 4])
def test_ten_copies_and_a_split_of_copies_are_found(noise: float, scans: int) -> None:
    rng = np.random.default_rng(7)
    vectors, participant = simulate_scans(rng, 200, scans=scans)
    rows = rng.choice(len(vectors), 10, replace=False)
    copied = vectors[rows] + noise * vectors.std(axis=0) * rng.standard_normal((10, vectors.shape[1]))
    found = find_near_copies(
        np.concatenate([vectors, copied.astype(np.float32)]),
        np.concatenate([participant, [f"9{one:03d}" for one in range(10)]]),
    )
    assert {(one.first, one.second) for one in found} == {(int(row), len(vectors) + n) for n, row in enumerate(rows)}

    doubled = np.concatenate([participant, np.char.add("x", participant)])
    every = find_near_copies(np.concatenate([vectors, copy_with_noise(rng, vectors, noise)]), doubled)
    assert set(name_pairs(every, doubled)) == {(one, f"x{one}") for one in participant}


@pytest.mark.parametrize("noise", [NOISES[0], NOISES[-1]])
def test_a_noisy_copy_in_a_store_is_refused_by_the_command(noise: float, tmp_path: Path, command: Command) -> None:
    rng = np.random.default_rng(5)
    study = make_study(64)
    shape, index = study.stored.pooled.shape, study.stored.index
    vectors, _ = simulate_scans(rng, 64, scans=shape[0] // 128, width=int(np.prod(shape[1:])))
    split = index["participant"].map(study.people.set_index("participant_id")["recommended_split"]).to_numpy()
    said = {}
    for name in ("honest", "copied"):
        stored = replace(study.stored, pooled=vectors.reshape(shape))
        fill_store(Study(study.people, stored), tmp_path / name)
        said[name] = command("classify", "probe", "--model", "dummy", "--store", tmp_path / name, "--replicates", 20,
                             "--participants", study.write(tmp_path), "--runs", tmp_path / "runs")  # fmt: skip
        source, copy = np.flatnonzero(split == "train")[7], np.flatnonzero(split == "val")[3]
        vectors[copy] = vectors[source] + noise * vectors.std(axis=0) * rng.standard_normal(vectors.shape[1])
    assert said["honest"].code == 0, said["honest"].stderr
    assert said["copied"].code == 1
    words = " ".join(said["copied"].stderr.split())
    assert re.search("nearly the same scan stands under participants of two splits|the same scan stands under", words)
    assert all(name in words for name in index["participant"].iloc[[source, copy]])


def test_refused_across_splits_counted_once_within_and_vouched_for() -> None:
    rng = np.random.default_rng(3)
    vectors, participant = simulate_scans(rng, 30, scans=1)
    pooled = np.concatenate([vectors, vectors[:1] * np.float32(1.001)])[:, None, None]
    rows = pd.DataFrame({"participant": [*participant, "2000"], "split": "train", "position": range(len(pooled))})
    repeated, allowed, _ = count_once(rows, pooled, Vouched())
    assert np.flatnonzero(repeated).tolist() == [len(vectors)]
    assert not allowed.any()
    order = np.random.default_rng(1).permutation(len(pooled) + 5)[: len(pooled)]  # as a store has them, others between
    stored = np.zeros((len(pooled) + 5, *pooled.shape[1:]), np.float32)
    stored[order] = pooled
    assert np.flatnonzero(count_once(rows.assign(position=order), stored, Vouched())[0]).tolist() == [len(vectors)]
    rows.loc[len(vectors), "split"] = "val"
    with pytest.raises(LeakError, match=r"1000 \(train\) and 2000 \(val\)"):
        count_once(rows, pooled, Vouched())
    for vouched in (Vouched(frozenset({"2000"})), Vouched(pairs=frozenset({("1000", "2000")}))):
        repeated, allowed, _ = count_once(rows, pooled, vouched)
        assert not repeated.any()
        assert np.flatnonzero(allowed).tolist() == [0, len(vectors)]


def test_a_list_of_vouched_ids_is_read_and_one_that_matches_nobody_refused(tmp_path: Path) -> None:
    path = tmp_path / "twins.txt"
    path.write_text("participant_id\n1001\n1002, 1003\n")
    found = read_vouched(path)
    assert found == Vouched(frozenset({"1001"}), frozenset({("1002", "1003")}))
    with pytest.raises(CohortError, match="are no participants of the store"):
        found.require_known({"1001"})
    path.write_text("1 2 3\n")
    with pytest.raises(CohortError, match="expected one id or two"):
        read_vouched(path)
