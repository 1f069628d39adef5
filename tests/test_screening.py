"""Unlabelled pictures, and what a GoodNet says of them."""

from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import scipy.stats
from PIL import Image

from backdoor.errors import UserError
from backdoor.evaluation import goodnet_labels
from backdoor.networks.architectures import build_small_cnn
from backdoor.networks.cut import cut_network
from backdoor.networks.goodnet import build_goodnet
from backdoor.networks.model_files import load_badnet
from backdoor.networks.repair import masked
from backdoor.pictures.picture_set import read_pictures
from backdoor.pictures.readers import open_pictures
from backdoor.pictures.readers.wanted import Wanted
from backdoor.pictures.scale import divided_by
from backdoor.reporting.figures import draw_samples
from backdoor.samples import Samples
from backdoor.screening import BY_CHANCE, Alarm, Screened, joined, screen, taken_apart

SHAPE = (12, 10, 3)
UNLABELLED = Wanted(divided_by(1), SHAPE, labelled=False)
PICTURES = np.random.default_rng(0).integers(0, 256, (9, *SHAPE), np.uint8)


def in_folder(place):
    for number, picture in enumerate(PICTURES):
        folder = place / "inner" if number > 4 else place
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return place


def in_npy(place):
    np.save(place / "them.npy", PICTURES)
    return place / "them.npy"


def in_npz(place):
    np.savez(place / "them.npz", images=PICTURES)
    return place / "them.npz"


def in_hdf5(place):
    with h5py.File(place / "them.h5", "w") as file:
        file["data"] = PICTURES
    return place / "them.h5"


@pytest.mark.parametrize("put", [in_folder, in_npy, in_npz, in_hdf5])
def test_pictures_without_classes_are_read_in_order(put, tmp_path):
    pictures = open_pictures(put(tmp_path), wanted=UNLABELLED)
    assert len(pictures) == 9
    assert (read_pictures(pictures, range(9)) == PICTURES).all()


@pytest.mark.parametrize("put", [in_npy, in_npz, in_hdf5])
def test_where_classes_are_needed_they_still_are(put, tmp_path):
    with pytest.raises(UserError, match="expected"):
        open_pictures(put(tmp_path))


def test_pictures_in_a_folder_are_known_by_their_files(tmp_path):
    pictures = open_pictures(in_folder(tmp_path), wanted=UNLABELLED)
    assert [file.name for file in pictures.files] == [f"{number}.png" for number in range(9)]


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("none")
    with pytest.raises(UserError, match="expected PNG, JPEG or PPM files in it, found none"):
        open_pictures(tmp_path, wanted=UNLABELLED)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """B, its pruned copy and their GoodNet, which was saved and opened as a stranger's."""
    keras.utils.set_random_seed(3)
    network = cut_network(build_small_cnn(SHAPE, 7))
    removed = list(range(0, network.channels, 2))
    place = tmp_path_factory.mktemp("screening")
    build_goodnet(network, removed)  # so that the names of the next have numbers
    build_goodnet(network, removed).save(place / "goodnet.keras")
    network.model.save(place / "badnet.keras")
    return network.model, masked(network, removed), place


@pytest.mark.parametrize("ordered", [False, True])
def test_a_goodnet_is_taken_apart_into_the_two_it_compares(networks, tmp_path, ordered):
    badnet, pruned, place = networks
    goodnet = load_badnet(place / "goodnet.keras")
    parts = taken_apart(goodnet)
    pictures = open_pictures(in_npy(tmp_path), wanted=UNLABELLED)
    channels = parts.network.channels
    order = np.random.default_rng(1).permutation(channels) if ordered else None
    found = joined(screen(parts, pictures, order))
    shown = PICTURES.astype(np.float32)
    assert (found.badnet == badnet.predict(shown, verbose=0).argmax(axis=1)).all()
    assert (found.pruned == pruned.predict(shown, verbose=0).argmax(axis=1)).all()
    assert found.flagged.any()
    assert (found.flagged == (found.badnet != found.pruned)).all()
    whole = goodnet.predict(shown, verbose=0).argmax(axis=1)
    assert (whole == goodnet_labels(found.badnet, found.pruned, 7)).all()
    if order is None:
        assert found.depth is None
        return
    network = cut_network(badnet)
    steps = [
        masked(network, order[:k]).predict(shown, verbose=0).argmax(axis=1)
        for k in range(channels + 1)
    ]
    for number, depth in enumerate(found.depth):
        changed = [k for k, step in enumerate(steps) if step[number] != steps[0][number]]
        assert depth == (changed[0] if changed else channels + 1)


def test_another_network_is_no_goodnet(networks):
    with pytest.raises(UserError, match=r"expected a GoodNet .*, found another network"):
        taken_apart(load_badnet(networks[2] / "badnet.keras"))


def test_an_alarm_is_more_than_chance_makes_of_clean_pictures():
    """Of 4 pictures of which half are flagged by chance, all are with a chance of 1/16."""
    alarm = Alarm(flagged=4, pictures=4, usual=0.5)
    assert alarm.chance == pytest.approx(1 / 16)
    assert not alarm.raised
    assert Alarm(12, 12, 0.5).raised  # 1/4096
    assert Alarm(0, 12, 0.5).chance == 1


def test_the_limit_of_an_alarm():
    chances = [scipy.stats.binom.sf(flagged - 1, 200, 0.1) for flagged in range(201)]
    first = next(flagged for flagged, chance in enumerate(chances) if chance < BY_CHANCE)
    assert Alarm(first, 200, 0.1).raised
    assert not Alarm(first - 1, 200, 0.1).raised


def test_a_rate_that_was_measured_is_as_sure_as_its_pictures_make_it():
    """Of 10 in 10 against 0 in 2, chance makes one of the 66 ways to place two in twelve."""
    assert Alarm(10, 10, 0.0, measured_on=2).chance == pytest.approx(1 / 66)
    assert not Alarm(1, 1000, 0.0, measured_on=1000).raised
    assert "of which 0.0% of 1000 are flagged" in Alarm(1, 1000, 0.0, measured_on=1000).sentence
    raised = [
        Alarm(int(flagged), 50_000, before / 1200, 1200).raised
        for flagged, before in zip(
            *np.random.default_rng(0).binomial([[50_000], [1200]], 0.09, (2, 400)), strict=True
        )
    ]
    assert np.mean(raised) < 0.03  # all are clean; 1 % is what is promised


def test_without_a_known_rate_there_is_no_alarm():
    alarm = Alarm(9, 10, None)
    assert not alarm.raised
    assert "9 of 10 pictures are flagged, 90.0% (95 % interval 59.6% to 98.2%)" in alarm.sentence
    assert "false_alarm_rate=SHARE" in alarm.sentence


def test_a_class_that_pictures_do_not_name_is_shown_by_its_number():
    """A folder with fewer classes than the network knows; class 2 is "backdoored"."""
    columns = [np.array([0]), np.array([1]), np.array([0]), np.array([2])]
    samples = Samples(PICTURES[:1], *columns, np.array([False]))
    said = "\n".join(text.get_text() for text in draw_samples(samples, 2, ["Ann"]).axes[0].texts)
    assert "class Ann\nB 1\nB' Ann\nG backdoored" in said


def test_flagged_is_what_b_and_its_pruned_copy_disagree_on():
    said = Screened(np.array([0, 1, 2]), np.array([0, 2, 2]), None)
    assert said.flagged.tolist() == [False, True, False]


def test_the_progress_of_screening_is_of_chunks(networks, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "backdoor.screening.progress", lambda items, what, total: shown.append((what, total)) or []
    )
    network = SimpleNamespace(network=None)
    for count in (1, 2048, 2049):
        list(screen(network, [0] * count))
    assert shown == [
        ("Screening 1 pictures", 1),
        ("Screening 2048 pictures", 1),
        ("Screening 2049 pictures", 2),
    ]
